"""The card: a row-by-row comparison of one run with one or more later runs, as plain data.

    build(before, {"small": after, "int8": other}, times=retime("runs/A", {...}, seconds=20))

    {"schema": 1, "task", "split", "quick", "level",
     "before": about, "after": {name: about},            about: of the diagnosis, plus "workdir"; after: "control", see below
     "rows": [{"group", "name", "unit", "better", "margin", "relative", "timing", "fact", "how", "meaning",
               "before": {"value", "interval", "bound", "limit", "confidence", "n", "applies", "reason", "crashed", "meaning"},
               "after": {name: {"value", "value_interval", "bound", "limit", "confidence", "difference", "interval", "relative", "n",
                                "p_value", "adjusted", "agreement", "verdict", "why", "repeats", "applies", "reason", "crashed",
                                "meaning", "control"}},
               "plots": {"before": plot or None, name: plot or None}}],
     "predictions": [{"after", "from", "number", "treatment", "rule", "row", "expects", "effect", "unit", "difference", "interval",
                      "relative", "verdict", "outcome", "why"}],
     "timings": {name: {"alone_seconds": {run: median}, "turn_seconds": {run: median}, "others_cores", "disturbed"}},
     "counts": {name: {verdict: facts}}, "environment"}          rows of one fact count once

In an entry of `after`, `interval` is that of the difference, and `n` the number of paired examples or turns. `relative` in a row means that
the margin is a fraction of the value before; beside a difference, that the difference is a fraction. A row that applies to neither run has
the verdict "". Values that are not finite are None. `timings` says how the turns went: seconds of one example, and the cores that other
processes used; a disturbed timing has a reason, and no row of it has a difference.

A run after may have a control: as many updates without its treatment (verdicts/control.py). The verdicts on its rows are then against the
control, except for the rows of cost and speed, which more updates leave unchanged. `control` of an entry holds the control's value and
interval and, as `from_before`, the difference of the run after from the run before; None if the verdict is against the run before.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.errors import UserError
from assay.diagnostics.measurement import HIGHER, Measurement, inapplicable, limit, ordered, plain
from assay.train.workdir import environment
from assay.verdicts.control import Control, placed
from assay.verdicts.diagnosis import Diagnosis
from assay.verdicts.turns import CRASHED, Times
from assay.verdicts.verdict import BETTER, LEVEL, OPEN, SAME, WORSE, Pair, Verdict, judge

SCHEMA = 1
BEFORE = "before"  # reserved: no later run may have this name
VERDICTS = (BETTER, WORSE, SAME, OPEN)
TRAIN = "train"  # the one set that may differ: two models may have different training examples
UNTRAINED = ("cost", "speed")  # groups of rows that further updates leave unchanged
HELD, MISSED, UNSHOWN = "held", "did not hold", "not shown"


def build(
    before: Diagnosis,
    afters: Mapping[str, Diagnosis],
    times: Mapping[str, Times] = {},
    applied: Mapping[str, Mapping[str, Any]] = {},
    workdirs: Mapping[str, str] = {},
    controls: Mapping[str, tuple[Control, Diagnosis | None]] = {},
) -> dict[str, Any]:
    """Builds the card of `before` and the later runs `afters`, by name.

    `times`, `applied` (the content of applied.json) and `controls` cover the runs that have them. `workdirs` covers all runs; the name
    "before" is that of the first one. Raises UserError if two diagnoses differ in task, split, examples or vocabulary, or if only one of
    them is quick.
    """
    beside = {name: found for name, (_, found) in controls.items() if found is not None}
    for name, after in afters.items():
        check(before, after, name)
        if name in beside:
            check(before, beside[name], f"the control of {name}")
    order = _order([before, *afters.values()])
    groups = {name: examples.groups for name, examples in before.sets.items()}
    verdicts, changes = {}, {}
    for name, after in afters.items():
        timed = times.get(name, Times({}, {}, {}))
        pairs = [_pair(key, before, after, timed, _differing(before, after)) for key in order]
        if name in beside:
            changes[name] = judge(pairs, groups, timed.changes, timed.one_program, timed.untimed)
            differing = _differing(beside[name], after)
            pairs = [pair if pair.group in UNTRAINED else _pair(pair[:2], beside[name], after, timed, differing) for pair in pairs]
        verdicts[name] = judge(pairs, groups, timed.changes, timed.one_program, timed.untimed)
    rows = [
        _row({name: each[i] for name, each in verdicts.items()}, {name: each[i] for name, each in changes.items()})
        for i in range(len(order))
    ]
    return {
        "schema": SCHEMA,
        "task": before.about["task"],
        "split": before.about["split"],
        "quick": before.about["quick"],
        "level": LEVEL,
        "before": _about(before, workdirs.get(BEFORE)),
        "after": {
            name: {**_about(after, workdirs.get(name)), "control": placed(controls[name][0] if name in controls else None)}
            for name, after in afters.items()
        },
        "rows": rows,
        "predictions": [
            _prediction(name, said, workdirs.get(BEFORE), verdicts[name]) for name, said in applied.items() if name in verdicts
        ],
        "timings": {name: told.timing.plain() for name, told in times.items() if told.timing is not None and name in afters},
        "counts": {name: {word: _facts(each, word) for word in VERDICTS} for name, each in verdicts.items()},
        "environment": environment(),
    }


def crashed(card: Mapping[str, Any]) -> list[str]:
    """Returns the names of rows that failed, in a diagnosis or while timed in turns."""
    return [
        row["name"]
        for row in card["rows"]
        if row["before"]["crashed"] or any(one["crashed"] or one["why"].startswith(CRASHED) for one in row["after"].values())
    ]


def check(before: Diagnosis, after: Diagnosis, name: str) -> None:
    """Raises UserError if the run `name` was not measured on the same questions as the run before."""
    for key, what in (("task", "tasks"), ("split", "splits"), ("vocabulary", "vocabularies")):
        one, other = before.about[key], after.about[key]
        if key == "vocabulary":  # compares outputs only: two layouts of a task may have different input tokens
            one, other = one[1:], other[1:]
        if one != other:
            raise different(what, one, other, name)
    if before.about["quick"] != after.about["quick"]:
        quick, full = ("before", name) if before.about["quick"] else (name, "before")
        raise UserError(
            f"the diagnosis of {quick} is quick, with fewer examples than that of {full}. Diagnose both in the same way: "
            "assay diagnose --workdir=..., with --quick for both or for neither."
        )
    asked = [one for one in _differing(before, after) if TRAIN not in one.split("+") and "," not in one]  # excludes tokens and parts
    differing = [one for one in asked if not (_numbered(before.sets[one].ids) and _numbered(after.sets[one].ids))]
    if differing:
        raise UserError(
            f"{name} was measured on other examples of {differing[0]!r} than the run before, so the examples cannot be paired. "
            "Pass --before and --after runs whose config.task defines the same test examples, and diagnose both again."
        )


def different(what: str, before: object, after: object, name: str) -> UserError:
    """Returns the error for a run that cannot be compared with the run before."""
    return UserError(
        f"the runs have different {what}: {before!r} before, and {after!r} in {name}. Pass --before and --after runs of the same task."
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _facts(verdicts: Sequence[Verdict], word: str) -> int:
    """Returns the number of facts with a verdict: rows of one fact, such as two counts of the operations, count once."""
    return len({one.before.fact or (one.group, one.name) for one in verdicts if one.verdict == word})


def _about(found: Diagnosis, workdir: str | None) -> dict[str, Any]:
    return {**{key: value for key, value in found.about.items() if key != "schema"}, "workdir": workdir}


def _differing(before: Diagnosis, after: Diagnosis) -> list[str]:
    """Returns the names of sets whose examples differ."""
    both = [name for name in before.sets if name in after.sets]
    return [name for name in both if not np.array_equal(before.sets[name].ids, after.sets[name].ids)]


def _numbered(ids: np.ndarray) -> bool:
    """Returns True if the ids are consecutive numbers of parts, such as batches, and not hashes of examples."""
    return np.array_equal(ids, np.arange(len(ids)))


def _order(found: Sequence[Diagnosis]) -> list[tuple[str, str]]:
    """Returns (group, name) of all rows, by group, and within a group in order of appearance."""
    keys = list(dict.fromkeys((row.group, row.name) for one in found for row in one.rows))
    order = ordered(group for group, _ in keys)
    return sorted(keys, key=lambda key: order.index(key[0]))


def _pair(key: tuple[str, str], before: Diagnosis, after: Diagnosis, timed: Times, differing: Sequence[str]) -> Pair:
    """Returns a row of both diagnoses.

    Values timed in turns replace single measurements. Columns whose examples differ are dropped.
    """
    rows = []
    for found, values in ((before, timed.before), (after, timed.after)):
        row = next((row for row in found.rows if (row.group, row.name) == key), inapplicable(*key, "not in this diagnosis"))
        if row.applies and row.timing and key[1] in timed.changes:
            row = values[key[1]]._replace(how=f"{values[key[1]].how}; in turns with the other runs, in one process")
        rows.append(row)
    one, other = rows
    if any(column.rpartition("/")[0] in differing for column in other.columns):  # training sets: only identical examples can be paired
        other = other._replace(columns={})
    return Pair(*key, one, other)


def _row(verdicts: Mapping[str, Verdict], changes: Mapping[str, Verdict]) -> dict[str, Any]:
    """Returns a row of the card. The first run that the row applies to provides its description.

    `verdicts` are against the run before, or against a control; `changes` are against the run before, for runs with a control.
    """
    first = next(iter({**verdicts, **changes}.values()))
    every = [first.before, *(one.after for one in verdicts.values())]
    told = next((row for row in every if row.applies), first.before)
    before = next((one.before for one in verdicts.values() if one.relative), first.before)  # the timed value, if there is one
    return {
        "group": first.group,
        "name": first.name,
        "unit": told.unit,
        "better": told.better,
        "margin": told.margin,
        "relative": told.relative,
        "timing": told.timing,
        "fact": told.fact,
        "how": before.how or told.how,
        "meaning": told.meaning,
        "before": {**_status(before), **_value(before), "interval": _ends(before.interval), "n": before.n},
        "after": {name: {**_after(one), "control": _control(one, changes.get(name))} for name, one in verdicts.items()},
        "plots": {BEFORE: _plot(before), **{name: _plot(one.after) for name, one in verdicts.items()}},
    }


def _after(one: Verdict) -> dict[str, Any]:
    ends = _ends(one.after.interval)
    return {**_value(one.after), "value_interval": ends, **_evidence(one), **_status(one.after), "n": one.n or one.after.n}


def _control(one: Verdict, change: Verdict | None) -> dict[str, Any] | None:
    """Returns the value of the control and the change from the run before, for a verdict against a control."""
    if change is None or one.group in UNTRAINED or not one.before.applies:
        return None
    from_before = {"difference": _finite(change.difference), "interval": _ends(change.interval), "relative": change.relative}
    return {**_value(one.before), "interval": _ends(one.before.interval), "n": one.before.n, "from_before": from_before}


def _value(row: Measurement) -> dict[str, Any]:
    """Returns the value, and the limit of a bound."""
    return {"value": _finite(row.value), "bound": row.bound, "limit": _finite(limit(row)), "confidence": row.confidence}


def _evidence(one: Verdict) -> dict[str, Any]:
    return {
        "difference": _finite(one.difference),
        "interval": _ends(one.interval),
        "relative": one.relative,
        "p_value": _finite(one.p_value),
        "adjusted": _finite(one.adjusted),
        "agreement": _finite(one.agreement),
        "verdict": one.verdict,
        "why": one.why,
        "repeats": one.repeats,
    }


def _status(row: Measurement) -> dict[str, Any]:
    return {"applies": row.applies, "reason": row.reason, "crashed": row.crashed, "meaning": row.meaning}


def _plot(row: Measurement) -> dict[str, Any] | None:
    return None if row.plot is None else plain(row.plot)


def _prediction(name: str, applied: Mapping[str, Any], before: str | None, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Returns the outcome of a suggestion's prediction. It held if its row is better and changed as expected."""
    said = applied["suggestion"]
    found = next((one for one in verdicts if f"{one.group}/{one.name}" == said["row"]), None)
    known = {"after": name, "from": applied["from"], **{key: said.get(key) for key in ("number", "treatment", "rule", "row")}}
    known |= {key: said.get(key) for key in ("expects", "effect", "unit")}
    if found is None:
        none = {"difference": None, "interval": None, "relative": False, "verdict": ""}
        return {**known, **none, "outcome": UNSHOWN, "why": f"these diagnoses have no row {said['row']}"}
    evidence = {key: value for key, value in _evidence(found).items() if key in ("difference", "interval", "relative", "verdict")}
    difference = found.difference or 0.0
    as_expected = difference > 0 if said["expects"] == HIGHER else difference < 0
    if found.verdict == BETTER and as_expected and abs(difference) >= abs(said.get("effect") or 0.0):
        outcome, why = HELD, ""
    elif found.verdict == BETTER and as_expected:
        outcome, why = MISSED, "in the expected direction, by less than predicted"
    elif found.verdict in (BETTER, WORSE, SAME):
        outcome, why = MISSED, f"expected to be {said['expects']}"
    else:
        outcome, why = UNSHOWN, found.why
    if before is not None and os.path.abspath(before) != os.path.abspath(applied["from"]):
        why = "; ".join([*([why] if why else []), f"it was made for {applied['from']}, but the run before is {before}"])
    return {**known, **evidence, "outcome": outcome, "why": why}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _ends(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else [_finite(end) for end in interval]
