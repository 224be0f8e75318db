"""Remedies for reasoning that change what is asked or when: supervision of states, a curriculum by length."""

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.tasks.table import TASKS, build
from assay.treatments.pipeline.load import treatments
from assay.treatments.reasoning.curriculum import curriculum, growing, longest
from assay.treatments.reasoning.supervise import supervise


def task_of(name: str):
    return build({**TASKS[name].defaults, "name": name}, 0)


def test_supervised_states_are_those_after_each_input_token():
    task = task_of("chomsky/parity_check")
    treated = supervise(0.5).task(task)
    source = task.source("train")
    examples = source.fetch(np.arange(30))
    plain, asked = task.encode(examples, task.width(40)), treated.encode(examples, task.width(40))
    np.testing.assert_array_equal(plain["inputs"], asked["inputs"])
    for row, length in enumerate(examples.input_length):
        bits = examples.input[row, :length]
        np.testing.assert_array_equal(asked["targets"][row, :length], np.cumsum(bits) % 2)
        np.testing.assert_array_equal(asked["mask"][row, :length], 0.5)
        assert asked["targets"][row, length] == bits.sum() % 2 and asked["mask"][row, length] == 1
        assert not asked["mask"][row, length + 1 :].any()


def test_what_is_measured_is_the_untreated_answer():
    import jax
    import jax.numpy as jnp

    from assay.models.model import Output

    task = task_of("chomsky/cycle_navigation")
    treated = supervise().task(task)
    examples = task.source("iid").fetch(np.arange(40))
    logits = jax.random.normal(jax.random.key(0), (40, task.width(40), 5))
    batches = [{name: jnp.asarray(array) for name, array in one.encode(examples, task.width(40)).items()} for one in (task, treated)]
    scores = [one.score(Output(logits, {}), batch) for one, batch in zip((task, treated), batches, strict=True)]
    np.testing.assert_array_equal(scores[0][2]["answer_accuracy"], scores[1][2]["answer_accuracy"])
    assert np.abs(np.asarray(scores[0][0] - scores[1][0])).max() > 0.1, "the loss is another"


def test_a_curriculum_grows_and_ends_where_training_is():
    task = task_of("chomsky/parity_check")
    source = growing(task.source("train"), 1000, 0.25)
    plain = task.source("train")
    lengths = np.arange(1, 41)
    seen = lambda ordinal: np.array([source.length_of(source.index_of(np.array([ordinal]), int(n)))[0] for n in lengths])  # noqa: E731
    assert seen(0).max() == 11 and seen(500).max() == 25 and set(np.unique(seen(0))) == set(range(1, 12)), "evenly, from the shortest"
    counts = np.bincount(seen(500))[1:]
    assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(seen(1000), lengths)
    np.testing.assert_array_equal(source.index_of(np.arange(990, 1010), 40)[10:], plain.index_of(np.arange(1000, 1010), 40))
    assert longest(np.array([0, 10**9]), 1, 40, 10, 1.0).tolist() == [40, 40]
    mixed = source.index_of(np.arange(1100), 40)
    assert len(np.unique(mixed)) == 1100, "no example comes twice"


def test_other_splits_are_left_alone():
    task = task_of("chomsky/parity_check")
    treated = curriculum(1000).task(task)
    for split in ("iid", "valid", "41-500"):
        np.testing.assert_array_equal(
            treated.source(split).index_of(np.arange(5), 41 if split[0] == "4" else 7),
            task.source(split).index_of(np.arange(5), 41 if split[0] == "4" else 7),
        )


@pytest.mark.parametrize(
    ("spec", "name", "words"),
    [
        ("supervise", "chomsky/reverse_string", "'supervise' does not apply to chomsky/reverse_string"),
        ("curriculum:examples=10", "scan/length", "'curriculum' needs an unlimited split"),
        ("curriculum:examples=0", "chomsky/parity_check", "examples=0"),
        ("curriculum:examples=5,start=0", "chomsky/parity_check", "start=0"),
        ("supervise:weight=2", "chomsky/parity_check", "weight=2"),
        ("curriculum", "recall/induction", "has length 64"),
    ],
)
def test_mistakes_are_named(spec, name, words):
    with pytest.raises(UserError, match=words):
        treatments([spec])[0].task(task_of(name)).source("train")
