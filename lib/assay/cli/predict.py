"""Answers new texts, rows, pictures or sequences with a finished run.

    assay predict --workdir=runs/package --text="import asyncio"
    assay predict --workdir=runs/mine --input=new.csv > answers.jsonl
    assay predict --workdir=runs/pictures --input=folder_of_pictures
    assay predict --workdir=runs/package --input=new.csv --column=passage --format=csv > answers.csv
    assay predict --workdir=runs/scan --text="jump left twice"                (a task of tokens: its symbols)
    tail -f app.log | head -100 | assay predict --workdir=runs/mine --text=-

Prints one JSON object per line: {"id", "text", "label", "probabilities": {label: probability}}; where the probabilities
are not finite, these and the label are null. A run that predicts numbers, several labels or tokens prints
{"id", "prediction"}.
--format=csv prints a table with one column for each probability. Writes no files.

--simple answers with the simple learner that assay fit compares with, such as gradient boosting, fitted again.

--input is a table with a header (CSV, TSV, JSONL, Parquet), a picture, a folder of pictures, or - for a table on standard
input. --text=- reads one text per line from standard input. --column names the column of texts; by default columns are
those that the run was trained on.
"""

import csv
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import flags

from assay.cli.command import launch
from assay.config.schema import typed
from assay.core.errors import UserError, unknown
from assay.core.file import read_json
from assay.core.plain import json_text
from assay.data.csv import Keys, read_csv
from assay.data.files.content import located
from assay.data.files.formats.signatures import is_picture_name
from assay.data.files.kinds import is_blank, kind_of
from assay.data.files.pictures import load as load_pictures
from assay.data.files.reader import read
from assay.data.files.table import Table
from assay.dist import launch as processes
from assay.evals.answers import answers, no_examples
from assay.fitting.answered import answers as simple_answers
from assay.fitting.plans import cut_of
from assay.fitting.simple import title_of
from assay.tasks.files.opened import HEADERS, Opened, opened
from assay.tasks.table import find
from assay.tasks.task import Task
from assay.train.workdir import WorkDir
from assay.treatments.pipeline.load import load

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "", "Work directory of a run that has a checkpoint.", flag_values=FLAGS)
TEXT = flags.DEFINE_multi_string("text", [], "Text to classify; - reads one per line from standard input.", flag_values=FLAGS)
INPUT = flags.DEFINE_string("input", "", "Table with a header, picture, folder of pictures, or - for a table.", flag_values=FLAGS)
FORMAT = flags.DEFINE_string("format", "jsonl", "What is printed: jsonl or csv.", flag_values=FLAGS)
COLUMN = flags.DEFINE_string(
    "column", "", "Column of --input that holds the texts. Default: that of the run's config, else text.", flag_values=FLAGS
)
SIMPLE = flags.DEFINE_bool(
    "simple", False, "Answer with the simple learner for a run's files, such as gradient boosting, fitted again.", flag_values=FLAGS
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Number of texts per compiled call.", lower_bound=1, flag_values=FLAGS)


SUMMARY = "fit.json"
STANDARD = "-"  # standard input
FORMATS = ("jsonl", "csv")


def predict(
    workdir: str | Path,
    texts: Sequence[str],
    file: str,
    column: str,
    batch_size: int,
    overrides: Mapping[str, str],
    form: str = "jsonl",
    simple: bool = False,
) -> None:
    """Prints the answers for `texts`, then for the texts of the file. Raises UserError before it prints anything."""
    if form not in FORMATS:
        raise unknown("format", form, FORMATS, "--format")
    if file == STANDARD and STANDARD in texts:
        raise UserError("standard input can be read once: give --text=- for texts, or --input=- for a table.")
    if overrides:
        raise UserError(
            "predict takes no --config overrides, since it uses the run's own config. Use --text, --input, --column, --batch_size."
        )
    if not texts and not file:
        raise UserError("nothing to answer: give --text=TEXT or --input=FILE.")
    processes.start()
    model, params, task = load(workdir)
    if task.examples is None and task.asked is None:
        raise no_examples(task, str(workdir))
    wanted: list[Any] = [one for text in texts for one in (_lines() if text == STANDARD else [text])]
    if file:
        with _file(file) as path:
            wanted += _inputs(path, column, WorkDir(workdir).read_config()["task"], file == STANDARD)
    write = _table(any(isinstance(one, str) for one in wanted)) if form == "csv" else _object
    for line in _simply(workdir, task, wanted) if simple else answers(model, params, task, wanted, batch_size):
        write(line)
    _note(workdir, wanted, simple)


def main(overrides: dict[str, str]) -> None:
    predict(WORKDIR.value, TEXT.value, INPUT.value, COLUMN.value, BATCH_SIZE.value, overrides, FORMAT.value, SIMPLE.value)


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, required=("workdir",))


# -- private --------------------------------------------------------------------------------------------------------------


def _opened(workdir: str | Path) -> Opened | None:
    """Returns the data set of a run on files; None for another run."""
    task = WorkDir(workdir).read_config()["task"]
    return opened(typed(find(task["name"]).config, task, "task")) if str(task["name"]).startswith("files/") else None


def _simply(workdir: str | Path, task: Task, wanted: Sequence[Any]) -> Iterator[dict[str, Any]]:
    found = _opened(workdir)
    if found is None:
        raise UserError(f"{workdir} is no run on files of your own, so it has no simple learner. Leave out --simple.")
    asked = _summary(workdir).get("asked", {})  # a treated run has the data, and not fit.json
    return simple_answers(found, task, wanted, cut_of(found, str(asked.get("metric", "")) if isinstance(asked, dict) else ""))


def _summary(workdir: str | Path) -> dict[str, Any]:
    """Returns fit.json; {} without one, or with one that cannot be read."""
    try:
        found = read_json(Path(workdir) / SUMMARY)
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _note(workdir: str | Path, wanted: Sequence[Any], simple: bool) -> None:
    """Prints what a user should know of the answers: missing columns, and a simple learner that is better."""
    found = _opened(workdir)
    if found is None or not wanted:
        return
    names = found.roles.inputs
    given = {name for row in wanted for name in (row if isinstance(row, Mapping) else found.roles.texts or names)}
    absent = [name for name in names if name not in given]
    notes = []
    if absent:
        listed = ", ".join(absent[:8]) + (", ..." if len(absent) > 8 else "")
        notes.append(f"{len(absent)} of the {len(names)} columns that the model reads count as missing, since no input has them: {listed}")
    if _summary(workdir).get("chosen") == "simple" and not simple:
        notes.append(f"{title_of(found)} was better on valid than the model that answers here; --simple answers with it")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _lines() -> list[str]:
    """Returns the lines of standard input, which end as those of files do: other separators of Unicode are part of a text."""
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    return [line.rstrip("\n") for line in io.StringIO(text, newline=None)]


@contextmanager
def _file(path: str) -> Iterator[str]:
    """Yields the path of a file with what standard input holds, or `path` itself."""
    if path != STANDARD:
        yield path
        return
    held = sys.stdin.buffer.read()
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / ("stdin.jsonl" if held.lstrip()[:1] == b"{" else "stdin.csv")
        there.write_bytes(held)
        yield str(there)


def _object(line: Mapping[str, Any]) -> None:
    escaped = not (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    print(json_text(line, ensure_ascii=escaped).encode("utf-8", "backslashreplace").decode())  # half a character is \udc80, as in JSON


def _table(texts: bool) -> Callable[[Mapping[str, Any]], None]:
    """Returns a function that writes an answer as a line of CSV, after a header; lists are in JSON.

    `texts`: whether any input is a text, which has a column.
    """
    writer, begun = csv.writer(sys.stdout, lineterminator="\n"), False

    def write(line: Mapping[str, Any]) -> None:
        nonlocal begun
        cells = {"id": line["id"], **({"text": ""} if texts else {})}
        cells |= {key: value for key, value in line.items() if key != "probabilities"}
        cells |= {f"probability of {name}": share for name, share in line.get("probabilities", {}).items()}
        if not begun:
            writer.writerow(cells)
            begun = True
        writer.writerow(
            [json.dumps(value) if isinstance(value, list) else "" if value is None or value != value else value for value in cells.values()]
        )

    return write


def _inputs(path: str, column: str, task: Mapping[str, Any], standard: bool = False) -> list[Any]:
    """Returns the inputs in a file or folder: texts, rows as mappings, or paths and bytes of pictures. Raises UserError."""
    own = str(task["name"]).startswith("files/")
    if (task["name"] == "files/pictures" or not own) and (Path(path).is_dir() or is_picture_name(path)):
        return _files(path)
    if not own:
        return [row.text for row in read_csv(path, column or task.get("text", "text"), "", Keys("--input", "--column", once=True))]
    table = read(path, task["delimiter"], task["encoding"], HEADERS[task["header"]])
    if column and column not in table.columns:
        raise unknown(f"column of {path}", column, table.columns, "--column")
    if task["name"] == "files/pictures":
        return _pictures(replace(table, source=os.path.join(os.getcwd(), STANDARD)) if standard else table, column, task["target"])
    if column:
        return ["" if is_blank(cell) else str(cell) for cell in table.columns[column].tolist()]
    cells = [column.tolist() for column in table.columns.values()]
    return [dict(zip(table.columns, row, strict=True)) for row in zip(*cells, strict=True)]


def _files(path: str) -> list[str]:
    """Returns the pictures of a folder, or a picture. Those that cannot be read are named, and have no answer. Raises UserError."""
    found = sorted(one for one in Path(path).rglob("*") if is_picture_name(one.name)) if Path(path).is_dir() else [Path(path)]
    if not found:
        raise UserError(f"{path} has no pictures (PNG, JPEG, BMP, GIF, WebP, TIFF). Set --input.")
    named = [str(one.absolute()) for one in found]
    read = load_pictures(named, (8, 8), 1)
    for each in read.dropped:
        places = ", ".join(map(str, each.lines))
        print(f"note: {each.count:,} without an answer, since it cannot be read: {each.reason} ({places})", file=sys.stderr)
    return [one for one, kept in zip(named, read.kept.tolist(), strict=True) if kept]


def _pictures(table: Table, column: str, target: str) -> list[Any]:
    """Returns the paths or bytes of the pictures in a table; paths are relative to the folder of its file. Raises UserError."""
    named = [name for name in table.columns if name != target and kind_of(table.columns[name], name).name == "picture"]
    if not (column or named):
        raise UserError(f"{table.source} has no column of pictures; it has {', '.join(table.columns)}. Name one with --column.")
    cells = located(table, column or named[0])
    for line, cell in zip(table.lines.tolist(), cells, strict=True):
        if cell is None:
            raise UserError(f"line {line} of {table.source} has no picture in {column or named[0]}. Fill it, or leave the row out.")
    return [one if isinstance(one, bytes) else str(one) for one in cells]
