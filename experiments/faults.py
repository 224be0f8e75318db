"""Faults under load: what a run does when it is killed again and again, and whether it grows. Prints JSON; exit code 1 where it fails.

    python -m experiments.faults kills --cycles=50 --out=experiments/results/bench/kills.json     (about 10 min)
    python -m experiments.faults memory --saves=300 --out=experiments/results/bench/memory.json   (about 2 min)

kills   one work directory, `kill -9` at moments drawn from a seed: after some time of training, in the middle of a save, while the run
        starts. Each resume must go on from the last complete save, whatever was logged must be what a run that was never stopped logs, and
        the end must be the same to the last bit: parameters, optimiser state, random state, logged losses, results.
memory  the resident memory of a run that saves again and again, without training in between: from the 20th save to the last
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from absl import flags

from assay.cli.command import launch
from assay.core.errors import UserError
from assay.train.workdir import environment, write_text
from experiments.benches.kills import kills
from experiments.benches.saves import memory

CYCLES = flags.DEFINE_integer("cycles", 50, "Kills.", lower_bound=1)
SAVES = flags.DEFINE_integer("saves", 300, "Saves.", lower_bound=40)
SEED = flags.DEFINE_integer("seed", 0, "Of the moments.", lower_bound=0)
OUT = flags.DEFINE_string("out", "", "JSON file for the result; without it, it is only printed.")


def main(overrides: dict[str, str], subject: str) -> None:
    if overrides:
        raise UserError("faults takes no --config overrides. See --help.")
    if OUT.value:
        write_text(Path(OUT.value), "")  # better known before than after
    root = Path(tempfile.mkdtemp())
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    try:
        found = kills(root, CYCLES.value, SEED.value, say) if subject == "kills" else memory(root, SAVES.value, say)
    finally:
        shutil.rmtree(root)
    text = json.dumps({"fault": subject, "seed": SEED.value, **found, "environment": environment()}, indent=1)
    print(text)
    if OUT.value:
        write_text(Path(OUT.value), text + "\n")


if __name__ == "__main__":
    launch(main, __doc__, subjects=("kills", "memory"))
