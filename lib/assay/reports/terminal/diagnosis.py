"""A diagnosis in the terminal: one line per row, group by group, and the suggestions."""

from rich.console import Console
from rich.table import Table

from assay.core.number import DASH, bounded, limits, number
from assay.diagnostics.measurement import Measurement, limit
from assay.reports.diagnosis import told_of
from assay.reports.terminal.card import Shown
from assay.verdicts.diagnosis import Diagnosis


def print_diagnosis(found: Diagnosis, console: Console | None = None, workdir: str = "WORKDIR") -> None:
    """Prints a diagnosis of the run in `workdir`. Rows that do not apply are counted; failed rows show the reason."""
    if console is None:
        console = Console(highlight=False)
        console.width = max(console.width, 170)
    show = Shown(console.encoding)
    table = Table(box=None, pad_edge=False)
    for column in ("", "value", "95 %", "n"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    table.add_column("meaning", ratio=1)
    group = ""
    for row in found.rows:
        if not row.applies and not row.crashed:
            continue
        if row.group != group:
            group = row.group
            table.add_row(show(group, "bold"))
        if row.crashed:
            table.add_row(show(f"  {row.name}"), "failed", show(DASH), show(DASH), show(row.reason), style="bold")
        else:
            cells = (
                f"  {row.name}",
                number(row.value, row.unit),
                _span(row),
                f"{row.n:,}",
                f"{row.meaning} ({row.caution})" if row.caution else row.meaning,
            )
            table.add_row(*(show(cell) for cell in cells))
    console.print(table)
    silent = [row for row in found.rows if not row.applies and not row.crashed]
    quick = " Quick diagnosis: fewer examples (--quick)." if found.about["quick"] else ""
    console.print(
        show(
            f"{found.about['task']}, measured on {found.about['split']}. {len(silent)} rows do not apply; see the page for reasons.{quick}"
        )
    )
    for note in found.about.get("notes", ()):
        console.print(show(note, "bold"))
    for one in found.suggestions:
        console.print(show(f"try {one['number']}: {one['treatment']}  {one['rule']}"))
        if said := told_of(one):
            console.print(show(f"       {said}"))
    if not found.suggestions:
        console.print(show("No treatment is suggested: no rule found a bottleneck that a known one addresses."))
    if found.suggestions:
        run = found.about.get("run", True)
        call = f"assay treat --from={workdir} --apply=1 --workdir={workdir}_1" if run else 'assay.treat(subject, "TREATMENT", "WORKDIR")'
        console.print(show(f"To apply the first: {call}"))


# -- private --------------------------------------------------------------------------------------------------------------


def _span(row: Measurement) -> str:
    """Returns the interval or the text of a bound, with its confidence level if it is not that of the header."""
    said = bounded(limit(row), row.unit, row.bound) if row.bound else "exact" if row.exact else limits(row.interval, row.unit)
    return said if row.confidence == 0.95 or not row.interval else f"{said} ({number(row.confidence, 'fraction')})"
