"""Tables of results, diagnoses and cards for a notebook: one short HTML element each, which needs no other file and styles nothing else.

    rows_fragment(rows), diagnosis_fragment(diagnosis), card_fragment(card), stages_fragment(rows), suggestions_fragment(suggestions)

They show what the pages' tables show, in text. All text is escaped; equal input gives equal bytes.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from assay.core.number import DASH, change, limits, number, stated
from assay.diagnostics.measurement import limit, ordered
from assay.reports.board import cell
from assay.reports.card import WORDS, control_told
from assay.reports.page import label, span, template
from assay.reports.table import arrange
from assay.reports.view import RunView

if TYPE_CHECKING:
    from assay.verdicts.diagnosis import Diagnosis


class Part(NamedTuple):
    """Rows of a table under a heading; each is a cell per column."""

    heading: str
    rows: list[list[str]]


def rows_fragment(rows: Sequence[Mapping[str, Any]], label: str = "") -> str:
    """Renders rows of results.json. `label` names the run."""
    table = arrange([RunView(label or "results", {}, [dict(row) for row in rows], [], {})])
    parts = []
    for block in table.blocks:
        lines = [
            [
                line.split,
                " ".join([line.metric, *(f"[{letter}]" for letter in line.notes)]),
                line.seed,
                line.ours,
                line.interval,
                line.n,
                line.baselines,
                "; ".join(f"{cell.text} [{cell.tag}, {cell.letter}]" for cell in line.published),
            ]
            for line in block.lines
        ]
        parts.append(Part(" · ".join([block.label, *(f"{name} {value}" for name, value in block.facts)]), lines))
    notes = [f"[{letter}] {text}" for text, letter in table.footnotes.items()]
    notes += [remark for remark in table.remarks if not remark.startswith("Baselines")]
    title = " · ".join(f"{name} {value}" for name, value in table.shared)
    return _render(title, ("split", "metric", "seed", "ours", "95 % interval", "n", "baselines", "published"), parts, notes)


def diagnosis_fragment(diagnosis: "Diagnosis") -> str:
    """Renders the rows of a diagnosis that apply, by group, and what it suggests."""
    about, parts = diagnosis.about, []
    for group in ordered(row.group for row in diagnosis.rows):
        rows = [
            [
                label(row.name),
                "crashed" if row.crashed else number(row.value, row.unit),
                "exact" if row.exact else span(row.interval, row.unit, row.bound, limit(row)),
                f"{row.n:,}" if row.n > 1 else "",
                row.reason if row.crashed else row.meaning,
            ]
            for row in diagnosis.rows
            if row.group == group and (row.applies or row.crashed)
        ]
        parts += [Part(label(group), rows)] if rows else []
    without = sum(not row.applies and not row.crashed for row in diagnosis.rows)
    notes = [f"Rows that do not apply: {without}; each states why in `reason`."] if without else []
    notes += [f"{one['number']}. {one['treatment']}: {one['rule']}" for one in diagnosis.suggestions]
    title = " · ".join([str(about["experiment"] or about["task"]), f"split {about['split']}", *(["quick"] if about["quick"] else [])])
    return _render(title, ("row", "value", "95 % interval", "n", "meaning"), parts, notes)


def card_fragment(card: Mapping[str, Any]) -> str:
    """Renders the rows of a card that apply: for one run after with its evidence, for several with a change and a sign each."""
    names, parts = list(card["after"]), []
    one = names[0] if len(names) == 1 else ""
    for group in ordered(row["group"] for row in card["rows"]):
        rows = []
        for row in card["rows"]:
            if row["group"] == group and any(after["verdict"] for after in row["after"].values()):
                cells = _evidence(row, row["after"][one]) if one else [_change(row, row["after"][name]) for name in names]
                rows.append([label(row["name"]), _stated(row["before"], row["unit"]), *cells])
        parts += [Part(label(group), rows)] if rows else []
    columns = ("row", "before", *((f"after: {one}", "change", "95 % interval", "p, corrected", "verdict") if one else names))
    notes = [told for name in names if (told := control_told(card["after"][name].get("control"), "" if one else name))]
    for name, counts in card["counts"].items():
        notes.append(f"{name}: " + ", ".join(f"{count} {word}" for word, count in counts.items() if count))
    title = " · ".join([card["task"], f"split {card['split']}", *(["quick"] if card["quick"] else [])])
    return _render(title, columns, parts, notes)


def board_fragment(
    sentence: str, metric: str, unit: str, rows: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """Renders a leaderboard: {title, seconds, valid, test, low, high} of each model, and {group, n, NAME: {value, low, high}} by column."""

    lines = [[row["title"], f"{row['seconds']:.1f}", number(row["valid"], unit), cell(unit, {**row, "value": row["test"]})] for row in rows]
    parts, titles = [Part("", lines)], {row["name"]: row["title"] for row in rows}
    for column, found in groups.items():
        cells = [
            [f"{titles[name]}, {group['group']}", "", f"{group['n']:,} rows", cell(unit, group[name])]
            for group in found
            for name in titles
            if name in group
        ]
        parts.append(Part(column, cells))
    return _render(sentence, ("model", "seconds", f"{metric} of valid", "of test (95 % interval)"), parts, [])


def stages_fragment(rows: Sequence[Mapping[str, Any]], label: str = "") -> str:
    """Renders rows of stages.json: cost, latency and score of each stage, and its differences from the treated run and from its control."""
    lines = []
    for row in rows:
        control = row.get("control") or {}
        lines.append(
            [
                row["name"],
                row.get("spec", ""),
                f"{row.get('updates', 0):,}",
                f"{row['cost']['parameters']:,}",
                number(row["cost"]["bytes_on_disk"], "bytes"),
                number(row["speed"]["latency_p50_seconds"], "seconds"),
                f"{row['score']:.4f}",
                *(_moved(one.get("difference"), one.get("difference_interval")) for one in (row, control)),
            ]
        )
    columns = ("stage", "treatment", "updates", "parameters", "on disk", "latency p50", "score", "change", "effect against the control")
    return _render(label, columns, [Part("", lines)], [])


def suggestions_fragment(suggestions: Sequence[Mapping[str, Any]], label: str = "") -> str:
    """Renders suggested treatments: why, and the row that is expected to change. `label` names what they are for."""
    lines = [
        [
            str(one["number"]),
            one["treatment"],
            one["rule"],
            f"{one['row']} {one['expects']} by {change(one['effect'], one['unit']).lstrip('+')}",
        ]
        for one in suggestions
    ]
    notes = [] if lines else ["No rule found a bottleneck that a known treatment addresses."]
    return _render(label, ("", "treatment", "why", "expected"), [Part("", lines)] if lines else [], notes)


# -- private --------------------------------------------------------------------------------------------------------------


def _render(title: str, columns: Sequence[str], parts: Sequence[Part], notes: Sequence[str]) -> str:
    return template("fragment.html.j2").render(title=title, columns=columns, parts=parts, notes=notes)


def _stated(one: Mapping[str, Any], unit: str) -> str:
    return stated(one["value"], unit, one.get("bound", ""), one.get("limit"))


def _change(row: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    moved = "" if after["difference"] is None else change(after["difference"], row["unit"], after["relative"])
    return f"{moved} {WORDS[after['verdict']][1]}".strip()


def _moved(difference: float | None, interval: Sequence[float] | None) -> str:
    """Returns a difference of scores with its interval."""
    if difference is None:
        return DASH
    return f"{difference:+.4f}" + (f" ({interval[0]:+.4f} to {interval[1]:+.4f})" if interval else "")


def _evidence(row: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Returns the cells of a row for a single run after."""
    unit, p_value = row["unit"], after["adjusted"]
    return [
        _stated(after, unit),
        change(after["difference"], unit, after["relative"]),
        DASH if None in (after["interval"] or [None]) else limits(after["interval"], unit, after["relative"], signed=True),
        DASH if p_value is None else "< 0.0001" if p_value < 1e-4 else f"{p_value:.4f}",
        f"{WORDS[after['verdict']][1]} {after['verdict']}",
    ]
