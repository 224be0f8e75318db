"""Trains one model on one task with one seed, evaluates it, and writes a report.

    python -m experiments.main --config=experiments/reason/parity.py:lstm --workdir=runs/parity
    python -m experiments.main --config=experiments/reason/parity.py:tiny --workdir=/tmp/tiny      (seconds)

--config names a file and one of its variants; its docstring says the question, the cost and the expected number.
--config.KEY=VALUE changes one key of it, such as --config.train.steps=2000 or --config.optimizer.learning_rate=1e-3.
The same command goes on where a stopped run ended; a finished run is printed. SIGTERM and Ctrl-C save and stop. --from_step=STEP goes back
to an older checkpoint, such as the newest good one where a disk has damaged the newest; newer ones are moved to set_aside/.
The folder then holds config.json, checkpoints/, metrics.jsonl, results.json, timing.json, predictions/, report.html and
tensorboard/; with --profile also profile/, a trace of some steps.

This file is short on purpose: what it does lies in lib/assay, where it can be tested and imported by a notebook.
"""

from absl import flags

from assay.cli import train as conduct
from assay.cli.command import launch

CONFIG = flags.DEFINE_string("config", "", "FILE.py:variant of the experiment; --config.KEY=VALUE changes a key.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run.")
PROFILE = flags.DEFINE_boolean("profile", False, "Write a trace of some steps to WORKDIR/profile, for XProf.")
FROM_STEP = flags.DEFINE_integer(
    "from_step", None, "The checkpoint to go on from; newer ones are set aside. 0: from the start.", lower_bound=0
)


def main(overrides: dict[str, str]) -> None:
    conduct.run(CONFIG.value, overrides, WORKDIR.value, from_step=FROM_STEP.value, profile=PROFILE.value)


if __name__ == "__main__":
    launch(main, __doc__, required=("config", "workdir"))
