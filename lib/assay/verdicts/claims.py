"""Measurements that test claims about treatments on finished runs: each returns a value with its interval or range over seeds.

Runs are paired by seed and example, and intervals are over both; over examples alone where there is a single seed. Scores that are means
over tokens weigh by them, as in verdicts/comparison.py.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import UserError
from assay.evals.rows import LOWER_IS_BETTER, RIGHT
from assay.train.workdir import WorkDir
from assay.verdicts.comparison import Paired, difference_over, headline, measured, scores_of
from assay.verdicts.control import control_of


def runs(folder: str | Path) -> list[Path]:
    """Returns the finished runs of all seeds in a folder. Raises UserError if there are none."""
    numbered = [path for path in Path(folder).glob("seed_*") if path.name.removeprefix("seed_").isdigit()]
    found = [path for path in sorted(numbered, key=_seed) if WorkDir(path).results.exists()]
    if not found:
        raise UserError(f"no finished run in {folder}. Its command was not run, or it failed.")
    return found


def recovered(teacher: str | Path, alone: str | Path, distilled: str | Path, split: str = "test") -> dict[str, Any]:
    """Returns the fraction of the teacher-student gap that distillation closes: (distilled - alone) / (teacher - alone).

    The interval is over seeds and examples, by linearization of the ratio (the delta method). Where the teacher is not shown to be better
    than the student alone (the gap is not above 0, or its interval includes 0), the share has no meaning: value and interval are None, and
    `why` is the reason.
    """
    folders = (distilled, teacher, alone)
    names = _seeds(*folders)
    paths = {str(folder): [Path(folder) / name for name in names] for folder in folders}
    every = {folder: {_seed(path): [path] for path in of} for folder, of in paths.items()}
    metric = headline(Path(alone) / names[0], split)
    found = scores_of(every, [str(folder) for folder in folders], [_seed(path) for path in paths[str(alone)]], split, metric)
    own, most, least = found.values
    means = [float(np.average(values, axis=1, weights=found.weights).mean()) for values in found.values]
    told = {"n": own.shape[1], "seeds": len(names), **dict(zip(("distilled", "teacher", "alone"), means, strict=True))}
    if why := _no_gap(found, metric):
        return {"value": None, "interval": None, "why": why, **told}
    gap = means[1] - means[2]
    share = (means[0] - means[2]) / gap
    residual = (own - least) - share * (most - least)
    low, high = difference_over(residual, np.zeros_like(residual), found.groups, False, found.weights)[1:3]
    return {"value": share, "interval": sorted((share + low / gap, share + high / gap)), **told}


def change(before: str | Path, after: str | Path, split: str = "test") -> dict[str, Any]:
    """Returns the change of the score in percentage points, paired by example and seed, with its interval over seeds and examples."""
    names = _seeds(before, after)
    return _change([Path(before) / name for name in names], [Path(after) / name for name in names], split)


def effect(after: str | Path, split: str = "test") -> dict[str, Any]:
    """Returns the change of the score from the controls of treated runs, as `change` does from the runs before.

    A control was trained for as many updates without the treatments. Raises UserError if a run of the folder has none.
    """
    treated = runs(after)
    controls = [_control(path) for path in treated]
    return _change(controls, treated, split)


def times(folder: str | Path, what: str, stage: int = -1) -> dict[str, Any]:
    """Returns the ratio of a stage to the untreated model, by seed.

    Args:
        folder: folder of the seeds of a study.
        what: `smaller` (size on disk), `fast` (throughput in batches of 64) or `quick` (latency of one example); higher is better.
        stage: index of the row in stages.json.

    A ratio of times belongs to its machine: `machines` names the processors. If the timing of a seed was disturbed, the value is None,
    and `disturbed` lists the reasons.
    """
    values, machines, disturbed = [], set(), []
    for path in sorted(Path(folder).glob("seed_*")):
        told = json.loads((path / "stages.json").read_text())
        first, *_ = rows = told["rows"]
        row = rows[stage]
        machines.add(told.get("environment", {}).get("processor", "not recorded"))
        ratio = {
            "smaller": first["cost"]["bytes_on_disk"] / row["cost"]["bytes_on_disk"],
            "fast": row["speed"]["throughput_ratio"],
            "quick": row["speed"]["latency_ratio"],
        }
        values.append(ratio[what])
        if ratio[what] is None:
            disturbed.append(f"{path.name}: {row['speed']['timing']['disturbed']}")
    of_times = {} if what == "smaller" else {"machines": sorted(machines), "disturbed": disturbed}
    if disturbed:
        return {"value": None, "each": values, "range": None, "seeds": len(values), **of_times}
    return {"value": float(np.mean(values)), "each": values, "range": [min(values), max(values)], "seeds": len(values), **of_times}


def reaches(found: Mapping[str, Any], bar: float | None) -> bool | None:
    """Returns whether a value reaches its threshold; None without either."""
    return None if None in (bar, found["value"]) else found["value"] >= bar


def line(claim: Mapping[str, Any]) -> str:
    """Returns a claim as it is printed."""
    mark = "" if claim["held"] is None else "holds" if claim["held"] else "FALLS SHORT"
    where = f" on {', '.join(claim['machines'])}" if "machines" in claim else ""  # a ratio of times holds on its machine only
    missing = "no value" if "why" in claim else "disturbed"
    value = f"{missing:>9}" if claim["value"] is None else f"{claim['value']:>9.3f}"
    return f"{claim['claim']:<62} {value}  bar {claim['bar']}  {claim.get('why', mark)}{where}"


# -- private --------------------------------------------------------------------------------------------------------------


def _seed(path: Path) -> int:
    return int(path.name.removeprefix("seed_"))


def _seeds(*folders: str | Path) -> list[str]:
    """Returns the names of the runs, one per seed, that all folders have. Raises UserError if there are none."""
    names = [{path.name for path in runs(folder)} for folder in folders]
    common = set.intersection(*names)
    if not common:
        raise UserError(f"{', '.join(map(str, folders))} have no seed in common.")
    return sorted(common, key=lambda name: _seed(Path(name)))


def _control(workdir: Path) -> Path:
    """Returns the work directory of the control of a treated run."""
    rows = json.loads((workdir / "stages.json").read_text(encoding="utf-8"))["rows"]
    found = control_of(workdir, rows[0]["workdir"])
    if found is None or not found.workdir:
        raise UserError(f"{workdir} has no control. Treat the run with assay treat, without --control=False.")
    return Path(found.workdir)


def _no_gap(found: Paired, metric: str) -> str:
    """Returns why the second of three variants is not shown to be better than the last, or ""."""
    first, second = found.values[1:] if metric not in LOWER_IS_BETTER else found.values[:0:-1]
    gap = difference_over(first, second, found.groups, metric in RIGHT, found.weights)
    if not gap.value > 0:
        return f"the teacher is not better than the student alone ({metric}: {gap.value:+.4g})"
    if not gap.low > 0:
        span = f"{gap.low:.4g} to {gap.high:.4g}" if math.isfinite(gap.low) else "not known"
        return f"the teacher is not shown to be better than the student alone ({metric}: {gap.value:+.4g}, interval {span})"
    return ""


def _change(before: Sequence[Path], after: Sequence[Path], split: str) -> dict[str, Any]:
    """Returns the change between runs that are paired by seed and example, in points of `compare`'s difference."""
    old, new = (str(paths[0]) for paths in (before, after))
    seeds = [_seed(path) for path in after]
    pairs = {name: {seed: [path] for seed, path in zip(seeds, paths, strict=True)} for name, paths in ((old, before), (new, after))}
    found = measured(pairs, new, old, split, headline(before[0], split))
    return {
        "value": 100 * found.difference.value,
        "interval": [100 * found.difference.low, 100 * found.difference.high],
        "each": [100 * one for one in found.each],
        "n": found.n,
        "seeds": len(found.seeds),
        "before": 100 * found.baseline_value,
    }
