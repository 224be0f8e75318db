"""Trade-off between score and size or latency: the stages of a pipeline and their Pareto fronts.

    fronts(stages_of(["runs/small"]))

A model is on the front if no other model is at least as good in both quantities and better in one. The input is WORKDIR/stages.json, which
the command `treat` writes. Rows of the same treatment in several work directories, such as seeds, are merged into their mean and range.
Latencies of a disturbed timing (diagnostics/cost/disturbance.py) are shown, but not compared.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.errors import UserError
from assay.core.file import read_json
from assay.evals.rows import LOWER_IS_BETTER

SCHEMA = 1


class Stage(NamedTuple):
    """One model; values are means over the work directories that contain it."""

    name: str
    score: float
    interval: tuple[float, float] | None  # over examples; the range over work directories if there are several
    size: float  # bytes on disk
    latency: float  # median latency of one example, seconds
    faster: float | None  # speed-up over the first stage, from interleaved measurements; below 1 is slower; None if they were disturbed
    runs: int  # number of work directories that contain it


class Stages(NamedTuple):
    """Stages by one metric on one split, in the order of the first work directory. The first stage is the baseline."""

    metric: str
    split: str
    stages: Sequence[Stage]


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Returns which points (cost, score) are on the Pareto front; lower cost and higher score are better. Equal points share a status."""
    return [
        not any(cost <= own_cost and score >= own_score and (cost, score) != (own_cost, own_score) for cost, score in points)
        for own_cost, own_score in points
    ]


def fronts(found: Stages) -> tuple[list[bool], list[bool]]:
    """Returns which stages are on the fronts of size and of latency. A stage whose timing was disturbed is on no front of latency."""
    sign = -1 if found.metric in LOWER_IS_BETTER else 1
    by_size = front([(one.size, sign * one.score) for one in found.stages])
    known = [one for one in found.stages if one.faster is not None]
    by_latency = iter(front([(one.latency, sign * one.score) for one in known]))
    return by_size, [one.faster is not None and next(by_latency) for one in found.stages]


def stages_of(workdirs: Sequence[str | Path]) -> Stages:
    """Returns the stages of all work directories and of the seeds below them. Stages with the same treatments are merged.

    Raises UserError if a stages.json is missing or damaged, or differs in task, metric or split.
    """
    folders = [folder for workdir in workdirs for folder in _seeds(Path(workdir))]
    every = [(folder, read_stages(folder / "stages.json")) for folder in folders]
    first, told = every[0]
    for workdir, other in every[1:]:
        for key in ("task", "metric", "split"):
            if other.get(key) != told.get(key):
                raise UserError(
                    f"the {key} of {workdir} is {other.get(key)!r}, but that of {first} is {told.get(key)!r}, so they cannot be compared. "
                    "Set --workdir to folders of a single task."
                )
    rows: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}  # by the sequence of treatments
    for _, one in every:
        done: tuple[str, ...] = ()
        for row in one["rows"]:
            done = (*done, row.get("spec", row["name"]))
            same = rows.setdefault(done, [])
            if row["workdir"] not in [other["workdir"] for other in same]:  # several pipelines may share one untreated run
                same.append(row)
    return Stages(told["metric"], told["split"], [_joined(name, rows[done]) for done, name in _names(rows).items()])


def as_json(found: Stages) -> list[dict[str, Any]]:
    """Returns the stages as plain data, with the fronts that they are on."""
    told = {"metric": found.metric, "split": found.split}
    each = zip(found.stages, *fronts(found), strict=True)
    return [
        {**told, **one._asdict(), "smaller": found.stages[0].size / one.size, "front_of_size": of_size, "front_of_latency": of_latency}
        for one, of_size, of_latency in each
    ]


def read_stages(path: Path) -> dict[str, Any]:
    """Reads stages.json. Raises UserError if it is missing or damaged."""
    try:
        found = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}: assay treat writes it. Choose another --workdir.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Run treat again, or choose another --workdir.") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise UserError(f"{path} does not have schema {SCHEMA}, the only supported one. Run treat again, or choose another --workdir.")
    broken = UserError(f"{path} is damaged: every row needs a name, a score, and a size and a latency above 0. Run treat again.")
    try:
        names = [row["name"] for row in found["rows"]]
        numbers = [(row["score"], *(number for number in _cost(row) if number is not None)) for row in found["rows"]]
        intervals = [end for row in found["rows"] for end in row["interval"] or ()]
        told = all(row["speed"]["latency_ratio"] is not None or row["speed"]["timing"]["disturbed"] for row in found["rows"])
        whole = told and all(math.isfinite(number) for one in (*numbers, intervals) for number in one)
        if (
            not names
            or not whole
            or any(min(one[1:]) <= 0 for one in numbers)
            or not isinstance(found["metric"], str)
            or not found["split"]
        ):
            raise broken
    except (KeyError, TypeError):
        raise broken from None
    if len(set(names)) < len(names):
        raise UserError(f"{path} has duplicate row names among {', '.join(names)}. Run treat again.")
    return found


# -- private --------------------------------------------------------------------------------------------------------------


def _seeds(folder: Path) -> list[Path]:
    """Returns the folder itself, or the folders of its seeds."""
    each = sorted(path.parent for path in folder.glob("seed_*/stages.json"))
    return each if each and not (folder / "stages.json").exists() else [folder]


def _cost(row: Mapping[str, Any]) -> tuple[float, float, float | None]:
    """Returns the size on disk in bytes, the latency of one example in seconds, and the speed-up over the first stage or None."""
    return row["cost"]["bytes_on_disk"], row["speed"]["latency_p50_seconds"], row["speed"]["latency_ratio"]


def _names(rows: Mapping[tuple[str, ...], Sequence[Mapping[str, Any]]]) -> dict[tuple[str, ...], str]:
    """Returns the label of each stage: its name if unique, otherwise its treatment."""
    names = [same[0]["name"] for same in rows.values()]
    found: dict[tuple[str, ...], str] = {}
    for done, name in zip(rows, names, strict=True):
        label = name if names.count(name) == 1 else done[-1] or name
        found[done] = label if label not in found.values() else f"{label} ({len(found)})"
    return found


def _joined(name: str, rows: Sequence[Mapping[str, Any]]) -> Stage:
    scores = [row["score"] for row in rows]
    costs = [_cost(row) for row in rows]
    undisturbed = [cost for cost in costs if cost[2] is not None] or costs
    size = sum(cost[0] for cost in costs) / len(costs)
    latency = sum(cost[1] for cost in undisturbed) / len(undisturbed)
    ratios = [cost[2] for cost in undisturbed if cost[2] is not None]
    faster = sum(ratios) / len(ratios) if ratios else None
    interval = tuple(rows[0]["interval"]) if rows[0]["interval"] and len(rows) == 1 else None
    interval = (min(scores), max(scores)) if len(rows) > 1 else interval
    return Stage(name, sum(scores) / len(rows), interval, size, latency, faster, len(rows))
