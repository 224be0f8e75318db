"""Fault tests: a run that is killed repeatedly, and memory growth over checkpoints. Prints JSON; exits with code 1 on failure.

    python -m experiments.faults kills --cycles=50 --out=experiments/results/bench/kills.json     (about 10 min)
    python -m experiments.faults memory --saves=300 --out=experiments/results/bench/memory.json   (about 2 min)

kills   kills one run repeatedly with `kill -9` at random moments drawn from a seed: during training, during a checkpoint and at startup.
        Each restart must resume from the latest complete checkpoint, and logged metrics must equal those of an uninterrupted run. The end
        must be bit-equal: parameters, optimizer state, random state, logged losses, results.
memory  resident memory of a process that saves checkpoints repeatedly without training, from the 20th checkpoint to the last
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

FLAGS = flags.FlagValues()
CYCLES = flags.DEFINE_integer("cycles", 50, "kills: number of kills.", lower_bound=1, flag_values=FLAGS)
SAVES = flags.DEFINE_integer("saves", 300, "memory: number of checkpoints.", lower_bound=40, flag_values=FLAGS)
SEED = flags.DEFINE_integer("seed", 0, "kills: seed of the moments.", lower_bound=0, flag_values=FLAGS)
OUT = flags.DEFINE_string("out", "", "JSON file for the result; if empty, it is only printed.", flag_values=FLAGS)


def main(overrides: dict[str, str], subject: str) -> None:
    if overrides:
        raise UserError("faults takes no --config overrides. See --help.")
    if OUT.value:
        write_text(Path(OUT.value), "")  # fails early if the file cannot be written
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
    launch(main, __doc__, given=FLAGS, subjects=("kills", "memory"))
