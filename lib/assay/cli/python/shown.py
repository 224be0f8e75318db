"""What `assay.run`, `assay.diagnose` and `assay.compare` return: the plain values, which a notebook also shows, saves and tabulates.

    rows = assay.run("parity:tiny", "runs/tiny")       # a list; as the last line of a cell, a table
    rows.to_dataframe()                                # with pandas
    rows.save("report.html")                           # the page that the verb writes

`Rows` is a list, `Card` a dict and `Diagnosed` a Diagnosis, so code that takes those takes these. Printed, each is a few lines of text.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from assay.cli.diagnose import COMMAND
from assay.core.errors import UserError
from assay.core.file import read_text
from assay.core.number import number
from assay.diagnostics.measurement import limit
from assay.reports.card import card_page
from assay.reports.diagnosis import diagnosis_page, summarise
from assay.reports.fragment import card_fragment, diagnosis_fragment, rows_fragment, stages_fragment, suggestions_fragment
from assay.reports.headline import headline
from assay.reports.run import render
from assay.reports.view import read_run
from assay.train.workdir import WorkDir, write_text
from assay.verdicts.diagnosis import Diagnosis

NESTED = ("published", "by_length")  # of a row of results: what a table of numbers leaves out


class Rows(list[dict[str, Any]]):
    """The rows of a run's results.json, a list of dicts."""

    def __init__(self, rows: Iterable[dict[str, Any]], workdir: str | Path):
        super().__init__(rows)
        self.workdir = Path(workdir)

    def __repr__(self) -> str:
        said = [f"  {row['split']:<10} {row['metric']:<22} {number(row['value'], row['unit'])}" for row in self]
        return "\n".join([f"{len(self)} rows of {self.workdir}", *said])

    def _repr_html_(self) -> str:
        return rows_fragment(self, self.workdir.name)

    def to_dataframe(self) -> Any:
        """Returns a pandas DataFrame with a line for each row; `low` and `high` are the ends of the interval. Raises UserError without
        pandas."""
        return _frame(map(_flat, self))

    def save(self, path: str | Path) -> None:
        """Writes the report of the run's folder, report.html, to a file. Raises UserError if that is not possible."""
        folder = WorkDir(self.workdir)
        if folder.report.exists():
            _write(path, read_text(folder.report))
            return
        view = read_run(self.workdir)
        _write(path, render([view], str(view.config["experiment"])))


class Stages(Rows):
    """The rows of a treated run's stages.json: cost, speed and score of each stage. `save` writes the report of the treated run."""

    def __repr__(self) -> str:
        said = [f"  {row['name']:<20} {row['score']:.4g}" + (f"  {row['spec']}" if row.get("spec") else "") for row in self]
        return "\n".join([f"{len(self)} stages of {self.workdir}, with their scores", *said])

    def _repr_html_(self) -> str:
        return stages_fragment(self, self.workdir.name)


class Suggestions(list[dict[str, Any]]):
    """Suggested treatments, the most promising first."""

    def __init__(self, suggestions: Iterable[dict[str, Any]], name: str = ""):
        super().__init__(suggestions)
        self.name = name  # what they are for

    def __repr__(self) -> str:
        return "\n".join(f"{one['number']}. {one['treatment']}: {one['rule']}" for one in self) or "no treatment is suggested"

    def _repr_html_(self) -> str:
        return suggestions_fragment(self, self.name)

    def to_dataframe(self) -> Any:
        """Returns a pandas DataFrame with a line for each suggestion. Raises UserError without pandas."""
        return _frame(self)

    def save(self, path: str | Path) -> None:
        """Writes the table as a page. Raises UserError if that is not possible."""
        _write(
            path, f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Suggestions</title>\n{self._repr_html_()}\n</html>\n'
        )


class Diagnosed(Diagnosis):
    """A diagnosis: `about`, `rows`, `sets` and `suggestions`."""

    command = COMMAND  # what made it, as the page says

    def __repr__(self) -> str:
        return "\n".join([summarise(self.rows, self.suggestions), *(f"{one['number']}. {one['treatment']}" for one in self.suggestions)])

    def _repr_html_(self) -> str:
        return diagnosis_fragment(self)

    def to_dataframe(self) -> Any:
        """Returns a pandas DataFrame with a line for each row; `low` and `high` are the ends of the interval. Raises UserError without
        pandas."""
        return _frame(
            {
                **{key: getattr(row, key) for key in ("group", "name", "value", "unit", "n")},
                **dict(zip(("low", "high"), row.interval or (None, None), strict=True)),
                "limit": limit(row),
                **{key: getattr(row, key) for key in ("better", "margin", "applies", "reason", "caution", "meaning", "how")},
            }
            for row in self.rows
        )

    def save(self, path: str | Path) -> None:
        """Writes the page of the diagnosis, diagnosis.html, to a file. Raises UserError if that is not possible."""
        _write(path, diagnosis_page(self, self.command))


class Card(dict[str, Any]):
    """The card of a comparison, plain JSON data: see verdicts/card.py."""

    def __repr__(self) -> str:
        said = []
        for name, counts in self["counts"].items():
            told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
            said.append(f"{name}: {headline(self, name)} {told}".strip())
        return "\n".join(said)

    def _repr_html_(self) -> str:
        return card_fragment(self)

    def to_dataframe(self) -> Any:
        """Returns a pandas DataFrame with a line for each row and run after; `low` and `high` are the ends of the difference's interval.
        Raises UserError without pandas."""
        return _frame(
            {
                **{key: row[key] for key in ("group", "name", "unit")},
                "before": row["before"]["value"],
                "run": name,
                "after": after["value"],
                "difference": after["difference"],
                **dict(zip(("low", "high"), after["interval"] or (None, None), strict=True)),
                **{key: after[key] for key in ("relative", "n", "p_value", "adjusted", "verdict", "why")},
            }
            for row in self["rows"]
            for name, after in row["after"].items()
        )

    def save(self, path: str | Path) -> None:
        """Writes the page of the card, card.html, to a file. Raises UserError if that is not possible."""
        _write(path, card_page(self))


def diagnosed(diagnosis: Diagnosis, command: str = COMMAND) -> Diagnosed:
    """Returns a diagnosis that a notebook shows. `command` is what made it, for its page."""
    found = Diagnosed(*diagnosis)
    found.command = command
    return found


# -- private --------------------------------------------------------------------------------------------------------------


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row of results as one level of names, such as baselines.chance."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if key == "interval":
            found |= dict(zip(("low", "high"), value or (None, None), strict=True))
        elif isinstance(value, Mapping) and key not in NESTED:
            found |= {f"{key}.{name}": one for name, one in value.items()}
        elif key not in NESTED:
            found[key] = value
    return found


def _frame(records: Iterable[Mapping[str, Any]]) -> Any:
    try:
        import pandas  # not a dependency, and slow to import
    except ModuleNotFoundError:
        raise UserError("to_dataframe needs pandas. Install it with: pip install pandas") from None
    return pandas.DataFrame(list(records))


def _write(path: str | Path, page: str) -> None:
    write_text(Path(path).expanduser(), page)
