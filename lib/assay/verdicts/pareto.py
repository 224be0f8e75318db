"""What a smaller or faster model costs in score: the stages of a treatment by size, latency and score, and the Pareto fronts.

    fronts(stages_of(["runs/small"]))

A model is on the front where no other model is at least as good in both figures and better in one. Input is WORKDIR/stages.json, as the
verb `treat` writes it. Rows of one treatment in several work directories, such as seeds, are joined by their mean
and range.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.errors import UserError
from assay.evals.rows import LOWER_IS_BETTER

SCHEMA = 1


class Stage(NamedTuple):
    """One model. Means over the work directories that have it."""

    name: str
    score: float
    interval: tuple[float, float] | None  # over examples, or the range over work directories where there are several
    size: float  # bytes on disk
    latency: float  # seconds of one example, p50
    faster: float  # than the first stage, measured in turns; below 1 is slower
    runs: int  # work directories that have it


class Stages(NamedTuple):
    """Stages of one metric on one split, in the order of the first work directory; the first is what the others are compared with."""

    metric: str
    split: str
    stages: Sequence[Stage]


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points (cost, score) are on the Pareto front: lower costs and higher scores are better. Equal points are so together."""
    return [
        not any(cost <= own_cost and score >= own_score and (cost, score) != (own_cost, own_score) for cost, score in points)
        for own_cost, own_score in points
    ]


def fronts(found: Stages) -> tuple[list[bool], list[bool]]:
    """The fronts of size and of latency."""
    sign = -1 if found.metric in LOWER_IS_BETTER else 1
    by_size = front([(one.size, sign * one.score) for one in found.stages])
    return by_size, front([(one.latency, sign * one.score) for one in found.stages])


def stages_of(workdirs: Sequence[str | Path]) -> Stages:
    """The stages of all work directories, or of the seeds below one, joined by what was done. Raises UserError where a stages.json is
    missing, damaged or of another metric."""
    folders = [folder for workdir in workdirs for folder in _seeds(Path(workdir))]
    every = [(folder, _read(folder / "stages.json")) for folder in folders]
    first, told = every[0]
    for workdir, other in every[1:]:
        for key in ("task", "metric", "split"):
            if other.get(key) != told.get(key):
                raise UserError(
                    f"the {key} of {workdir} is {other.get(key)!r}, and that of {first} is {told.get(key)!r}: other questions were asked. "
                    "Give --workdir folders of one task."
                )
    rows: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}  # by what was done, from the first treatment to the last
    for _, one in every:
        done: tuple[str, ...] = ()
        for row in one["rows"]:
            done = (*done, row.get("spec", row["name"]))
            same = rows.setdefault(done, [])
            if row["workdir"] not in [other["workdir"] for other in same]:  # one untreated run, treated in several ways
                same.append(row)
    return Stages(told["metric"], told["split"], [_joined(name, rows[done]) for done, name in _names(rows).items()])


def as_json(found: Stages) -> list[dict[str, Any]]:
    """The stages as plain data, with the fronts that they are on."""
    told = {"metric": found.metric, "split": found.split}
    each = zip(found.stages, *fronts(found), strict=True)
    return [
        {**told, **one._asdict(), "smaller": found.stages[0].size / one.size, "front_of_size": of_size, "front_of_latency": of_latency}
        for one, of_size, of_latency in each
    ]


# -- private --------------------------------------------------------------------------------------------------------------


def _seeds(folder: Path) -> list[Path]:
    """The folder itself, or those of its seeds."""
    each = sorted(path.parent for path in folder.glob("seed_*/stages.json"))
    return each if each and not (folder / "stages.json").exists() else [folder]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}: assay treat writes it. Choose another --workdir.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Make it again, or choose another --workdir.") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise UserError(f"{path} is of another schema than {SCHEMA}, the one that is known. Make it again, or choose another --workdir.")
    broken = UserError(f"{path} is damaged: a row needs a name, a score, a size and a latency above 0. Make it again.")
    try:
        names = [row["name"] for row in found["rows"]]
        numbers = [(row["score"], *_cost(row)) for row in found["rows"]]
        intervals = [end for row in found["rows"] for end in row["interval"] or ()]
        whole = all(math.isfinite(number) for one in (*numbers, intervals) for number in one)
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
        raise UserError(f"{path} has two rows of one name among {', '.join(names)}. Make it again.")
    return found


def _cost(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Bytes on disk, seconds of one example, and how much faster than the first that is."""
    return row["cost"]["bytes_on_disk"], row["speed"]["latency_p50_seconds"], row["speed"]["latency_ratio"]


def _names(rows: Mapping[tuple[str, ...], Sequence[Mapping[str, Any]]]) -> dict[tuple[str, ...], str]:
    """What each stage is called: by its name, or where others have the same, by its treatment."""
    names = [same[0]["name"] for same in rows.values()]
    found: dict[tuple[str, ...], str] = {}
    for done, name in zip(rows, names, strict=True):
        label = name if names.count(name) == 1 else done[-1] or name
        found[done] = label if label not in found.values() else f"{label} ({len(found)})"
    return found


def _joined(name: str, rows: Sequence[Mapping[str, Any]]) -> Stage:
    scores = [row["score"] for row in rows]
    size, latency, faster = (sum(values) / len(rows) for values in zip(*(_cost(row) for row in rows), strict=True))
    interval = tuple(rows[0]["interval"]) if rows[0]["interval"] and len(rows) == 1 else None
    interval = (min(scores), max(scores)) if len(rows) > 1 else interval
    return Stage(name, sum(scores) / len(rows), interval, size, latency, faster, len(rows))
