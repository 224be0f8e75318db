"""ListOps against a parser in plain Python: labels, the depth that an answer needs, and the trees that are drawn."""

import dataclasses
import itertools
import random
import statistics

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.core.rng import example_keys
from assay.tasks.composition import listops
from assay.tasks.composition.listops import DEFAULTS, LRA_DEFAULTS, SYMBOLS, DepthConfig, LRAConfig, build_depth, build_lra

SMALL = {"tokens": "20:60", "train_examples": 50, "test_examples": 30}
Tree = int | tuple  # a digit, or (operator, arguments)


def depth_task(run: int = 0, **changes):
    """The task of the run of a seed."""
    return build_depth(DepthConfig(**{"name": "listops/depth", **DEFAULTS, **changes}), run)


def lra_task(run: int = 0, **changes):
    return build_lra(LRAConfig(**{"name": "listops/lra", **LRA_DEFAULTS, **changes}), run)


def parse(words: list[str]) -> Tree:
    """The tree of a whole expression. Raises where it is none."""
    stack: list[list] = [[]]
    for word in words:
        if word.startswith("["):
            stack.append([word[1:]])
        elif word == "]":
            name, *arguments = stack.pop()
            assert len(arguments) > 1
            stack[-1].append((name, tuple(arguments)))
        else:
            stack[-1].append(int(word))
    [[tree]] = stack
    return tree


def value(tree: Tree) -> int:
    if isinstance(tree, int):
        return tree
    name, arguments = tree
    values = [value(argument) for argument in arguments]
    return {"MIN": min(values), "MAX": max(values), "MED": int(statistics.median(values)), "SM": sum(values) % 10}[name]


def choices(tree: Tree) -> list[int]:
    """The places of the arguments that an operator gives."""
    name, arguments = tree
    values = [value(argument) for argument in arguments]
    if name == "SM":
        return list(range(len(values)))
    if name == "MED":
        order = sorted(range(len(values)), key=lambda place: (values[place], place))
        half = len(order) // 2
        return [order[half]] if len(order) % 2 else order[half - 1 : half + 1]
    return [values.index({"MIN": min, "MAX": max}[name](values))]


def needed(tree: Tree) -> int:
    return 0 if isinstance(tree, int) else 1 + max(needed(tree[1][place]) for place in choices(tree))


def chains(tree: Tree) -> list[tuple[int, ...]]:
    """The ways down, as places of arguments, along which the tree needs its full depth."""
    if needed(tree) == 1:
        return [()]
    deepest = [place for place in choices(tree) if needed(tree[1][place]) == needed(tree) - 1]
    return [(place, *rest) for place in deepest for rest in chains(tree[1][place])]


def replaced(tree: Tree, way: tuple[int, ...], digit: int) -> Tree:
    if not way:
        return digit
    name, arguments = tree
    place, *rest = way
    return name, (*arguments[:place], replaced(arguments[place], tuple(rest), digit), *arguments[place + 1 :])


def depends(tree: Tree) -> bool:
    return any(len({value(replaced(tree, way, digit)) for digit in range(10)}) > 1 for way in chains(tree))


def levels(tree: Tree) -> int:
    return 0 if isinstance(tree, int) else 1 + max(map(levels, tree[1]))


def operators(tree: Tree) -> list[tuple]:
    return [] if isinstance(tree, int) else [tree, *(inner for argument in tree[1] for inner in operators(argument))]


def shown(made, split: str, indices: np.ndarray) -> list[tuple[list[str], int]]:
    source = made.source(split)
    examples = source.fetch(indices)
    described = [source.describe(examples, i) for i in range(len(indices))]
    return [([SYMBOLS[token] for token in example["input"]], example["target"][0]) for example in described]


def of_depth(made, split: str, depth: int, n: int) -> list[tuple[list[str], int]]:
    return shown(made, split, made.source(split).index_of(np.arange(n), depth))


@pytest.mark.parametrize(
    ("split", "depth", "n"), [("train", 1, 200), ("valid", 2, 200), ("iid", 4, 200), ("train", 5, 200), ("7-8", 7, 40)]
)
def test_labels_and_the_depth_that_they_need(split, depth, n):
    found = of_depth(depth_task(), split, depth, n)
    for words, answer in found:
        tree = parse(words)
        assert value(tree) == answer
        assert needed(tree) == depth and depends(tree), " ".join(words)
        assert len(words) <= 50 and levels(tree) <= max(depth, 5)
        assert all(2 <= len(arguments) <= 5 for _, arguments in operators(tree))
    assert n < 200 or {answer for _, answer in found} == set(range(10))
    if depth < 5:
        assert max(levels(parse(words)) for words, _ in found) > depth, "there are operators that the answer does not need"


def drawn(random_: random.Random, depth: int, deepest: int) -> Tree:
    arguments = range(random_.randint(2, 5))
    return random_.choice(["MIN", "MAX", "MED", "SM"]), tuple(
        drawn(random_, depth + 1, deepest) if depth < deepest and random_.random() < 0.3 else random_.randrange(10) for _ in arguments
    )


def test_trees_are_those_of_a_plain_sampler():
    """The plain one draws whole trees and keeps those that need depth 2 and are short."""
    random_, plain = random.Random(0), []
    while len(plain) < 2500:
        tree = drawn(random_, 1, 3)
        if sum(len(arguments) + 1 for _, arguments in operators(tree)) + 1 <= 50 and needed(tree) == 2 and depends(tree):
            plain.append(tree)
    tokens, _, _ = listops.needing(example_keys("plain", 0, np.arange(2500)), 2, 3)
    ours = [parse([SYMBOLS[token] for token in row[: np.flatnonzero(row == listops.CLOSE)[-1] + 1]]) for row in tokens]

    figures = (
        lambda tree: tree[0] == "SM",
        lambda tree: tree[0] == "MIN",
        lambda tree: len(tree[1]) / 5,
        lambda tree: len(operators(tree)) / 5,
        lambda tree: levels(tree) == 3,
        lambda tree: isinstance(tree[1][0], tuple),
        lambda tree: isinstance(tree[1][1], tuple),
        lambda tree: value(tree) / 10,
        lambda tree: value(tree) == 9,
    )
    for figure in figures:
        a, b = (np.array([float(figure(tree)) for tree in trees]) for trees in (ours, plain))
        error = np.sqrt((a.var() + b.var()) / 2500)
        assert abs(a.mean() - b.mean()) < 4 * error


def test_apply_at_ties():
    """The first of equal arguments is chosen, and of equal middle ones those in the middle of a stable order."""
    values, inside = np.array([[3, 1, 1, 3, 0], [3, 1, 1, 3, 9]]), np.array([[1, 1, 1, 1, 0]] * 2, bool)
    for operator, expected in enumerate(([1], [0], [2, 0], [0, 1, 2, 3])):
        result, chosen = listops.apply(np.full(2, operator), values, inside)
        assert [sorted(np.flatnonzero(row).tolist()) for row in chosen] == [sorted(expected)] * 2
        assert result.tolist() == [(1, 3, 2, 8)[operator]] * 2


def test_an_example_is_the_same_alone():
    keys = example_keys("alone", 0, np.arange(60))
    for depth in (1, 3, 5):
        together = listops.needing(keys, depth, 5)
        for chosen in (slice(0, 1), slice(11, 13), slice(20, 60)):
            for part, whole in zip(listops.needing(keys[chosen], depth, 5), together, strict=True):
                assert (part == whole[chosen]).all()


def test_strings_belong_to_one_split_and_seeds_differ():
    made = depth_task()
    for depth in (1, 2):
        found = [{" ".join(words) for words, _ in of_depth(made, split, depth, 600)} for split in ("train", "valid", "iid")]
        assert not any(a & b for a, b in itertools.combinations(found, 2))
    assert of_depth(made, "train", 3, 20) != of_depth(depth_task(1), "train", 3, 20)
    for split in ("valid", "iid"):
        assert of_depth(made, split, 3, 20) == of_depth(depth_task(1), split, 3, 20) != of_depth(depth_task(seed=1), split, 3, 20)
    assert of_depth(made, "valid", 3, 20) != of_depth(made, "iid", 3, 20)


def test_the_answer_is_read_after_the_input():
    made = depth_task()
    source = made.source("train")
    examples = source.fetch(source.indices(5))
    batch = made.encode(examples, made.width(5))
    empty = len(SYMBOLS)
    assert made.width(5) == 51 and made.vocabulary.inputs == empty + 1 + 10
    for i, tokens in enumerate(examples.input_length):
        assert batch["inputs"][i].tolist() == examples.input[i, :tokens].tolist() + [empty] * (51 - tokens)
        assert np.flatnonzero(batch["mask"][i]).tolist() == [tokens] and batch["length"][i] == tokens + 1
        assert batch["targets"][i, tokens] == examples.target[i, 0]


def test_lra_labels_and_trees():
    made = lra_task()
    trees = []
    for split in made.splits:
        for words, answer in shown(made, split, np.array([0, 5, 1999])):
            assert 501 <= len(words) <= 1999
            trees.append(parse(words))
            assert value(trees[-1]) == answer
    every = [operator for tree in trees for operator in operators(tree)]
    assert {len(arguments) for _, arguments in every} == set(range(2, 11)) and {name for name, _ in every} == {"MIN", "MAX", "MED", "SM"}
    assert max(map(levels, trees)) == 9
    arguments = [argument for tree in trees for operator in operators(tree) if levels(operator) < 9 for argument in operator[1]]
    digits = np.bincount([argument for argument in arguments if isinstance(argument, int)], minlength=10)
    assert digits / digits.sum() == pytest.approx(np.full(10, 0.1), abs=0.02)


def test_lra_is_finite_and_the_same_for_every_run():
    made = lra_task(**SMALL)
    sizes = {split: made.source(split).size for split in made.splits}
    assert sizes == {"train": 50, "valid": 30, "test": 30}
    assert [lra_task().source(split).size for split in made.splits] == [96_000, 2_000, 2_000]
    found = {split: [" ".join(words) for words, _ in shown(made, split, np.arange(size))] for split, size in sizes.items()}
    for split, texts in found.items():
        assert all(20 <= len(text.split()) <= 60 for text in texts)
        assert shown(made, split, np.arange(9)) == shown(lra_task(run=1, **SMALL), split, np.arange(9))
        assert shown(made, split, np.arange(9)) != shown(lra_task(seed=1, **SMALL), split, np.arange(9))
    assert len(set().union(*found.values())) == 110, "no string twice"
    source = made.source("train")
    again = source.fetch(np.array([3, 53, 103]))
    assert again.id.tolist() == [3, 53, 103] and (again.input == again.input[0]).all()
    assert source.indices(7).tolist() == list(range(50)) and source.index_of(np.arange(3), 60).tolist() == [0, 1, 2]
    batch = made.encode(again, made.width(60))
    assert batch["inputs"].shape == (3, 61) and batch["mask"].sum() == 3


def test_published_cells():
    cells = {(c.models[0], c.split): c.value for c in depth_task().published if c.source.endswith(("LSTM", "Transformer"))}
    assert cells == {("lstm", "iid"): 0.99, ("lstm", "7-8"): 0.71, ("decoder", "iid"): 0.98, ("decoder", "7-8"): 0.74}
    assert [cell.value for cell in lra_task().published] == [0.3637]
    for made, table in ((depth_task(), "Table 3"), (lra_task(), "Long Range Arena repository")):
        for cell in made.published:
            assert (
                (cell.tag, cell.metric) == ("V", "answer_accuracy")
                and table in cell.source
                and cell.protocol.model
                and cell.split in made.splits
            )


def test_impossible_configs_and_splits():
    for config, keys in ((DepthConfig, DEFAULTS), (LRAConfig, LRA_DEFAULTS)):
        assert set(keys) == {field.name for field in dataclasses.fields(config)} - {"name"}
    wrong = (
        (depth_task, {"lengths": "1:11"}, "up to 10"),
        (depth_task, {"seed": -1}, "task.seed"),
        (lra_task, {"tokens": "60:20"}, "task.tokens"),
        (lra_task, {"tokens": "50:52"}, "task.tokens"),
        (lra_task, {"train_examples": 0}, "train_examples"),
    )
    for make, changes, named in wrong:
        with pytest.raises(UserError, match=named):
            make(**changes)
    with pytest.raises(UserError, match="beyond 10"):
        depth_task().source("10-11")
    with pytest.raises(UserError, match="no splits by length"):
        lra_task().source("7-8")
