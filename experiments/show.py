"""Looks at the data: prints examples of a task.

    python -m experiments.show --task=list                                                   every task with its splits
    python -m experiments.show --task=chomsky/reverse_string --split=train --n=5
    python -m experiments.show --task=chomsky/parity_check --split=41-500 --n=5 --format=jsonl
    python -m experiments.show --task=chomsky/parity_check --treatment=scratchpad --lengths=8:8

--format=jsonl prints one JSON object a line with id, length, input and target. --n=-1 prints all of a finite split.
"""

from absl import flags

from assay.cli import show as browse
from assay.cli.command import launch
from assay.config.schema import span
from assay.core.errors import UserError

TASK = flags.DEFINE_string("task", "", "Name of a task, or list.")
SPLIT = flags.DEFINE_string("split", "", "train (where nothing is said), valid, iid, or a range of lengths such as 41-500.")
LENGTHS = flags.DEFINE_string("lengths", "", "FIRST:LAST: the same as --split with a range.")
N = flags.DEFINE_integer("n", 5, "How many examples; -1: all of a finite split.")
SEED = flags.DEFINE_integer("seed", 0, "Of the training examples.", lower_bound=0)
FORMAT = flags.DEFINE_enum("format", "text", ["text", "jsonl"], "Readable text, or one JSON object a line.")
TREATMENT = flags.DEFINE_multi_string("treatment", [], "Treatments that change what is asked, such as scratchpad.")


def main(overrides: dict[str, str]) -> None:
    if TASK.value == "list":
        browse.print_tasks()
    else:
        if LENGTHS.value and SPLIT.value:
            raise UserError("--split and --lengths both name a split. Give one of them.")
        split = "{}-{}".format(*span(LENGTHS.value, "--lengths")) if LENGTHS.value else SPLIT.value or "train"
        browse.print_examples(TASK.value, split, N.value, SEED.value, FORMAT.value, TREATMENT.value, overrides)


if __name__ == "__main__":
    launch(main, __doc__, required=("task",))
