"""Positions of copied tokens: each output has the id of the input token that it equals, at every length and in both conventions."""

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.tasks.formal import chomsky
from assay.treatments.reasoning.couple import couple


def task_of(name: str, convention: str = "code"):
    return chomsky.build(chomsky.ChomskyConfig(f"chomsky/{name}", convention, "1:9", 0), 0)


@pytest.mark.parametrize("convention", ["code", "paper"])
@pytest.mark.parametrize("name", ["reverse_string", "duplicate_string", "odds_first"])
def test_an_output_has_the_id_of_the_token_that_it_copies(name: str, convention: str) -> None:
    task = task_of(name, convention)
    assert task.couples is not None
    for split, last in (("iid", 9), ("41-60", 60)):
        source = task.source(split)
        examples = source.fetch(np.arange(4 * (source.lengths[1] - source.lengths[0] + 1)))
        places = task.couples(examples, task.width(last) + 3)
        for row, tokens, n, target, many in zip(
            places, examples.input, examples.input_length, examples.target, examples.target_length, strict=True
        ):
            assert row[:n].tolist() == list(range(1, n + 1))
            answered = row[n : n + many]
            assert (tokens[answered - 1] == target[:many]).all()
            assert np.bincount(answered)[1:].tolist() == [many // n] * n, "each token is copied equally often"
            assert (row[n + many :] == 0).all()


def test_only_copies_are_coupled() -> None:
    assert all(task_of(name).couples is None for name in ("parity_check", "bucket_sort", "stack_manipulation"))
    with pytest.raises(UserError, match="chomsky/reverse_string, chomsky/duplicate_string and chomsky/odds_first"):
        couple().task(task_of("bucket_sort"))


def test_a_span_that_an_evaluated_length_exceeds_is_refused() -> None:
    task = couple(64).task(task_of("reverse_string"))
    source = task.source("41-80")
    with pytest.raises(UserError, match=r"positions up to 80"):
        task.encode(source.fetch(np.arange(40)), task.width(80))
