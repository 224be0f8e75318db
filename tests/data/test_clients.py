"""Federated clients: every example has one, the skew is as asked, and no split depends on the order of the examples."""

import numpy as np
import pytest
from labelled import INDICES, LABELS, ORDER, N, counts

from assay.core.errors import UserError
from assay.data.clients import by_label, by_quantity, by_shards, with_test


@pytest.mark.parametrize("concentration", [0.01, 0.5, 100.0, float("inf")])
def test_clients_partition_the_examples(concentration):
    found = by_label(INDICES, LABELS, 6, concentration, 0)
    assert sorted(np.concatenate(found).tolist()) == sorted(INDICES.tolist())
    assert min(map(len, found)) >= 1
    for one, again in zip(found, by_label(INDICES[ORDER], LABELS[ORDER], 6, concentration, 0), strict=True):
        assert one.tolist() == again.tolist()
    if concentration > 1e6:
        assert np.ptp(np.array([counts(one) for one in found]), axis=0).max() <= 1


def test_lower_concentration_is_more_skew_and_shares_are_dirichlet():
    labels = np.repeat(np.arange(5), 2000)
    skew, variance = [], []
    for concentration in (0.05, 0.5, 5.0, 500.0):
        shares = []
        for seed in range(30):
            table = np.array([np.bincount(labels[one], minlength=5) for one in by_label(np.arange(10_000), labels, 4, concentration, seed)])
            shares.append(table / 2000)
        skew.append(np.mean([table.max(axis=0).mean() for table in shares]))
        variance.append((np.var(shares), 0.25 * 0.75 / (4 * concentration + 1)))
    assert skew == sorted(skew, reverse=True)
    for found, expected in variance:
        assert found == pytest.approx(expected, rel=0.25)


def test_impossible_clients_are_named():
    for arguments, match in {(0, 1.0): "0 clients", (3, 0.0): "concentration 0.0", (N + 1, 1.0): f"{N} examples"}.items():
        with pytest.raises(UserError, match=match):
            by_label(INDICES, LABELS, *arguments, 0)
    with pytest.raises(UserError, match="none of 100 draws"):
        by_label(INDICES, LABELS, 100, 0.001, 0)


def test_equal_shares_serve_as_many_clients_as_there_are_examples():
    for labels in (np.arange(718) % 10, np.arange(718), np.repeat([0, 1], [1, 717])):
        assert {len(one) for one in by_label(np.arange(718), labels, 718, float("inf"), 0)} == {1}
        assert {len(one) for one in by_label(np.arange(718), labels, 300, float("inf"), 0, 2)} == {2, 3}


@pytest.mark.parametrize("concentration", [0.1, 1.0, float("inf")])
def test_many_clients_of_a_small_set_are_all_served(concentration):
    """A hundred clients of 718 examples have fewer of each class than one, and every class is rounded from an offset of its own."""
    indices, labels = np.arange(718), np.arange(718) % 10
    for seed in range(3):
        found = by_label(indices, labels, 100, concentration, seed)
        sizes = np.array([len(one) for one in found])
        assert np.array_equal(np.sort(np.concatenate(found)), indices) and sizes.min() >= 1
        assert np.std(sizes) < (3 if concentration > 1 else 8), "no client has all that others lack"
        if concentration > 1:
            places = [np.flatnonzero([(labels[one] == label).any() for one in found]) for label in range(10)]
            assert len({tuple(place) for place in places}) > 5, "classes leave out other clients"
    least = 3 if concentration >= 1 else 1
    assert min(map(len, by_label(indices, labels, 100, concentration, 0, least))) >= least


def test_shards_are_pathological():
    """600 examples of each of ten digits over 100 clients in 200 shards of 30, as in McMahan et al.: most clients have two digits."""
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10), 600))
    found = by_shards(np.arange(6000), labels, 100, 0)
    assert {len(one) for one in found} == {60} and np.array_equal(np.sort(np.concatenate(found)), np.arange(6000))
    classes = [len(np.unique(labels[one])) for one in found]
    assert set(classes) == {1, 2} and np.mean(classes) > 1.8
    assert any(not np.array_equal(one, other) for one, other in zip(found, by_shards(np.arange(6000), labels, 100, 1), strict=True))


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards_serve_every_example_and_differ_by_one(shards):
    found = by_shards(INDICES, LABELS, 7, 0, shards)
    assert sorted(np.concatenate(found).tolist()) == sorted(INDICES.tolist())
    assert np.ptp([len(one) for one in found]) <= shards
    for one, again in zip(found, by_shards(INDICES[ORDER], LABELS[ORDER], 7, 0, shards), strict=True):
        assert one.tolist() == again.tolist()
    with pytest.raises(UserError, match=f"{N} clients with 2 shards"):
        by_shards(INDICES, LABELS, N, 0)


def test_quantities_are_skewed_and_labels_are_not():
    indices = np.arange(20_000)
    labels = indices % 5
    spread = []
    for concentration in (0.1, 1.0, 50.0, float("inf")):
        sizes = []
        for seed in range(20):
            found = by_quantity(indices, 10, concentration, seed, smallest=5)
            assert np.array_equal(np.sort(np.concatenate(found)), indices) and min(map(len, found)) >= 5
            sizes.append([len(one) for one in found])
            shares = [np.bincount(labels[one], minlength=5) / len(one) for one in found if len(one) > 1000]
            assert np.abs(np.array(shares) - 0.2).max() < 0.06
        spread.append(np.var(np.array(sizes) / len(indices)))
    assert spread[-1] == 0
    for found, concentration in zip(spread, (0.1, 1.0, 50.0), strict=False):
        assert found == pytest.approx(0.1 * 0.9 / (10 * concentration + 1), rel=0.35), "the variance of Dirichlet shares"
    for one, again in zip(by_quantity(INDICES, 6, 0.5, 3), by_quantity(INDICES[ORDER], 6, 0.5, 3), strict=True):
        assert one.tolist() == again.tolist()
    with pytest.raises(UserError, match="300 clients of at least 1"):
        by_quantity(INDICES, 300, 1.0, 0)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
def test_each_client_has_a_test_part_of_its_own(share):
    parts = [*by_label(INDICES, LABELS, 5, 0.3, 0), INDICES[:1], INDICES[:2], INDICES[:0]]
    for part, (train, held) in zip(parts, with_test(parts, share, 0), strict=True):
        assert sorted([*train, *held]) == sorted(part.tolist())
        assert len(train) >= min(1, len(part)) and (len(held) >= 1 or len(part) < 2)
        assert abs(len(held) - share * len(part)) <= 1
    alone = with_test(parts[:1], share, 0)[0]
    assert alone.held_out.tolist() == with_test(parts, share, 0)[0].held_out.tolist()
    with pytest.raises(UserError, match="share of 1"):
        with_test(parts, 1, 0)
