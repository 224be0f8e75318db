"""Classifies new texts with a finished run of a text classifier.

    assay predict --workdir=runs/package --text="import asyncio"
    assay predict --workdir=runs/package --input=new.csv > answers.jsonl
    assay predict --workdir=runs/package --input=new.csv --column=passage

Prints one JSON object per line: {"id", "text", "label", "probabilities": {label: probability}}; where the probabilities
are not finite, these and the label are null. Writes no files. --input is a CSV file with a header, or a pipe. --column
names the column of texts; by default it is the column that the run was trained on.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from assay.cli.command import launch
from assay.core.errors import UserError
from assay.core.plain import json_text
from assay.data.csv import Keys, read_csv
from assay.dist import launch as processes
from assay.evals.answers import answers, no_examples
from assay.train.workdir import WorkDir
from assay.treatments.pipeline.load import load

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "", "Work directory of a run that has a checkpoint.", flag_values=FLAGS)
TEXT = flags.DEFINE_multi_string("text", [], "Text to classify", flag_values=FLAGS)
INPUT = flags.DEFINE_string("input", "", "CSV file of texts, with a header.", flag_values=FLAGS)
COLUMN = flags.DEFINE_string(
    "column", "", "Column of --input that holds the texts. Default: that of the run's config, else text.", flag_values=FLAGS
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Number of texts per compiled call.", lower_bound=1, flag_values=FLAGS)


def predict(workdir: str | Path, texts: Sequence[str], file: str, column: str, batch_size: int, overrides: Mapping[str, str]) -> None:
    """Prints the answers for `texts`, then for the texts of the file. Raises UserError before it prints anything."""
    if overrides:
        raise UserError(
            "predict takes no --config overrides, since it uses the run's own config. Use --text, --input, --column, --batch_size."
        )
    if not texts and not file:
        raise UserError("no text to classify: give --text=TEXT or --input=FILE.csv.")
    processes.start()
    model, params, task = load(workdir)
    if task.examples is None:
        raise no_examples(task, str(workdir))
    wanted = [*texts]
    if file:
        column = column or WorkDir(workdir).read_config()["task"].get("text", "text")
        wanted += [row.text for row in read_csv(file, column, "", Keys("--input", "--column", once=True))]
    escaped = not (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    for line in answers(model, params, task, wanted, batch_size):
        print(json_text(line, ensure_ascii=escaped).encode("utf-8", "backslashreplace").decode())  # half a character is \udc80, as in JSON


def main(overrides: dict[str, str]) -> None:
    predict(WORKDIR.value, TEXT.value, INPUT.value, COLUMN.value, BATCH_SIZE.value, overrides)


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, required=("workdir",))
