"""Builds the rows of results.json from records: each value with its n, its interval, published cells and baselines.

A score is a mean: over lengths first if the split is unbounded, over tokens if records count them, otherwise over examples. A summary is
one value over all records.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.means import LEAST, LEAST_GROUPS, Units, caution, mean_interval, ratio_units, shares_interval, units_of
from assay.core.stats import bootstrap, over_seeds, wilson
from assay.evals.evaluate import FORCED
from assay.evals.summary import SUMMARIES
from assay.tasks.published import is_beside, shown
from assay.tasks.task import Task

WILSON = "value: mean over lengths; interval: Wilson 95 % over examples"
WILSON_EXAMPLES = "value: mean over examples; interval: Wilson 95 % over examples"
INTERVAL = "value: {value}; interval: {how} 95 % over {units}"
NO_INTERVAL = "value: of all examples together"
SAME = ("experiment", "task", "model", "treatment", "overrides", "split", "metric")  # keys shared by the runs of a mean
BOUNDS = {"fraction": (0.0, 1.0), "BLEU": (0.0, 100.0)}  # range of a unit's values
STUDENT = "value: mean over seeds; interval: Student t 95 % over seeds"
RANGE = "value: mean over seeds; interval: from the lowest to the highest end of the seeds' own intervals"
CONSTANT, FEW = 0.99, 20  # share of one answer above which it counts as constant, and the fewest examples that show it
NEAR = 0.05  # of a baseline
SEEDS = 10  # seeds from which there is a t interval: four of five trainings may succeed, and few seeds do not show it
RESAMPLES = 1000
SOME_UNDEFINED = "no interval: the metric has no value for some resamples"
ALIKE = "no interval: all resamples have the same value, which shows nothing about other examples"
MOST_LENGTHS = 64  # bounded splits with up to this many lengths are also reported by length: SCAN's, but not those of a book
CONSTANTS: Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]] = {  # the best constant prediction; the error function
    "mse": (np.mean, np.square),
    "mae": (np.median, np.abs),
}
BIGRAM_EXAMPLES = 1000  # training examples that the bigram baseline counts
HEADLINES = ("verified", "answer_accuracy", "exact_match", "accuracy", "token_accuracy", "mse")  # comparisons of examples use the first
RIGHT = ("verified", "answer_accuracy", "exact_match", "accuracy")  # scores of an example that are right (1) or wrong (0)
LOWER_IS_BETTER = {"nll", "perplexity", "bits_per_byte", "ece", "mse", "rmse", "mae"}  # registered metrics are added


def headline_of(names: Iterable[str]) -> str:
    """Returns the score by which examples are compared, of those that a task has."""
    known = list(names)
    return next((name for name in HEADLINES if name in known), known[0])


def rows(records: Sequence[Mapping[str, Any]], task: Task, split: str, labels: Mapping[str, Any], by_length: bool) -> list[dict[str, Any]]:
    """Returns one row per metric.

    `labels` holds experiment, model, treatment, seed, steps, `settings` (the keys of the model) and `overrides`. With `by_length`, all
    lengths have equal weight.
    """
    if task.members:
        of = {name: [record for record in records if record["task"] == name] for name in task.members}
        return [row for name, member in task.members.items() if of[name] for row in rows(of[name], member, split, labels, by_length)]
    settings = labels.get("settings", {})
    found = []
    for metric in task.metrics:
        family = settings.get("name", labels["model"])
        beside = [cell for cell in task.published if (cell.metric, cell.split) == (metric, split) and is_beside(cell, family, settings)]
        row = {
            "experiment": labels["experiment"],
            "task": task.name,
            "model": labels["model"],
            "treatment": labels["treatment"],
            "split": split,
            "metric": metric,
            **_value(records, task, metric, by_length),
            "n": len(records),
            "seed": labels["seed"],
            "steps": labels["steps"],
            "published": [shown(cell) for cell in beside],
            "baselines": baselines(records, task, metric),
        }
        if labels.get("overrides"):
            row["overrides"] = dict(labels["overrides"])
        if note := "; ".join(dict.fromkeys(text for text in (task.note, *task.notices) if text)):
            row["note"] = note
        if constant := constant_share(records):
            row["constant"] = constant
        if at_chance(row):
            row["at_chance"] = True
        found.append(row)
    return found


def constant_share(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the share of the commonest answer if it is above CONSTANT: the model answers without reading. None otherwise."""
    if len(records) < FEW:
        return None
    ((_, most),) = Counter(str(record["prediction"]) for record in records).most_common(1)
    return most / len(records) if most > CONSTANT * len(records) else None


def at_chance(row: Mapping[str, Any]) -> bool:
    """Returns True if an accuracy is within NEAR of the best baseline that needs no input: it then says nothing about the model."""
    known = [row["baselines"][name] for name in ("chance", "majority") if row["baselines"].get(name) is not None]
    accuracy = row["metric"] not in LOWER_IS_BETTER and row["unit"] == "fraction"
    return bool(known) and accuracy and row["value"] is not None and row["value"] <= max(known) + NEAR


def same(row: Mapping[str, Any]) -> tuple:
    """Returns what the rows of several seeds of one run share."""
    return tuple(tuple(sorted((row.get(key) or {}).items())) if key == "overrides" else row[key] for key in SAME)


def mean_rows(every: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Averages the rows of several seeds: one mean per group of rows that differ only in the seed. Groups with one seed give none."""
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in every:
        groups.setdefault(same(row), []).append(row)
    means = []
    for group in groups.values():
        if len(group) < 2:
            continue
        values = [row["value"] for row in group]
        if any(value is None for value in values):  # a mean of what is left would be one of other seeds
            continue
        mean = {key: value for key, value in group[0].items() if key not in ("caution", "constant", "at_chance")}
        mean |= {"value": float(np.mean(values)), "n": min(row["n"] for row in group), "seed": [row["seed"] for row in group]}
        mean |= {"interval": _over_seeds(group), "interval_method": STUDENT if len(group) >= SEEDS else RANGE}
        learned = [one for one in map(_learned, group) if one is not None]
        if len(learned) == len(group):
            mean["learned"] = sum(learned)
        if all(row.get("constant") for row in group):
            mean["constant"] = min(row["constant"] for row in group)
        if at_chance(mean):
            mean["at_chance"] = True
        mean["best"] = min(values) if group[0]["metric"] in LOWER_IS_BETTER else max(values)
        mean["steps"] = max(row["steps"] for row in group)  # with early stopping, seeds take different numbers of steps
        if "seen_in_training" in mean:
            mean["seen_in_training"] = float(np.mean([row["seen_in_training"] for row in group]))
        if "by_length" in mean:
            mean["by_length"] = {length: float(np.mean([row["by_length"][length] for row in group])) for length in mean["by_length"]}
        means.append(mean)
    return means


def averaged(every: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the rows of single seeds and their means as this version makes them, in place of the means of the version that wrote them."""
    single = [{**row, "at_chance": True} if at_chance(row) else row for row in every if isinstance(row["seed"], int)]
    means = {same(row): row for row in mean_rows(single)}
    own = iter(single)
    return [next(own) if isinstance(row["seed"], int) else means.get(same(row), row) for row in every]


def _over_seeds(group: Sequence[Mapping[str, Any]]) -> list[float] | None:
    """Returns Student's interval over at least SEEDS seeds, no narrower than that of one seed; of fewer, the range of their own intervals;
    None if one has none."""
    own = [row["interval"] for row in group]
    if any(ends is None for ends in own):
        return None
    if len(group) < SEEDS:
        return [min(ends[0] for ends in own), max(ends[1] for ends in own)]
    bounds, value = BOUNDS.get(group[0]["unit"], (-math.inf, math.inf)), float(np.mean([row["value"] for row in group]))
    low, high = over_seeds([row["value"] for row in group], bounds) or (value, value)
    below, above = (float(np.mean([abs(row["value"] - row["interval"][side]) for row in group])) for side in (0, 1))
    return [max(bounds[0], min(low, value - below)), min(bounds[1], max(high, value + above))]


def _learned(row: Mapping[str, Any]) -> bool | None:
    """Returns whether the interval of a run lies beyond each baseline; None without baselines or an interval."""
    known, ends = [value for value in row["baselines"].values() if value is not None], row["interval"]
    if not known or ends is None:
        return None
    return bool(ends[1] < min(known) if row["metric"] in LOWER_IS_BETTER else ends[0] > max(known))


def value_of(records: Sequence[Mapping[str, Any]], metric: str, by_length: bool) -> float:
    """Returns a metric of a split without its interval; NaN where it has no value, such as the AUROC of one class."""
    if metric not in records[0]["scores"]:
        summary = SUMMARIES[metric]
        return float(summary.value(*summary.columns(records)))
    values = np.array([record["scores"][metric] for record in records])
    if not by_length:
        return _mean(values, *_tokens(records))
    lengths = np.array([record["length"] for record in records])
    return float(np.mean([values[lengths == length].mean() for length in np.unique(lengths)]))


def _value(records: Sequence[Mapping[str, Any]], task: Task, metric: str, by_length: bool) -> dict[str, Any]:
    """Returns value, unit, interval, interval_method and, where it applies, by_length."""
    groups = np.array([record["group"] for record in records]) if "group" in records[0] else None
    units = "examples" if groups is None else "groups"
    if metric not in records[0]["scores"]:
        summary = SUMMARIES[metric]
        columns = summary.columns(records)
        if broken := _broken(columns):
            return _no_value(summary.unit, broken)
        value = float(summary.value(*columns))
        if not math.isfinite(value):
            return _no_value(summary.unit, f"{metric} has no value: {summary.undefined}")
        found = {"value": value, "unit": summary.unit}
        if not summary.interval:
            return found | {"interval": None, "interval_method": NO_INTERVAL}
        if summary.of_ratio is not None:
            ratio = ratio_units(columns[0], columns[1], groups)
            ends: Sequence[float] = [summary.of_ratio(end) if math.isfinite(end) else end for end in mean_interval(ratio)]
            how, why = "bootstrap-t", caution(ratio, bounded=False)
        else:
            drawn = units_of(np.ones(len(records)), groups)
            ends = bootstrap(summary.value, *columns, groups=groups, resamples=RESAMPLES)[1:]
            how, why = "bootstrap", caution(drawn, bounded=True)
            if len(drawn.total) < (LEAST if groups is None else LEAST_GROUPS):
                ends = (math.nan, math.nan)
            elif not np.isfinite(ends).all():
                why = SOME_UNDEFINED
            elif ends[0] == ends[1]:
                ends, why = (math.nan, math.nan), ALIKE
        said = {"caution": why} if why else {}
        method = INTERVAL.format(value="of all examples together", how=how, units=units)
        return found | {"interval": _known(ends), "interval_method": method, **said}
    values = np.array([record["scores"][metric] for record in records])
    unit = task.units.get(metric, "fraction")
    if broken := _broken([values]):
        return _no_value(unit, broken)
    bounded = unit == "fraction" and bool(values.min() >= 0 and values.max() <= 1)
    if unit == "fraction" and not bounded and metric not in task.units:  # a metric of one's own whose unit is not said
        unit = ""
    if by_length:
        lengths = np.array([record["length"] for record in records])
        means = {str(length): float(values[lengths == length].mean()) for length in np.unique(lengths).tolist()}
        value = float(np.mean(list(means.values())))
        ends = wilson(value, len(records)) if bounded else mean_interval(units_of(values, None))
        method = WILSON if bounded else INTERVAL.format(value="mean over lengths", how="bootstrap-t", units="examples")
        return {"value": value, "unit": unit, "interval": _known(ends), "interval_method": method, "by_length": means}
    tokens = _tokens(records)
    value = _mean(values, *tokens)
    if bounded and groups is None and not tokens:
        found = {"value": value, "unit": unit, "interval": list(wilson(value, len(records))), "interval_method": WILSON_EXAMPLES}
        lengths = np.array([record["length"] for record in records])
        each = np.unique(lengths).tolist()
        if 2 <= len(each) <= MOST_LENGTHS:
            found["by_length"] = {str(length): float(values[lengths == length].mean()) for length in each}
        return found
    found_units = units_of(values, groups, *tokens)
    method = INTERVAL.format(value=f"mean over {'tokens' if tokens else 'examples'}", how=_how(found_units, bounded), units=units)
    ends = shares_interval(found_units) if bounded else mean_interval(found_units)
    said = {"caution": why} if (why := caution(found_units, bounded)) else {}
    return {"value": value, "unit": unit, "interval": _known(ends), "interval_method": method, **said}


def _no_value(unit: str, why: str) -> dict[str, Any]:
    """Returns the part of a row without a value."""
    return {"value": None, "unit": unit, "interval": None, "interval_method": NO_INTERVAL, "caution": why}


def _broken(columns: Sequence[np.ndarray]) -> str:
    """Returns how many examples have a value that is not finite, or ""."""
    bad = np.zeros(len(columns[0]), bool)
    for values in columns:
        if np.issubdtype(values.dtype, np.floating):
            bad |= ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    return f"{bad.sum():,} of {len(bad):,} values are not finite ({bad.mean():.1%})" if bad.any() else ""


def _how(units: Units, bounded: bool) -> str:
    """Returns the method that `shares_interval` or `mean_interval` uses."""
    return "Wilson's of as many answers as the standard error implies" if bounded else "bootstrap-t"


def _known(ends: Sequence[float]) -> list[float] | None:
    return [float(end) for end in ends] if np.isfinite(ends).all() else None


def _tokens(records: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, ...]:
    """Returns the number of tokens that each record's scores average over, if the scores hold it."""
    return (np.array([record["scores"]["tokens"] for record in records]),) if "tokens" in records[0]["scores"] else ()


def _mean(values: np.ndarray, tokens: np.ndarray | None = None) -> float:
    return float(values.mean() if tokens is None else (values * tokens).sum() / max(tokens.sum(), 1.0))


def baselines(records: Sequence[Mapping[str, Any]], task: Task, metric: str) -> dict[str, float]:
    """Returns the scores of baselines that ignore most of the input: `chance`, `majority` and `bigram`, or `constant` for an error.

    `majority` gives the best single answer to every example (for exact_match, the most common sequence); `bigram` reads one token only.
    Other metrics have no baselines.
    """
    if metric in CONSTANTS:
        numbers = np.array([record["target"] for record in records], float)
        best, error = CONSTANTS[metric]
        return {"constant": float(error(numbers - best(numbers, axis=0)).mean())}
    tokens = isinstance(records[0]["target"], list)
    plain = metric.removeprefix(FORCED)
    if plain == "exact_match":
        (_, most), *_ = Counter(str(record["target"]) for record in records).most_common(1)
        return {"majority": most / len(records)}
    if plain not in ("answer_accuracy", "token_accuracy", "accuracy"):
        return {}
    if plain != "accuracy" and not tokens:  # an answer displayed as text
        return {"chance": task.chance}
    records = [record for record in records if not tokens or record["target"]]  # no answer is correct where none is asked for
    if not records:
        return {"chance": task.chance}
    targets = [_answers(record["target"], plain) for record in records]
    best = Counter(token for target in targets for token in target).most_common(1)[0][0]
    weights = _tokens(records)
    share = _mean(np.array([np.mean([token == best for token in target]) for target in targets]), *weights)
    found = {"chance": task.chance, "majority": share}
    successors = bigrams(task) if tokens and isinstance(records[0]["input"], list) else {}
    if successors:
        pairs = [_pairs(record) if plain == "token_accuracy" else _pairs(record)[-1:] for record in records]
        right = [np.mean([successors.get(before, best) == token for before, token in row]) for row in pairs]
        found["bigram"] = _mean(np.array(right), *weights)
    return found


Before = tuple[str, int]  # whether the token is from the input or the answer, and its id


def bigrams(task: Task) -> dict[Before, int]:
    """Returns the most common answer after each token, over examples of the training split; the token is the input's last or the previous
    answer.

    Returns {} where answers stand inside the input, at tokens of their own.
    """
    if "train" not in task.splits:
        return {}
    source = task.source("train")
    indices = np.arange(BIGRAM_EXAMPLES if source.size is None else min(BIGRAM_EXAMPLES, source.size))
    examples = source.fetch(indices)
    batch = task.encode(examples, task.width(source.lengths[1]))
    if "mask" not in batch or (batch["mask"].argmax(axis=1) < examples.input_length - 1).any():
        return {}
    counts: dict[Before, Counter[int]] = {}
    for i in range(len(indices)):
        for before, token in _pairs(source.describe(examples, i)):
            counts.setdefault(before, Counter())[token] += 1
    return {before: tokens.most_common(1)[0][0] for before, tokens in counts.items()}


def _pairs(record: Mapping[str, Any]) -> list[tuple[Before, int]]:
    """Pairs each token of an answer with the token before it."""
    first: list[Before] = [("input", token) for token in record["input"][-1:]] or [("input", -1)]
    return list(zip([*first, *(("answer", token) for token in record["target"])], record["target"], strict=False))


def _answers(target: Any, metric: str) -> list[Any]:
    if not isinstance(target, list):
        return [target]
    return target[-1:] if metric == "answer_accuracy" else target
