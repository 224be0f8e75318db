"""Path-star graphs against a search that reads the prompt's text; their splits, and the verifier against broken answers."""

import math

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.tasks.puzzles import path_star
from assay.tasks.puzzles.path_star import verify
from assay.tasks.task import text

SMALL = {"train_size": 300, "test_size": 200}


def make(run_seed: int = 0, **changes):
    return path_star.build(path_star.PathStarConfig("path_star", **{**path_star.DEFAULTS, **SMALL, **changes}), run_seed)


def examples_of(task, split: str, count: int | None = None):
    source = task.source(split)
    return source.fetch(np.arange(count or source.size))


def search(prompt: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Edges of a prompt, and the path from its start to its goal, found from the goal backwards."""
    graph, question = prompt.replace(" ", ",").replace(",|,", "|").replace(",/,", "/").split("/")
    edges = [tuple(edge.split(",")) for edge in graph.split("|")]
    start, goal = question.split(",")
    before, path = {child: parent for parent, child in edges}, [goal]
    assert len(before) == len(edges), "a node has one way in"
    while path[0] != start:
        path.insert(0, before[path[0]])
    return edges, path


@pytest.mark.parametrize(("degree", "length", "nodes"), [(2, 5, 50), (5, 3, 11), (2, 2, 4), (3, 4, 100)])
def test_the_answer_is_the_only_path(degree, length, nodes):
    task = make(degree=degree, path_length=length, nodes=nodes)
    examples = examples_of(task, "train")
    assert (examples.length == length).all() and examples.input.shape[1] == path_star.prompt_length(length, degree)
    for prompt, answer in zip(examples.input, examples.target, strict=True):
        edges, path = search(text(prompt.tolist(), task.symbols))
        assert [task.classes[node] for node in answer] == path and len(path) == length
        assert sum(parent == path[0] for parent, _ in edges) == degree
        assert len(edges) == degree * (length - 1) and len({node for edge in edges for node in edge}) == 1 + len(edges)
        assert verify(prompt, answer)


def test_the_arms_of_a_star_all_have_one_length_and_any_may_be_asked_for():
    examples = examples_of(make(train_size=4000), "train")
    seen = []
    for prompt in examples.input[:1000]:
        children = {}
        for parent, child in zip(prompt[:-2:3].tolist(), prompt[1:-2:3].tolist(), strict=True):
            children.setdefault(parent, []).append(child)
        ends = []
        for node in children[int(prompt[-2])]:
            steps = 2
            while node in children:
                node, steps = children[node][0], steps + 1
            assert steps == 5
            ends.append(node)
        seen.append(ends.index(int(prompt[-1])))
    assert np.mean(seen) == pytest.approx(0.5, abs=0.05), "the order of edges does not tell the arm"
    for column in (-1, -2, 0):
        assert np.bincount(examples.input[:, column], minlength=50).max() / 4000 < 2.2 / 50


def test_the_verifier_accepts_a_path_and_nothing_else():
    prompt = [4, 9, 50, 2, 7, 50, 2, 4, 50, 7, 5, 51, 2, 5]  # 2 -> 7 -> 5 and 2 -> 4 -> 9, the goal is 5
    assert verify(prompt, [2, 7, 5]) and verify(np.array(prompt), np.array([2, 7, 5]))
    junk = [[], [2], [5], [2, 5], [7, 5], [2, 7], [5, 7, 2], [2, 4, 9], [2, 4, 5], [2, 7, 5, 5], [2, 2, 7, 5], [2, 7, 50, 5], [0, 0, 0]]
    assert not any(verify(prompt, answer) for answer in junk)
    assert not verify(prompt[:-1], [2, 7, 5]) and not verify([], [2, 7, 5])


def test_splits_end_are_made_on_demand_and_share_no_prompt():
    task = make(nodes=5, path_length=3, train_size=5000)  # so few prompts that chance alone could not keep them apart
    sizes = {split: task.source(split).size for split in task.splits}
    assert sizes == {"train": 5000, "valid": 20, "test": 200}
    met = {split: {row.tobytes() for row in examples_of(task, split).input} for split in task.splits}
    assert not met["train"] & (met["valid"] | met["test"]) and not met["valid"] & met["test"]
    source = task.source("train")
    again = source.fetch(np.array([7, 5007, 3]))
    assert again.id.tolist() == [7, 5007, 3] and (again.input[0] == again.input[1]).all()
    assert (source.fetch(np.array([3])).input[0] == again.input[2]).all()
    assert make(train_size=0).source("train").size is None
    assert path_star.build(path_star.PathStarConfig("path_star", **path_star.DEFAULTS), 0).source("test").size == 20_000


def test_seeds_change_training_alone():
    first, second = make(0), make(1)
    assert (examples_of(first, "test").input == examples_of(second, "test").input).all()
    train = [{row.tobytes() for row in examples_of(task, "train").input} for task in (first, second)]
    assert len(train[0]) == len(train[1]) == 300 and not train[0] & train[1]


def test_the_number_of_prompts():
    """All prompts of a graph of two arms of one edge over four nodes are met and counted."""
    task = make(degree=2, path_length=2, nodes=4, train_size=0)
    prompts = {row.tobytes() for row in examples_of(task, "train", 2000).input}
    assert len(prompts) == 4 * 3 * 2 * 2 == round(2 ** path_star.log2_inputs(2, 2, 4)), "start, goal, other; two orders of the edges"
    assert path_star.log2_inputs(5, 2, 50) == pytest.approx(math.log2(math.perm(50, 9) * math.factorial(8)))


def test_the_layout_and_what_stands_beside_the_figures():
    task = make()
    examples = examples_of(task, "test", 20)
    batch = task.encode(examples, task.width(5))
    assert (batch["inputs"][:, 26] == 52).all() and (batch["given"].sum(axis=1) == 27).all() and (batch["mask"].sum(axis=1) == 5).all()
    assert (batch["inputs"][:, 27:] == examples.target[:, :4] + task.answer_to_input).all()
    assert task.metrics[0] == "exact_match" and "1/2" in task.note and task.chance == 1 / 50 and task.published == ()


@pytest.mark.parametrize(
    "changes", [{"degree": 1}, {"path_length": 1}, {"nodes": 8}, {"train_size": -1}, {"test_size": 0}, {"seed": -1}], ids=str
)
def test_mistakes_name_the_key(changes):
    with pytest.raises(UserError, match=f"task.{next(iter(changes))}"):
        make(**changes)
    with pytest.raises(UserError, match="Known: test, train, valid"):
        make().source("iid")
