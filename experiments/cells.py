"""Runs the studies whose results stand beside published values, cheapest first, and updates the pages that compare them.

    python -m experiments.cells --workdir=runs/cells                    (all; repeat the command to resume after an interruption)
    python -m experiments.cells --workdir=runs/cells --only=reverse     (those whose name contains a word)
    python -m experiments.cells --list                                  (names, commands and expected core-minutes)

A finished study is published to --out, whose README.md and CELLS.md are then rendered again; a study whose file there has the same command
is not run again. Settings differ from the published ones in updates and width, as CELLS.md prints beside each value; none was chosen on
test inputs.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from absl import flags

from assay.cli.command import launch
from assay.core.errors import UserError, unknown

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "runs/cells", "Folder for all studies.", flag_values=FLAGS)
OUT = flags.DEFINE_string("out", "experiments/results", "Folder of the published files.", flag_values=FLAGS)
ONLY = flags.DEFINE_string("only", "", "Part of the names of the studies to run. Default: all.", flag_values=FLAGS)
LIST = flags.DEFINE_bool("list", False, "Only print the studies.", flag_values=FLAGS)

MEMORY = ("reverse_string", "stack_manipulation", "odds_first", "duplicate_string")
COPIES = ("reverse_string", "duplicate_string", "odds_first")
STATES = ("parity_check", "cycle_navigation")
REGULAR = ("parity_check", "even_pairs", "modular_arithmetic", "cycle_navigation")


class Study(NamedTuple):
    """A study of one variant on one task."""

    name: str  # of the published file
    variant: str  # of experiments/reason/chomsky.py, or FILE:VARIANT of another file there
    seeds: str
    minutes: float  # of one core, for all seeds
    overrides: dict[str, str]

    @property
    def words(self) -> list[str]:
        """Arguments of `assay study`, without the work directory."""
        changed = [f"--config.{key}={value}" for key, value in self.overrides.items()]
        file, _, variant = self.variant.rpartition(":")
        return [f"--config=experiments/reason/{file or 'chomsky'}.py:{variant}", f"--seeds={self.seeds}", *changed]


def study(task: str, variant: str, seeds: str, minutes: float, **overrides: str) -> Study:
    """Returns the study of a task such as `parity_check`; keys of `overrides` have `__` in place of the dot."""
    changed = {key.replace("__", "."): value for key, value in overrides.items()}
    given = {"task.name": f"chomsky/{task}", "evaluate.splits": "iid,40-256,41-500", "evaluate.per_length": "4", **changed}
    return Study(f"cells_{task}_{variant.rpartition(':')[2]}", variant, seeds, minutes, given)


def coupled(task: str) -> Study:
    """Returns the study of a task whose answers copy the input, with shared positions; 504 are as many as length 500 needs."""
    changed = {"model__depth": "2", "train__steps": "2000", "treatments": "couple:span=504", "evaluate__batch_size": "32"}  # fits 8 GiB
    found = study(task, "sinusoidal", "0:2", 40, **changed)
    return found._replace(name=f"cells_{task}_couple")


def other(task: str, variant: str, minutes: float, **overrides: str) -> Study:
    """Returns the study of a task outside the Chomsky hierarchy, with three seeds."""
    changed = {key.replace("__", "."): value for key, value in overrides.items()}
    return Study(f"cells_{task.replace('/', '_')}_lstm", variant, "0:2", minutes, {"task.name": task, **changed})


LEARNED = "20000"  # updates where 4,000 are too few for any seed
STUDIES = (  # the cheapest first of those whose published value lies above chance; then those at chance
    *(study(task, "parity:scratchpad", "0:2", 45) for task in STATES),
    *(study(task, variant, "0:2", 9) for task in MEMORY[:2] for variant in ("lstm", "rnn")),
    *(study(task, "rnn", "0:2", 8) for task in REGULAR[:2]),
    *(study(task, "lstm", "0:4", 12) for task in REGULAR[:2]),
    other("scan/simple", "scan:lstm", 15, evaluate__splits="test"),
    other("scan/simple", "scan:lstm", 40, evaluate__splits="test", train__steps="8000", optimizer__schedule="cosine")._replace(
        name="cells_scan_simple_lstm_longer"
    ),
    *map(coupled, COPIES),
    *(study(task, "stack_rnn", "0:2", 35) for task in (*REGULAR[:2], *MEMORY[:2])),
    *(study(task, "rnn", "0:2", 30, train__steps=LEARNED, optimizer__schedule="cosine") for task in REGULAR[2:]),
    *(study(task, "lstm", "0:4", 60, train__steps=LEARNED, optimizer__schedule="cosine") for task in REGULAR[2:]),
    *(study(task, "stack_rnn", "0:2", 35) for task in ("solve_equation", "modular_arithmetic_brackets")),
    *(other(task, "trees:lstm", 45) for task in ("arithmetic/nested", "listops/depth")),
    *(study(task, "stack_rnn", "0:2", 120, train__steps=LEARNED, optimizer__schedule="cosine") for task in REGULAR[2:]),
    *(study(task, variant, "0:2", 9) for task in MEMORY[2:] for variant in ("lstm", "rnn")),
    *(study(task, "stack_rnn", "0:2", 35) for task in (*MEMORY[2:], "compute_sqrt", "binary_multiplication")),
)


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("cells takes no --config overrides: its studies are fixed.")
    chosen = [one for one in STUDIES if ONLY.value in one.name]
    if not chosen:
        raise unknown("study", ONLY.value, [one.name for one in STUDIES], "--only")
    failed: list[str] = []
    for one in chosen:
        if LIST.value:
            print(f"{one.name}: about {one.minutes:.0f} min\n    assay study {' '.join(one.words)}")
            continue
        print(f"-- {one.name}: about {one.minutes:.0f} min", file=sys.stderr)
        if _published(one):
            print(f"   is published in {OUT.value}/{one.name}.json; delete that file to run the study again.", file=sys.stderr)
            continue
        workdir, out = f"--workdir={Path(WORKDIR.value) / one.name}", f"--out={OUT.value}"
        made = _runs("study", *one.words, workdir) and _runs("publish", workdir, f"--name={one.name}", out)
        made = made and _runs("publish", out, f"--readme={OUT.value}/README.md") and _runs("publish", out, f"--cells={OUT.value}/CELLS.md")
        failed += [] if made else [one.name]
    if failed:
        raise UserError(f"failed, with the messages above: {', '.join(failed)}. Repeat this command to resume.")


def start() -> None:
    """Runs the script from the command line."""
    launch(main, __doc__, given=FLAGS)


# -- private --------------------------------------------------------------------------------------------------------------


def _published(one: Study) -> bool:
    file = Path(OUT.value) / f"{one.name}.json"
    return file.is_file() and json.loads(file.read_text())["command"].startswith(f"assay study {' '.join(one.words)} --workdir=")


def _runs(verb: str, *words: str) -> bool:
    """Runs a verb, and returns whether it succeeded."""
    return not subprocess.run([sys.executable, "-m", "assay", verb, *words]).returncode


if __name__ == "__main__":
    start()
