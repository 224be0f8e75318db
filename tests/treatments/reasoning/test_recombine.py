"""Recombination: what stands in for each other is read off the training pairs, and what is made of it is what SCAN means."""

from collections import Counter

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.data.recombine import exchangeable, exchanges, filled, substitutions, taken_apart, tokens_of, written
from assay.data.source import Examples, in_memory
from assay.tasks.composition.scan import ACTIONS, WORDS, pairs, split
from assay.tasks.table import TASKS, build
from assay.train.measure import seen_in_training
from assay.treatments.pipeline.load import treatments
from assay.treatments.reasoning.recombine import as_pairs, recombine, recombined

TRUTH = dict(pairs())
JUMP = [line for line in split("jump")[0] if line[0].count(" ") < 4]  # fewer are faster to compare


def task_of(name: str):
    return build({**TASKS[name].defaults, "name": name}, 0)


def coded(lines):
    return [
        (written(WORDS.index(word) for word in given.split()), written(ACTIONS.index(one) for one in answer.split()))
        for given, answer in lines
    ]


def read(made):
    return [(" ".join(WORDS[ord(i)] for i in given), " ".join(ACTIONS[ord(i)] for i in answer)) for given, answer in made]


def of_examples(examples: Examples):
    return as_pairs(examples)[0]


def test_words_that_differ_by_one_token_on_either_side_are_found():
    verbs, sides = exchangeable(coded(JUMP))
    assert [(WORDS[ord(word)], ACTIONS[ord(one)]) for word, one in verbs] == list(zip(WORDS[:4], ACTIONS[:4], strict=True))
    assert [(WORDS[ord(word)], ACTIONS[ord(one)]) for word, one in sides] == [("left", "I_TURN_LEFT"), ("right", "I_TURN_RIGHT")]


def test_tokens_with_two_partners_and_pairs_that_differ_twice_are_left_alone():
    assert exchangeable([("ax", "AX"), ("bx", "BX")]) == [[("a", "A"), ("b", "B")]]
    assert exchangeable([("a", "A"), ("b", "B"), ("c", "C"), ("c", "D")]) == [[("a", "A"), ("b", "B")]], "c goes with both C and D"
    assert exchangeable([("axb", "AB"), ("ayb", "BA")]) == [], "`and`, `after`: two targets differ"
    assert exchanges([("axb", "AB")], 5, 0) == []


def test_exchanged_words_mean_what_the_grammar_says():
    made = read(exchanges(coded(JUMP), 8000, 0))
    assert len(made) == 8000 and all(TRUTH[command] == actions for command, actions in made)
    assert len({command for command, _ in made if "jump" in command}) > 100, "jump inside commands, which training lacks"
    assert made[:100] == read(exchanges(coded(JUMP), 100, 0)) != read(exchanges(coded(JUMP), 100, 1))


def test_a_pair_is_taken_apart_where_others_fill_the_same_frame():
    ways = taken_apart(coded(line for line in split("length")[0] if line[0].count(" ") < 4))
    (thrice,) = coded([("walk left thrice", TRUTH["walk left thrice"])])
    fillers = {read([way.filler])[0][0] for way in ways[thrice]}
    assert {"walk", "walk left"} <= fillers
    assert all(filled(*way) == thrice for way in ways[thrice])


def test_a_target_that_stands_at_unclear_places_takes_nothing_apart():
    """`run twice` in RUN RUN RUN: at the first two, or the last two?"""
    ways = taken_apart(coded(line for line in split("length")[0] if line[0].count(" ") < 4))
    unclear, clear = coded([(command, TRUTH[command]) for command in ("run and run twice", "walk and run twice")])
    assert "run twice" not in {read([way.filler])[0][0] for way in ways[unclear]}
    assert "run twice" in {read([way.filler])[0][0] for way in ways[clear]}


def test_longer_commands_are_made_of_phrases():
    train = coded(split("length")[0])
    made = read(substitutions(train, 12_000, 48, 0))
    assert len({command for command, _ in made}) == len(made) > 1000, "distinct"
    lengths = [answer.count(" ") + 1 for _, answer in made]
    assert min(lengths) > 22 and max(lengths) <= 48 and max(command.count(" ") for command, _ in made) < 9
    right = Counter(TRUTH[command] == actions for command, actions in made if command in TRUTH)
    assert right[True] > 500 and right[True] > 5 * right[False], "those that are commands mean what the grammar says, nearly all"
    assert any("around left thrice" in command for command, _ in made), "24 actions, which training has none of"
    assert substitutions(train[:3], 100, 48, 0) == [], "three pairs have no frames"


def test_tokens_are_written_and_read():
    assert written([0, 7, 8192]) == "\0\7\u2000" and tokens_of(written([0, 7, 8192])) == [0, 7, 8192]


@pytest.mark.parametrize("of", ["words", "phrases"])
def test_training_has_its_own_pairs_and_the_made_ones(of):
    task = task_of("scan/length")
    plain = task.source("train")
    more = recombined(plain, of, 500, 0)
    assert plain.size < more.size <= plain.size + 500
    own, both = plain.fetch(np.arange(plain.size)), more.fetch(np.arange(more.size))
    assert of_examples(own) == of_examples(both)[: plain.size]
    assert more.lengths[1] <= 2 * 22 + 1 and (both.target[np.arange(more.size), both.target_length - 1] == len(ACTIONS)).all(), "all end"
    batch = task.encode(both, task.width(more.lengths[1]))
    assert batch["inputs"].shape[0] == more.size, "they fit the task's layout"


def test_only_training_is_changed():
    task = task_of("scan/jump")
    treated = recombine().task(task)
    np.testing.assert_array_equal(treated.source("test").fetch(np.arange(50)).input, task.source("test").fetch(np.arange(50)).input)
    assert treated.source("train") is treated.source("train"), "made once"
    test = treated.source("test")
    records = [{"id": i, "input": "as text"} for i in range(test.size)]
    seen = seen_in_training(treated, treated.source("train"), np.atleast_1d, "test", records, 1)
    assert (int(seen.sum()), test.size) == (3349, 7706), "test commands among the recombined ones"


@pytest.mark.parametrize(
    ("spec", "name", "message"),
    [
        ("recombine", "chomsky/parity_check", "is unlimited"),
        ("recombine", "path_star", "too many or too long"),
        ("recombine", "digits", "needs inputs and answers that are token sequences"),
        ("recombine:of=letters", "scan/jump", "must be one of words, phrases"),
        ("recombine:draws=-1", "scan/jump", "a number of pairs"),
        ("recombine:longest=-1", "scan/jump", "tokens of an answer"),
    ],
)
def test_mistakes(spec, name, message):
    with pytest.raises(UserError, match=message):
        (made,) = treatments((spec,))
        made.task(task_of(name)).source("train")


def test_a_split_without_alike_parts_is_told():
    source = task_of("scan/jump").source("train")
    one = source.fetch(np.zeros(3, int))
    with pytest.raises(UserError, match="finds no interchangeable words in 'alone'"):
        recombined(in_memory("alone", one), "words", 0, 0)
