"""Addition against Python's own, and its splits: disjoint, even where they say so, with places that the digits of one place share."""

import math
from functools import partial

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.core.rng import example_keys
from assay.tasks.puzzles import addition
from assay.tasks.task import text

ROWS = 150


def make(run_seed: int = 0, **changes):
    return addition.build(addition.AdditionConfig("addition", **{**addition.DEFAULTS, **changes}), run_seed)


def strings(task, split: str, length: int, count: int = ROWS) -> list[tuple[str, str]]:
    """Question and answer as people write them, spaces left out."""
    source = task.source(split)
    examples = source.fetch(source.index_of(np.arange(count), length))
    shown = [source.describe(examples, i) for i in range(count)]
    return [
        (text(one["input"], task.symbols).replace(" ", ""), "".join(str(task.classes[token]) for token in one["target"])) for one in shown
    ]


def carries(a: str, b: str) -> int:
    """How many carries the schoolbook sum has: each takes 9 from the sum of all digits."""
    digits = sum(map(int, a + b)) - sum(map(int, str(int(a) + int(b))))
    return digits // 9


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 30])
def test_padded_sums_are_those_of_python(length, balanced):
    task = make(lengths="1:30", balanced=balanced)
    for split in ("train", "iid"):
        for question, answer in strings(task, split, length):
            a, b = question.split("+")
            assert len(a) == len(b) == length and answer == f"{int(a) + int(b):0{length + 1}d}"


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 30])
def test_natural_sums_are_those_of_python(length, balanced):
    task = make(lengths="1:30", pad=False, balanced=balanced)
    for question, answer in strings(task, "train", length):
        a, b = question.split("+")
        assert str(int(a)) == a and str(int(b)) == b and len(a) == len(b) == length
        assert answer == f"{int(a) + int(b)}END"


@pytest.mark.parametrize("pad", [False, True])
def test_the_layout_is_a_prompt_and_an_answer_that_the_model_writes(pad):
    task = make(lengths="1:4", pad=pad)
    source = task.source("train")
    examples = source.fetch(np.arange(40))
    width = task.width(4) + 2
    batch = task.encode(examples, width)
    empty, first = addition.INPUTS, task.answer_to_input
    for i in range(40):
        n, count = int(examples.length[i]), int(examples.target_length[i])
        assert task.width(n) == examples.input_length[i] + examples.slots[i]
        row, answer = batch["inputs"][i].tolist(), examples.target[i, :count].tolist()
        assert row[2 * n + 1] == empty and row[2 * n + 2 : 2 * n + 1 + count] == [token + first for token in answer[:-1]]
        assert batch["targets"][i, 2 * n + 1 : 2 * n + 1 + count].tolist() == answer
        assert batch["mask"][i].tolist() == [0] * (2 * n + 1) + [1] * count + [0] * (width - 2 * n - 1 - count)
        assert batch["given"][i].tolist() == [1] * (2 * n + 2) + [0] * (width - 2 * n - 2)
        assert max(row) < task.vocabulary.inputs and max(answer) < task.vocabulary.outputs
    assert task.free_running == 1 and task.metrics[:2] == ("exact_match", "token_accuracy") and task.published == ()


def inputs(task, split: str, length: int, count: int) -> set[bytes]:
    source = task.source(split)
    return {row.tobytes() for row in source.fetch(source.index_of(np.arange(count), length)).input}


@pytest.mark.parametrize("pad", [False, True])
def test_no_pair_is_in_two_splits_beyond_one_digit(pad):
    """So many draws that nearly every pair is met: chance alone could not keep the splits apart."""
    task = make(0, lengths="2:2", pad=pad)
    met = {split: inputs(task, split, 2, 50_000 if split == "train" else 10_000) for split in ("train", "valid", "iid", "2-2")}
    train = met["train"] | inputs(make(1, lengths="2:2", pad=pad, balanced=True), "train", 2, 10_000)
    test, total = met["iid"] | met["2-2"], 10_000 if pad else 8_100
    assert not test & met["valid"] and not train & (met["valid"] | test)
    assert len(train | met["valid"] | test) > 0.99 * total and len(test) == pytest.approx(total / 8, rel=0.1)
    assert math.isclose(2 ** addition.log2_inputs(2, pad), total)


def test_one_digit_is_shared_and_seeds_change_training_alone():
    first, second = make(0, lengths="1:3"), make(1, lengths="1:3")
    assert inputs(first, "iid", 1, 2000) == inputs(first, "train", 1, 2000) and len(inputs(first, "iid", 1, 2000)) == 100
    assert strings(first, "train", 3) != strings(second, "train", 3)
    for split in ("valid", "iid"):
        assert strings(first, split, 3) == strings(second, split, 3)
    assert first.source("16-16").lengths == (16, 16) and first.source("9-16").lengths == (9, 16)


@pytest.mark.parametrize("pad", [False, True])
def test_digits_are_even_and_balanced_training_has_each_number_of_carries_as_often(pad):
    even = [question.split("+") for question, _ in strings(make(pad=pad), "train", 3, 4000)]
    for place in range(3):
        digits = np.bincount([int(number[place]) for pair in even for number in pair], minlength=10)
        assert (np.abs(digits[digits > 0] / digits.sum() - 1 / (digits > 0).sum()) < 0.012).all() and (digits > 0).sum() >= 9
    for split, balanced in (("train", True), ("iid", False), ("valid", False)):
        shares = np.bincount([carries(*q.split("+")) for q, _ in strings(make(pad=pad, balanced=True), split, 3, 2000)]) / 2000
        assert len(shares) == 4 and (np.abs(shares - 0.25).max() < 0.04) == balanced, (split, shares)


def test_balanced_operands_carry_in_any_places():
    """Each number of carries is met as often, of nine digits ten; and every pattern of carries, and every pair of digits."""
    a, b = addition.balanced_operands(example_keys("test", 1, np.arange(20_000)), 9, True)
    first, second = (number @ 10 ** np.arange(9)[::-1] for number in (a, b))
    met = sum((first % 10**place + second % 10**place) // 10**place for place in range(1, 10))
    assert (np.abs(np.bincount(met, minlength=10) / 20_000 - 1 / 10) < 0.01).all()
    draw = partial(addition.balanced_operands, length=3, pad=False)
    a, b = draw(example_keys("test", 0, np.arange(4000)))
    given, patterns = np.zeros(4000, int), []
    for place in (2, 1, 0):
        given = (a[:, place] + b[:, place] + given) // 10
        patterns.append(given)
    assert len(np.unique(np.stack(patterns), axis=1).T) == 8
    assert (np.abs(np.bincount(np.sum(patterns, axis=0)) / 4000 - 1 / 4) < 0.025).all()
    assert a[:, 0].min() == b[:, 0].min() == 1 and len({*zip(a[:, 1].tolist(), b[:, 1].tolist(), strict=True)}) == 100


def test_digits_of_one_place_share_a_position():
    task = make(lengths="1:5")
    examples = task.source("train").fetch(np.arange(25))
    width = task.width(5) + 1
    places = task.couples(examples, width)
    assert places.shape == (25, width) and places.dtype == np.int32
    for i in range(25):
        n, row = int(examples.length[i]), places[i].tolist()
        named = {}  # position -> what has it, by significance; the sum's digits are read after they are answered
        for j in range(n):
            named.setdefault(row[j], set()).add(n - 1 - j)
            named.setdefault(row[n + 1 + j], set()).add(n - 1 - j)
        for j in range(n + 1):
            named.setdefault(row[2 * n + 2 + j], set()).add(n - j)
        assert row[n] == row[2 * n + 1] == n + 2 and n + 2 not in named, "signs have one of their own"
        assert sorted(named) == list(range(1, n + 2)) and all(len(found) == 1 for found in named.values())
        assert row[3 * n + 3 :] == [0] * (width - 3 * n - 3)
    assert make(pad=False).couples is None, "a position would tell how long the sum is"


@pytest.mark.parametrize(("changes", "key"), [({"lengths": "0:3"}, "lengths"), ({"lengths": "x"}, "lengths"), ({"seed": -1}, "seed")])
def test_mistakes_name_the_key(changes, key):
    with pytest.raises(UserError, match=f"task.{key}"):
        make(**changes)
    with pytest.raises(UserError, match="16-16"):
        make().source("far")
