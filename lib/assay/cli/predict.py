"""Answers new texts, rows or pictures with a finished run.

    assay predict --workdir=runs/package --text="import asyncio"
    assay predict --workdir=runs/mine --input=new.csv > answers.jsonl
    assay predict --workdir=runs/pictures --input=folder_of_pictures
    assay predict --workdir=runs/package --input=new.csv --column=passage

Prints one JSON object per line: {"id", "text", "label", "probabilities": {label: probability}}; where the probabilities
are not finite, these and the label are null. A run that predicts numbers or several labels prints {"id", "prediction"}.
Writes no files. --input is a table with a header (CSV, TSV, JSONL, Parquet), a pipe, a picture, or a folder of pictures.
--column names the column of texts; by default columns are those that the run was trained on.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from assay.cli.command import launch
from assay.core.errors import UserError, unknown
from assay.core.plain import json_text
from assay.data.csv import Keys, read_csv
from assay.data.files.content import located
from assay.data.files.formats.signatures import is_picture_name
from assay.data.files.kinds import is_blank, kind_of
from assay.data.files.reader import read
from assay.dist import launch as processes
from assay.evals.answers import answers, no_examples
from assay.tasks.files.opened import HEADERS
from assay.train.workdir import WorkDir
from assay.treatments.pipeline.load import load

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "", "Work directory of a run that has a checkpoint.", flag_values=FLAGS)
TEXT = flags.DEFINE_multi_string("text", [], "Text to classify", flag_values=FLAGS)
INPUT = flags.DEFINE_string("input", "", "Table with a header, picture, or folder of pictures.", flag_values=FLAGS)
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
        raise UserError("nothing to answer: give --text=TEXT or --input=FILE.")
    processes.start()
    model, params, task = load(workdir)
    if task.examples is None:
        raise no_examples(task, str(workdir))
    wanted: list[Any] = [*texts]
    if file:
        wanted += _inputs(file, column, WorkDir(workdir).read_config()["task"])
    escaped = not (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    for line in answers(model, params, task, wanted, batch_size):
        print(json_text(line, ensure_ascii=escaped).encode("utf-8", "backslashreplace").decode())  # half a character is \udc80, as in JSON


def main(overrides: dict[str, str]) -> None:
    predict(WORKDIR.value, TEXT.value, INPUT.value, COLUMN.value, BATCH_SIZE.value, overrides)


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, required=("workdir",))


# -- private --------------------------------------------------------------------------------------------------------------


def _inputs(path: str, column: str, task: Mapping[str, Any]) -> list[Any]:
    """Returns the inputs in a file or folder: texts, rows as mappings, or paths and bytes of pictures. Raises UserError."""
    if not str(task["name"]).startswith("files/"):
        return [row.text for row in read_csv(path, column or task.get("text", "text"), "", Keys("--input", "--column", once=True))]
    if task["name"] == "files/pictures" and (Path(path).is_dir() or is_picture_name(path)):
        found = sorted(one for one in Path(path).rglob("*") if is_picture_name(one.name)) if Path(path).is_dir() else [Path(path)]
        if not found:
            raise UserError(f"{path} has no pictures (PNG, JPEG, BMP, GIF, WebP, TIFF). Set --input.")
        return [str(one.absolute()) for one in found]
    table = read(path, task["delimiter"], task["encoding"], HEADERS[task["header"]])
    if column and column not in table.columns:
        raise unknown(f"column of {path}", column, table.columns, "--column")
    if column:
        return ["" if is_blank(cell) else str(cell) for cell in table.columns[column].tolist()]
    if task["name"] == "files/pictures":
        (name,) = [name for name in table.columns if name != task["target"] and kind_of(table.columns[name], name).name == "picture"][
            :1
        ] or [""]
        if not name:
            raise UserError(f"{path} has no column of pictures; it has {', '.join(table.columns)}. Name one with --column.")
        return [one if isinstance(one, bytes) else str(one) for one in located(table, name)]
    cells = [column.tolist() for column in table.columns.values()]
    return [dict(zip(table.columns, row, strict=True)) for row in zip(*cells, strict=True)]
