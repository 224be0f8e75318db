"""Associative recall against a dictionary that reads each input from the left; its sampler against the paper's law, worked out by hand."""

import itertools
import math
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

from assay.config.schema import typed
from assay.core.errors import UserError
from assay.core.rng import example_keys
from assay.data.source import ROLES, content_hash
from assay.models.model import Output
from assay.tasks.recall.mqar import DEFAULTS, GRID, SPLITS, A, MQARConfig, build, generate
from assay.tasks.sequence import answer_inside

SETTINGS = [(8, 2, 8), (8, 3, 13), (64, 4, 64), (8192, 4, 64), (257, 64, 512)]  # vocabulary, pairs, length


def make(seed=0, **changes):
    return build(typed(MQARConfig, {"name": "recall/mqar", **DEFAULTS, **changes}, "task"), seed)


def recall(tokens, pairs, vocabulary):
    """Place and answer of each query. Asserts that the input is well formed."""
    memory, asked, first_value = {}, [], vocabulary // 2
    for place in range(pairs):
        key, value = tokens[2 * place], tokens[2 * place + 1]
        assert 1 <= key < first_value <= value < vocabulary and key not in memory
        memory[key] = value
    assert len(set(memory.values())) == pairs
    for place in range(2 * pairs, len(tokens)):
        if tokens[place]:
            assert place % 2 == 0, "keys return at even places"
            asked.append((place, memory.pop(tokens[place]) - first_value))  # and once each
    assert not memory
    return asked


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("vocabulary", "pairs", "length"), SETTINGS)
def test_targets_stand_where_a_dictionary_finds_them(vocabulary, pairs, length, seed):
    task = make(seed, vocabulary=vocabulary, pairs=pairs, length=length)
    source = task.source("train")
    examples = source.fetch(np.arange(40) + 1000 * seed)
    batch = task.encode(examples, length + 3)
    assert task.vocabulary.inputs == vocabulary == len(task.symbols) and task.vocabulary.outputs == len(task.classes)
    assert task.chance == 1 / task.vocabulary.outputs and (batch["length"] == length).all()
    for i in range(40):
        tokens = batch["inputs"][i].tolist()
        asked = recall(tokens[:length], pairs, vocabulary)
        assert np.flatnonzero(batch["mask"][i]).tolist() == [place for place, _ in asked] and tokens[length:] == [0, 0, 0]
        answers = [value for _, value in asked]
        assert batch["targets"][i][batch["mask"][i] > 0].tolist() == answers == source.describe(examples, i)["target"]
        assert batch["targets"][i].sum() == sum(answers), "nothing is asked elsewhere"
        assert [task.symbols[tokens[place]][0] for place, _ in asked] == ["k"] * pairs
        assert {task.classes[answer] for answer in answers} <= {task.symbols[token] for token in tokens[1 : 2 * pairs : 2]}


def test_the_layout_takes_any_places_and_lengths():
    task = make(vocabulary=64)
    parts = [task.source("128x8").fetch(np.arange(2)), task.source("20x2").fetch(np.arange(1))]
    longest = [np.pad(part.input, ((0, 0), (0, 128 - part.input.shape[1]))) for part in parts]
    targets = [np.pad(part.target, ((0, 0), (0, 8 - part.target.shape[1]))) for part in parts]
    joined = parts[0]._replace(input=np.concatenate(longest), target=np.concatenate(targets))
    joined = joined._replace(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in ("id", "input_length", "target_length")}
    )
    batch = task.encode(joined, 128)
    assert batch["mask"].sum(axis=1).tolist() == [8, 8, 2] and batch["length"].tolist() == [128, 128, 20]
    assert batch["targets"][2][batch["mask"][2] > 0].tolist() == parts[1].target[0].tolist()
    first = answer_inside(parts[1], 20, np.arange(20)[None, :] < 2)
    assert first["targets"][0, :3].tolist() == [*parts[1].target[0].tolist(), 0]


def test_the_score_counts_queries_alone():
    task = make()
    batch = task.encode(task.source("iid").fetch(np.arange(6)), 64)
    perfect = np.eye(task.vocabulary.outputs, dtype=np.float32)[batch["targets"]] * 9.0
    perfect[batch["mask"] == 0] = np.random.default_rng(0).normal(size=task.vocabulary.outputs)
    perfect[3, np.flatnonzero(batch["mask"][3])[0]] *= -1
    _, weight, metrics = task.score(Output(jnp.asarray(perfect), {}), batch)
    assert np.asarray(metrics["exact_match"]).tolist() == [1, 1, 1, 0, 1, 1] and np.asarray(weight).tolist() == [4.0] * 6
    np.testing.assert_allclose(metrics["token_accuracy"], [1, 1, 1, 0.75, 1, 1], atol=1e-6)


def assert_close(counts, expected, n):
    """Each frequency within five standard deviations; nothing that is not expected."""
    assert set(counts) <= set(expected)
    for case, share in expected.items():
        assert abs(counts[case] / n - share) < 5 * math.sqrt(share * (1 - share) / n), (case, counts[case] / n, share)


def test_keys_return_by_the_papers_law():
    """Two pairs in 12 tokens: 4 places to return to, drawn one after the other without replacement."""
    n, pairs, space = 40_000, 2, 4
    inputs, _, _ = generate(example_keys("law", 0, np.arange(n)), 2 * pairs + 2 * space, pairs, 16)
    tokens = inputs[:, 2 * pairs :: 2]
    first, second = ((tokens == inputs[:, [place]]).argmax(axis=1) for place in (0, 2))
    p = [A * x ** (A - 1) for x in range(1, space + 1)]
    p = [share / sum(p) for share in p]
    expected = {(i, j): p[i] * p[j] / (1 - p[i]) for i, j in itertools.permutations(range(space), 2)}
    assert sum(expected.values()) == pytest.approx(1)
    assert_close(Counter(zip(first.tolist(), second.tolist(), strict=True)), expected, n)


def test_keys_and_values_are_uniform_and_without_replacement():
    n = 30_000
    inputs, _, _ = generate(example_keys("uniform", 0, np.arange(n)), 8, 2, 9)  # keys 1 to 3, values 4 to 8
    for first, values in ((0, range(1, 4)), (1, range(4, 9))):
        pairs = Counter(zip(inputs[:, first].tolist(), inputs[:, first + 2].tolist(), strict=True))
        ordered = list(itertools.permutations(values, 2))
        assert_close(pairs, dict.fromkeys(ordered, 1 / len(ordered)), n)
    joint = Counter(zip(inputs[:, 0].tolist(), inputs[:, 1].tolist(), strict=True))
    assert_close(joint, {(k, v): 1 / 15 for k in range(1, 4) for v in range(4, 9)}, n)


def test_no_string_is_in_two_roles():
    """Two pairs of 3 keys and 4 values in 16 tokens: 2,160 strings, so few that every split meets nearly all of its own."""
    tasks = [make(seed, vocabulary=8, pairs=2, length=16) for seed in (0, 1)]
    sources = {"train": tasks[0].source("train"), "other": tasks[1].source("train")}
    sources |= {split: tasks[0].source(split) for split in ("valid", "iid", "16x2")}
    met = {}
    for name, source in sources.items():
        examples = source.fetch(np.arange(3000))
        role = {"other": "train", "iid": "test", "16x2": "test"}.get(name, name)
        assert set((content_hash(examples.input) % np.uint64(8)).tolist()) <= set(ROLES[role])
        met[name] = {tuple(row) for row in examples.input.tolist()}
    assert not met["train"] & (met["valid"] | met["iid"] | met["16x2"]) and not met["valid"] & met["iid"]
    assert len(met["train"] & met["other"]) > 100, "seeds share strings of training, by necessity"


def test_seeds_and_splits():
    first, second, indices = make(0), make(1), np.array([3, 77, 12_345])
    assert (first.source("train").fetch(indices).input != second.source("train").fetch(indices).input).any(axis=1).all()
    for split in ("valid", "iid", "256x16"):
        assert np.array_equal(first.source(split).fetch(indices).input, second.source(split).fetch(indices).input)
        alone = first.source(split).fetch(indices[1:2])
        assert np.array_equal(alone.input[0], first.source(split).fetch(indices).input[1])
    drawn = [first.source(split).fetch(indices).input for split in ("train", "valid", "iid", "64x4")]
    drawn.append(build(MQARConfig("recall/mqar", 256, 4, 64, 5), 0).source("iid").fetch(indices).input)
    assert all((a != b).any(axis=1).all() for a, b in itertools.combinations(drawn, 2)), "splits and seeds have streams of their own"
    assert first.splits == SPLITS and SPLITS[3:] == tuple(f"{length}x{pairs}" for length, pairs in GRID[1:])
    assert make(vocabulary=40).splits == ("train", "valid", "iid", "128x8", "256x16"), "those that the vocabulary has keys for"
    assert make(pairs=16, length=256).splits == ("train", "valid", "iid", "512x64")
    source = first.source("0256x16")
    assert (source.name, source.lengths, source.size) == ("256x16", (256, 256), None) and first.width(256) == 256
    assert first.published == ()


@pytest.mark.parametrize("split", ["test", "256", "41-500", "x16", "16x5", "64x0", "200000x4", "1024x128"])
def test_wrong_splits(split):
    with pytest.raises(UserError, match="--split"):
        make().source(split)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"pairs": 0}, "pairs"),
        ({"length": 15}, "length"),
        ({"length": 200_000}, "length"),
        ({"vocabulary": 9}, "vocabulary"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_keys(changes, key):
    with pytest.raises(UserError, match=rf"--config\.task\.{key}"):
        typed(MQARConfig, {"name": "recall/mqar", **DEFAULTS, **changes}, "task")
    assert make(vocabulary=10, pairs=4, length=16).source("train").fetch(np.arange(3)).input.shape == (3, 16), (
        "the smallest that are possible"
    )
