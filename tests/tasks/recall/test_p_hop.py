"""p-hop induction against hops that are followed one by one from the definition, by both readings of "before"."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from assay.config.schema import typed
from assay.core.errors import UserError
from assay.core.rng import example_keys
from assay.data.source import ROLES, content_hash
from assay.evals.rows import rows
from assay.models.families import label
from assay.tasks.recall.p_hop import DEFAULTS, SPLITS, PHopConfig, build, generate, published

SETTINGS = [
    (1, 3, 3),
    (1, 4, 9),
    (2, 4, 5),
    (3, 3, 20),
    (4, 4, 64),
    (16, 4, 256),
    (32, 4, 256),
    (24, 7, 60),
    (127, 4, 256),
]  # hops, alphabet, length


def config(**changes):
    return typed(PHopConfig, {"name": "recall/p_hop", **DEFAULTS, **changes}, "task")


def make(seed=0, **changes):
    return build(config(**changes), seed)


def trace(tokens, hops, itself):
    """The places after each hop, by the definition. `itself`: whether a place may hop to itself where its own symbol stands before it."""
    places = [len(tokens) - 1]
    for _ in range(hops):
        here = places[-1]
        places.append(max(j for j in range(1, here + itself) if tokens[j - 1] == tokens[here]))  # ValueError where there is no such hop
    return places


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("hops", "alphabet", "length"), SETTINGS)
def test_the_answer_is_where_the_hops_end(hops, alphabet, length, seed):
    task = make(seed, hops=hops, alphabet=alphabet, length=length)
    examples = task.source("train").fetch(np.arange(60) + 1000 * seed)
    batch = task.encode(examples, length + 2)
    assert examples.input.shape == (60, length) and examples.input.min() >= 0 and examples.input.max() < alphabet
    assert (task.vocabulary.inputs, task.vocabulary.outputs, task.chance) == (alphabet, alphabet, 1 / alphabet)
    for i, tokens in enumerate(examples.input.tolist()):
        places = trace(tokens, hops, False)
        assert places == trace(tokens, hops, True) and len(set(places)) == hops + 1
        assert examples.target[i].tolist() == [tokens[places[-1]]]
        assert np.flatnonzero(batch["mask"][i]).tolist() == [length - 1] and batch["targets"][i, length - 1] == tokens[places[-1]]
        assert batch["inputs"][i].tolist() == [*tokens, 0, 0]
    assert (batch["length"] == length).all() and task.width(length) == length


def test_every_input_that_the_construction_allows_is_drawn_as_often_as_it_should_be():
    """2 hops in 7 tokens of 3 symbols: all strings are listed, and their probabilities follow from the construction as it is described."""
    n, hops, alphabet, length = 60_000, 2, 3, 7
    expected = {}
    for tokens in itertools.product(range(alphabet), repeat=length):
        try:
            places = trace(tokens, hops, False)
        except ValueError:
            continue
        apart = places == trace(tokens, hops, True) and all(a - b >= 2 for a, b in itertools.pairwise(places[1:]))
        changing = all(tokens[a] != tokens[b] for a, b in itertools.pairwise(places))
        if apart and changing:
            left = places[-1] - 1  # tokens left of all places, and of what the last hop found
            expected[tokens] = 1 / 6 / alphabet / alphabet**left / (alphabet - 1) ** (length - 1 - hops - left)  # 6: choices of places
    assert sum(expected.values()) == pytest.approx(1) and len(expected) > 100
    inputs, _, counted = generate(example_keys("all", 0, np.arange(n)), length, hops, alphabet)
    assert (counted == 1).all()
    counts = Counter(map(tuple, inputs.tolist()))
    assert set(counts) == set(expected), "each string that it allows, and no other"
    for tokens, share in expected.items():
        assert abs(counts[tokens] / n - share) < 5 * math.sqrt(share / n), (tokens, counts[tokens] / n, share)


def test_answers_cannot_be_guessed():
    """At 16 hops: neither overall, nor from the last symbol, nor by taking fewer hops."""
    hops, n = 16, 2000
    inputs, target, _ = generate(example_keys("guess", 0, np.arange(n)), 256, hops, 4)
    bound = 5 * math.sqrt(0.25 * 0.75 / n)
    assert abs(np.bincount(target[:, 0], minlength=4) / n - 0.25).max() < bound
    assert abs((inputs[:, -1] == target[:, 0]).mean() - 0.25) < bound
    reached = np.array([[tokens[place] for place in trace(tokens, hops, False)] for tokens in inputs.tolist()])
    assert (reached[:, -2] != reached[:, -1]).all()
    assert abs((reached[:, -6] == target[:, 0]).mean() - 0.25) < bound, "five hops short"


def test_no_string_is_in_two_roles():
    """2 hops in 9 tokens of 3 symbols: few enough that every split meets nearly all of its strings."""
    first, second = (make(seed, hops=2, alphabet=3, length=9) for seed in (0, 1))
    sources = {"train": first.source("train"), "other": second.source("train")}
    sources |= {split: first.source(split) for split in ("valid", "iid", "9", "hops-2")}
    met = {}
    for name, source in sources.items():
        examples = source.fetch(np.arange(20_000))
        role = name if name in ROLES else {"other": "train"}.get(name, "test")
        assert set((content_hash(examples.input) % np.uint64(8)).tolist()) <= set(ROLES[role])
        met[name] = {tuple(row) for row in examples.input.tolist()}
    assert met["iid"] == met["9"] == met["hops-2"]
    assert not met["train"] & met["valid"] and not met["train"] & met["iid"] and not met["valid"] & met["iid"]


def test_seeds_and_splits():
    first, second, indices = make(0), make(1), np.array([3, 77, 12_345])
    assert (first.source("train").fetch(indices).input != second.source("train").fetch(indices).input).any(axis=1).all()
    for split in ("valid", "iid", "128", "hops-8"):
        assert np.array_equal(first.source(split).fetch(indices).input, second.source(split).fetch(indices).input)
        assert np.array_equal(first.source(split).fetch(indices[1:2]).input[0], first.source(split).fetch(indices).input[1])
    assert first.splits == SPLITS and make(hops=20, length=64).splits == ("train", "valid", "iid", "128"), "40 hops need 81 tokens"
    for name, hops, length in (("100", 4, 100), ("hops-1", 1, 64), ("hops-031", 31, 64)):
        source = first.source(name)
        assert (source.name, source.lengths, source.size) == (name.replace("-0", "-"), (length, length), None)
        examples = source.fetch(np.arange(10))
        assert [tokens[trace(tokens, hops, False)[-1]] for tokens in examples.input.tolist()] == examples.target[:, 0].tolist()


@pytest.mark.parametrize("split", ["test", "hops", "hops-0", "hops-32", "8", "41-500", "200000"])
def test_wrong_splits(split):
    with pytest.raises(UserError, match="--split"):
        make().source(split)


@pytest.mark.parametrize(
    ("changes", "key"), [({"alphabet": 2}, "alphabet"), ({"hops": 0}, "hops"), ({"length": 8}, "length"), ({"seed": -1}, "seed")]
)
def test_wrong_keys(changes, key):
    with pytest.raises(UserError, match=rf"--config\.task\.{key}"):
        config(**changes)


def test_published_cells_stand_beside_their_own_settings_only():
    paper = {"length": 256, "hops": 16}
    assert published(config()) == published(config(**paper, alphabet=8)) == published(config(length=256, hops=8)) == ()
    assert make(**paper).published == published(config(**paper))
    record = {"input": [0], "target": [1], "length": 256, "scores": {"answer_accuracy": 1.0}}

    def beside(**model) -> list[float]:
        labels = {"experiment": "e", "model": label(model), "treatment": "none", "seed": 0, "steps": 1, "settings": model}
        return [cell["value"] for cell in rows([record] * 2, make(**paper), "iid", labels, False)[0]["published"]]

    assert beside(name="decoder", depth=1, loops=6, positions="rotary") == [0.999]
    assert beside(name="decoder", depth=1, loops=1, positions="rotary") == [0.489]
    assert beside(name="decoder", depth=1, loops=6, positions="none") == beside(name="decoder", depth=4, loops=1, positions="rotary") == []
    assert beside(name="lstm", depth=1) == []
    for hops in (16, 32):
        cells = published(config(length=256, hops=hops))
        assert len(cells) == 7 and all(cell.tag == "V" and "2502.17416" in cell.source and cell.split == "iid" for cell in cells)
