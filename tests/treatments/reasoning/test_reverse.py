"""Reversed answers: what is written is the untreated answer from its end, END stays last, and a right answer stays right."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from assay.core.errors import UserError
from assay.models.model import Output, Vocabulary
from assay.tasks import multi
from assay.tasks.composition import scan
from assay.tasks.formal import chomsky
from assay.tasks.puzzles import addition, modular, path_star
from assay.treatments.reasoning.reverse import backwards, reverse
from assay.treatments.reasoning.scratchpad import with_states

CHOMSKY = {"convention": "code", "lengths": "1:40", "seed": 0}


def add(pad: bool = True):
    return addition.build(addition.AdditionConfig("addition", "1:5", pad, False, 0), 0)


def scan_task():
    return scan.build(scan.ScanConfig("scan/length", 0.0), 0)


def paths():
    return path_star.build(path_star.PathStarConfig("path_star", 3, 4, 20, 50, 50, 0), 0)


def formal(name: str):
    return chomsky.build(chomsky.ChomskyConfig(f"chomsky/{name}", **CHOMSKY), 0)


TASKS = {"padded": add, "natural": lambda: add(False), "path_star": paths, "scan": scan_task, "odds_first": lambda: formal("odds_first")}


def answers(task, split: str, count: int = 40) -> list[list[int]]:
    examples = task.source(split).fetch(np.arange(count))
    return [row[:length].tolist() for row, length in zip(examples.target, examples.target_length, strict=True)]


@pytest.mark.parametrize("name", TASKS)
def test_an_answer_is_the_untreated_one_from_its_end(name):
    task = TASKS[name]()
    treated = reverse().task(task)
    end = task.classes.index("END") if "END" in task.classes else None
    for split in treated.splits[:2]:
        for plain, written in zip(answers(task, split), answers(treated, split), strict=True):
            kept = 1 if end is not None else 0
            assert written[len(plain) - kept :] == ([end] if kept else []), "END stays last"
            assert "".join(map(chr, written[: len(plain) - kept]))[::-1] == "".join(map(chr, plain[: len(plain) - kept]))
        one, other = (made.source(split).fetch(np.arange(40)) for made in (task, treated))
        assert all((getattr(one, part) == getattr(other, part)).all() for part in one._fields if part != "target")
    assert (end is not None) == (name in ("natural", "scan")) and treated.published == () and "last token" in treated.note


@pytest.mark.parametrize("name", TASKS)
def test_twice_is_the_untreated_task(name):
    task = TASKS[name]()
    again = backwards(backwards(task))
    assert answers(task, "train") == answers(again, "train") != answers(backwards(task), "train")
    examples = task.source("train").fetch(np.arange(5))
    batch = task.encode(examples, task.width(int(examples.length.max())))
    for i in range(5):
        row = {name: array[i] for name, array in batch.items()}
        assert again.read(row["targets"], row) == task.read(row["targets"], row)


@pytest.mark.parametrize("name", TASKS)
def test_exact_match_compares(name):
    """The same answers, written from either end, score the same. Every third has its first token wrong, which is the last one reversed."""
    task, scores = TASKS[name](), []
    end = task.classes.index("END") if "END" in task.classes else None
    for made in (task, backwards(task)):
        source, rows = made.source("train"), np.arange(0, 30, 3)
        examples = source.fetch(np.arange(30))
        batch = made.encode(examples, made.width(int(examples.length.max())))
        moved = examples.target_length - (end is not None)  # tokens that change places
        wrong = batch["mask"].argmax(axis=1) + (0 if made is task else moved - 1)
        written = batch["targets"].copy()
        written[rows, wrong[rows]] = (written[rows, wrong[rows]] + 1) % made.vocabulary.outputs
        logits = jnp.asarray(np.eye(made.vocabulary.outputs, dtype=np.float32)[written])
        _, weight, metrics = made.score(Output(logits, {}), batch)
        scores.append(
            {name: np.asarray(metrics[name]).tolist() for name in ("exact_match", "token_accuracy")} | {"weight": weight.tolist()}
        )
    assert scores[0] == scores[1] and np.mean(scores[0]["exact_match"]) == pytest.approx(2 / 3)


def test_sums_begin_with_the_lowest_digit_and_paths_with_the_goal():
    task = backwards(add(False))
    source = task.source("iid")
    examples = source.fetch(np.arange(60))
    for i in range(60):
        one = source.describe(examples, i)
        a, b = ("".join(map(str, part)) for part in (one["input"][: examples.length[i]], one["input"][examples.length[i] + 1 :]))
        assert one["target"] == [*(int(digit) for digit in str(int(a) + int(b))[::-1]), addition.END]
    batch = task.encode(examples, task.width(5))
    rows = np.arange(60)
    start = examples.input_length
    assert (batch["inputs"][rows, start + 1] == examples.target[:, 0] + task.answer_to_input).all(), "what was written is read next"
    examples = backwards(paths()).source("test").fetch(np.arange(50))
    assert (examples.target[:, 0] == examples.input[:, -1]).all() and (examples.target[:, -1] == examples.input[:, -2]).all()
    assert all(path_star.verify(prompt, path[::-1]) for prompt, path in zip(examples.input, examples.target, strict=True))


def test_a_task_that_spells_its_answers_gives_them_in_plain_order():
    task = scan_task()
    treated = backwards(task)
    source = treated.source("test")
    examples = source.fetch(np.arange(30))
    batch = treated.encode(examples, treated.width(int(examples.length.max())) + 3)
    for i in range(30):
        row = {name: array[i] for name, array in batch.items()}
        written = np.where(row["mask"] > 0, row["targets"], 1)  # what is answered after END is not read
        assert treated.read(written, row) == source.describe(examples, i)["target"]
        endless = np.arange(len(written)) % scan.END
        assert treated.read(endless, row).split() == task.read(endless, row).split()[::-1]
    plain = backwards(add())
    row = {"mask": np.array([0.0, 1, 1, 1])}
    assert plain.read(np.array([9, 3, 2, 1]), row) == [3, 2, 1], "shown as written"


def test_a_verifier_reads_plain_order():
    task, treated = paths(), backwards(paths())
    for made, other in ((task, treated), (treated, task)):
        source = made.source("test")
        examples = source.fetch(np.arange(20))
        for i in range(20):
            record = source.describe(examples, i)
            assert made.verify({**record, "prediction": record["target"]})
            assert not other.verify({**record, "prediction": record["target"]}), "the other way round it is no path"
    assert backwards(add()).verify is None
    ended = backwards(dataclasses.replace(add(False), verify=lambda record: record["prediction"] == [1, 2, addition.END, 7]))
    assert ended.verify({"prediction": [2, 1, addition.END, 7]}), "what comes after END stays there"


REFUSED = {
    "its answers are single tokens": lambda: formal("parity_check"),
    "its answers are single": lambda: modular.build(modular.ModularConfig("modular/add", 7, 0.5, 0), 0),
    "its answers lie within the input": lambda: with_states(formal("parity_check")),
    "it combines several tasks": lambda: multi.together([formal("even_pairs"), formal("parity_check")], (1.0, 1.0)),
    "it asks for one answer": lambda: dataclasses.replace(add(), vocabulary=Vocabulary(23, 10, pooled=True)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused_where_it_makes_no_sense(why):
    with pytest.raises(UserError, match=rf"'reverse' does not apply to \S+: {why}.*config.treatments"):
        backwards(REFUSED[why]())


def test_refused_where_nobody_says_what_ends_an_answer():
    unended = backwards(dataclasses.replace(add(False), classes=()))
    with pytest.raises(UserError, match="END"):
        unended.source("train").fetch(np.arange(20))
