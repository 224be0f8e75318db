"""The results table of runs in the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.reports.table import DASH, Line, arrange
from assay.reports.view import RunView

COLUMNS = ("split", "metric", "seed", "ours", "95 % interval", "n", "published", "note")
RIGHT = ("seed", "ours", "95 % interval", "n")


def print_table(runs: Sequence[RunView], console: Console | None = None) -> None:
    """Prints every row of every run once. A pipe gets the table's natural width; a narrow terminal wraps the published column."""
    table = arrange(runs)
    cells = [[_cells(line) for line in block.lines] for block in table.blocks]
    widths = {column: len(column) for column in COLUMNS}
    for line in (line for block in cells for line in block):
        widths |= {column: max(widths[column], *map(len, line[column].split("\n"))) for column in COLUMNS}
    natural = sum(widths.values()) + 2 * len(COLUMNS)
    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=max(100, natural))
    gap = 2 if natural <= console.width else 1
    excess = max(0, sum(widths.values()) + gap * len(COLUMNS) - console.width)
    widths["published"] = max(len("published"), widths["published"] - excess)

    def show(text: str, style: str = "") -> Text:
        return Text(_printable(text, console.encoding), style=style)

    def grid(rows: Sequence[Mapping[str, str]], style: str = "") -> Table:
        table = Table(box=None, show_header=False, padding=(0, 0, 0, gap), pad_edge=True)
        for column in COLUMNS:
            table.add_column(width=widths[column], justify="right" if column in RIGHT else "left", overflow="fold")
        for row in rows:
            table.add_row(*(show(row[column], style) for column in COLUMNS))
        return table

    if table.shared:
        console.print(show(_facts(table.shared)))
    console.print(grid([{column: column for column in COLUMNS}], "dim"))
    for block, rows in zip(table.blocks, cells, strict=True):
        console.print()
        console.print(show(block.label, "bold").append(show(f"   {_facts(block.facts)}", "dim")))
        console.print(grid(rows))
    beneath = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    for text, letter in table.footnotes.items():
        beneath.add_row(show(letter), show(text))
    console.print()
    if table.footnotes:
        console.print(beneath)
    for remark in table.remarks:
        console.print(show(remark))


# -- private --------------------------------------------------------------------------------------------------------------


def _cells(line: Line) -> dict[str, str]:
    published = "\n".join(f"{cell.text} [{cell.tag}] {cell.letter}" for cell in line.published)
    values = (line.split, line.metric, line.seed, line.ours, line.interval, line.n, published or DASH, " ".join(line.notes))
    return dict(zip(COLUMNS, values, strict=True))


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    return " · ".join(f"{name} {value}" for name, value in facts)


def _printable(text: str, encoding: str) -> str:
    """Removes control characters, which could control the terminal, and transliterates to ASCII if the stream's encoding requires it."""
    text = "".join(character if character.isprintable() or character == "\n" else "�" for character in text)
    if not encoding.lower().startswith("utf"):
        text = text.translate({ord(DASH): "-", ord("±"): "+-", ord("·"): "-"})
    return text.encode(encoding, "replace").decode(encoding)
