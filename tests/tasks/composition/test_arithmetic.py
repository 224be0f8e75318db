"""Simple arithmetic against Python's own evaluation, by depth, and that depth K needs K."""

import dataclasses
import itertools

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.core.rng import example_keys
from assay.tasks.composition import arithmetic
from assay.tasks.composition.arithmetic import DEEPEST, DEFAULTS, SYMBOLS, ArithmeticConfig, build

KEYS = example_keys("test", 0, np.arange(300))


def task(run: int = 0, **changes):
    """The task of the run of a seed."""
    return build(ArithmeticConfig(**{"name": "arithmetic/nested", **DEFAULTS, **changes}), run)


def texts(made, split: str, depth: int, n: int) -> list[tuple[str, int]]:
    source = made.source(split)
    examples = source.fetch(source.index_of(np.arange(n), depth))
    shown = [source.describe(examples, i) for i in range(n)]
    return [("".join(SYMBOLS[token] for token in example["input"]), example["target"][0]) for example in shown]


def parts(text: str) -> list[tuple[int, int, int]]:
    """(depth, start, end) of every bracketed part. Raises where the brackets do not match."""
    found, opened = [], []
    for place, symbol in enumerate(text):
        if symbol == "(":
            opened.append(place)
        elif symbol == ")":
            found.append((len(opened), opened.pop(), place + 1))
    assert not opened
    return found


def evaluate(text: str) -> int:
    return eval(text) % 10


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 6, 8, DEEPEST])
def test_labels_depths_and_lengths(depth):
    split = "train" if depth < 6 else f"{depth}-{depth}"
    found = texts(task(), split, depth, 150)
    for text, answer in found:
        assert evaluate(text) == answer
        assert max(at for at, *_ in parts(text)) == depth
        assert len(text) == 1 + 4 * len(parts(text)) <= min(50, arithmetic.most_tokens(depth))
        assert text.count("+") + text.count("*") == len(parts(text)), "every operator has brackets"
    assert len({text for text, _ in found}) > 70
    assert {answer for _, answer in found} == set(range(10))


@pytest.mark.parametrize("depth", [2, 4, 7])
def test_depth_k_needs_k(depth):
    """Some part at depth K cannot be left out: with another value of it, the answer is another one."""
    split = "train" if depth < 6 else "7-8"
    for text, _ in texts(task(), split, depth, 200):
        innermost = [(start, end) for at, start, end in parts(text) if at == depth]
        changed = [{evaluate(f"{text[:start]}{digit}{text[end:]}") for digit in range(10)} for start, end in innermost]
        assert any(len(answers) > 1 for answers in changed), text


def test_distribution_at_depth_two():
    keys = example_keys("distribution", 0, np.arange(20_000))
    tokens, _, _ = arithmetic.expressions(keys, 2)
    shown = ["".join(SYMBOLS[token] for token in row).rstrip("0") for row in tokens]
    both = np.array([len(parts(text)) == 3 for text in shown])
    # The other argument multiplies the chain with probability 1/2; a digit is 0 in 1 of 10 cases, and `a op b` in (10 + 27) of 200.
    digit, nested = 0.8 * (1 - 0.5 * 0.1), 0.2 * (1 - 0.5 * 37 / 200)
    assert both.mean() == pytest.approx(nested / (digit + nested), abs=0.012)
    single = [text for text, two in zip(shown, both, strict=True) if not two]
    assert np.mean([text.startswith("((") for text in single]) == pytest.approx(0.5, abs=0.02), "the chain goes on at either side"
    assert np.mean([text[4:].count("*") for text in single if text.startswith("((")]) == pytest.approx(0.45 / 0.95, abs=0.02)
    leaves = np.bincount([int(text[-2]) for text in single if text.startswith("((") and "+" in text[6:]], minlength=10)
    assert leaves / leaves.sum() == pytest.approx(np.full(10, 0.1), abs=0.02)


def test_an_example_is_the_same_alone():
    together = arithmetic.expressions(KEYS, 5)
    for chosen in (slice(0, 1), slice(17, 19), slice(200, 300)):
        for part, whole in zip(arithmetic.expressions(KEYS[chosen], 5), together, strict=True):
            assert (part == whole[chosen]).all()


def test_strings_belong_to_one_split_and_seeds_differ():
    made = task()
    for depth in (2, 3):
        found = [{text for text, _ in texts(made, split, depth, 800)} for split in ("train", "valid", "iid")]
        assert not any(a & b for a, b in itertools.combinations(found, 2))
    assert len({text for text, _ in texts(made, "train", 1, 2000)}) == 200, "all of depth 1 is in training"
    assert texts(made, "train", 4, 30) != texts(task(1), "train", 4, 30)
    for split, depth in (("valid", 4), ("iid", 4), ("7-8", 7)):
        assert texts(made, split, depth, 30) == texts(task(1), split, depth, 30) != texts(task(seed=1), split, depth, 30)
    assert texts(made, "iid", 4, 30) != texts(made, "valid", 4, 30)


def test_number_of_inputs():
    assert [round(2 ** arithmetic.log2_inputs(depth)) for depth in (1, 2)] == [200, 2 * 210**2 - 200]
    assert arithmetic.log2_inputs(1) < arithmetic.SHARED_BELOW < arithmetic.log2_inputs(2)


def test_the_answer_is_read_after_the_input():
    made = task()
    source = made.source("train")
    examples = source.fetch(source.indices(8))
    batch = made.encode(examples, made.width(5))
    assert made.width(5) == 50 and made.vocabulary.inputs == 14 + 1 + 10
    assert len(set(examples.input_length[examples.length == 5])) > 1, "one depth has several numbers of tokens"
    for i, tokens in enumerate(examples.input_length):
        assert batch["inputs"][i].tolist() == examples.input[i, :tokens].tolist() + [14] * (50 - tokens)
        assert np.flatnonzero(batch["mask"][i]).tolist() == [tokens] and batch["length"][i] == tokens + 1
        assert batch["targets"][i, tokens] == examples.target[i, 0]


def test_published_cells():
    cells = {(c.models[0], c.split): c.value for c in task().published if c.source.endswith(("LSTM", "Transformer"))}
    assert cells == {("lstm", "iid"): 0.99, ("lstm", "7-8"): 0.74, ("decoder", "iid"): 0.98, ("decoder", "7-8"): 0.47}
    for cell in task().published:
        assert (cell.tag, cell.metric, cell.statistic) == ("V", "answer_accuracy", "mean") and "Table 2" in cell.source
        assert cell.protocol.model
        assert cell.split in arithmetic.SPLITS


def test_impossible_configs_and_splits():
    assert set(DEFAULTS) == {field.name for field in dataclasses.fields(ArithmeticConfig)} - {"name"}
    for changes, named in (({"lengths": "1:13"}, "up to 12"), ({"seed": -1}, "task.seed"), ({"lengths": "x"}, "task.lengths")):
        with pytest.raises(UserError, match=named):
            task(**changes)
    with pytest.raises(UserError, match="beyond 12"):
        task().source("12-13")
    with pytest.raises(UserError, match=r"7-8.*range such as"):
        task().source("test")
