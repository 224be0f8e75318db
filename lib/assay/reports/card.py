"""A card as one self-contained HTML page: a run before, one or more after, and the verdict on every row with its evidence.

`card_page(card)` renders the card that verdicts/card.py builds. With several runs after, the page starts with the side-effect matrix:
treatments by rows, each cell a paired change linked to its evidence. Equal input gives equal bytes. All text is escaped; only the drawings
of sketch.py are marked safe. The page and its one script need no network; without the script, the matrix cannot be sorted.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from assay.core.number import DASH, change, limits, number, stated
from assay.reports.drawings.sketch import as_plot, interval, overlay
from assay.reports.headline import headline
from assay.reports.page import breakable, label, pairs, template

WORDS = {  # verdict -> (CSS class, sign before the word, so that meaning does not depend on colour)
    "better": ("good", "\u2713"),
    "worse": ("bad", "\u2715"),
    "no difference": ("same", "="),
    "inconclusive": ("open", "?"),
    "": ("none", ""),
}
OUTCOMES = {"held": ("good", "\u2713"), "did not hold": ("bad", "\u2715"), "not shown": ("open", "?")}
COLOURS = {"good": "var(--blue)", "bad": "var(--orange)", "same": "", "open": "", "none": ""}
NAMED = 3  # number of rows per verdict that the summary names, most important first
STRONG = 10.0  # change in margins at which a cell reaches its full colour
SHARE = 0.05  # default margin of a row that has none, as a fraction of the value before
SPAN = 2.5  # minimum half-width of the picture of a change, in margins


def card_page(card: Mapping[str, Any]) -> str:
    """Renders the page of a card with at least one run after."""
    names = list(card["after"])
    rows = [_row(row, names, f"row-{index}") for index, row in enumerate(card["rows"])]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    sections = [
        {
            "name": label(group),
            "id": f"group-{index}",
            "rows": [row for row in rows if row["group"] == group and row["applies"]],
            "without": _without([row for row in rows if row["group"] == group and not row["applies"]]),
        }
        for index, group in enumerate(groups)
    ]
    before = card["before"]
    title = before.get("experiment") or card["task"]
    return template("card.html.j2").render(
        title=title,
        heading=breakable(title),
        facts=[f"task {card['task']}", *_facts(card)],
        first=[(name if len(names) > 1 else "", headline(card, name)) for name in names],
        quick=bool(card.get("quick", before.get("quick"))),
        level=card.get("level", 0.05),
        runs=[_run("before", before, "")] + [_run(name, card["after"][name], f"run-{index}") for index, name in enumerate(names)],
        names=names,
        crashed=[row for row in rows if row["crashed"]],
        controls=[told for name in names if (told := control_told(card["after"][name].get("control"), name if len(names) > 1 else ""))],
        tallies=[_tally(rows, index, name) for index, name in enumerate(names)],
        predictions=[_prediction(one, rows) for one in card.get("predictions") or ()],
        sections=sections,
        lines=[row for row in rows if row["applies"]],
        environment=list(pairs(card.get("environment") or {})),
    )


def control_told(control: Mapping[str, Any] | None, name: str = "") -> str:
    """Returns what verdicts on a treated run are against, in a sentence; "" for a run without further updates or without a treatment."""
    if control is None or not (control["updates"] or control["why"]):
        return ""
    updates, to = f"{control['updates']:,} more updates", f" of {name}" if name else ""
    if control["workdir"]:
        return (
            f"Changes{to} are relative to a control, which was trained for the same {updates} at the same rate from the same start, "
            "without the treatment. Those of cost and speed are relative to the run before."
        )
    what = f"include the effect of {updates}" if control["updates"] else "may include the effect of more updates"
    return f"Changes{to} {what}, since there is no control ({control['why']})."


# -- private --------------------------------------------------------------------------------------------------------------


def _row(row: Mapping[str, Any], names: Sequence[str], place: str) -> dict[str, Any]:
    """Returns the template's data for a row: its name, the value before, and an entry for each run after."""
    before = row["before"] if isinstance(row["before"], Mapping) else {"value": row["before"]}
    entries = [_entry(row, before, name, f"{place}-{index}") for index, name in enumerate(names)]
    ends = [abs(end) for one in entries for end in one["drawn"]]
    margins = [one["margin"] for one in entries]
    span = max([SPAN * max(margins, default=0.0), *(1.08 * end for end in ends if end <= 12 * (_median(ends) or end))], default=0.0)
    for one in entries:
        if one["drawn"]:
            title = f"change {one['change']}, 95 % interval {one['interval']}"
            colour = COLOURS[one["tone"]]
            one["picture"] = Markup(interval(one["value"], one["ends"], one["margin"], -span, span, title, colour))
    return {
        "group": row["group"],
        "name": label(row["name"]),
        "fact": row.get("fact") or f"{row['group']}/{row['name']}",
        "key": f"{row['group']}/{row['name']}",
        "id": place,
        "before": _stated(before, row["unit"]),
        "wanted": {"higher": "higher is preferred", "lower": "lower is preferred"}.get(row["better"], "neither direction is preferred"),
        "how": row.get("how") or "",
        "entries": entries,
        "applies": any(one["verdict"] or one["crashed"] for one in entries) or bool(before.get("crashed")),
        "crashed": any(one["crashed"] for one in entries) or bool(before.get("crashed")),
        "reason": before.get("reason") or next((one["why"] for one in entries if one["why"]), ""),
    }


def _entry(row: Mapping[str, Any], before: Mapping[str, Any], name: str, place: str) -> dict[str, Any]:
    """Returns the entry of a row for one run after."""
    after, unit = row["after"][name], row["unit"]
    relative = bool(after.get("relative"))
    ends, value = after.get("interval"), after.get("difference")
    known = ends is not None and all(end is not None for end in ends)
    margin, control = row.get("margin") or 0.0, after.get("control")
    reference = (control or before).get("value")
    if row.get("relative") and not relative:
        margin *= abs(reference or 0.0)
    tone, sign = WORDS[after["verdict"]]
    size = _size(value, margin, 1.0 if relative else reference)
    towards = -1.0 if row["better"] == "lower" else 1.0
    plots = row.get("plots") or {}
    p_value, adjusted = after.get("p_value"), after.get("adjusted")
    exact = value is not None and ends is None and not p_value and after["verdict"] in ("better", "worse", "no difference")
    return {
        "id": place,
        "after": name,
        "verdict": after["verdict"],
        "tone": tone,
        "sign": sign,
        "crashed": bool(after.get("crashed")),
        "reason": after.get("reason") or "",
        "shown": _stated(after, unit),
        "control": _beside(control, unit) if control else None,
        "of_before": "" if before.get("bound") else _own(before.get("interval"), unit),
        "of_after": "" if after.get("bound") else _own(after.get("value_interval"), unit),
        "value": value,
        "ends": ends if known else None,
        "margin": margin,
        "within": limits((-margin, margin), unit, relative, signed=True) if margin else "",
        "drawn": [] if value is None else [abs(end) for end in (value, *(ends if known and ends else ()))],
        "picture": "",
        "change": change(value, unit, relative),
        "interval": limits(ends, unit, relative, signed=True) if known and ends else "",
        "p_value": "" if exact else _p(p_value),
        "adjusted": "" if exact else _p(adjusted),
        "exact": exact,
        "n": f"{after['n']:,}" if after.get("n") else "",
        "agreement": "" if after.get("agreement") is None else number(after["agreement"], "fraction"),
        "why": after.get("why") or "",
        "share": round(30 + 70 * min(1.0, size / STRONG)),
        "order": _order(after["verdict"], value, size, towards),
        "size": size,
        "overlay": Markup(overlay(as_plot(plots.get("before")), as_plot(plots.get(name)))),
    }


def _beside(control: Mapping[str, Any], unit: str) -> dict[str, str]:
    """Returns the value of the control, and the change from the run before, which includes that of more updates."""
    change_before = control["from_before"]
    relative, ends = bool(change_before["relative"]), change_before["interval"]
    return {
        "shown": _stated(control, unit),
        "own": "" if control.get("bound") else _own(control.get("interval"), unit),
        "change": change(change_before["difference"], unit, relative),
        "interval": limits(ends, unit, relative, signed=True) if ends else "",
    }


def _stated(one: Mapping[str, Any], unit: str) -> str:
    return stated(one.get("value"), unit, one.get("bound", ""), one.get("limit"))


def _own(ends: Sequence[float] | None, unit: str) -> str:
    """Returns the interval of a value; empty for a count."""
    return limits([*ends], unit) if ends and ends[0] != ends[1] else ""


def _size(value: float | None, margin: float, before: float | None) -> float:
    """Returns the size of a change in margins, which makes rows of different units comparable."""
    unit = margin or SHARE * abs(before or 0.0)
    if value is None or not value:
        return 0.0
    return min(abs(value) / unit, 1e6) if unit else 1.0


def _order(verdict: str, value: float | None, size: float, towards: float) -> str:
    """Returns the sort key of a cell in its column: improvements first, by size. "": no verdict, always last."""
    if not verdict:
        return ""
    rank = {"better": 2.0, "worse": -2.0}.get(verdict, 0.0)
    return f"{rank + math.copysign(size / (1 + size), (value or 0.0) * towards) if size else rank:.6f}"


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _without(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Groups the rows that apply to no model by reason."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["reason"], []).append(row)
    return [{"reason": reason, "rows": same} for reason, same in found.items()]


def _tally(rows: Sequence[Mapping[str, Any]], index: int, name: str) -> dict[str, Any]:
    """Counts the rows of each verdict for a run after, and selects the most important of them."""
    entries = [(row, row["entries"][index]) for row in rows if row["entries"][index]["verdict"]]
    counts = []
    for word, (tone, sign) in WORDS.items():
        if word:
            same = sorted((pair for pair in entries if pair[1]["verdict"] == word), key=lambda pair: -pair[1]["size"])
            if word == "no difference":  # keeps the order of rows instead of ranking those that nearly differ
                same = [pair for pair in entries if pair[1]["verdict"] == word]
            same = list({row["fact"]: (row, one) for row, one in reversed(same)}.values())[::-1]  # rows of one fact count once
            named = [{"name": row["name"], "change": one["change"] if one["change"] != DASH else "", "id": one["id"]} for row, one in same]
            counts.append({"word": word, "tone": tone, "sign": sign, "count": len(same), "named": named[:NAMED], "more": len(same) - NAMED})
    return {"name": name, "heading": breakable(name), "id": f"run-{index}", "counts": counts}


def _prediction(one: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    outcome = one.get("outcome") or "not shown"
    tone, sign = OUTCOMES.get(outcome, OUTCOMES["not shown"])
    unit, effect = one.get("unit") or "", one.get("effect")
    known = next(
        ((row, entry) for row in rows for entry in row["entries"] if (row["key"], entry["after"]) == (one["row"], one["after"])), None
    )
    return {
        "treatment": one.get("treatment") or "",
        "after": one["after"],
        "row": known[0]["name"] if known else str(one["row"]),
        "id": known[1]["id"] if known else "",
        "expects": str(one.get("expects") or "") + (f" by {change(abs(effect), unit).lstrip('+')}" if effect else ""),
        "found": known[1]["change"] if known else DASH,
        "interval": known[1]["interval"] if known else "",
        "outcome": outcome,
        "tone": tone,
        "sign": sign,
        "why": one.get("why") or "",
    }


def _facts(card: Mapping[str, Any]) -> list[str]:
    split = card.get("split") or card["before"].get("split")
    return [f"measured on the split {split}"] if split else []


def _run(name: str, about: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Returns a line of the table of runs."""
    return {
        "name": name,
        "id": place,
        "experiment": about.get("experiment") or DASH,
        "model": about.get("model") or DASH,
        "treatments": ", ".join(about.get("treatments") or ()) or "none",
        "checkpoint": about.get("checkpoint") or DASH,
        "environment": list(pairs(about.get("environment") or {})),
    }
