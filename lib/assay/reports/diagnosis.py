"""A diagnosis as one self-contained HTML page: a summary in plain words, suggested treatments, and a picture for every number.

`diagnosis_page(diagnosis, command)` renders the page; `command` is the command that made the diagnosis. Equal input gives equal bytes. All
text is escaped; only the drawings of sketch.py are marked safe.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from assay.core.number import apart, bounded, change, duration, limits, number
from assay.diagnostics.measurement import Measurement, limit, ordered
from assay.reports.drawings.sketch import sketch, track
from assay.reports.page import Amount, amount, breakable, label, pairs, span, template
from assay.verdicts.rules.rule import progress_of

if TYPE_CHECKING:
    from assay.verdicts.diagnosis import Diagnosis

CALL = "assay.diagnose("
TOLD = 3  # number of bottlenecks in the summary, largest first
POINTS = 0.02  # minimum loss for a row to appear in the summary
GLANCE = (  # rows shown at the top if they apply, at most six
    ("generalisation", "score"),
    ("reasoning", "out_of_distribution"),
    ("generalisation", "train_test_gap"),
    ("calibration", "calibration_error"),
    ("long range", "effective_context"),
    ("cost", "bytes_on_disk"),
    ("speed", "latency_p50"),
    ("cost", "flops"),
)
FIELDS = {  # fields of a row in diagnosis.json
    "group, name": "the measured quantity; names are unique within a group",
    "value, unit": "the unrounded value in its unit; fractions from 0 to 1, times in seconds; null if the row does not apply",
    "n, interval": "the number of examples (or batches, or calls), and the ends of the 95 % interval, or null",
    "bound, confidence": "lower or upper for a one-sided bound, whose other end is null; the confidence level of the interval",
    "how, meaning": "the method and the meaning of the measurement, one sentence each",
    "applies, reason, crashed": "whether the row has a value, and if not, the reason",
    "better": "the preferred direction: higher, lower, or neither",
    "margin, relative": "the largest change that counts as no difference: in the unit or, if relative, as a fraction of the value",
    "timing": "whether the value varies between diagnoses; all other rows are identical bytes",
    "statistic, columns": "the value is this statistic of these columns of diagnosis.npz, [examples] each, named GROUP/NAME|SET/WHAT",
    "right": "WHAT of the columns that mark answers as right (1) or wrong (0)",
    "plot": "the plot: kind, x, lines by name, labels; values by row and column, edges",
}  # fmt: skip


def diagnosis_page(diagnosis: "Diagnosis", command: str) -> str:
    """Renders the page. `command`: the shell command, or the call of assay.diagnose; its work directory, or its subject, is used in the
    commands of suggested treatments.
    """
    about, rows = diagnosis.about, diagnosis.rows
    workdir, source = _workdir(command), _source(command)
    places = {(row.group, row.name): f"row-{index}" for index, row in enumerate(rows)}
    sections = [_section(group, [row for row in rows if row.group == group], places) for group in ordered(row.group for row in rows)]
    sections = [section for section in sections if section["rows"] or section["without"]]
    facts = [
        f"task {about['task']}",
        f"model {_name(about['model'])}",
        f"treatments {', '.join(about['treatments']) or 'none'}",
        f"measured on the split {about['split']}",
        f"checkpoint {_checkpoint(about['checkpoint'])}",
    ]
    return template("diagnosis.html.j2").render(
        title=about["experiment"] or about["task"],
        heading=breakable(about["experiment"] or about["task"]),
        facts=facts,
        summary=summarise(rows, diagnosis.suggestions),
        quick=about["quick"],
        notes=[*about.get("notes", ()), *(f"Failed: {one}" for one in about.get("failed", ()))],
        glance=_glance(rows, places),
        crashed=[{"name": label(row.name), "id": places[row.group, row.name]} for row in rows if row.crashed],
        suggestions=[_suggestion(one, workdir, source, rows, places) for one in diagnosis.suggestions],
        sections=[{**section, "id": f"group-{index}"} for index, section in enumerate(sections)],
        environment=list(pairs(about["environment"])),
        command=command,
        workdir=workdir,
        top=[key for key in about if key != "environment"] + ["columns", "rows", "suggestions", "environment"],
        schema=about["schema"],
        fields=FIELDS,
    )


def summarise(rows: Sequence[Measurement], suggestions: Sequence[Mapping[str, Any]]) -> str:
    """Summarizes the rows in plain words: headline score, largest bottlenecks, cost, and number of suggestions."""
    found = {(row.group, row.name): row for row in rows if row.applies and row.value is not None and math.isfinite(row.value)}
    said = []
    head = found.get(("generalisation", "score")) or found.get(("reasoning", "in_distribution"))
    if head is not None:
        ends = f" (95 % interval {limits(head.interval, head.unit)}, n {head.n:,})" if head.interval and not head.bound else ""
        kind = f"{number(head.value, head.unit)} of the held-out answers are right" if head.unit == "fraction" else (
            f"The error on held-out examples is {number(head.value, head.unit)}"
        )  # fmt: skip
        said.append(f"{kind}{ends}.")
    progress = progress_of({f"{group}/{name}": row for (group, name), row in found.items()})
    untaught = progress is not None and not progress.known
    if progress is not None and untaught:
        above = apart(progress.above, progress.unit, "above", "below") if progress.unit else apart(-progress.above, "")
        said.append(f"It has not learned: its score is {above} that of the best answer without a model. Nothing else means anything yet.")
    losses = [] if untaught else sorted(_losses(found), key=lambda one: -one.size)
    sure = [one.text for one in losses if one.sure][:TOLD]
    if sure:
        said.append("Largest bottlenecks: " + "; ".join(sure) + ".")
    elif losses:
        said.append("No bottleneck is certain: each could be due to chance, as its 95 % interval includes none, or there is no interval.")
    elif found and not untaught:
        said.append("No row shows a large bottleneck.")
    size, latency = found.get(("cost", "parameters")), found.get(("speed", "latency_p50"))
    cost = [f"has {number(size.value, size.unit)} parameters"] if size else []
    cost += [f"answers one example in {number(latency.value, latency.unit)}"] if latency else []
    said += [f"It {' and '.join(cost)}."] if cost else []
    if suggestions:
        many = len(suggestions)
        said.append(f"{'One treatment is' if many == 1 else f'{_count(many)} treatments are'} suggested, most promising first.")
    return " ".join(said) or "No row applies to this run."


# -- private --------------------------------------------------------------------------------------------------------------


class _Loss(NamedTuple):
    """A large bottleneck."""

    size: float  # from 0 to 1
    text: str
    sure: bool  # whether the value is exact, or has a 95 % interval that excludes that there is none


def _losses(found: Mapping[tuple[str, str], Measurement]) -> list[_Loss]:
    """Returns the large bottlenecks."""
    fractions = {key: row for key, row in found.items() if row.unit == "fraction"}
    score, inside = fractions.get(("generalisation", "score")), fractions.get(("reasoning", "in_distribution"))
    outside, gap = fractions.get(("reasoning", "out_of_distribution")), fractions.get(("generalisation", "train_test_gap"))
    error, dead = fractions.get(("calibration", "calibration_error")), fractions.get(("optimisation health", "dead_units"))
    told: list[_Loss] = []
    if inside and outside:
        said = f"accuracy is {number(outside.value, 'fraction')} out of distribution and {number(inside.value, 'fraction')} in distribution"
        told.append(_Loss(*_drop(inside, outside, said)))
    for row, words, weight in (
        (gap, "training examples score {} higher than held-out ones", 1.0),
        (error, "confidence differs from accuracy by {} on average", 1.0),
        (dead, "{} of the hidden units are dead", 0.25),  # dead units may not cost any accuracy
    ):
        if row and row.value is not None:
            size = number(row.value, "fraction") if row is dead else _points(row.value)
            told.append(_Loss(weight * row.value, words.format(size), row.interval[0] > 0 if row.interval else row.exact))
    corrupted = [(row.value or 0.0, name, row) for (_, name), row in fractions.items() if name.startswith("corruption: ")]
    if corrupted and score:
        least, name, row = min(corrupted, key=lambda one: one[:2])
        what = name.removeprefix("corruption: ").replace("_", " ")
        said = f"accuracy drops from {number(score.value, 'fraction')} to {number(least, 'fraction')} under the {what} corruption"
        told.append(_Loss(*_drop(score, row, said)))
    return [one for one in told if one.size >= POINTS]


def _drop(one: Measurement, other: Measurement, text: str) -> tuple[float, str, bool]:
    """Returns the drop from one value to another, and whether the interval of the difference excludes 0 (Newcombe 1998).

    From too few examples for an interval nothing is sure, unlike an exact value, which needs none.
    """
    first, second = one.value or 0.0, other.value or 0.0
    if not (one.interval and other.interval):
        return first - second, text, all(row.interval or row.exact for row in (one, other))
    return first - second, text, first - second > math.hypot(first - one.interval[0], other.interval[1] - second)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) or not text else ".")


def _points(share: float) -> str:
    return change(abs(share), "fraction").lstrip("+")


def _count(many: int) -> str:
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
    return words[many] if many < len(words) else str(many)


def _glance(rows: Sequence[Measurement], places: Mapping[tuple[str, str], str]) -> list[dict[str, Any]]:
    found = {(row.group, row.name): row for row in rows if row.applies and row.value is not None}
    shown = [found[key] for key in GLANCE if key in found][:6]
    return [{"name": label(row.name), "amount": amount(row.value, row.unit), "id": places[row.group, row.name]} for row in shown]


def _section(group: str, rows: Sequence[Measurement], places: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Groups rows: those with a number or a crash, and the names of the others by reason."""
    shown = [_row(row, places[row.group, row.name]) for row in rows if row.crashed or row.applies]
    without: dict[str, list[Measurement]] = {}
    for row in rows:
        if not row.applies and not row.crashed:
            without.setdefault(row.reason, []).append(row)
    named = [
        {"reason": reason, "rows": [{"name": label(row.name), "id": places[row.group, row.name]} for row in same]}
        for reason, same in without.items()
    ]
    return {"name": label(group), "rows": shown, "without": named, "count": sum(row.applies for row in rows)}


def _row(row: Measurement, place: str) -> dict[str, Any]:
    empty = Amount("", "")
    return {
        "id": place,
        "name": label(row.name),
        "key": f"{row.group}/{row.name}",
        "amount": empty if row.crashed else amount(row.value, row.unit),
        "interval": _span(row),
        "confidence": ""
        if row.exact or (row.bound and not row.interval)
        else f"{number(row.confidence, 'fraction').replace('.0 ', ' ')}: ",
        "n": f"{row.n:,}" if row.n > 1 else "",
        "caution": row.caution,
        "timing": row.timing,
        "meaning": row.meaning,
        "how": row.how,
        "reason": row.reason,
        "crashed": row.crashed,
        "picture": _picture(row),
    }


def _span(row: Measurement) -> str:
    if row.bound:
        return span(row.interval, row.unit, row.bound, limit(row)) + (", exact" if row.exact else "")
    return "exact" if row.exact else span(row.interval, row.unit)


def _picture(row: Measurement) -> Markup | str:
    """Returns the row's plot, or for a fraction without a plot its interval between 0 and 1."""
    if row.crashed or row.value is None:
        return ""
    if row.plot is not None:
        return Markup(sketch(row.plot))
    if row.unit != "fraction" or not row.interval:
        return ""
    ends = [end for end in row.interval if math.isfinite(end)]
    if min(row.value, *ends) >= 0 and max(row.value, *ends) <= 1:
        said = bounded(limit(row), row.unit, row.bound) if row.bound else f"95 % interval {limits(row.interval, row.unit)}"
        return Markup(track(row.value, row.interval, f"{number(row.value, row.unit)}, {said}"))
    return ""


def _suggestion(
    one: Mapping[str, Any], workdir: str, source: str, rows: Sequence[Measurement], places: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    """Returns the template's data for a suggestion: the expected effect, and the commands, or calls of Python, to try it."""
    group, _, name = str(one["row"]).partition("/")
    unit = one.get("unit") or next((row.unit for row in rows if (row.group, row.name) == (group, name)), "")
    effect = one.get("effect")
    size = "" if not effect else f" by {change(abs(effect), unit).lstrip('+')}"
    target = f"{workdir}_{one['number']}"
    shell = (
        f"assay treat --from={shlex.quote(workdir)} --apply={one['number']} --workdir={shlex.quote(target)}",
        f"assay compare --before={shlex.quote(workdir)} --after={shlex.quote(target)}",
    )
    calls = f"assay.treat({source}, {one['treatment']!r}, {target!r})", f"assay.compare({source}, {target!r})"
    command, compare = calls if source else shell
    return {
        "number": one["number"],
        "treatment": one["treatment"],
        "rule": _sentence(str(one["rule"])),
        "row": label(name),
        "id": places.get((group, name), ""),
        "expects": f"{one['expects']}{size}",
        "does": told_of(one),
        "command": command,
        "compare": compare,
    }


def told_of(one: Mapping[str, Any]) -> str:
    """Returns what a suggested treatment does, its source, and what it costs, as far as they are known."""
    source = f" ({one['source']})" if one.get("source") else ""
    said = one.get("does", "").removesuffix(".") + source + "." if one.get("does") else ""
    said += f" Tried here, it moved {one['moved']}." if one.get("moved") else ""
    if "updates" not in one:
        return said
    alone = str(one.get("treatment", "")).partition(":")[0] in ("longer", "larger")  # compared with the run itself
    beside = "" if alone else ", and as many for its control"
    seconds = f", about {duration(one['seconds'])} at the run's pace{beside}" if one.get("seconds") else ""
    cost = f"It takes {one['updates']:,} updates{seconds}." if one["updates"] else "It takes no training."
    return f"{said} {cost}".strip()


def _source(command: str) -> str:
    """Returns the first argument of a call such as assay.diagnose(subject), as text; "" for a command."""
    return command.removeprefix(CALL).rstrip(")").partition(", ")[0] if command.startswith(CALL) else ""


def _workdir(command: str) -> str:
    """Returns the value of --workdir in a command, the folder that a call of Python names, or "W" if there is none."""
    if source := _source(command):
        return source.strip("'\"") if source[0] in "'\"" else "runs/treated"
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    for word, after in zip(words, [*words[1:], ""], strict=False):
        key, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and key == "workdir":
            return (value if equals else after).rstrip("/") or "W"
    return "W"


def _name(model: Any) -> str:
    return str(model.get("name", model)) if isinstance(model, Mapping) else str(model)


def _checkpoint(fingerprint: Any) -> str:
    text = fingerprint if isinstance(fingerprint, str) else ", ".join(f"{key} {value}" for key, value in dict(fingerprint or {}).items())
    step, dash, rest = text.partition("-")
    return f"of step {int(step):,} ({rest})" if dash and step.isdecimal() else text or "none"
