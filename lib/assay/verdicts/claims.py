"""Measurements that test claims about treatments on finished runs: each returns a value with its interval or range over seeds.

Runs are paired by seed and example, and intervals are over both; over examples alone where there is a single seed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import UserError
from assay.evals.rows import RIGHT
from assay.train.workdir import WorkDir
from assay.verdicts.comparison import difference_over, example_groups, headline, scores
from assay.verdicts.control import control_of


def runs(folder: str | Path) -> list[Path]:
    """Returns the finished runs of all seeds in a folder. Raises UserError if there are none."""
    found = [path for path in sorted(Path(folder).glob("seed_*")) if WorkDir(path).results.exists()]
    if not found:
        raise UserError(f"no finished run in {folder}. Its command was not run, or it failed.")
    return found


def recovered(teacher: str | Path, alone: str | Path, distilled: str | Path, split: str = "test") -> dict[str, Any]:
    """Returns the fraction of the teacher-student gap that distillation closes: (distilled - alone) / (teacher - alone).

    The interval is over seeds and examples, by linearization of the ratio (the delta method). Raises UserError without a gap.
    """
    folders = (teacher, alone, distilled)
    names = _seeds(*folders)
    most, least, own = (_every([Path(folder) / name for name in names], split) for folder in folders)
    gap = float(most.mean() - least.mean())
    if not gap:
        raise UserError(f"{teacher} and {alone} have the same score, so there is no gap to close. Name another teacher or student.")
    share = float(own.mean() - least.mean()) / gap
    residual = (own - least) - share * (most - least)
    low, high = difference_over(residual, np.zeros_like(residual), example_groups(Path(teacher) / names[0], split), False)[1:3]
    means = dict(zip(("teacher", "alone", "distilled"), (float(values.mean()) for values in (most, least, own)), strict=True))
    return {"value": share, "interval": sorted((share + low / gap, share + high / gap)), "n": own.shape[1], "seeds": len(names), **means}


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


# -- private --------------------------------------------------------------------------------------------------------------


def _seeds(*folders: str | Path) -> list[str]:
    """Returns the names of the runs, one per seed, that all folders have. Raises UserError if there are none."""
    names = [{path.name for path in runs(folder)} for folder in folders]
    common = sorted(set.intersection(*names))
    if not common:
        raise UserError(f"{', '.join(map(str, folders))} have no seed in common.")
    return common


def _control(workdir: Path) -> Path:
    """Returns the work directory of the control of a treated run."""
    rows = json.loads((workdir / "stages.json").read_text(encoding="utf-8"))["rows"]
    found = control_of(workdir, rows[0]["workdir"])
    if found is None or not found.workdir:
        raise UserError(f"{workdir} has no control. Treat the run with assay treat, without --control=False.")
    return Path(found.workdir)


def _change(before: Sequence[Path], after: Sequence[Path], split: str) -> dict[str, Any]:
    """Returns the change between runs that are paired by seed and example."""
    first, second = (_every(paths, split) for paths in (after, before))
    right = headline(before[0], split) in RIGHT
    found = difference_over(first, second, example_groups(before[0], split), right)
    each = (100 * (first.mean(axis=1) - second.mean(axis=1))).tolist()
    interval, old = [100 * found.low, 100 * found.high], 100 * float(second.mean())
    return {"value": 100 * found.value, "interval": interval, "each": each, "n": first.shape[1], "seeds": len(each), "before": old}


def _every(paths: Sequence[Path], split: str) -> np.ndarray:
    """Returns the headline score of each run and example, [runs, examples]."""
    return np.stack([scores(path, split, headline(path, split)) for path in paths])
