"""What a subject knows of its run: the examples that training had, and training anew."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from assay.config.generated import chomsky
from assay.core.errors import UserError
from assay.data.loader import counted, sampler
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


def test_of_a_run_shorter_than_an_epoch_only_what_it_drew(subject):
    drawn = [np.array([0, 3]), np.array([5, 19 + 20])]  # 39 is example 19 in the second epoch
    short = replace(subject, run=Run({}, (), 2, drawn=lambda: iter(drawn)))
    assert np.array_equal(short.members("train"), np.isin(short.places("train"), [0, 3, 5, 19])) and short.members("train").any()
    half = np.arange(20) < 4
    both = replace(subject, run=Run({}, (), 2, half, lambda: iter(drawn)))
    assert np.array_equal(both.members("train"), np.isin(both.places("train"), [0, 3]))


def test_of_endless_examples_those_that_the_steps_drew():
    def apply(params, batch, *, key=None, train=False, edits=None):
        return Output(jnp.zeros((*batch["inputs"].shape, 2)) + params["zero"], {})

    parity = build(chomsky("parity_check").to_dict(), 0)
    subject = Subject(Model(lambda key, batch: {}, apply), {"zero": jnp.zeros(())}, parity, "iid", examples=80)
    source = parity.source("train")
    with pytest.raises(UserError, match=r"Run\.drawn"):
        subject.members("train")
    sample = sampler(source, 0, 4, [40], 1)
    known = replace(subject, run=Run({}, (), 0))
    for steps in (0, 1, 30):
        parts = [counted(sample, step) for step in range(steps)]
        known = replace(known, run=Run({}, (), steps, drawn=lambda parts=parts: iter(parts)))
        used = {tuple(source.describe(source.fetch(part), i)["input"]) for part in parts for i in range(len(part))}
        for split in ("train", "iid"):
            inputs = [tuple(record["input"]) for record in known.answers(split).records]
            assert known.members(split).tolist() == [one in used for one in inputs]
    assert known.members("train").any() and known.members("iid").any(), "one bit is in every split"
    assert not known.members("train").all() and not known.members("iid").all()
