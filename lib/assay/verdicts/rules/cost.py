"""Rules on cost: width that is not used, and large files."""

import math
from collections.abc import Mapping
from typing import Any

from assay.verdicts.rules.generalization import GAP
from assay.verdicts.rules.rule import Facts, Found, Remedy, Rows, value

CEILING = 0.9  # score of 90 %, above which the remaining gain is in size
SURPLUS = 4.0  # ratio of width to directions in use: half of the width can be removed with a margin of two
LEAST_WIDTH = 32  # minimum width to prune
DEAD = 0.3  # fraction of hidden units that are dead
HALVING = 0.01  # value of halving the size or the operations, in score
LARGE = 1_000_000  # bytes; below this, model size is not a cost


def needlessly_wide(rows: Rows, facts: Facts) -> Found | None:
    """Detects unused width: a high score with few directions in use or many dead units."""
    score, gap = rows.get("generalisation/score"), rows.get("generalisation/train_test_gap")
    directions, dead, size = (
        rows.get(name) for name in ("optimisation health/effective_rank", "optimisation health/dead_units", "cost/parameters")
    )
    width = _width(facts.model)
    if score is None or size is None or score.unit != "fraction" or value(score) < CEILING or (gap and value(gap) >= GAP):
        return None
    surplus = width / max(value(directions), 1.0) if directions else 0.0
    silent = value(dead) if dead else 0.0
    if width < LEAST_WIDTH or (surplus < SURPLUS and silent < DEAD):
        return None
    part = "channels" if facts.kind == "images" and "filters" in facts.model else "units"
    used = f"{100 * silent:.0f} % of the hidden units are dead"
    if directions and surplus >= SURPLUS:
        used = f"only {value(directions):.0f} of {width} representation dimensions are in use"
    return Found(
        HALVING * (1 + math.log2(max(surplus, 1.0))) if surplus >= SURPLUS else 2 * HALVING,
        f"the score is {100 * value(score):.1f} %, and {used}",
        "cost/parameters",
        "lower",
        size.unit,
        [Remedy(f"prune:{part}=0.5", 0.15 * value(size)), Remedy("distill:student=small", 0.4 * value(size))],
    )


def large(rows: Rows, facts: Facts) -> Found | None:
    """Detects large parameter files: 8-bit parameters take a quarter of the size of float32."""
    size = rows.get("cost/bytes_on_disk")
    if size is None or value(size) < LARGE:
        return None
    return Found(
        2 * HALVING,  # a quarter of the size
        f"the parameters occupy {value(size) / 1e6:.1f} MB on disk",
        "cost/bytes_on_disk",
        "lower",
        size.unit,
        [Remedy("quantize:int8", 0.5 * value(size))],
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _width(model: Mapping[str, Any]) -> int:
    """Returns the number of features of the last representation."""
    if model["name"] == "cnn":
        return int(model["dense"] or model["filters"][-1])
    factor = {"resnet": 4, "bilstm": 2}.get(model["name"], 1)
    return factor * int(model.get("width", 0))
