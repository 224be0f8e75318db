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


def runs(folder: str | Path) -> list[Path]:
    """Returns the finished runs of all seeds in a folder. Raises UserError if there are none."""
    found = [path for path in sorted(Path(folder).glob("seed_*")) if WorkDir(path).results.exists()]
    if not found:
        raise UserError(f"no finished run in {folder}. Its command was not run, or it failed.")
    return found


def recovered(teacher: str | Path, alone: str | Path, distilled: str | Path, split: str = "test") -> dict[str, Any]:
    """Returns the fraction of the teacher-student gap that distillation closes: (distilled - alone) / (teacher - alone).

    The interval is over seeds and examples, by linearization of the ratio (the delta method).
    """
    folders = (teacher, alone, distilled)
    names = _seeds(*folders)
    most, least, own = (_every(folder, names, split) for folder in folders)
    gap = float(most.mean() - least.mean())
    share = float(own.mean() - least.mean()) / gap
    residual = (own - least) - share * (most - least)
    low, high = difference_over(residual, np.zeros_like(residual), example_groups(Path(teacher) / names[0], split), False)[1:3]
    means = dict(zip(("teacher", "alone", "distilled"), (float(values.mean()) for values in (most, least, own)), strict=True))
    return {"value": share, "interval": sorted((share + low / gap, share + high / gap)), "n": own.shape[1], "seeds": len(names), **means}


def change(before: str | Path, after: str | Path, split: str = "test") -> dict[str, Any]:
    """Returns the change of the score in percentage points, paired by example and seed, with its interval over seeds and examples."""
    names = _seeds(before, after)
    first, second = (_every(folder, names, split) for folder in (after, before))
    right = headline(Path(before) / names[0], split) in RIGHT
    found = difference_over(first, second, example_groups(Path(before) / names[0], split), right)
    each = (100 * (first.mean(axis=1) - second.mean(axis=1))).tolist()
    interval, old = [100 * found.low, 100 * found.high], 100 * float(second.mean())
    return {"value": 100 * found.value, "interval": interval, "each": each, "n": first.shape[1], "seeds": len(each), "before": old}


def times(folder: str | Path, what: str, stage: int = -1) -> dict[str, Any]:
    """Returns the ratio of a stage to the untreated model, by seed.

    Args:
        folder: folder of the seeds of a study.
        what: `smaller` (size on disk), `fast` (throughput in batches of 64) or `quick` (latency of one example); higher is better.
        stage: index of the row in stages.json.
    """
    values = []
    for path in sorted(Path(folder).glob("seed_*")):
        first, *_ = rows = json.loads((path / "stages.json").read_text())["rows"]
        row = rows[stage]
        ratio = {
            "smaller": first["cost"]["bytes_on_disk"] / row["cost"]["bytes_on_disk"],
            "fast": row["speed"]["throughput_ratio"],
            "quick": row["speed"]["latency_ratio"],
        }
        values.append(ratio[what])
    return {"value": float(np.mean(values)), "each": values, "range": [min(values), max(values)], "seeds": len(values)}


# -- private --------------------------------------------------------------------------------------------------------------


def _seeds(*folders: str | Path) -> list[str]:
    """Returns the names of the runs, one per seed, that all folders have. Raises UserError if there are none."""
    names = [{path.name for path in runs(folder)} for folder in folders]
    common = sorted(set.intersection(*names))
    if not common:
        raise UserError(f"{', '.join(map(str, folders))} have no seed in common.")
    return common


def _every(folder: str | Path, names: Sequence[str], split: str) -> np.ndarray:
    """Returns the headline score of each seed and example, [seeds, examples]."""
    return np.stack([scores(Path(folder) / name, split, headline(Path(folder) / name, split)) for name in names])
