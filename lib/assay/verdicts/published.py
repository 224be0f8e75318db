"""What a run says about a published result: the verdict, its reason, and every difference between the two, by code.

    judged(cell, ours)      -> Verdict("near", "2.3 points below the cell, with 1 seed", ("width 64 (published 256)", ...))

| verdict | rule, the first that applies |
|---|---|
| not run | there is no run of the published model on this split |
| not comparable | another model, other data or lengths, test inputs in training, or a statistic that too few seeds have |
| at chance | the cell or our value is within 5 points of chance or of a constant answer: counts as nothing |
| improved | a named remedy: our whole interval lies beyond the cell of the untreated model, which may be at chance |
| reproduced | the cell lies in our interval and within 5 points, the trained lengths are fitted, and there are at least 3 seeds |
| near | within 5 points |
| missed | farther away |

A maximum is compared with our best seed, and a mean with our mean. Fewer updates, other sizes, batches, schedules and curricula are
differences that are printed; they do not make a run incomparable. What a file does not record counts against the run.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from assay.evals.rows import NEAR, mean_rows, same
from assay.tasks.published import UNSTATED, Published, lists, statistic_text

Row = Mapping[str, Any]

REPRODUCED, IMPROVED, CLOSE, MISSED = "reproduced", "improved", "near", "missed"
AT_CHANCE, NOT_COMPARABLE, NOT_RUN = "at chance", "not comparable", "not run"
VERDICTS = {  # best first: a cell with several runs counts by the first that one of them has
    REPRODUCED: "the cell lies in our interval and within 5 points, the trained lengths are fitted, and there are at least 3 seeds",
    IMPROVED: "a named remedy on the same data and lengths lies beyond the cell of the untreated model, with its whole interval",
    CLOSE: "within 5 points of the cell",
    MISSED: "more than 5 points away",
    AT_CHANCE: "the cell or our value is within 5 points of chance or of a constant answer: counts as nothing",
    NOT_COMPARABLE: "another model, other data, test inputs in training, or too few seeds for the statistic",
    NOT_RUN: "no run of the published model on this split",
}
FITTED = 0.9  # accuracy on the trained lengths from which a model counts as fitted
TRAINED = ("iid", "valid")  # splits of the trained lengths, of which the first that was evaluated counts
SEEDS = 3  # fewest seeds for a reproduction, and for the best run beside a published maximum
SCHEDULES = ("curriculum",)  # treatments that only change the order of the training examples: a printed difference, not another model
RECOMBINED = ("recombine",)  # treatments that may put test inputs into training
NOT_RECORDED = "not recorded"
OUTSIDE = "the cell lies outside our interval"
WIDE = "which lies in our interval only because the seeds differ as much"
ROUNDING = 1e-9  # of intervals that end at 1
NAMED = {
    "train.steps": "updates",
    "train.batch_size": "batch",
    "optimizer.name": "optimizer",
    "model.name": "family",
    "model.mlp": "hidden features",
    "model.depth": "layers",
}
WORDS = {"task.layout": {"prompted": "one stream of input and output", "translation": "encoder and decoder"}}  # values in words
ALWAYS = ("model.depth", "model.width", "train.steps", "train.batch_size")  # printed also where the source does not state them
SILENT = "constant"  # the schedule that is not mentioned where the source states none


class Ours(NamedTuple):
    """Rows of one run, of one split and metric: those of its seeds, and what is needed to judge them."""

    task: str
    split: str
    metric: str
    rows: Sequence[Row]  # one per seed
    mean: Row | None  # of several seeds
    trained: Sequence[Row]  # the same metric on held-out examples of the trained lengths, one per seed; none if it was not evaluated there
    config: Mapping[str, Any] | None  # resolved config; None: not recorded
    file: str = ""  # where the rows are
    chosen_on_test: str = ""  # settings that were chosen by test scores, in words

    @property
    def family(self) -> str:
        return str(self.settings.get("model.name", self.rows[0]["model"]))

    @property
    def settings(self) -> dict[str, Any]:
        """Config keys by their dotted names; {} if the config is not recorded."""
        return _flat(self.config or {})

    @property
    def treatment(self) -> str:
        return str(self.rows[0]["treatment"] or "none")


class Verdict(NamedTuple):
    """Verdict by name, its reason, and the differences of protocol, each in words."""

    name: str
    why: str = ""
    differences: tuple[str, ...] = ()


def judged(cell: Published, ours: Ours | None) -> Verdict:
    """Returns the verdict of a run for a cell; None: there is no run."""
    if ours is None:
        return Verdict(NOT_RUN)
    differ = differences(cell, ours)
    if reasons := [*mismatches(cell, ours), *_incomparable(cell, ours)]:
        return Verdict(NOT_COMPARABLE, "; ".join(reasons), differ)
    row, treated = compared(cell, ours), bool(_remedies(ours.treatment))
    if why := _chance(None if treated else cell.value, row):  # a remedy may well leave the chance of the untreated model behind
        return Verdict(AT_CHANCE, why, differ)
    low, high = ends_of(cell)
    off = row["value"] - min(max(row["value"], low), high)
    where = _distance(off, cell.range is not None)
    if treated:
        if row["interval"] and row["interval"][0] > high + ROUNDING:
            return Verdict(IMPROVED, f"with {ours.treatment}: {where}", differ)
        return Verdict(NOT_COMPARABLE, f"{ours.treatment}, which the published model lacks, and not beyond the cell: {where}", differ)
    lacks, close = _lacks(cell, ours, row, (low, high)), abs(off) <= NEAR + ROUNDING
    if not lacks and close:
        return Verdict(REPRODUCED, "", differ)
    if not lacks:
        return Verdict(MISSED, f"{where}, {WIDE}", differ)
    return Verdict(CLOSE if close else MISSED, "; ".join([where, *(why for why in lacks if close or why != OUTSIDE)]), differ)


def compared(cell: Published, ours: Ours) -> Row:
    """Returns the row that a cell is compared with: the best seed for a maximum, otherwise the mean or the only seed."""
    if cell.statistic == "max":
        return max(ours.rows, key=lambda row: row["value"])
    return ours.mean or ours.rows[0]


def ends_of(cell: Published) -> tuple[float, float]:
    """Returns the least and the greatest value that a cell allows."""
    return cell.range or (cell.value or 0.0, cell.value or 0.0)


def mismatches(cell: Published, ours: Ours) -> list[str]:
    """Returns why a run's model or data are not those of a cell, by the config keys that the cell needs; [] if they are."""
    if ours.config is None:
        return [f"the config is {NOT_RECORDED}"]
    settings = ours.settings
    found = [] if ours.family in cell.models else [f"model {ours.family}"]
    for key, allowed in cell.needs.items():
        if key in settings and lists(settings[key]) not in allowed:  # a key that an older version did not have has its one meaning
            found.append(_mismatch(key, settings[key]))
    return found


def differences(cell: Published, ours: Ours) -> tuple[str, ...]:
    """Returns the differences between the protocol of a cell and a run that do not make them incomparable, each in words."""
    if ours.config is None:
        return (f"settings {NOT_RECORDED}",)
    settings, stated, found = ours.settings | {"train.steps": max(row["steps"] for row in ours.rows)}, cell.protocol.stated, []
    for key in (*dict.fromkeys((*ALWAYS, *stated)),):
        if key not in settings or key in cell.needs:
            continue
        own = lists(settings[key])
        if key not in stated:
            found.append(f"{_name(key)} {_text(own, key)} ({UNSTATED})")
        elif own not in stated[key]:
            found.append(f"{_name(key)} {_text(own, key)} (published {' or '.join(_text(value, key) for value in stated[key])})")
    schedule = settings.get("optimizer.schedule", SILENT)
    if schedule != SILENT and "optimizer.schedule" not in stated:
        found.append(f"schedule {schedule} ({UNSTATED})")
    found += [f"{name}, which the source does not have" for name in _treatments(ours.treatment) if name.partition(":")[0] in SCHEDULES]
    seeds = len(ours.rows)
    kind = "best" if cell.statistic == "max" else "mean"
    found.append(f"{f'{kind} of {seeds} seeds' if seeds > 1 else '1 seed'} (published {statistic_text(cell)})")
    if cell.protocol.chosen:
        found.append("the value at the last update")
    if cell.protocol.data:
        found.append(f"published: {cell.protocol.data}")
    if ours.chosen_on_test:
        found.append(f"chosen on test: {ours.chosen_on_test}")
    return tuple(found)


def runs_of(rows: Sequence[Row], configs: Mapping[str, Any], file: str = "", chosen: Mapping[str, str] = {}) -> list[Ours]:
    """Returns the runs of a file, one for each task, split and metric. `configs` and `chosen` are by experiment."""
    seeds = [row for row in rows if isinstance(row["seed"], int) and row["value"] is not None]
    means = {same(row): row for row in mean_rows(seeds)}
    single: dict[tuple, list[Row]] = {}
    for row in seeds:
        single.setdefault(same(row), []).append(row)
    found = []
    for key, group in single.items():
        first = group[0]
        trained = next(filter(None, (single.get(same({**first, "split": split})) for split in TRAINED)), [])
        config, why = configs.get(first["experiment"]), chosen.get(first["experiment"], "")
        found.append(Ours(first["task"], first["split"], first["metric"], group, means.get(key), trained, config, file, why))
    return found


def beside(cells: Sequence[Published], runs: Sequence[Ours]) -> list[list[Ours]]:
    """Returns the runs beside each cell of one task.

    A run stands beside every cell of its split and metric whose model and data it has. One that has those of none stands beside the one
    of its family that it differs from least, as not comparable.
    """
    found: list[list[Ours]] = [[] for _ in cells]
    for run in runs:
        off = {
            i: len(mismatches(cell, run))
            for i, cell in enumerate(cells)
            if (cell.split, cell.metric) == (run.split, run.metric) and run.family in cell.models
        }
        least = min(off.values(), default=0)
        nearest = [i for i, count in off.items() if count == least]
        for i in nearest[: None if least == 0 else 1]:
            found[i].append(run)
    return found


# -- private --------------------------------------------------------------------------------------------------------------


def _incomparable(cell: Published, ours: Ours) -> list[str]:
    """Returns what, besides model and data settings, makes a run incomparable."""
    found, seen = [], [row.get("seen_in_training") for row in ours.rows]
    if cell.split != "iid" and any(seen):
        found.append(f"{100 * max(share for share in seen if share):.1f} % of the test inputs occurred in training")
    elif None in seen and any(name.partition(":")[0] in RECOMBINED for name in _treatments(ours.treatment)):
        found.append(f"the share of test inputs that training had is {NOT_RECORDED}")
    if cell.statistic == "max" and len(ours.rows) < SEEDS:
        found.append(f"a maximum beside {len(ours.rows)} seed{'s' if len(ours.rows) > 1 else ''}; {SEEDS} are needed")
    return found


def _chance(cell: float | None, row: Row) -> str:
    """Returns why a comparison says nothing: the cell or our value is within NEAR of an answer that needs no input; or ""."""
    baselines = row.get("baselines") or {}
    known = {name: baselines[name] for name in ("chance", "majority") if baselines.get(name) is not None}
    name = max(known, key=lambda key: known[key], default="a constant answer")
    top = known.get(name, 0.0)  # where no baseline is recorded, nothing is below 0
    label = {"chance": "chance", "majority": "the majority answer"}.get(name, name)
    who = [text for text, value in (("the cell", cell), ("our value", row["value"])) if value is not None and value <= top + NEAR]
    if row.get("constant"):
        return "our answer is constant"
    return f"{' and '.join(who)} within 5 points of {label}, {100 * top:.1f} %" if who else ""


def _distance(off: float, ranged: bool) -> str:
    """Formats how far a value lies from a cell, in points."""
    if not off:
        return "within the range" if ranged else "equal"
    return f"{abs(100 * off):.1f} points {'above' if off > 0 else 'below'} the cell"


def _lacks(cell: Published, ours: Ours, row: Row, ends: tuple[float, float]) -> list[str]:
    """Returns what a reproduction lacks; [] if it is one."""
    found = []
    if not row["interval"]:
        found.append(f"interval {NOT_RECORDED}")
    elif cell.range is None and not row["interval"][0] - ROUNDING <= ends[0] <= row["interval"][1] + ROUNDING:
        found.append(OUTSIDE)
    elif cell.range is not None and not (ends[0] <= row["interval"][0] and row["interval"][1] <= ends[1]):
        found.append("our interval is not within the range")
    if cell.split != "iid":
        trained = [one for one in ours.trained if cell.statistic != "max" or one["seed"] == row["seed"]]
        if not trained:
            found.append(f"fit on the trained lengths {NOT_RECORDED}")
        elif min(one["value"] for one in trained) < FITTED:
            found.append(f"not fitted on the trained lengths, {100 * min(one['value'] for one in trained):.1f} %")
    if len(ours.rows) < SEEDS:
        found.append(f"{len(ours.rows)} seed{'s' if len(ours.rows) > 1 else ''}")
    if ours.chosen_on_test:
        found.append("a setting was chosen on test")
    return found


def _treatments(treatment: str) -> list[str]:
    return [name for name in treatment.split(" + ") if name not in ("", "none")]


def _remedies(treatment: str) -> list[str]:
    return [name for name in _treatments(treatment) if name.partition(":")[0] not in SCHEDULES]


def _mismatch(key: str, value: Any) -> str:
    """Describes what makes a run's model or data another one."""
    if key == "model.window":
        return f"attention to the last {value} tokens instead of all"
    if key == "model.mixers":
        return f"a hybrid of {', '.join(value)}"
    return f"{_name(key)} {_text(lists(value), key)}"


def _name(key: str) -> str:
    return NAMED.get(key, key.partition(".")[2].replace("_", " "))


def _text(value: Any, key: str) -> str:
    if key in WORDS:
        return WORDS[key].get(value, str(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def _flat(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Returns the values of a config by dotted key."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        here = f"{path}.{name}" if path else str(name)
        found |= _flat(value, here) if isinstance(value, Mapping) else {here: value}
    return found
