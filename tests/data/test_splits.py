"""The split rules: random access, even lengths, no string in two splits, fresh training data, one test set for all runs."""

import numpy as np
import pytest

from assay.data.loader import bucket_ends, bucket_of, stacked, uniform_lengths
from assay.data.source import ROLES, SHARED_BELOW_BITS, content_hash
from assay.tasks.formal.chomsky_rules import RULES
from assay.tasks.table import TASKS, build

NAMES = sorted(name for name in TASKS if name.startswith("chomsky/"))


def make(name, seed=0, **changes):
    return build({"name": name, **TASKS[name].defaults, **changes}, seed)


def strings(examples):
    return [tuple(row[:length].tolist()) for row, length in zip(examples.input, examples.input_length, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_the_same_alone_and_in_a_batch(name):
    for split in ("train", "iid", "41-500"):
        source = make(name).source(split)
        indices = np.array([5, 1017, 3, 99, 12_345_678])
        together = source.fetch(indices)
        for i, index in enumerate(indices):
            alone = source.fetch(np.array([index]))
            assert strings(alone)[0] == strings(together)[i]
            assert alone.target[0, : alone.target_length[0]].tolist() == together.target[i, : together.target_length[i]].tolist()
            assert alone.length[0] == together.length[i] == source.length_of(indices)[i]


@pytest.mark.parametrize("name", NAMES)
def test_a_string_that_is_drawn_again_does_not_depend_on_its_neighbours(name):
    """Rows of one length, most of which meet a string of another role first."""
    source = make(name).source("41-500")
    indices = source.index_of(np.arange(12), 60)
    together = strings(source.fetch(indices))
    assert [strings(source.fetch(indices[i : i + 1]))[0] for i in range(12)] == together
    assert strings(source.fetch(indices[::-1])) == together[::-1]


def test_enumerating_walks_through_the_lengths_evenly():
    source = make("chomsky/parity_check").source("41-500")
    lengths = source.fetch(np.arange(920)).length
    assert np.bincount(lengths)[41:501].tolist() == [2] * 460
    assert source.length_of(source.index_of(np.arange(4), 77)).tolist() == [77] * 4


@pytest.mark.parametrize("name", NAMES)
def test_no_string_is_in_two_splits_where_there_are_enough(name):
    rule, task = RULES["code"][name.removeprefix("chomsky/")], make(name)
    large = [length for length in range(1, 41) if rule.log2_inputs(length) > SHARED_BELOW_BITS]
    length = large[0] if large else 60
    seen = {}
    for split, role in (("train", "train"), ("valid", "valid"), ("iid", "test"), (f"{length}-{length}", "test")):
        source = task.source(split) if large or "-" in split else make(name, lengths=f"{length}:{length}").source(split)
        examples = source.fetch(source.index_of(np.arange(100), length))
        hashes = content_hash(examples.input[:, : examples.input_length[0]])
        assert set((hashes % np.uint64(8)).tolist()) <= set(ROLES[role])
        seen[split] = set(strings(examples))
    assert not seen["train"] & (seen["valid"] | seen["iid"]) and not seen["valid"] & seen["iid"]


def test_roles_share_no_string_and_lose_none(monkeypatch):
    """A partition of so few strings that every one of them is met: chance alone could not keep the splits apart here."""
    monkeypatch.setattr("assay.data.source.SHARED_BELOW_BITS", 5)
    first, second = (make("chomsky/parity_check", seed, lengths="8:8") for seed in (0, 1))
    sources = {"train": first.source("train"), "other": second.source("train"), "valid": first.source("valid"), "iid": first.source("iid")}
    met = {name: set(strings(source.fetch(np.arange(3000)))) for name, source in sources.items()}
    assert met["train"] == met["other"]
    assert not met["train"] & met["valid"] and not met["train"] & met["iid"] and not met["valid"] & met["iid"]
    assert len(met["train"] | met["valid"] | met["iid"]) == 2**8


def test_short_strings_are_not_partitioned():
    source = make("chomsky/parity_check").source("iid")
    assert set(strings(source.fetch(source.index_of(np.arange(50), 1)))) == {(0,), (1,)}


def test_the_seed_changes_training_and_nothing_else():
    first, second = make("chomsky/parity_check", 0), make("chomsky/parity_check", 1)
    indices = np.arange(30, 40)
    assert strings(first.source("train").fetch(indices)) != strings(second.source("train").fetch(indices))
    for split in ("valid", "iid", "41-500"):
        assert strings(first.source(split).fetch(indices)) == strings(second.source(split).fetch(indices))


def test_splits_have_streams_of_their_own():
    task = make("chomsky/bucket_sort")
    found = [
        tuple(strings(task.source(split).fetch(task.source(split).index_of(np.arange(8), 12))))
        for split in ("train", "valid", "iid", "1-40")
    ]
    assert len(set(found)) == 4


def test_buckets():
    assert bucket_ends((1, 40), 2) == [20, 40]
    assert bucket_ends((41, 500), 4)[-1] == 500
    assert bucket_ends((3, 4), 9) == [3, 4]
    ends = bucket_ends((7, 500), 5)
    assert [bucket_of(length, ends) >= length for length in range(7, 501)] == [True] * 494


def test_sampler_draws_one_length_a_batch_evenly_and_no_index_twice():
    source = make("chomsky/parity_check").source("train")
    ends, block, size = bucket_ends(source.lengths, 2), 5, 16
    sample = uniform_lengths(source, 0, size, ends, block)
    used, lengths = set(), []
    for step in range(4000):
        indices = sample(step)
        found = set(source.length_of(indices).tolist())
        assert len(indices) == size and len(found) == 1
        lengths.append(found.pop())
        used |= set(indices.tolist())
    assert len(used) == 4000 * size
    buckets = np.array([bucket_of(length, ends) for length in lengths]).reshape(-1, block)
    assert (buckets == buckets[:, :1]).all(), "the steps of a block share a bucket"
    counts = np.bincount(lengths, minlength=41)[1:]
    assert counts.min() > 50 and counts.max() < 170  # 100 expected; blocks of 5 make the spread 2 to 3 times binomial


def test_stacked_batches_have_one_shape_a_bucket():
    task = make("chomsky/reverse_string")
    source = task.source("train")
    ends = bucket_ends(source.lengths, 3)
    sample = uniform_lengths(source, 0, 4, ends, 2)
    shapes = {stacked(source, sample, task.encode, task.width, ends, step, 2, 2)["inputs"].shape for step in range(0, 200, 2)}
    assert shapes == {(2, 4, task.width(end)) for end in ends}


def test_a_partial_call_repeats_its_last_batch():
    task = make("chomsky/parity_check")
    source = task.source("train")
    ends = bucket_ends(source.lengths, 1)
    sample = uniform_lengths(source, 0, 4, ends, 4)
    full, part = (stacked(source, sample, task.encode, task.width, ends, 8, count, 4) for count in (4, 2))
    for name in full:
        assert (full[name][:2] == part[name][:2]).all() and (part[name][3] == part[name][1]).all()
