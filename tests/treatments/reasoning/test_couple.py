"""Position coupling: batches say the places, training moves each example by one number below the span, `reverse` goes before or after."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.core.errors import UserError
from assay.models.model import Model, Output
from assay.tasks.puzzles import addition, path_star
from assay.train.objective import supervised
from assay.train.treatment import compose
from assay.treatments.reasoning.couple import couple, moved
from assay.treatments.reasoning.reverse import reverse

SPAN = 12


def add(pad: bool = True):
    return addition.build(addition.AdditionConfig("addition", "1:5", pad, False, 0), 0)


def batch_of(task, count: int = 30, extra: int = 0):
    examples = task.source("train").fetch(np.arange(count))
    return examples, task.encode(examples, task.width(5) + extra)


def test_batches_have_the_positions_that_the_task_says_and_are_otherwise_the_same():
    task = add()
    examples, plain = batch_of(task)
    _, batch = batch_of(couple(SPAN).task(task))
    assert set(batch) - set(plain) == {"places"} and all((batch[name] == plain[name]).all() for name in plain)
    assert batch["places"].dtype == np.int32 and (batch["places"] == task.couples(examples, task.width(5))).all()
    toy = dataclasses.replace(task, couples=lambda examples, width: np.full((len(examples.id), width), 3))
    assert (batch_of(couple(4).task(toy))[1]["places"] == 3).all(), "whatever the task says"


@pytest.mark.parametrize("extra", [0, 4])
def test_with_reverse_in_either_order_digits_of_one_place_share_a_position(extra):
    task = add()
    first, second = (compose(pair).task(task) for pair in ([reverse(), couple(SPAN)], [couple(SPAN), reverse()]))
    examples, batch = batch_of(first, extra=extra)
    other_examples, other = batch_of(second, extra=extra)
    assert (examples.target == other_examples.target).all() and set(batch) == set(other)
    assert all((batch[name] == other[name]).all() for name in batch)
    for row, places, n in zip(batch["inputs"], batch["places"], examples.length.tolist(), strict=True):
        digits = [int(token) for token in row[:n]], [int(token) for token in row[n + 1 : 2 * n + 1]]
        total, by_place = str(int("".join(map(str, digits[0]))) + int("".join(map(str, digits[1])))).zfill(n + 1), {}
        for j in range(n):
            by_place[int(places[j])] = n - 1 - j
            assert places[j] == places[n + 1 + j]
        for j in range(n):  # the digits of the sum that are read again: all but the last, which is the highest
            written = int(row[2 * n + 2 + j]) - task.answer_to_input
            assert written == int(total[n - by_place[int(places[2 * n + 2 + j])]]), "the digit of its place"
        assert places[n] == places[2 * n + 1] == n + 2


def test_reversed_twice_is_as_it_was():
    task = add()
    twice = compose([reverse(), reverse(), couple(SPAN)]).task(task)
    assert (batch_of(twice, extra=2)[1]["places"][:, : task.width(5)] == batch_of(couple(SPAN).task(task))[1]["places"]).all()


def test_one_random_number_an_example_is_added_and_all_stay_below_the_span():
    _, batch = batch_of(couple(SPAN).task(add()), 2000, extra=3)
    places = batch["places"]
    found = np.asarray(moved(jax.random.key(0), jnp.asarray(places), SPAN))
    assert ((found == 0) == (places == 0)).all() and found.max() == SPAN - 1 and found.min() == 0
    shift = np.where(places > 0, found - places, -1).max(axis=1)
    assert (found == np.where(places > 0, places + shift[:, None], 0)).all(), "one number for the whole example"
    for last in np.unique(places.max(axis=1)):
        rows = places.max(axis=1) == last
        counts = np.bincount(shift[rows], minlength=SPAN - last)
        assert len(counts) == SPAN - last and (np.abs(counts / rows.sum() - 1 / len(counts)) < 0.06).all(), "from 0, evenly"
    assert (np.asarray(moved(jax.random.key(1), jnp.asarray(places), SPAN)) != found).any()
    tight = int(places.max()) + 1
    rows = places.max(axis=1) == places.max()
    assert (np.asarray(moved(jax.random.key(1), jnp.asarray(places[rows]), tight)) == places[rows]).all(), "no room, no move"


def test_training_moves_the_places_and_evaluation_does_not():
    treatment = couple(SPAN)
    task = treatment.task(add())
    _, batch = batch_of(task)

    def apply(params, batch, *, key=None, train=False, edits=None):
        seen.append(np.asarray(batch["places"]))
        return Output(jnp.zeros((*batch["inputs"].shape, task.vocabulary.outputs)), {})

    model, seen = Model(lambda key, batch: {}, apply), []
    objective = treatment.objective(supervised(task.score))
    for seed in (0, 0, 1):
        objective.loss(model, {"model": {}}, batch, jax.random.key(seed), jnp.int32(0))
    model.apply({}, batch)
    assert (seen[0] == seen[1]).all() and (seen[0] != seen[2]).any(), "the step's key decides"
    assert (seen[3] == batch["places"]).all() and (seen[0] != batch["places"]).any()


def test_mistakes_name_the_treatment():
    with pytest.raises(UserError, match=r"span=1.*config.treatments"):
        couple(1)
    for task in (add(False), path_star.build(path_star.PathStarConfig("path_star", 2, 3, 9, 9, 9, 0), 0)):
        with pytest.raises(UserError, match=r"'couple' does not apply.*task.pad=True.*config.treatments"):
            couple().task(task)
    narrow = couple(7).task(add())  # five digits have positions up to 7
    with pytest.raises(UserError, match=r"span=7.*up to 7.*config.treatments"):
        batch_of(narrow)
    batch_of(couple(8).task(add()))
