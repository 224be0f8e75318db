"""The data that a report shows of a work directory: its config, rows and logged metrics, validated on reading."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from assay.core.errors import UserError
from assay.core.file import parse_json, read_json, read_text
from assay.diagnostics.measurement import Attention
from assay.evals.written import a_count, a_number, wrong_line, wrong_row
from assay.reports.answers import AnswersView, answers_of
from assay.reports.board import BoardView, board_of
from assay.reports.issues import IssuesView, issues_of


class RunView(NamedTuple):
    """The data that a report shows of a work directory. Runs with the same label are seeds of one experiment."""

    label: str
    config: Mapping
    rows: list[dict]
    metrics: list[dict]
    environment: Mapping
    attention: Attention | None = None
    timing: Mapping | None = None
    issues: IssuesView | None = None
    board: BoardView | None = None
    answers: AnswersView | None = None


def read_run(path: str | os.PathLike, label: str | None = None) -> RunView:
    """Reads config.json, results.json and, if present, metrics.jsonl, timing.json, issues.csv and fit.json.

    The label is the folder's name, or its parent's for seed_N.
    """
    path = Path(os.path.realpath(path))
    results = _read_json(path, "results.json")
    again = "Train it again in another --workdir."
    if results.get("schema") != 1:
        raise UserError(f"{path / 'results.json'} has schema {results.get('schema')!r}; known: 1. {again}")
    rows, environment = results.get("rows"), results.get("environment", {})
    wrong = wrong_row(rows) if isinstance(rows, list) and isinstance(environment, dict) else "it needs rows and an environment"
    if wrong:
        raise UserError(f"{path / 'results.json'} is damaged: {wrong}. {again}")
    lines = _lines(path / "metrics.jsonl") if (path / "metrics.jsonl").exists() else []
    label = label or (path.parent if re.fullmatch(r"seed_\d+", path.name) else path).name
    timing = _timing(_read_json(path, "timing.json"), path) if (path / "timing.json").exists() else None
    metrics = list(_parse(lines, path))
    config, parts = _read_json(path, "config.json"), (issues_of(path), board_of(path), answers_of(path))
    return RunView(label, config, results["rows"], metrics, environment, None, timing, *parts)


# -- private --------------------------------------------------------------------------------------------------------------


def _read_json(folder: Path, name: str) -> dict:
    try:
        found = read_json(folder / name)
    except FileNotFoundError:
        raise UserError(f"{folder} has no {name}; a finished run has config.json and results.json. Set it with --workdir.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / name} is not JSON ({error}). Run again with --workdir={folder}.") from None
    if not isinstance(found, dict):
        raise UserError(f"{folder / name} is not a file of a run: it holds no object. Run again with --workdir={folder}.")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Repair or remove it.") from None


def _timing(found: dict, folder: Path) -> dict:
    seconds = found.get("seconds")
    if not (
        a_count(found.get("steps")) and isinstance(seconds, dict) and all(map(a_number, seconds.values())) and {"compile"} <= set(seconds)
    ):
        raise UserError(f"{folder / 'timing.json'} is damaged: it needs steps, and seconds by kind. Remove it.")
    return found


def _parse(lines: Sequence[str], folder: Path) -> Iterator[dict]:
    """Parses one object per line; skips a last line that was truncated when a run was killed."""
    for number, line in enumerate(lines, start=1):
        try:
            found = parse_json(line)
        except ValueError as error:
            if number < len(lines):
                raise UserError(f"{folder / 'metrics.jsonl'}, line {number} is not JSON ({error}). Repair or remove that line.") from None
            return
        if wrong := wrong_line(found):
            raise UserError(f"{folder / 'metrics.jsonl'}, line {number} is damaged: {wrong}. Repair or remove that line.")
        yield found
