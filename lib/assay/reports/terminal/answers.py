"""The comparison of files of predictions in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from assay.core.number import change, limits, number
from assay.reports.terminal.card import STYLES, Shown

FEW = "too few"  # in place of an interval


def print_answers(card: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints a line for each file, and how the files were read and compared. `card` is that of verdicts/answers.py."""
    if console is None:
        console = Console(highlight=False)
        console.width = max(console.width, 140)  # a pipe has no fixed width
    show, unit, first = Shown(console.encoding), card["unit"], card["files"][0]["path"]
    table = Table(box=None, pad_edge=False)
    for column in ("file", "n", card["score"], "95 %", f"minus {first}", "95 %", "p", "Holm"):
        table.add_column(show(column), justify="left" if column == "file" else "right", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for one in card["files"]:
        cells = [one["path"], f"{card['n']:,}", number(one["mean"], unit), _ends(one["interval"], unit)]
        if one["verdict"]:
            cells += [change(one["difference"], unit), _ends(one["difference_interval"], unit, signed=True)]
            cells += [_p(one["p_value"]), _p(one["adjusted"])]
        table.add_row(*map(show, cells), *([""] * (8 - len(cells))), show(one["verdict"], STYLES[one["verdict"]]))
    console.print(table)
    for note in card["notes"]:
        console.print(show(note))
    margin = number(card["margin"], "fraction")
    within = f"{margin} of the value" if card["relative"] else margin.replace("%", "points")
    groups = "" if card["groups"] is None else f" ({card['groups']:,} groups)"
    told = (
        f"Paired by {card['id'] or 'line'}; p: {card['test']}{groups}; {card['better']} is better. Verdicts: p below {card['level']} "
        f"after Holm's correction, or an interval within ±{within}. They are on these answers; another training may differ."
    )
    console.print(show(told, "dim"))


# -- private --------------------------------------------------------------------------------------------------------------


def _ends(ends: Sequence[float | None] | None, unit: str, signed: bool = False) -> str:
    if ends is None or None in ends:
        return FEW
    return limits([end for end in ends if end is not None], unit, signed=signed)


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.0001" if value < 1e-4 else f"{value:.4f}"
