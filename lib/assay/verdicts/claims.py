"""Measurements that test claims about treatments on finished runs: each returns a value with its interval or range over seeds.

Runs of several seeds are paired by example. Scores are means over seeds, and intervals resample examples, or whole groups of examples.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import UserError
from assay.core.stats import bootstrap, paired_bootstrap
from assay.train.workdir import WorkDir
from assay.verdicts.comparison import example_groups, headline, scores

RESAMPLES = 10_000


def runs(folder: str | Path) -> list[Path]:
    """Returns the finished runs of all seeds in a folder. Raises UserError if there are none."""
    found = [path for path in sorted(Path(folder).glob("seed_*")) if WorkDir(path).results.exists()]
    if not found:
        raise UserError(f"no finished run in {folder}. Its command was not run, or it failed.")
    return found


def over_seeds(folder: str | Path, split: str) -> np.ndarray:
    """Returns the headline score of each example, averaged over seeds: [examples]."""
    every = runs(folder)
    return np.mean([scores(path, split, headline(every[0], split)) for path in every], axis=0)


def recovered(teacher: str | Path, alone: str | Path, distilled: str | Path, split: str = "test") -> dict[str, Any]:
    """Returns the fraction of the teacher-student gap that distillation closes: (distilled - alone) / (teacher - alone)."""
    every = [over_seeds(folder, split) for folder in (teacher, alone, distilled)]

    def share(teacher: np.ndarray, alone: np.ndarray, distilled: np.ndarray) -> float:
        return float((distilled.mean() - alone.mean()) / (teacher.mean() - alone.mean()))

    found = bootstrap(share, *every, groups=example_groups(runs(teacher)[0], split), resamples=RESAMPLES)
    means = dict(zip(("teacher", "alone", "distilled"), (float(values.mean()) for values in every), strict=True))
    return {"value": found.value, "interval": [found.low, found.high], "n": len(every[0]), "seeds": len(runs(teacher)), **means}


def change(before: str | Path, after: str | Path, split: str = "test") -> dict[str, Any]:
    """Returns the change of the score in percentage points, paired by example and seed."""
    first, second = over_seeds(after, split), over_seeds(before, split)
    found = paired_bootstrap(first, second, example_groups(runs(before)[0], split), resamples=RESAMPLES)
    means = [[float(scores(path, split, headline(path, split)).mean()) for path in pair] for pair in _pairs(before, after)]
    each = [100 * (new - old) for new, old in means]
    interval, old = [100 * found.low, 100 * found.high], 100 * float(second.mean())
    return {"value": 100 * found.value, "interval": interval, "each": each, "n": len(first), "seeds": len(each), "before": old}


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


def _pairs(before: str | Path, after: str | Path) -> Sequence[tuple[Path, Path]]:
    """Returns (after, before) for each seed that both have."""
    first = {path.name: path for path in runs(before)}
    return [(path, first[path.name]) for path in runs(after) if path.name in first]
