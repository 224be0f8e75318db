"""Stages whose scores have no order, told before stages.json is written."""

import math

import pytest

from assay.cli.treat import _check_scores
from assay.core.errors import UserError


def test_a_stage_without_a_finite_score_is_named():
    rows = [{"name": "untreated", "score": 0.1}, {"name": "1_quantize", "score": math.inf}, {"name": "2_prune", "score": None}]
    with pytest.raises(UserError, match="the score of 1_quantize, 2_prune on test is not finite"):
        _check_scores(rows, "test")
    _check_scores(rows[:1], "test")
