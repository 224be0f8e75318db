"""The test over seeds and examples: how often it calls two recipes different that are not, and what it needs."""

import math

import numpy as np
import pytest

from assay.core.means import spread, units_of
from assay.core.seeds import two_levels


def runs(random, seeds, n, groups=None, by_seed=0.3):
    """Returns right and wrong answers of one recipe, [seeds, n]: examples differ in difficulty, and seeds in skill."""
    easy = random.normal(1.5, 1.5, n) if groups is None else random.normal(1.0, 1.0, groups.max() + 1)[groups]
    return [(random.random((seeds, n)) < 1 / (1 + np.exp(-(easy + random.normal(0, by_seed, seeds)[:, None])))).astype(float) for _ in "ab"]


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(24), [4, 28] * 12)], ids=["examples", "groups"])
def test_the_same_recipe_is_rarely_called_different(seeds, groups):
    """A test over the examples alone rejects in .33 of cases."""
    random, rejected, alone = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        one, other = runs(random, seeds, 384, groups)
        rejected += two_levels(one - other, groups).p_value < 0.05
        error, _ = spread(units_of((one - other).mean(axis=0)))
        alone += abs((one - other).mean()) > 1.96 * error
    assert rejected / 1000 <= 0.07
    assert groups is not None or alone / 1000 > 0.15, "a test of the examples would not notice"


def test_a_difference_of_all_seeds_is_found():
    random = np.random.default_rng(0)
    one, other = runs(random, 5, 512)
    better = np.maximum(one, random.random(one.shape) < 0.7)
    found = two_levels(better - other)
    assert found.p_value < 0.01 and 0 < found.low < found.value < found.high
    assert found.value == pytest.approx((better - other).mean())
    wider = two_levels(better - other, confidence=0.99)
    assert wider.low < found.low and wider.high > found.high


def test_it_is_students_over_seeds_where_examples_do_not_vary():
    by_seed = np.array([0.1, 0.3, 0.2])
    found = two_levels(np.repeat(by_seed[:, None], 400, axis=1))
    half = 4.302653 * by_seed.std(ddof=1) / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half), rel=1e-4)


def test_few_examples_prove_nothing_and_two_of_each_are_needed():
    for n, exact in ((2, 0.5), (3, 0.25), (5, 0.0625)):
        found = two_levels(np.ones((3, n)), largest=1.0)
        assert found.p_value == exact and found.low < 1 == found.high, "no difference of fractions is above 1"
    still = two_levels(np.zeros((3, 50)))
    assert (still.value, still.p_value) == (0, 1) and math.isnan(still.low), "nothing varies"
    assert two_levels(np.zeros((3, 50)), largest=1.0).high > 0.03
    whole, tenth = (two_levels(np.full((2, 50), size)) for size in (1.0, 0.1))
    assert tenth.p_value == whole.p_value > 1e-5 and math.isnan(tenth.low), "a tenth has no exact mean, but does not vary either"
    for delta, groups in ((np.ones((1, 5)), None), (np.ones((3, 1)), None), (np.ones((2, 4)), [0] * 4)):
        with pytest.raises(ValueError, match="at least two"):
            two_levels(delta, groups)
    with pytest.raises(ValueError, match="finite"):
        two_levels(np.full((2, 3), np.nan))
