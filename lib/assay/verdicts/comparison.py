"""Comparison of runs to a baseline on the same examples: paired differences with intervals, corrected for multiple comparisons.

    compare(runs_of(["runs/overfitting"]), "none", "test", "accuracy")        # none: a variant of the study

The inputs are the scores per example in predictions/SPLIT.jsonl, paired by id and seed. With several seeds, the interval and the p-value
are over seeds and examples (or groups of examples) together, and a verdict is one on the recipe. With one seed they are over examples, and
a verdict is one on these two sets of weights: another seed of the same recipe may be better or worse.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from assay.core.errors import UserError, unknown
from assay.core.file import parse_json, read_text
from assay.core.means import difference_interval, units_of
from assay.core.paired import difference_of, flip_test, mean, spread_out
from assay.core.plain import number_of
from assay.core.seeds import two_levels
from assay.core.stats import Difference, holm
from assay.evals.rows import LOWER_IS_BETTER, RIGHT, headline_of
from assay.evals.written import wrong_record
from assay.train.workdir import WorkDir
from assay.verdicts.verdict import LEVEL

Runs = Mapping[str, Mapping[int, Sequence[Path]]]  # variant -> seed -> its runs; several for cross-validation folds


class Comparison(NamedTuple):
    """Comparison of one variant to the baseline. Scores are means over examples and seeds."""

    name: str
    baseline: str
    split: str
    metric: str
    seeds: list[int]  # seeds of both
    n: int  # number of examples per seed
    value: float
    baseline_value: float
    difference: Difference  # value - baseline_value, over seeds and examples; over examples for a single seed
    each: list[float]  # the difference of each seed
    gap: float | None  # score on `train` minus score on the split; None if `train` was not evaluated
    baseline_gap: float | None
    adjusted: float  # p-value after Holm correction
    verdict: str  # better, worse, inconclusive

    @property
    def of(self) -> str:
        """What the verdict is on: the recipe, or the weights of a single seed."""
        return "recipe" if len(self.seeds) > 1 else "weights"


class Scores(NamedTuple):
    """Metric of each example of a split, in order of id."""

    ids: list[Any]  # (id, input, or the target if the input is not stored): identifies an example
    values: np.ndarray
    groups: list[str] | None
    weights: np.ndarray | None = None  # tokens of each example, where its scores are means over tokens


class Paired(NamedTuple):
    """Metric of several variants on the same seeds and examples."""

    values: list[np.ndarray]  # of each variant, [seeds, examples]
    groups: list[str] | None  # of each example
    weights: np.ndarray | None  # tokens of each example, where its scores are means over tokens


def runs_of(workdirs: Sequence[str | Path]) -> Runs:
    """Returns all runs in the work directories, each a run or a study, by variant and seed. Raises UserError if one has no runs."""
    found: dict[str, dict[int, list[Path]]] = {}
    for workdir in workdirs:
        root = Path(workdir).absolute()
        paths = [root] if WorkDir(root).config.exists() else sorted(root.glob("*/seed_*"))
        if not paths:
            deeper = sorted({str(path.parent.parent) for path in root.glob("*/*/seed_*")})
            hint = f" It holds a suite; pass one of its studies, such as --workdir={deeper[0]}." if deeper else ""
            raise UserError(f"no run in {workdir}. Set --workdir to the folder of a finished run or study.{hint}")
        for path in paths:
            name = path.parent.name if path.name.startswith("seed_") else path.name
            found.setdefault(name, {}).setdefault(int(WorkDir(path).read_config()["seed"]), []).append(path)
    return found


def compare(runs: Runs, baseline: str, split: str, metric: str = "") -> list[Comparison]:
    """Compares every other variant to `baseline`, in order. The default metric is the headline score of the split.

    Raises UserError for an unknown baseline or metric, and if the runs differ in task or examples or have no seed in common.
    """
    if baseline not in runs:
        raise unknown("variant", baseline, runs, "--baseline")
    if len(runs) < 2:
        raise UserError(f"{baseline!r} is the only variant, so there is nothing to compare it to. Pass --workdir once per folder.")
    tasks = {WorkDir(path).read_config()["task"].get("name", "") for seeds in runs.values() for paths in seeds.values() for path in paths}
    if len(tasks) > 1:
        raise UserError(f"runs of different tasks ({', '.join(sorted(tasks))}) cannot be compared. Set --workdir to runs of a single task.")
    metric = metric or headline(next(iter(runs[baseline].values()))[0], split)
    every = [measured(runs, name, baseline, split, metric) for name in runs if name != baseline]
    adjusted = holm([one.difference.p_value for one in every]).tolist()
    return [one._replace(adjusted=p, verdict=_verdict(one.difference.value, p, metric)) for one, p in zip(every, adjusted, strict=True)]


def as_json(one: Comparison) -> dict[str, Any]:
    """Returns a comparison as plain data."""
    found = {name: value if math.isfinite(value) else None for name, value in one.difference._asdict().items()}
    return {**one._asdict(), "difference": found, "of": one.of}


def measured(runs: Runs, name: str, baseline: str, split: str, metric: str) -> Comparison:
    """Returns the comparison of one variant to the baseline, without correction and verdict. Raises UserError as `compare` does."""
    seeds = sorted(set(runs[name]) & set(runs[baseline]))
    if not seeds:
        raise UserError(f"{name!r} and {baseline!r} have no seed in common. Train both with the same --seeds.")
    paired = scores_of(runs, (name, baseline), seeds, split, metric)
    first, second = paired.values
    single = all(len(runs[one][seed]) == 1 for one in (name, baseline) for seed in seeds)  # not a mean over folds
    difference = difference_over(first, second, paired.groups, metric in RIGHT and single, paired.weights)
    means = [np.average(scores, axis=1, weights=paired.weights) for scores in (first, second)]
    deltas = (means[0] - means[1]).tolist()
    value, other = (float(of_seeds.mean()) for of_seeds in means)
    gap, other_gap = (_gap([runs[one][seed] for seed in seeds], metric, mean) for one, mean in ((name, value), (baseline, other)))
    return Comparison(name, baseline, split, metric, seeds, first.shape[1], value, other, difference, deltas, gap, other_gap, 1.0, "")


def scores_of(runs: Runs, names: Sequence[str], seeds: Sequence[int], split: str, metric: str) -> Paired:
    """Returns the scores of these seeds of several variants, of which the last is the baseline. Raises UserError if the examples differ."""
    every = {seed: [_scores(runs[name][seed], split, metric) for name in names] for seed in seeds}
    reference = every[seeds[0]][-1]
    for seed, found in every.items():
        if any(one.ids != reference.ids for one in found):
            raise UserError(
                f"{' and '.join(map(repr, names))} (seed {seed}) were not evaluated on the same examples of {split!r}. "
                "Evaluate both with the same config.task and config.evaluate, or choose another --split."
            )
    values = [np.stack([found[i].values for found in every.values()]) for i in range(len(names))]
    return Paired(values, reference.groups, reference.weights)


def difference_over(
    first: np.ndarray, second: np.ndarray, groups: Sequence[str] | None, right: bool, weights: np.ndarray | None = None
) -> Difference:
    """Returns the difference of the mean scores, [seeds, examples] each: by `two_levels`, or for a single seed by `difference_of`.

    `right` says that scores are right (1) or wrong (0); `weights`, [examples], are the tokens that each score is a mean of. The interval is
    NaN for a single example or group, and where it would have no width.
    """
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return Difference(float(np.average(first - second, axis=1, weights=weights).mean()), math.nan, math.nan, 1.0)
    if len(first) == 1 and weights is not None:
        units = units_of(first[0] - second[0], groups, weights)
        low, high = spread_out(difference_interval(units, float(np.abs(first - second).max())))
        return Difference(float(units.total.sum() / units.size.sum()), low, high, flip_test(units.total))
    if len(first) == 1:
        own, other = ({"/score": scores[0]} for scores in (first, second))
        return difference_of(mean, own, other, {"": groups}, right=("score",) if right else ())
    if first.shape[1] < 2 or (groups is not None and len(set(groups)) < 2):
        return Difference(float(np.average(first - second, axis=1, weights=weights).mean()), math.nan, math.nan, 1.0)
    return two_levels(first - second, groups, largest=float(right), weights=weights)


def scores(path: str | Path, split: str, metric: str) -> np.ndarray:
    """Returns a metric of each example of a split, in order of id: [examples]."""
    return _scores([Path(path)], split, metric).values


def mean_score(path: str | Path, split: str, metric: str) -> float:
    """Returns the mean of a metric of a split: over tokens if its examples count them, otherwise over examples."""
    found = _scores([Path(path)], split, metric)
    return float(np.average(found.values, weights=found.weights))


def headline(path: Path, split: str) -> str:
    """Returns the default metric for comparing examples of a split."""
    return headline_of(_records(path, split)[0]["scores"])


# -- private --------------------------------------------------------------------------------------------------------------


def _gap(runs: Sequence[Sequence[Path]], metric: str, value: float) -> float | None:
    """Returns the mean score on `train` minus `value`; None if a run was not evaluated on `train`."""
    if not all(WorkDir(path).predictions("train").exists() for paths in runs for path in paths):
        return None
    every = [_scores([path], "train", metric) for paths in runs for path in paths]
    return float(np.mean([np.average(one.values, weights=one.weights) for one in every])) - value


def _scores(paths: Sequence[Path], split: str, metric: str) -> Scores:
    """Returns the scores of the runs of one seed, averaged over the runs."""
    every = [_records(path, split) for path in paths]
    known = every[0][0]["scores"]
    if metric not in known:
        raise unknown("metric", metric, known, "--metric")
    keys = [[(record["id"], json.dumps(record.get("input", record["target"]))) for record in records] for records in every]
    if any(key != keys[0] for key in keys):
        raise UserError(f"{paths[0]} and other runs of its name and seed have different examples of {split!r}. Choose another --split.")
    values = np.mean([[number_of(record["scores"][metric]) for record in records] for records in every], axis=0)
    groups = [record["group"] for record in every[0]] if "group" in every[0][0] else None
    tokens = np.array([record["scores"]["tokens"] for record in every[0]]) if "tokens" in known else None
    return Scores(keys[0], values, groups, tokens)


def _records(path: Path, split: str) -> list[dict[str, Any]]:
    file = WorkDir(path).predictions(split)
    if not file.exists():
        there = ", ".join(sorted(other.stem for other in file.parent.glob("*.jsonl"))) or "none"
        raise UserError(f"{path} has no predictions of {split!r} (it has {there}). Choose another --split, or evaluate it.")
    try:
        records = [parse_json(line) for line in read_text(file).splitlines()]
        wrong = next((f"line {number}: {told}" for number, one in enumerate(records, 1) if (told := wrong_record(one))), "")
        wrong = wrong or ("" if records else "it is empty") or ("" if _alike(records) else "its lines have different scores")
    except (OSError, ValueError) as error:
        wrong = str(error)
    if wrong:
        raise UserError(f"{file} is damaged: {wrong}. Evaluate it again: assay evaluate --workdir={path} --split={split}")
    return sorted(records, key=lambda record: record["id"])


def _alike(records: Sequence[Mapping[str, Any]]) -> bool:
    """Returns True if all records have the same scores, and groups if the first has one."""
    first = records[0]
    return all(record["scores"].keys() == first["scores"].keys() and ("group" in record) == ("group" in first) for record in records)


def _verdict(difference: float, p_value: float, metric: str) -> str:
    if p_value >= LEVEL:
        return "inconclusive"
    return "better" if (difference > 0) != (metric in LOWER_IS_BETTER) else "worse"
