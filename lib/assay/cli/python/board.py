"""`assay.fit` of a file: the verb as a function, which returns the leaderboard.

board = assay.fit("reviews.csv", "runs/mine")       # a list of rows; as the last line of a cell, a table
board.sentence                                      # which to use
board.to_dataframe()                                # with pandas
board.save("report.html")                           # the page of the run
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.cli import fit as fitting
from assay.cli.python.shown import Rows
from assay.core.errors import UserError
from assay.fitting import scores
from assay.reports.fragment import board_fragment


class Board(Rows):
    """The leaderboard, a list of {name, title, seconds, metric, valid, test, low, high}; the ends are those of test's 95 % interval."""

    def __init__(self, made: fitting.Fit, workdir: str | Path):
        super().__init__([_row(entry, made.metric) for entry in made.entries], workdir)
        self.sentence = made.sentence
        self.metric = made.metric
        self.chosen = made.chosen.name
        self.groups = dict(made.groups)

    def _repr_html_(self) -> str:
        return board_fragment(self.sentence, self.metric, scores.unit_of(self.metric), self, self.groups)


def fit_file(data: Any, workdir: str | Path, asked: Mapping[str, Any], overrides: Mapping[str, str], quiet: bool) -> Board:
    """Fits a file, a folder, or a table with `to_csv`, which is written to the work directory. `asked` are fields of `cli.fit.Asked`."""
    given: dict[str, Any] = dict(asked)
    given |= {key: tuple([given[key]] if isinstance(given[key], str) else given[key]) for key in LISTS}
    given["test"] = _path(given["test"], workdir, "test.csv") if given.get("test") is not None else ""
    made = fitting.fit(_path(data, workdir, "data.csv"), str(workdir), fitting.Asked(**given), overrides, quiet)
    return Board(made, workdir)


LISTS = ("text", "ignore", "group")

# -- private --------------------------------------------------------------------------------------------------------------


def _path(data: Any, workdir: str | Path, name: str) -> str:
    """Returns the path of the data; those of a DataFrame are written first."""
    if isinstance(data, str | Path):
        return str(data)
    if not hasattr(data, "to_csv"):
        raise UserError(f"fit takes a file, a folder, a DataFrame or a brought model, not {type(data).__name__}. See help(assay.fit).")
    path = Path(workdir).expanduser() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        data.to_csv(Path(folder) / name, index=False)
        rows = (Path(folder) / name).read_bytes()
    if path.exists() and path.read_bytes() != rows:
        raise UserError(f"{path} exists and holds other rows than the DataFrame. Choose another workdir, or delete that file.")
    path.write_bytes(rows)
    return str(path)


def _row(entry: Any, metric: str) -> dict[str, Any]:
    found: dict[str, Any] = {"name": entry.name, "title": entry.title, "seconds": entry.seconds, "metric": metric}
    valid: Sequence[Any] = entry.parts.get("valid", ())
    test: Sequence[Any] = entry.parts.get("test", ())
    found["valid"] = scores.value(metric, valid) if valid else None
    ends = scores.interval(metric, test)._asdict() if test else {"value": None, "low": None, "high": None}
    return found | {"test": ends["value"], **{key: None if ends[key] != ends[key] else ends[key] for key in ("low", "high")}}
