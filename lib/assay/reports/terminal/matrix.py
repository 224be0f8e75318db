"""The matrix of treatments by model families in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from assay.verdicts.matrix import Cell


def print_matrix(cells: Sequence[Cell], console: Console | None = None) -> None:
    """Prints one row per treatment and one column per family; reasons are listed below, by letter."""
    families = list(dict.fromkeys(cell.family for cell in cells))
    letters: dict[str, str] = {}
    for cell in cells:
        if cell.reason and cell.reason not in letters:
            letters[cell.reason] = _letter(len(letters))
    table = Table(box=None, pad_edge=False)
    table.add_column("treatment", no_wrap=True)
    for family in families:
        table.add_column(family, justify="center")
    of = {(cell.spec, cell.family): cell for cell in cells}
    for spec in dict.fromkeys(cell.spec for cell in cells):
        row = [of[spec, family] for family in families]
        table.add_row(spec, *("yes" if not cell.reason else letters[cell.reason] for cell in row))
    if console is None:
        console = Console(highlight=False)
        console.width = max(console.width, 190)
    console.print(table, markup=False)
    console.print("\nA letter means that the treatment does not apply, for this reason:")
    for reason, letter in letters.items():
        console.print(f"  {letter}  {reason}", markup=False, soft_wrap=True)
    console.print(
        "Treatments of the task (couple, curriculum, recombine, reverse, scratchpad, supervise, augment) depend only on the task."
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _letter(number: int) -> str:
    return chr(ord("a") + number % 26) + (str(number // 26) if number >= 26 else "")
