"""A diagnosis as one HTML page that opens offline: what stands out in plain words, what to try, and a picture beside every number.

`diagnosis_page(diagnosis, command)` computes the page; `command` is what made the diagnosis. The same input gives the same bytes. Every
text is escaped; only the drawings of sketch.py are marked safe.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from assay.core.number import bounded, change, limits, number
from assay.diagnostics.measurement import Measurement, limit, ordered
from assay.reports.drawings.sketch import sketch, track
from assay.reports.page import Amount, amount, breakable, label, pairs, span, template

if TYPE_CHECKING:
    from assay.verdicts.diagnosis import Diagnosis

TOLD = 3  # bottlenecks in the summary, the largest
POINTS = 0.02  # at stake, below which a row is not told of in the summary
LEARNT = 0.05  # above a baseline, below which a task is not learnt
GLANCE = (  # rows shown at the top where they apply, six at most
    ("generalisation", "score"),
    ("reasoning", "out_of_distribution"),
    ("generalisation", "train_test_gap"),
    ("calibration", "calibration_error"),
    ("long range", "effective_context"),
    ("cost", "bytes_on_disk"),
    ("speed", "latency_p50"),
    ("cost", "flops"),
)
FIELDS = {  # of a row in diagnosis.json
    "group, name": "what was measured; a name occurs once in its group",
    "value, unit": "a number in the unit, not rounded; fractions from 0 to 1, times in seconds; null where the row does not apply",
    "n, interval": "how many examples (or batches, or calls) stand behind it, and the ends of its 95 % interval, or null",
    "bound, confidence": "lower or upper where it is a one-sided bound, whose other end is null; and the confidence of the interval",
    "how, meaning": "how it was measured, and what it means, in a sentence each",
    "applies, reason, crashed": "whether there is a number, and why not",
    "better": "which direction is wanted: higher, lower, or neither",
    "margin, relative": "within what two models do not differ: a number in the unit or, if relative, a share of the value",
    "timing": "whether it differs from one diagnosis to the next; all else is the same bytes",
    "statistic, columns": "the value is this statistic of these columns of diagnosis.npz, [examples] each, named GROUP/NAME|SET/WHAT",
    "right": "WHAT of the columns of answers that are right (1) or wrong (0)",
    "plot": "the picture: kind, x, lines by name, labels; values by row and column, edges",
}  # fmt: skip


def diagnosis_page(diagnosis: "Diagnosis", command: str) -> str:
    """The page. `command`: as a shell would take it; the work directory in it names those of the treatments."""
    about, rows = diagnosis.about, diagnosis.rows
    workdir = _workdir(command)
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
        run=about.get("run", True),
        notes=[*about.get("notes", ()), *(f"Failed: {one}" for one in about.get("failed", ()))],
        glance=_glance(rows, places),
        crashed=[{"name": label(row.name), "id": places[row.group, row.name]} for row in rows if row.crashed],
        suggestions=[_suggestion(one, workdir, rows, places) for one in diagnosis.suggestions],
        sections=[{**section, "id": f"group-{index}"} for index, section in enumerate(sections)],
        environment=list(pairs(about["environment"])),
        command=command,
        workdir=workdir,
        top=[key for key in about if key != "environment"] + ["columns", "rows", "suggestions", "environment"],
        schema=about["schema"],
        fields=FIELDS,
    )


def summarise(rows: Sequence[Measurement], suggestions: Sequence[Mapping[str, Any]]) -> str:
    """In plain words, from the rows' numbers: the headline, what most is lost by, what it costs, and how much is suggested."""
    found = {(row.group, row.name): row for row in rows if row.applies and row.value is not None and math.isfinite(row.value)}
    said = []
    head = found.get(("generalisation", "score")) or found.get(("reasoning", "in_distribution"))
    if head is not None:
        ends = f" (95 % interval {limits(head.interval, head.unit)}, n {head.n:,})" if head.interval and not head.bound else ""
        kind = f"{number(head.value, head.unit)} of the held-out answers are right" if head.unit == "fraction" else (
            f"The error on held-out examples is {number(head.value, head.unit)}"
        )  # fmt: skip
        said.append(f"{kind}{ends}.")
    losses = sorted(_losses(found), key=lambda pair: -pair[0])[:TOLD]
    if losses:
        said.append("What holds it back most: " + "; ".join(text for _, text in losses) + ".")
    elif found:
        said.append("No row shows a large bottleneck.")
    size, latency = found.get(("cost", "parameters")), found.get(("speed", "latency_p50"))
    cost = [f"has {number(size.value, size.unit)} parameters"] if size else []
    cost += [f"answers one example in {number(latency.value, latency.unit)}"] if latency else []
    said += [f"It {' and '.join(cost)}."] if cost else []
    if suggestions:
        many = len(suggestions)
        said.append(f"{'One treatment is' if many == 1 else f'{_count(many)} treatments are'} suggested, the most promising first.")
    return " ".join(said) or "No row applies to this run."


# -- private --------------------------------------------------------------------------------------------------------------


def _losses(found: Mapping[tuple[str, str], Measurement]) -> list[tuple[float, str]]:
    """(how much is at stake, from 0 to 1; what is said of it), of what is large."""

    def value(group: str, name: str) -> float | None:
        row = found.get((group, name))
        return None if row is None or row.unit != "fraction" else row.value

    score, inside = value("generalisation", "score"), value("reasoning", "in_distribution")
    outside, gap = value("reasoning", "out_of_distribution"), value("generalisation", "train_test_gap")
    error, dead = value("calibration", "calibration_error"), value("optimisation health", "dead_units")
    above = value("reasoning", "above_baseline")
    told: list[tuple[float, str]] = []
    if inside is not None and above is not None and above < LEARNT:
        told.append((1 - inside, "within the lengths of training it does no more than a baseline that does not reason"))
    if inside is not None and outside is not None:
        said = f"on inputs beyond those of training {number(outside, 'fraction')} are right, against {number(inside, 'fraction')} within"
        told.append((inside - outside, said))
    if gap is not None:
        told.append((gap, f"training examples score {_points(gap)} higher than held-out ones"))
    corrupted = [(row.value, name) for (_, name), row in found.items() if name.startswith("corruption: ") and row.unit == "fraction"]
    if corrupted and score is not None:
        least, name = min((one, name) for one, name in corrupted if one is not None)
        what = name.removeprefix("corruption: ").replace("_", " ")
        told.append((score - least, f"under {what} {number(least, 'fraction')} are left of a score of {number(score, 'fraction')}"))
    if error is not None:
        told.append((error, f"confidence is off by {_points(error)} on average"))
    if dead is not None:
        told.append((dead / 4, f"{number(dead, 'fraction')} of the hidden units are dead"))  # dead units may cost no answers
    return [one for one in told if one[0] >= POINTS]


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
    """The rows that have a number or crashed, and the names of the others by the reason why they have none."""
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
    """The row's plot; where it has none, a share's interval between 0 and 1."""
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


def _suggestion(one: Mapping[str, Any], workdir: str, rows: Sequence[Measurement], places: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """With what it is expected to do, and the commands that try it."""
    group, _, name = str(one["row"]).partition("/")
    unit = one.get("unit") or next((row.unit for row in rows if (row.group, row.name) == (group, name)), "")
    effect = one.get("effect")
    size = "" if not effect else f" by {change(abs(effect), unit).lstrip('+')}"
    target = f"{workdir}_{one['number']}"
    return {
        "number": one["number"],
        "treatment": one["treatment"],
        "rule": _sentence(str(one["rule"])),
        "row": label(name),
        "id": places.get((group, name), ""),
        "expects": f"{one['expects']}{size}",
        "command": f"assay treat --from={shlex.quote(workdir)} --apply={one['number']} --workdir={shlex.quote(target)}",
        "compare": f"assay compare --before={shlex.quote(workdir)} --after={shlex.quote(target)}",
    }


def _workdir(command: str) -> str:
    """The folder that a command names with --workdir; "W" where none is found."""
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
