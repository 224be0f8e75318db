"""The loader: a pure function of the step. Every example once an epoch, whatever the buckets; processes share a batch out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.loader import CHUNK, bucket_ends, epochs, sampler, stacked
from assay.data.source import Examples, Source, in_memory, padded


def split(size: int, longest: int, name: str = "train") -> Source:
    """Texts of random lengths up to `longest`; the first token of an example is its id."""
    lengths = np.random.default_rng(size).integers(1, longest + 1, size)
    tokens, lengths = padded([[i, *range(1, length)] for i, length in enumerate(lengths)])
    ones = np.ones(size, np.int64)
    return in_memory(name, Examples(np.arange(size), lengths, tokens, lengths, tokens[:, :1] % 2, ones, ones))


def encode(examples: Examples, width: int) -> dict[str, np.ndarray]:
    inputs = np.zeros((len(examples.id), width), np.int32)
    shown = min(width, examples.input.shape[1])
    inputs[:, :shown] = examples.input[:, :shown]
    assert (examples.input_length <= width).all()
    return {"id": examples.id, "inputs": inputs, "length": examples.input_length}


def seen(source: Source, sample, steps: int) -> np.ndarray:
    return np.concatenate([sample(step) for step in range(steps)]) if steps else np.zeros(0, np.int64)


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 150), st.integers(1, 12), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))
def test_every_example_once_an_epoch(size, longest, batch_size, buckets, block):
    source = split(size, longest)
    ends = bucket_ends(source.lengths, buckets)
    sample = epochs(source, 0, batch_size, ends, block)
    drawn = seen(source, sample, -(-3 * size // batch_size))[: 3 * size].reshape(3, size)
    for epoch, indices in enumerate(drawn):
        assert np.array_equal(np.sort(indices), np.arange(size) + epoch * size)
        assert np.array_equal(np.sort(source.fetch(indices).input[:, 0]), np.arange(size)), "index i + size is example i again"
    if size > 20:
        assert not np.array_equal(drawn[0], drawn[1] - size), "another order in each epoch"


@pytest.mark.parametrize("buckets", [1, 3])
def test_the_order_is_a_function_of_the_seed_and_the_step(buckets):
    source = split(200, 12)
    ends = bucket_ends(source.lengths, buckets)
    first, again, other = (sampler(source, seed, 8, ends, 2) for seed in (0, 0, 1))
    assert np.array_equal(seen(source, first, 60), seen(source, again, 60))
    assert not np.array_equal(seen(source, first, 20), seen(source, other, 20))
    backwards = [sampler(source, 0, 8, ends, 2)(step) for step in reversed(range(60))]
    assert np.array_equal(np.concatenate(backwards[::-1]), seen(source, first, 60)), "in any order, from any start"
    named = sampler(split(200, 12, "other"), 0, 8, ends, 2)
    assert not np.array_equal(seen(source, named, 20), seen(source, first, 20))


@pytest.mark.parametrize("buckets", [1, 3])
def test_a_run_goes_on_in_the_middle_of_an_epoch(buckets):
    source = split(100, 12)
    ends = bucket_ends(source.lengths, buckets)
    whole = epochs(source, 3, 8, ends, 4)
    wanted = stacked(source, whole, encode, lambda length: length, ends, 0, 4, 4)
    for start in (1, 2, 3):
        rest = stacked(source, epochs(source, 3, 8, ends, 4), encode, lambda length: length, ends, start, 4 - start, 4)
        for step in range(4 - start):
            n = min(rest["inputs"].shape[2], wanted["inputs"].shape[2])
            assert np.array_equal(rest["id"][step], wanted["id"][start + step])
            assert np.array_equal(rest["inputs"][step, :, :n], wanted["inputs"][start + step, :, :n])
        assert all(np.array_equal(rest[name][-1], rest[name][3 - start]) for name in rest), "the rest repeats the last step"
        assert all(len(array) == 4 for array in rest.values()), "the shape of a full call"


def test_the_examples_of_a_call_share_a_bucket():
    source = split(16 * CHUNK * 2, 12)
    ends = bucket_ends(source.lengths, 3)
    sample = epochs(source, 0, 8, ends, 2)
    bucket = np.searchsorted(
        ends, source.length_of(np.stack([np.concatenate([sample(2 * call), sample(2 * call + 1)]) for call in range(32)]))
    )
    mixed = (bucket != bucket[:, :1]).any(axis=1)
    assert mixed.sum() <= 4, "two borders in each chunk of sorted calls"
    assert len(np.unique(bucket[:, 0])) == 3 and not (np.diff(bucket[:, 0]) >= 0).all(), "short and long calls take turns"


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_share_a_batch_out(count):
    source = split(100, 12)
    ends = bucket_ends(source.lengths, 3)
    sample = epochs(source, 0, 8, ends, 2)
    rows = [slice(8 * index // count, 8 * (index + 1) // count) for index in range(count)]
    for start in range(0, 24, 2):
        parts = [stacked(source, sample, encode, lambda length: length, ends, start, 2, 2, part) for part in rows]
        whole = stacked(source, sample, encode, lambda length: length, ends, start, 2, 2)
        for name, array in whole.items():
            assert {part[name].shape[2:] for part in parts} == {array.shape[2:]}, "as wide as the whole batch's longest example"
            assert np.array_equal(np.concatenate([part[name] for part in parts], axis=1), array)


def test_widths_are_those_of_buckets():
    source = split(100, 12)
    ends = bucket_ends(source.lengths, 3)
    assert ends == [4, 8, 12]
    sample = epochs(source, 0, 8, ends, 1)
    for step in range(12):
        made = stacked(source, sample, encode, lambda length: length, ends, step, 1, 1)
        longest = int(made["length"].max())
        assert made["inputs"].shape[2] == next(end for end in ends if longest <= end)
