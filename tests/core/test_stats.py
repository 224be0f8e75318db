"""Intervals against closed forms and known values."""

import numpy as np
import pytest

from assay.core.stats import over_seeds, wilson


def test_wilson_known_values():
    assert wilson(1.0, 10) == pytest.approx((0.72247, 1.0), abs=1e-5)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert wilson(0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)


def test_wilson_solves_its_equation():
    """Both ends are where the mean lies z standard errors away."""
    z = 1.959963984540054
    for mean, n in ((0.3, 7), (0.97, 1000), (0.51, 3680)):
        for end in wilson(mean, n):
            assert abs(mean - end) == pytest.approx(z * np.sqrt(end * (1 - end) / n), rel=1e-9)


def test_wilson_needs_an_example():
    with pytest.raises(ValueError, match="n=0"):
        wilson(0.5, 0)


def test_over_seeds_uses_students_t():
    values = [0.4, 0.5, 0.6]  # mean 0.5, standard deviation 0.1, t(2) = 4.302653
    assert over_seeds(values) == pytest.approx((0.5 - 4.302653 * 0.1 / np.sqrt(3), 0.5 + 4.302653 * 0.1 / np.sqrt(3)), abs=1e-6)
    assert over_seeds([0.7]) is None
    assert over_seeds([0.9, 1.0])[1] == 1.0
