"""What a subject knows of its run: the examples that training had, and training anew."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from assay.config.generated import chomsky
from assay.core.errors import UserError
from assay.diagnostics.bring import bring
from assay.diagnostics.subject import Run, Subject
from assay.models.model import Model, Output
from assay.tasks.table import build

LABELS = np.arange(20) % 2
INPUTS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def apply(params, batch):
    return batch["inputs"] @ params["kernel"]


def trained(seed, members):
    """Least squares on the members alone: what `again` is, in a line."""
    targets = np.eye(2)[LABELS[members]] + 1e-3 * np.random.default_rng(seed).normal(size=(int(members.sum()), 2))
    return {"kernel": jnp.asarray(np.linalg.lstsq(INPUTS[members], targets, rcond=None)[0], jnp.float32)}


@pytest.fixture
def subject():
    every = np.ones(20, bool)
    data = {"train": (INPUTS, LABELS), "test": (INPUTS[:8] + 1, LABELS[:8])}
    return replace(bring(apply, trained(0, every), data, examples=12), again=trained)


def test_a_brought_model_was_trained_on_train(subject):
    assert subject.run is None
    assert subject.members("train").tolist() == [True] * 12 and subject.members("test").tolist() == [False] * 8
    assert subject.places("train").tolist() == np.linspace(0, 19, 12).round().astype(int).tolist()


def test_a_part_of_the_training_examples(subject):
    members = np.arange(20) % 3 == 0
    run = Run({"train": {"batch_size": 4}}, (), 100, members)
    shadow = replace(subject, params=subject.again(7, members), run=run, asked={})
    assert np.array_equal(shadow.members("train"), members[shadow.places("train")]) and shadow.members("train").any()
    assert not shadow.members("test").any()
    loss = shadow.answers("train").columns["loss"]
    assert len(loss) == len(shadow.members("train")), "a column and its members are of the same examples"
    assert not np.array_equal(shadow.params["kernel"], subject.again(8, members)["kernel"]), "another seed"


def test_of_endless_examples_those_that_the_steps_have_come_to():
    def apply(params, batch, *, key=None, train=False, edits=None):
        return Output(jnp.zeros((*batch["inputs"].shape, 2)) + params["zero"], {})

    parity = build(chomsky("parity_check").to_dict(), 0)
    subject = Subject(Model(lambda key, batch: {}, apply), {"zero": jnp.zeros(())}, parity, "iid", examples=80)
    first, last = parity.source("train").lengths
    with pytest.raises(UserError, match="number of steps"):
        subject.members("train")
    assert subject.places("train").max() // (last - first + 1) == 1, "two of each length"
    for steps, share in ((0, 0.0), (1, 0.5), (2, 1.0)):
        asked = replace(subject, run=Run({"train": {"batch_size": 1}}, (), steps))
        assert asked.members("train").mean() == share and not asked.members("iid").any()
