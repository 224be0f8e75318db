"""Measures the resident memory of a process that saves checkpoints repeatedly."""

import re
from collections.abc import Callable
from pathlib import Path

from assay.config.files import load
from assay.config.schema import to_dict
from assay.dist import launch
from assay.dist.mesh import make_mesh
from assay.train.checkpoint import CheckpointConfig, Checkpointer
from assay.train.experiment import assemble
from assay.train.loop import start
from assay.treatments.pipeline.load import treatments


def memory(root: Path, saves: int, told: Callable[[str], None] = lambda line: None) -> dict:
    """Returns the resident memory over repeated checkpoints of one state, in bytes."""
    launch.start()
    config = to_dict(load("experiments/reason/parity.py:transformer"))
    made = assemble(config, treatments(config["treatments"]))
    sizes = []
    with Checkpointer(root / "checkpoints", CheckpointConfig(every=1, keep=2)) as checkpointer:
        state, _, _ = start(made, make_mesh(made.settings.mesh), checkpointer)
        for step in range(1, saves + 1):
            checkpointer.save(step, state, {})
            checkpointer.finished()
            sizes.append(_resident())
            if step % 20 == 0:
                told(f"save {step} of {saves}: {sizes[-1] / 2**20:.1f} MiB")
    settled = sizes[19]
    return {
        "saves": saves,
        "bytes_after_20": settled,
        "bytes_at_end": sizes[-1],
        "growth": sizes[-1] / settled - 1,
        "every_20th": sizes[19::20],
    }


# -- private --------------------------------------------------------------------------------------------------------------


def _resident() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024  # type: ignore[union-attr]
