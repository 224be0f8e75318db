"""Diagnoses a finished run: what holds its model back, one row a bottleneck, as diagnosis.json and as a page, diagnosis.html.

    python -m experiments.diagnose --workdir=runs/demo/lstm/seed_0
    python -m experiments.diagnose --workdir=runs/demo/lstm/seed_0 --quick

Reasoning, long range, generalisation, calibration, cost, speed and optimisation health, each with its interval, how it was measured and
what it means; then treatments to try, in order, by what `valid` shows. --quick takes fewer examples and less time. A part that fails has
a row that says how, and the exit code is 1. Compare two runs with experiments.compare --before=A --after=B.
"""

import sys
from pathlib import Path

from absl import flags

from assay.cli.command import launch
from assay.core.errors import UserError
from assay.dist.launch import leader
from assay.reports.terminal.diagnosis import print_diagnosis
from assay.verdicts.diagnosis import PAGE, ROWS, diagnose

WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a finished run.")
QUICK = flags.DEFINE_bool("quick", False, "Fewer examples and less time: half a minute in place of up to three.")


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("diagnose takes no --config overrides: it measures the run as it is.")
    found = diagnose(WORKDIR.value, QUICK.value)
    if leader():
        print_diagnosis(found)
        print(f"rows: {Path(WORKDIR.value) / ROWS}\npage: {Path(WORKDIR.value) / PAGE}")
    crashed = [f"{row.group}/{row.name}" for row in found.rows if row.crashed]
    if crashed:
        print(f"failed: {', '.join(crashed)}; their rows say how.", file=sys.stderr)
    for one in found.about["failed"]:
        print(f"failed: {one}", file=sys.stderr)
    if crashed or found.about["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    launch(main, __doc__, required=("workdir",))
