"""The first sentences of a card: what the score did, and what it cost.

headline(card, "treated")
"Accuracy 56.2 % → 100.0 % (+43.8 points, sure). Price: 2.2 times the operations, 59 % fewer examples a second."
"""

from collections.abc import Mapping, Sequence
from typing import Any

from assay.core.number import change, limits, number

SCORES = (("reasoning", "out_of_distribution"), ("reasoning", "in_distribution"), ("generalisation", "score"))
AMOUNTS = {  # row of cost or speed -> its amount in words, one row a fact
    "parameters": "parameters",
    "bytes_on_disk": "bytes on disk",
    "flops": "operations",
    "peak_memory": "memory",
    "latency_p50": "time for an answer",
    "batched_examples_per_second": "examples a second",
}
WHOLE = ("memory", "time for an answer")  # less or more, not fewer
SURE = {"better": "sure", "worse": "sure", "no difference": "no difference", "inconclusive": "inconclusive"}
TWICE = 2.0  # ratio from which a change is told as a multiple


def headline(card: Mapping[str, Any], name: str) -> str:
    """Returns what the score of the run `name` did, and then its price and its gains in cost and speed, as far as they are sure."""
    said = [_score(row, row["after"][name]) for row in _scores(card, name)]
    for title, verdict in (("Price", "worse"), ("Gain", "better")):
        found = [_amount(row, row["after"][name]) for row in _amounts(card) if row["after"][name]["verdict"] == verdict]
        said += [f"{title}: {', '.join(found)}."] if found else []
    return " ".join(said)


# -- private --------------------------------------------------------------------------------------------------------------


def _scores(card: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Returns the row of the score: beyond the training distribution where that is what changed, or else on held-out examples."""
    rows = {(row["group"], row["name"]): row for row in card["rows"]}
    found = [rows[key] for key in SCORES if key in rows and _known(rows[key], name)]
    changed = [row for row in found if row["after"][name]["verdict"] in ("better", "worse")]
    return (changed or found[-1:])[:1]


def _known(row: Mapping[str, Any], name: str) -> bool:
    return row["before"]["value"] is not None and row["after"][name]["value"] is not None


def _score(row: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    unit = row["unit"]
    what = row["how"].partition(" on ")[0].replace("_", " ") or "score"
    what = what[:1].upper() + what[1:]
    if (row["group"], row["name"]) == SCORES[0]:
        what += " beyond the training distribution"
    control = after.get("control")
    values = f"{what} {number(row['before']['value'], unit)} → {number(after['value'], unit)}"
    if control and control.get("value") is not None:
        values += f", {number(control['value'], unit)} with as many updates without the treatment"
    moved = "" if after["difference"] is None else change(after["difference"], unit, after["relative"])
    known = after["interval"] is not None and None not in after["interval"]
    ends = f"95 % {limits(after['interval'], unit, after['relative'], signed=True)}" if known else ""
    told = ", ".join(part for part in (moved, SURE.get(after["verdict"], ""), ends) if part)
    return f"{values} ({told})." if told else f"{values}."


def _amounts(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = [row for row in card["rows"] if row["group"] in ("cost", "speed") and row["name"] in AMOUNTS]
    return sorted(found, key=lambda row: [*AMOUNTS].index(row["name"]))


def _amount(row: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Returns a change of an amount: "2.2 times the operations", "59 % fewer examples a second"."""
    what, before, now = AMOUNTS[row["name"]], row["before"]["value"], after["value"]
    if not before or not now:
        return what
    ratio = now / before
    if ratio >= TWICE:
        return f"{ratio:.1f} times the {what}"
    if (share := _share(1 / ratio)) and row["better"] == "lower":
        return f"{share} of the {what}"
    return f"{100 * abs(ratio - 1):.0f} % {'more' if ratio > 1 else _less(what)} {what}"


def _less(what: str) -> str:
    return "less" if what in WHOLE else "fewer"


def _share(times: float) -> str:
    """Returns the name of a simple share, such as "a quarter"; "" for others."""
    names = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 10: "a tenth"}
    return names.get(round(times), "") if round(times) and abs(times / round(times) - 1) < 0.03 else ""
