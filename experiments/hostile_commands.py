"""Runs command lines with hostile values and checks that each ends well. Prints a table by verb; exits with code 1 if one does not.

    python -m experiments.hostile_commands --cases=2000 --out=experiments/results/bench/hostile_commands.json   (about an hour)
    python -m experiments.hostile_commands --cases=50 --seed=7

A command line is a small valid call with one to three words replaced: values without end, half an expression, other scripts, pipes,
devices, damaged runs (experiments/hostile). It ends well with exit code 0, or with 2 and one message that names what is wrong, without a
traceback and with nothing half-written.
"""

import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from absl import flags

from assay.cli.command import launch
from assay.cli.main import VERBS
from assay.core.errors import UserError
from assay.train.workdir import environment, write_text
from experiments.hostile.lines import Line, line
from experiments.hostile.verdict import STOPPED, End, fault, kind, running

FLAGS = flags.FlagValues()
CASES = flags.DEFINE_integer("cases", 2000, "Number of command lines.", lower_bound=1, flag_values=FLAGS)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the command lines.", lower_bound=0, flag_values=FLAGS)
SECONDS = flags.DEFINE_float("seconds", 8.0, "Seconds of computing after which a command is stopped.", lower_bound=0.1, flag_values=FLAGS)
READY = flags.DEFINE_string(
    "ready", "", "Finished run to damage; then no command trains. Default: runs are trained first.", flag_values=FLAGS
)
OUT = flags.DEFINE_string("out", "", "JSON file for the counts; if empty, they are only printed.", flag_values=FLAGS)
SHOWN = 50  # cases between two lines of progress
COLUMNS = ("ran", "refused", "stopped", "failed")


def outcome(one: Line, end: End) -> str:
    """Returns the column of the table that counts an end."""
    if fault(one, end):
        return "failed"
    return "stopped" if end.code == STOPPED else "refused" if end.code == 2 else "ran"


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("hostile_commands takes no --config overrides. See --help.")
    if OUT.value:
        write_text(Path(OUT.value), "")  # fails early if the file cannot be written
    counts: dict[str, Counter[str]] = {verb: Counter() for verb in VERBS}
    failed: list[dict[str, Any]] = []
    root = Path(tempfile.mkdtemp())
    try:
        with running(root, SECONDS.value, Path(READY.value).absolute() if READY.value else None) as run:
            for case in range(CASES.value):
                one = line(random.Random(f"{SEED.value}/{case}").choice)
                end = run(one)
                counts[one.verb][outcome(one, end)] += 1
                if (case + 1) % SHOWN == 0:
                    print(f"{case + 1} of {CASES.value}", file=sys.stderr, flush=True)
                if wrong := fault(one, end):
                    failed.append({"case": case, "fault": wrong, "kind": kind(end), "left": end.left, **one._asdict()})
                    print(json.dumps(failed[-1]), file=sys.stderr, flush=True)
    finally:
        if (root / "box" / "locked").exists():
            (root / "box" / "locked").chmod(0o700)
        shutil.rmtree(root)
    print(f"{'verb':<10}" + "".join(f"{name:>9}" for name in COLUMNS))
    for verb, found in counts.items():
        print(f"{verb:<10}" + "".join(f"{found[name]:>9}" for name in COLUMNS))
    if OUT.value:
        table = {verb: {name: found[name] for name in COLUMNS} for verb, found in counts.items()}
        found = {"cases": CASES.value, "seed": SEED.value, "verbs": table, "failed": failed, "environment": environment()}
        write_text(Path(OUT.value), json.dumps(found, indent=1) + "\n")
    sys.exit(1 if failed else 0)


def start() -> None:
    """Runs the script from the command line."""
    launch(main, __doc__, given=FLAGS)


if __name__ == "__main__":
    start()
