"""Recombination: which tokens stand in for each other is read off the training pairs, and what is made of them is what SCAN means."""

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.data.source import Examples, in_memory, padded
from assay.tasks.scan import ACTIONS, WORDS, pairs
from assay.tasks.table import TASKS, build
from assay.treat.recombine import exchangeable, recombine, recombined
from assay.treat.table import treatments


def source_of(lines: list[tuple[list[int], list[int]]]):
    (given, given_length), (answer, length) = (padded(list(side)) for side in zip(*lines, strict=True))
    return in_memory("train", Examples(np.arange(len(lines)), length, given, given_length, answer, length, length))


def task_of(name: str):
    return build({**TASKS[name].defaults, "name": name}, 0)


def read(examples: Examples) -> list[tuple[str, str]]:
    commands = [" ".join(WORDS[i] for i in row[:n]) for row, n in zip(examples.input, examples.input_length, strict=True)]
    actions = [" ".join(ACTIONS[i] for i in row[: n - 1]) for row, n in zip(examples.target, examples.target_length, strict=True)]
    return list(zip(commands, actions, strict=True))


def test_scan_verbs_and_sides_are_found_and_every_pair_that_is_made_is_right():
    source = task_of("scan/jump").source("train")
    verbs, sides = exchangeable(source.fetch(np.arange(source.size)))
    assert [(WORDS[word], ACTIONS[one]) for word, one in verbs] == list(zip(WORDS[:4], ACTIONS[:4], strict=True))
    assert [(WORDS[word], ACTIONS[one]) for word, one in sides] == [("left", "I_TURN_LEFT"), ("right", "I_TURN_RIGHT")]
    made = read(recombined(source, 0.5).fetch(np.arange(source.size)))
    assert set(made) <= set(pairs())
    assert len({command for command, _ in made if "jump" in command}) > 1000, "the treatment shows jump inside commands"
    unchanged = np.mean([a == b for a, b in zip(made, read(source.fetch(np.arange(source.size))), strict=True)])
    assert unchanged == pytest.approx(0.5 + 0.5 / 8, abs=0.05), "a few permutations move no token of their pair"


def test_the_draw_belongs_to_the_example_and_its_epoch():
    source = recombined(task_of("scan/jump").source("train"), 1.0)
    indices = np.array([5, 900, 12_000, 14_000])
    whole, alone = source.fetch(np.arange(source.size)), source.fetch(indices)
    np.testing.assert_array_equal(whole.input[indices], alone.input)
    later = source.fetch(np.arange(1000) + source.size)
    assert (later.input != whole.input[:1000]).any(), "the next epoch has other pairs"
    np.testing.assert_array_equal(later.target_length, whole.target_length[:1000])


def test_only_training_is_changed():
    task = task_of("scan/jump")
    treated = recombine().task(task)
    np.testing.assert_array_equal(treated.source("test").fetch(np.arange(50)).input, task.source("test").fetch(np.arange(50)).input)


def test_tokens_with_two_partners_and_pairs_that_differ_twice_are_left_alone():
    # 1 stands for 0 in one frame; 2 goes with both 5 and 6, so that no exchange of it is one to one
    assert exchangeable(source_of([([0, 9], [3, 7]), ([1, 9], [4, 7])]).fetch(np.arange(2))) == [[(0, 3), (1, 4)]]
    lines = [([0], [3]), ([1], [4]), ([2], [5]), ([2], [6])]
    assert exchangeable(source_of(lines).fetch(np.arange(4))) == [[(0, 3), (1, 4)]]
    swapped = [([0, 8, 1], [3, 4]), ([0, 9, 1], [4, 3])]  # `and`, `after`: two targets differ
    with pytest.raises(UserError, match="nothing to exchange"):
        recombined(source_of(swapped), 0.5)


@pytest.mark.parametrize(
    ("spec", "name", "message"),
    [
        ("recombine", "chomsky/parity_check", "does not end"),
        ("recombine", "digits", "has none"),
        ("recombine:share=0", "scan/jump", "above 0"),
    ],
)
def test_mistakes(spec, name, message):
    with pytest.raises(UserError, match=message):
        (made,) = treatments((spec,))
        made.task(task_of(name)).source("train")
