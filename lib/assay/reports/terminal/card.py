"""The card in the terminal: one line per row for a single run after, else the side-effect matrix of rows by treatments.

print_card(card)
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from assay.core.number import DASH, MINUS, change, limits, number, stated
from assay.reports.card import control_told
from assay.reports.headline import headline
from assay.verdicts.card import HELD, MISSED, UNSHOWN
from assay.verdicts.verdict import BETTER, OPEN, SAME, WORSE

SIGNS = {BETTER: "✓", WORSE: "✕", SAME: "=", OPEN: "?", "": " "}  # the same signs as on the page
STYLES = {BETTER: "blue", WORSE: "yellow", SAME: "", OPEN: "dim", "": "dim"}
PLAIN = str.maketrans(  # ASCII replacements for a console without these characters
    {"✓": "+", "✕": "x", MINUS: "-", DASH: "-", "±": "+-", "\N{MULTIPLICATION SIGN}": "x", "µ": "u", "∞": "inf", "·": "-"}
)
WIDTH = 120  # minimum width of a pipe


def print_card(card: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints the card, group by group.

    The last lines list rows that do not apply, reasons for inconclusive rows, counts of verdicts, and outcomes of predictions. A pipe gets
    the table's natural width.
    """
    names = list(card["after"])
    piped = console is None and not Console().is_terminal
    console = console or Console()
    show = Shown(console.encoding)
    table = _lines(card, names[0], show) if len(names) == 1 else _matrix(card, names, show)
    if piped:
        wide = console.options.update(max_width=1000, width=1000)
        console = Console(width=max(WIDTH, Measurement.get(console, wide, table).maximum))
    quick = ", quick: few examples" if card["quick"] else ""
    for name in names:
        if said := headline(card, name):
            console.print(show(f"{name}: {said}" if len(names) > 1 else said, "bold"))
    console.print(show(f"{card['task']} · split {card['split']}{quick} · before: {_told(card['before'])}"))
    for name in names:
        console.print(show(f"{name}: {_told(card['after'][name])}"))
    console.print(table)
    if len(names) > 1:
        console.print(show("   ".join(f"{SIGNS[word]} {word}" for word in (BETTER, WORSE, SAME, OPEN)), "dim"))
    console.print()
    for name in names:
        if told := control_told(card["after"][name].get("control"), name if len(names) > 1 else ""):
            console.print(show(told))
    for remark in _remarks(card, names):
        console.print(show(remark, "dim"))
    for name, counts in card["counts"].items():
        console.print(show(f"{name}: " + ", ".join(f"{count} {word}" for word, count in counts.items() if count)))
    for one in card["predictions"]:
        console.print(show(_prediction(one)))
    said = "the score is tested alone, the other rows by Holm's method at what it leaves"
    console.print(show(f"Verdicts: corrected p below {card['level']} ({said}), or an interval within the row's margin.", "dim"))
    console.print(show("Both are sets of weights: another seed may come out differently (assay compare --workdir).", "dim"))


# -- private --------------------------------------------------------------------------------------------------------------


class Shown:
    """Text that the console can print, without control characters, which could control the terminal."""

    def __init__(self, encoding: str):
        self.encoding = encoding

    def __call__(self, text: str, style: str = "") -> Text:
        text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
        if not self.encoding.lower().startswith("utf"):
            text = text.translate(PLAIN).encode(self.encoding, "replace").decode(self.encoding)
        return Text(text, style=style)


def _lines(card: Mapping[str, Any], name: str, show: Shown) -> Table:
    table = Table(box=None, pad_edge=False)
    controlled = any(row["after"][name].get("control") for row in card["rows"])
    for column in ("row", "before", *(("control",) if controlled else ()), "after", "difference", "95 %", "p"):
        table.add_column(column, justify="left" if column == "row" else "right", overflow="fold")
    table.add_column("verdict", no_wrap=True, min_width=max(map(len, SIGNS)))
    for group, rows in _grouped(card["rows"]):
        table.add_row(show(group, "bold"))
        for row in rows:
            one, unit = row["after"][name], row["unit"]
            p_value = DASH if one["adjusted"] is None else "< 0.0001" if one["adjusted"] < 1e-4 else f"{one['adjusted']:.4f}"
            beside = [_stated(one["control"], unit) if one.get("control") else ""] if controlled else []
            cells = (_stated(row["before"], unit), *beside, _stated(one, unit), _change(one, row), _ends(one, row), p_value)
            table.add_row(show(f"  {_label(row)}"), *(show(cell) for cell in cells), show(one["verdict"], STYLES[one["verdict"]]))
    return table


def _matrix(card: Mapping[str, Any], names: Sequence[str], show: Shown) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("row", overflow="fold")
    for name in ("before", *names):
        table.add_column(show(name), justify="right", overflow="fold")
    for group, rows in _grouped(card["rows"]):
        table.add_row(show(group, "bold"))
        for row in rows:
            cells = []
            for one in (row["after"][name] for name in names):
                moved = "" if one["difference"] is None else f"{_change(one, row)} "
                cells.append(show(f"{moved}{SIGNS[one['verdict']]}", STYLES[one["verdict"]]))
            table.add_row(show(f"  {_label(row)}"), show(_stated(row["before"], row["unit"])), *cells)
    return table


def _remarks(card: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Returns the rows that apply to no run, and the reasons for inconclusive rows without a p-value."""
    without = [_label(row) for row in card["rows"] if not _applies(row)]
    told = [f"Not applicable (reasons are on the page): {', '.join(without)}."] if without else []
    for name in names:
        reasons: dict[str, list[str]] = {}
        for row in card["rows"]:
            one = row["after"][name]
            if one["verdict"] == OPEN and one["adjusted"] is None:
                reasons.setdefault(one["why"], []).append(_label(row))
        beside = f"{name}, " if len(names) > 1 else ""
        told += [f"{beside}{OPEN}, {why}: {', '.join(rows)}." for why, rows in reasons.items()]
    return told


def _applies(row: Mapping[str, Any]) -> bool:
    return any(one["verdict"] for one in row["after"].values())


def _stated(one: Mapping[str, Any], unit: str) -> str:
    return stated(one["value"], unit, one.get("bound", ""), one.get("limit"))


def _change(one: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    return change(one["difference"], row["unit"], one["relative"])


def _ends(one: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    return limits(one["interval"], row["unit"], one["relative"], signed=True)


def _prediction(one: Mapping[str, Any]) -> str:
    wanted = number(abs(one["effect"]), one["unit"] or "").replace("%", "points") if one["effect"] is not None else ""
    was = "" if one["difference"] is None else f", observed {change(one['difference'], one['unit'] or '', one['relative'])}"
    said = {HELD: "the prediction held", MISSED: "the prediction did not hold", UNSHOWN: "the prediction could not be tested"}
    outcome = said[one["outcome"]]
    why = f" ({one['why']})" if one["why"] else ""
    return f"{one['after']}: {one['treatment']} was expected to make {one['row']} {one['expects']} by {wanted}{was}: {outcome}{why}"


def _grouped(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Returns the rows that apply to any run, by group."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in filter(_applies, rows):
        groups.setdefault(row["group"], []).append(row)
    return list(groups.items())


def _label(row: Mapping[str, Any]) -> str:
    return str(row["name"]).replace("_", " ")


def _told(about: Mapping[str, Any]) -> str:
    """Describes a run in one line."""
    treatments = ", ".join(about["treatments"]) or "no treatment"
    parts = (str(about.get("workdir") or about["experiment"]), str(about["model"]), treatments)
    return " · ".join(dict.fromkeys(parts))
