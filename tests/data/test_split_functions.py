"""Split functions: each index where it belongs, nested subsets, random access to episodes, and no dependence on the order of the input."""

import numpy as np
import pytest
from labelled import INDICES, LABEL_OF, LABELS, ORDER, RANDOM, N, counts
from sklearn.model_selection import KFold, StratifiedKFold

from assay.core.errors import UserError
from assay.data.split import episodes, group_split, k_fold, label_fraction, labels_per_class, n_labels, shuffled


@pytest.mark.parametrize("folds", [2, 5, 7, N])
@pytest.mark.parametrize("labels", [None, LABELS], ids=["plain", "stratified"])
def test_folds_keep_scikit_learns_promise(folds, labels):
    found = k_fold(INDICES, folds, 0, labels)
    assert sorted(np.concatenate([fold.held_out for fold in found]).tolist()) == sorted(INDICES.tolist())
    for fold in found:
        assert sorted([*fold.train, *fold.held_out]) == sorted(INDICES.tolist())
    sizes = sorted(len(fold.held_out) for fold in found)
    assert sizes == sorted(len(test) for _, test in KFold(folds).split(INDICES))
    if labels is not None and folds <= counts(INDICES).min():
        of_class = np.array([counts(fold.held_out) for fold in found])
        reference = np.array([counts(INDICES[test]) for _, test in StratifiedKFold(folds).split(INDICES, LABELS)])
        assert (np.sort(of_class, axis=0) == np.sort(reference, axis=0)).all()


def test_folds_are_a_function_of_the_seed_and_of_each_index():
    first = [set(fold.held_out.tolist()) for fold in k_fold(INDICES, 5, 0, LABELS)]
    assert first == [set(fold.held_out.tolist()) for fold in k_fold(INDICES[ORDER], 5, 0, LABELS[ORDER])]
    assert first != [set(fold.held_out.tolist()) for fold in k_fold(INDICES, 5, 1, LABELS)]
    assert shuffled(INDICES, 3).tolist() == shuffled(INDICES[ORDER], 3).tolist() != shuffled(INDICES, 4).tolist()
    part = INDICES[:50]
    assert [i for i in shuffled(INDICES, 3).tolist() if i in part] == shuffled(part, 3).tolist()
    for wrong in (1, N + 1):
        with pytest.raises(UserError, match=f"{wrong} folds of {N}"):
            k_fold(INDICES, wrong, 0)


def test_label_subsets_are_nested_and_each_class_is_less_than_one_from_its_share():
    before, total = set(), counts(INDICES)
    for count in range(1, N + 1):
        found = n_labels(INDICES, LABELS, count, 0)
        assert len(found) == len(set(found.tolist())) == count
        assert before <= set(found.tolist())
        assert (np.abs(counts(found) - total * count / N) < 1).all()
        before = set(found.tolist())
    assert n_labels(INDICES, LABELS, 50, 0).tolist() == n_labels(INDICES[ORDER], LABELS[ORDER], 50, 0).tolist()
    assert n_labels(INDICES, LABELS, 50, 0).tolist() != n_labels(INDICES, LABELS, 50, 1).tolist()


def test_one_large_class_does_not_crowd_out_many_small_ones():
    labels = np.array([0] * 1000 + list(range(1, 101)))
    for count in (11, 110, 500, 550, 777):
        found = n_labels(np.arange(1100), labels, count, 0)
        assert abs((labels[found] == 0).sum() - 1000 * count / 1100) < 1


def test_fractions_and_labels_per_class():
    assert len(label_fraction(INDICES, LABELS, 0.1, 0)) == 20
    assert len(label_fraction(INDICES, LABELS, 1e-6, 0)) == 1
    assert set(label_fraction(INDICES, LABELS, 0.1, 0).tolist()) <= set(label_fraction(INDICES, LABELS, 0.2, 0).tolist())
    assert label_fraction(INDICES, LABELS, 1.0, 0).tolist() == sorted(INDICES.tolist())
    few, more = labels_per_class(INDICES, LABELS, 2, 0), labels_per_class(INDICES, LABELS, 5, 0)
    assert counts(few).tolist() == [2] * 4 and counts(more).tolist() == [5] * 4 and set(few.tolist()) <= set(more.tolist())
    for call, match in {
        lambda: n_labels(INDICES, LABELS, 0, 0): "0 labels",
        lambda: n_labels(INDICES, LABELS, N + 1, 0): f"at most the {N}",
        lambda: labels_per_class(INDICES, LABELS, 100, 0): "100 labels of each class",
        lambda: label_fraction(INDICES, LABELS, 1.5, 0): "share of 1.5",
    }.items():
        with pytest.raises(UserError, match=match):
            call()
    with pytest.raises(ValueError, match="0 labels for 0"):
        labels_per_class(INDICES[:0], LABELS[:0], 1, 0)


def test_every_example_is_chosen_as_often():
    taken = np.zeros(40)
    for seed in range(600):
        taken[n_labels(np.arange(40), np.arange(40) % 2, 10, seed)] += 1
    assert taken.mean() == 150 and np.abs(taken - 150).max() < 4.5 * np.sqrt(600 * 0.25 * 0.75)


def test_groups_stay_whole():
    groups = np.array([f"file_{i}.py" for i in RANDOM.integers(0, 40, N)])
    for labels in (None, np.array([name[-4] for name in groups])):  # a class is the last digit of the file's number
        train, held = group_split(INDICES, groups, 0.25, 0, labels)
        of = dict(zip(INDICES.tolist(), groups.tolist(), strict=True))
        assert sorted([*train, *held]) == sorted(INDICES.tolist())
        assert not {of[i] for i in train.tolist()} & {of[i] for i in held.tolist()}
        assert len(held) / N == pytest.approx(0.25, abs=0.1 if labels is not None else 0.02)
        again = group_split(INDICES[ORDER], groups[ORDER], 0.25, 0, None if labels is None else labels[ORDER])
        assert set(again[1].tolist()) == set(held.tolist())
        assert set(group_split(INDICES, groups, 0.25, 1, labels)[1].tolist()) != set(held.tolist())
    _, held = group_split(INDICES, groups, 0.01, 0, least=4)
    assert len({of[i] for i in held.tolist()}) == 4
    train, held = group_split(np.arange(9), np.array([0, 0, 0, 0, 0, 0, 0, 1, 1]), 0.9, 0)
    assert len(train) and len(held), "one group is left for each side"
    with pytest.raises(UserError, match="1 groups of class b"):
        group_split(np.arange(3), np.array([0, 1, 2]), 0.5, 0, np.array(["a", "a", "b"]))
    with pytest.raises(UserError, match="share of 1"):
        group_split(INDICES, groups, 1.0, 0)


def test_an_episode_alone_is_the_episode_of_a_batch():
    numbers = np.array([5, 0, 12_345, 7])
    together = episodes(INDICES, LABELS, 3, 2, 3, 0, numbers)
    assert (together.classes.shape, together.support.shape, together.query.shape) == ((4, 3), (4, 3, 2), (4, 3, 3))
    for i in range(4):
        alone = episodes(INDICES[ORDER], LABELS[ORDER], 3, 2, 3, 0, numbers[i : i + 1])
        for part, whole in zip(alone, together, strict=True):
            assert part[0].tolist() == whole[i].tolist()
    assert not np.array_equal(episodes(INDICES, LABELS, 3, 2, 3, 1, numbers).support, together.support)


def test_episodes_hold_different_examples_of_their_classes():
    found = episodes(INDICES, LABELS, 3, 2, 3, 0, np.arange(300))
    for classes, support, query in zip(*found, strict=True):
        assert len(set(classes.tolist())) == 3
        both = np.concatenate([support, query], axis=1)
        assert len(set(both.ravel().tolist())) == 15, "support and query are disjoint"
        assert [{LABEL_OF[i] for i in row} for row in both.tolist()] == [{name} for name in classes.tolist()]
    share = np.unique(found.classes, return_counts=True)[1] / 300
    assert share == pytest.approx(np.full(4, 0.75), abs=0.1)


def test_draws_of_an_episode_are_uniform():
    """Five examples, two shots, two queries: each of the 20 ordered pairs of a support is as likely, and each leaves the query even."""
    found = episodes(np.arange(5), np.zeros(5, int), 1, 2, 2, 0, np.arange(8000))
    pairs = np.unique(found.support[:, 0], axis=0, return_counts=True)
    assert len(pairs[1]) == 20 and np.abs(pairs[1] - 400).max() < 5 * np.sqrt(400)
    last = np.bincount(found.query[:, 0, 1], minlength=5)
    assert np.abs(last - 1600).max() < 5 * np.sqrt(1600)


def test_the_classes_of_an_episode_draw_on_their_own():
    found = episodes(np.arange(100), np.repeat(np.arange(5), 20), 2, 1, 0, 0, np.arange(400))
    assert (found.support[:, 0, 0] % 20 == found.support[:, 1, 0] % 20).mean() < 0.12


def test_small_classes_are_left_out_and_too_few_are_an_error():
    least = int(counts(INDICES).min())
    found = episodes(INDICES, LABELS, 3, least, 1, 0, np.arange(50))
    assert np.unique(LABELS)[counts(INDICES).argmin()] not in found.classes
    for arguments, match in (((4, least, 1), "3 have them"), ((0, 1, 1), "0 ways"), ((2, 0, 1), "0 shots"), ((2, 1, -1), "-1 queries")):
        with pytest.raises(UserError, match=match):
            episodes(INDICES, LABELS, *arguments, 0, np.arange(2))
