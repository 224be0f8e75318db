"""Induction heads against a search in the text of each input."""

import itertools
import math

import jax
import numpy as np
import pytest

from assay.config.schema import typed
from assay.core.errors import UserError
from assay.core.rng import example_keys
from assay.data.source import ROLES, content_hash
from assay.models.model import Output
from assay.tasks.recall.induction import DEFAULTS, SPLITS, InductionConfig, build, generate

SETTINGS = [(3, 3), (16, 3), (16, 64), (16, 257), (5, 1000)]  # vocabulary, length


def config(**changes):
    return typed(InductionConfig, {"name": "recall/induction", **DEFAULTS, **changes}, "task")


def make(seed=0, **changes):
    return build(config(**changes), seed)


def follow(tokens, vocabulary):
    """The answer, from the text: what stands between the first trigger and the rest."""
    text = " ".join(map(str, tokens))
    before, after, end = f" {text} ".split(f" {vocabulary - 1} ")
    assert end == "" and all(0 <= int(token) < vocabulary - 1 for token in (before + " " + after).split())
    return int(after.split()[0])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("vocabulary", "length"), SETTINGS)
def test_the_answer_followed_the_first_trigger(vocabulary, length, seed):
    task = make(seed, vocabulary=vocabulary, length=length)
    examples = task.source("train").fetch(np.arange(50) + 1000 * seed)
    batch = task.encode(examples, length + 2)
    assert examples.input.shape == (50, length) and (examples.input_length == length).all()
    assert (task.vocabulary.inputs, task.vocabulary.outputs) == (vocabulary, vocabulary - 1) and task.chance == 1 / (vocabulary - 1)
    for i, tokens in enumerate(examples.input.tolist()):
        answer = follow(tokens, vocabulary)
        assert examples.target[i].tolist() == [answer]
        assert batch["inputs"][i].tolist() == [*tokens, 0, 0], "the model reads the input, and no further token"
        assert np.flatnonzero(batch["mask"][i]).tolist() == [length - 1] and batch["targets"][i, length - 1] == answer
        assert batch["inputs"][i, np.flatnonzero(batch["mask"][i])[0]] == vocabulary - 1, "the answer is read at the trigger itself"
    assert (batch["length"] == length).all() and (batch["weight"] == 1).all() and task.width(length) == length


def test_lengths_in_one_batch():
    task = make()
    examples = task.source("65-80").fetch(np.arange(32))
    batch = task.encode(examples, 80)
    assert sorted(set(examples.length.tolist())) == list(range(65, 81)) and np.array_equal(batch["length"], examples.length)
    assert batch["mask"].argmax(axis=1).tolist() == (examples.length - 1).tolist()
    assert (batch["targets"][np.arange(32), examples.length - 1] == examples.target[:, 0]).all()


def test_the_score_reads_one_token():
    task = make(length=8)
    batch = task.encode(task.source("iid").fetch(np.arange(5)), 8)
    logits = np.zeros((5, 8, 15), np.float32)
    logits[:, -1] = np.eye(15)[batch["targets"][:, -1]]
    logits[2, -1] *= -1
    _, weight, metrics = task.score(Output(jax.numpy.asarray(logits), {}), batch)
    assert np.asarray(metrics["answer_accuracy"]).tolist() == [1, 1, 0, 1, 1] and np.asarray(weight).tolist() == [1.0] * 5


def test_places_tokens_and_answers_are_uniform():
    n, length, vocabulary = 24_000, 8, 5
    inputs, target, counted = generate(example_keys("uniform", 0, np.arange(n)), length, vocabulary)
    assert (counted == 1).all() and (inputs[:, -1] == vocabulary - 1).all()
    place = (inputs == vocabulary - 1).argmax(axis=1)
    ordinary = inputs[inputs != vocabulary - 1]
    for values, expected in ((place, range(length - 2)), (target[:, 0], range(vocabulary - 1)), (ordinary, range(vocabulary - 1))):
        share = 1 / len(expected)
        assert set(values.tolist()) == set(expected)
        assert all(abs((values == value).mean() - share) < 5 * math.sqrt(share * (1 - share) / len(values)) for value in expected)
    together = np.bincount(place * (vocabulary - 1) + target[:, 0], minlength=24) / n
    assert abs(together - 1 / 24).max() < 5 * math.sqrt(1 / 24 / n), "the answer does not depend on the place"


def test_no_string_is_in_two_roles():
    """5 tokens of 7 ids have 648 inputs, and are shared; 6 have 5,184: few enough that all of them are met."""
    first, second = make(0, vocabulary=7, length=6), make(1, vocabulary=7, length=6)
    sources = {"train": first.source("train"), "other": second.source("train")}
    sources |= {split: first.source(split) for split in ("valid", "iid", "6")}
    met = {}
    for name, source in sources.items():
        examples = source.fetch(np.arange(80_000))
        role = {"other": "train", "iid": "test", "6": "test"}.get(name, name)
        assert set((content_hash(examples.input) % np.uint64(8)).tolist()) <= set(ROLES[role])
        met[name] = {tuple(row) for row in examples.input.tolist()}
    assert met["train"] == met["other"] and met["iid"] == met["6"]
    assert not met["train"] & met["valid"] and not met["train"] & met["iid"] and not met["valid"] & met["iid"]
    assert len(met["train"] | met["valid"] | met["iid"]) == 4 * 6**4
    short = make(vocabulary=7, length=5)
    shared = [{tuple(row) for row in short.source(split).fetch(np.arange(20_000)).input.tolist()} for split in ("train", "iid")]
    assert shared[0] == shared[1] and len(shared[0]) == 3 * 6**3


def test_seeds_and_splits():
    first, second, indices = make(0), make(1), np.array([3, 77, 12_345])
    assert (first.source("train").fetch(indices).input != second.source("train").fetch(indices).input).any(axis=1).all()
    for split in ("valid", "iid", "512"):
        assert np.array_equal(first.source(split).fetch(indices).input, second.source(split).fetch(indices).input)
        assert np.array_equal(first.source(split).fetch(indices[1:2]).input[0], first.source(split).fetch(indices).input[1])
    drawn = [first.source(split).fetch(indices).input for split in ("train", "valid", "iid", "64")]
    drawn.append(build(InductionConfig("recall/induction", 16, 64, 5), 0).source("iid").fetch(indices).input)
    assert all((a != b).any(axis=1).all() for a, b in itertools.combinations(drawn, 2)), "splits and seeds have streams of their own"
    assert first.splits == SPLITS and make(length=256).splits == (*SPLITS[:3], *SPLITS[5:])
    for name, expected, lengths in (("512", "512", (512, 512)), ("128-128", "128", (128, 128)), ("65-128", "65-128", (65, 128))):
        source = first.source(name)
        assert (source.name, source.lengths, source.size) == (expected, lengths, None)
    assert first.source("16384").fetch(np.arange(1)).input.shape == (1, 16_384)


@pytest.mark.parametrize("split", ["test", "2", "0", "128x2", "200000", "9-4"])
def test_wrong_splits(split):
    with pytest.raises(UserError, match="split"):
        make().source(split)


@pytest.mark.parametrize(("changes", "key"), [({"vocabulary": 2}, "vocabulary"), ({"length": 2}, "length"), ({"seed": -1}, "seed")])
def test_wrong_keys(changes, key):
    with pytest.raises(UserError, match=rf"--config\.task\.{key}"):
        config(**changes)
