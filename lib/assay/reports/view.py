"""The data that a report shows of a work directory: its config, rows and logged metrics, validated on reading."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from assay.core.errors import UserError
from assay.diagnostics.measurement import Attention


class RunView(NamedTuple):
    """The data that a report shows of a work directory. Runs with the same label are seeds of one experiment."""

    label: str
    config: Mapping
    rows: list[dict]
    metrics: list[dict]
    environment: Mapping
    attention: Attention | None = None
    timing: Mapping | None = None


def read_run(path: str | os.PathLike, label: str | None = None) -> RunView:
    """Reads config.json, results.json and, if present, metrics.jsonl. The label is the folder's name, or its parent's for seed_N."""
    path = Path(path).resolve()
    results = _read_json(path, "results.json")
    if results.get("schema") != 1:
        wrong = f"{path / 'results.json'} has schema {results.get('schema')!r}; known: 1."
        raise UserError(f"{wrong} Train it again in another --workdir.")
    lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if (path / "metrics.jsonl").exists() else []
    label = label or (path.parent if re.fullmatch(r"seed_\d+", path.name) else path).name
    timing = _read_json(path, "timing.json") if (path / "timing.json").exists() else None
    metrics = list(_parse(lines, path))
    return RunView(label, _read_json(path, "config.json"), results["rows"], metrics, results["environment"], timing=timing)


# -- private --------------------------------------------------------------------------------------------------------------


def _read_json(folder: Path, name: str) -> dict:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} has no {name}; a finished run has config.json and results.json. Set it with --workdir.") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{folder / name} is not JSON ({error}). Run again with --workdir={folder}.") from None


def _parse(lines: Sequence[str], folder: Path) -> Iterator[dict]:
    """Parses one object per line; skips a last line that was truncated when a run was killed."""
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise UserError(f"{folder / 'metrics.jsonl'}, line {number} is not JSON ({error}). Repair or remove that line.") from None
