"""Test inputs that training had: counted in every row, and left out of rows of their own."""

from dataclasses import replace

import numpy as np
import pytest

from assay.data.source import Examples, in_memory, padded
from assay.tasks.table import TASKS, build
from assay.train.measure import Labels, seen_in_training, with_seen

JUMP = build({"name": "scan/jump", **TASKS["scan/jump"].defaults}, 0)
LABELS = Labels("reason/scan:words", "lstm", "recombine", 0, 10, {"name": "lstm", "depth": 2}, {"model.dropout": "0.2"})


def source(name, inputs):
    tokens, lengths = padded(inputs)
    ids = np.arange(len(tokens))
    return in_memory(name, Examples(ids, lengths, tokens, lengths, tokens, lengths, lengths))


@pytest.fixture
def seen():
    """seen_in_training of a task whose training split has three different inputs."""
    splits = {"test": source("test", [[1, 2], [1, 2, 0], [3], [4, 4]]), "valid": source("valid", [[1, 2]])}
    task, trained = replace(JUMP, source=splits.__getitem__), source("train", [[1, 2], [5], [4, 4], [4, 4]])
    return lambda split, records: seen_in_training(task, trained, np.atleast_1d, split, records, 10)


def records(count):
    one = {"input": "as text", "target": "I_JUMP", "prediction": "I_JUMP", "length": 2}
    return [{**one, "id": i, "scores": {"exact_match": float(i < 3)}} for i in range(count)]


def test_an_input_was_seen_if_the_training_split_has_it_at_its_length(seen):
    assert seen("test", records(4)).tolist() == [True, False, False, True]
    assert seen("test", records(4)[2::-1]).tolist() == [False, False, True], "records may be in any order"
    assert seen("valid", records(1)) is None, "choices are made on it, and it is a part of training"


def test_images_are_not_counted():
    pixels, ones = np.zeros((3, 8, 8, 1), np.float32), np.ones(3, np.int64)
    pictures = in_memory("test", Examples(np.arange(3), ones, pixels, ones, ones[:, None], ones, ones))
    task = replace(JUMP, source=lambda _: pictures)
    assert seen_in_training(task, pictures, np.atleast_1d, "test", records(3), 1) is None


def told(seen, split="test"):
    row = {"split": split, "metric": "exact_match", "value": 0.75, "published": [{"value": 0.0008}]}
    return with_seen([row], records(4), np.array(seen), replace(JUMP, metrics=("exact_match",)), split, LABELS)


def test_unseen_inputs_have_rows_of_their_own_and_no_published_cell_stands_beside_seen_ones():
    whole, unseen = told([True, False, False, True])
    assert (whole["seen_in_training"], whole["published"], whole["value"]) == (0.5, [], 0.75)
    assert (unseen["split"], unseen["n"], unseen["value"], unseen["seen_in_training"]) == ("test-unseen", 2, 1.0, 0.0)
    assert unseen["published"] == [] and unseen["overrides"] == {"model.dropout": "0.2"} and "never occurred in training" in unseen["note"]


def test_without_seen_inputs_a_row_keeps_its_published_cells():
    (row,) = told([False] * 4)
    assert row["seen_in_training"] == 0.0 and row["published"]
    (row,) = told([True] * 4, "iid")
    assert row["seen_in_training"] == 1.0 and row["published"], "short inputs of the trained lengths inevitably collide"
    (row,) = told([True] * 4)
    assert row["seen_in_training"] == 1.0 and not row["published"], "nothing is left for rows of their own"
