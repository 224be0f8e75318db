"""Answers new inputs with a finished run of a classifier of texts.

    python -m experiments.predict --workdir=runs/package --text="import asyncio"
    python -m experiments.predict --workdir=runs/package --input=new.csv > answers.jsonl

Prints one JSON object a line: {"id", "text", "label", "probabilities": {label: probability}}. --input is a CSV file with a header; the
column of texts is --column, or the one that the run was trained on.
"""

from absl import flags

from assay.cli import predict as answer
from assay.cli.command import launch

WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a run that has a checkpoint.")
TEXT = flags.DEFINE_multi_string("text", [], "A text; may be given several times.")
INPUT = flags.DEFINE_string("input", "", "A CSV file of texts.")
COLUMN = flags.DEFINE_string("column", "", "Its column of texts; empty: as the run's config says, else text.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Texts in one compiled call.", lower_bound=1)


def main(overrides: dict[str, str]) -> None:
    answer.predict(WORKDIR.value, TEXT.value, INPUT.value, COLUMN.value, BATCH_SIZE.value, overrides)


if __name__ == "__main__":
    launch(main, __doc__, required=("workdir",))
