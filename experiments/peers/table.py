"""The table of benchmarks.md against PyTorch and Hugging Face: one row per workload and machine, from the files bench/peers*.json.

    python -m experiments.peers.table

A ratio belongs to the machine that it was measured on. A disturbed timing shows its reason in place of a ratio, and marks say what older
results lack.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.core.number import DASH
from experiments.peers.works import ON_GPU, WORKS

BENCH = Path(__file__).parents[1] / "results" / "bench"
HEAD = ("| work | machine | ours | PyTorch | compiled | ratio (95 % of the median) |", "|---|---|---|---|---|---|")
MARKS = {
    "¹": "Measured before timings were checked for other work on the machine.",
    "²": "PyTorch ran with its own allocator settings, and this library with tuned ones.",
}
NAMES = {
    "gpt_small": "GPT, 2 x 128, context 64, batch 64",
    "gpt_medium": "GPT, 4 x 256, context 128, batch 32",
    "gpt_small_bf16": "GPT, 2 x 128, bfloat16 products",
    "gpt_medium_bf16": "GPT, 4 x 256, bfloat16 products",
    "lstm": "LSTM classifier, 64, length 40, batch 128",
    "resnet20": "ResNet-20, 32 x 32, batch 64",
    "decode_4x256_batch1": "decoding, 4 x 256, 128 tokens, batch 1",
    "decode_4x256_batch8": "decoding, 4 x 256, 128 tokens, batch 8",
    "decode_gpt2_batch1": "decoding, GPT-2 small, 64 tokens, batch 1",
    "decode_gpt2_batch8": "decoding, GPT-2 small, 64 tokens, batch 8",
    "decode_gpt2_batch8_bf16": "decoding, GPT-2 small in bfloat16, batch 8",
    "gpt2_train": "training GPT-2 small, context 1,024, batch 16, bfloat16",
}


def results() -> list[dict[str, Any]]:
    """Reads the committed results, one per machine."""
    return [json.loads(path.read_text()) for path in sorted(BENCH.glob("peers*.json"))]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Returns the table in Markdown, with a line for each mark that it uses."""
    lines = []
    for name in WORKS | ON_GPU:
        for result in found:
            lines += [_line(work, machine(result["environment"])) for work in result["works"] if work["work"] == name]
    notes = [f"{mark} {text}" for mark, text in MARKS.items() if any(mark in line for line in lines)]
    return "\n".join([*HEAD, *lines, *(["", " ".join(notes)] if notes else [])])


def machine(environment: Mapping[str, Any]) -> str:
    """Returns the name of a machine: its processor, or its devices if they are others."""
    devices = environment["devices"]
    if "cpu" not in devices.lower():
        return devices
    return f"{environment.get('processor') or 'not recorded'}, {environment['cores']} cores"


# -- private --------------------------------------------------------------------------------------------------------------


def _line(work: Mapping[str, Any], where: str) -> str:
    times = [f"{1e3 * work['seconds'][side]:,.1f}" if side in work["seconds"] else DASH for side in ("ours", "eager", "compiled")]
    if work["ratio"] is None:
        told = work["timing"]["disturbed"]
    else:
        low, high = work["ratio_interval"]
        told = f"**{work['ratio']:.2f}** ({low:.2f} - {high:.2f})"
        told += "".join(f" {mark}" for mark, lacks in zip(MARKS, ("timing" not in work, not _tuned(work)), strict=True) if lacks)
    return f"| {NAMES[work['work']]} | {where} | {' | '.join(times)} | {told} |"


def _tuned(work: Mapping[str, Any]) -> bool:
    """Returns True if the better peer had the allocator settings of this library."""
    peer, ours = (work["facts"][side] for side in (work["better_peer"], "ours"))
    return "malloc" in peer and peer["malloc"] == ours["malloc"]


if __name__ == "__main__":
    print(table(results()))
