"""Compositional table lookup against look-ups in dictionaries, and what its splits hold."""

import dataclasses
import itertools

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.data.source import content_hash
from assay.tasks.composition import ctl
from assay.tasks.composition.ctl import COMPOSED, DEFAULTS, SYMBOLS, TABLES, CTLConfig, build, draw_tables

DIRECTIONS = ("forward", "backward")
RANGES = {"train": (1, 5), "valid": (1, 5), "iid": (1, 5), "6-8": (6, 8), "9-10": (9, 10)}


def task(direction: str = "forward", run: int = 0, **changes):
    """The task of the run of a seed."""
    return build(CTLConfig(**{"name": f"ctl/{direction}", **DEFAULTS, **changes}), run)


def strings(made, split: str, length: int, n: int) -> list[tuple[int, ...]]:
    source = made.source(split)
    return [tuple(row) for row in source.fetch(source.index_of(np.arange(n), length)).input.tolist()]


def answer(shown: str, backward: bool, tables: dict[str, dict[str, str]]) -> str:
    """What a person does with the example as it is shown."""
    value, *functions = reversed(shown.split()) if backward else shown.split()
    for function in functions:
        value = tables[function][value]
    return value


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("split", RANGES)
def test_labels_are_those_of_the_tables(direction, split):
    made = task(direction, tables_seed=3)
    named = {"abcdefghijk"[i]: {str(a): str(b) for a, b in enumerate(row)} for i, row in enumerate(draw_tables(3).tolist())}
    source = made.source(split)
    assert source.lengths == RANGES[split]
    examples = source.fetch(source.indices(60))
    for i, length in enumerate(examples.length):
        shown = source.describe(examples, i)
        text = " ".join(made.symbols[token] for token in shown["input"])
        assert len(shown["input"]) == length + 1
        assert [made.classes[token] for token in shown["target"]] == [answer(text, direction == "backward", named)]


def test_backward_shows_the_same_from_its_end():
    keys, tables = np.arange(1, 200, dtype=np.uint64), draw_tables(0)
    forward, backward = (ctl.compositions(keys, 4, tables, way) for way in (False, True))
    assert (forward[0] == backward[0][:, ::-1]).all() and (forward[1] == backward[1]).all()


def test_tables_are_permutations_of_their_own_seed():
    tables = draw_tables(0)
    assert tables.shape == (TABLES, SYMBOLS) and (np.sort(tables, axis=1) == np.arange(SYMBOLS)).all()
    assert len({tuple(row) for row in tables.tolist()}) == TABLES
    assert (draw_tables(1) != tables).any()
    indices = np.arange(100)
    answers = [task(**changes).source("iid").fetch(indices).target for changes in ({}, {"run": 1}, {"tables_seed": 1})]
    assert (answers[0] == answers[1]).all() and (answers[0] != answers[2]).any(), "they do not depend on the run"


def test_all_tables_are_in_training_and_the_last_two_only_alone():
    made = task()
    alone = strings(made, "train", 1, 2000)
    assert set(alone) == set(itertools.product(range(SYMBOLS), range(SYMBOLS, SYMBOLS + TABLES)))
    counts = np.unique(np.array(alone)[:, 1], return_counts=True)[1]
    assert np.abs(counts - 2000 / TABLES).max() < 60, "every table alike"
    for length, split in ((2, "train"), (5, "iid"), (10, "9-10")):
        functions = np.array(strings(made, split, length, 3000))[:, 1:]
        assert functions.max() == SYMBOLS + COMPOSED - 1
        shares = np.bincount(functions.ravel() - SYMBOLS) / functions.size
        assert shares == pytest.approx(np.full(COMPOSED, 1 / COMPOSED), abs=0.02)


def test_strings_longer_than_one_belong_to_one_split():
    made = task()
    two = {split: set(strings(made, split, 2, 6000)) for split in ("train", "valid", "iid")}
    assert set.union(*two.values()) == set(itertools.product(range(8), range(8, 17), range(8, 17)))
    assert sum(map(len, two.values())) == 8 * 9 * 9, "disjoint"
    assert len(two["train"]) / 648 == pytest.approx(0.75, abs=0.06)
    for length in (3, 5):
        found = [set(strings(made, split, length, 4000)) for split in two]
        assert not any(a & b for a, b in itertools.combinations(found, 2))
    assert set(strings(made, "valid", 1, 500)) & set(strings(made, "train", 1, 500)), "length 1 is shared"
    for length in range(1, 4):
        assert 2 ** ctl.log2_inputs(length) == pytest.approx(8 * (11 if length == 1 else 9**length))


def test_seeds():
    made, other = task(), task(run=1)
    assert strings(made, "train", 5, 50) != strings(other, "train", 5, 50)
    for split, length in (("valid", 5), ("iid", 5), ("9-10", 9)):
        assert strings(made, split, length, 50) == strings(other, split, length, 50) != strings(task(seed=1), split, length, 50)
    assert strings(made, "valid", 5, 50) != strings(made, "iid", 5, 50)


def test_an_example_is_the_same_alone():
    source = task("backward").source("train")
    together = source.fetch(np.arange(40))
    for i in (0, 7, 39):
        alone = source.fetch(np.array([i]))
        assert content_hash(alone.input)[0] == content_hash(together.input[i : i + 1, : alone.input.shape[1]])[0]
        assert alone.target[0, 0] == together.target[i, 0]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_answer_is_read_after_the_input(direction):
    made = task(direction)
    source = made.source("train")
    examples = source.fetch(source.indices(3))
    batch = made.encode(examples, made.width(5))
    empty = SYMBOLS + TABLES
    assert made.width(5) == 7 and made.vocabulary.inputs == empty + 1 + SYMBOLS and made.vocabulary.outputs == SYMBOLS
    for i, length in enumerate(examples.length):
        assert batch["inputs"][i].tolist() == examples.input[i, : length + 1].tolist() + [empty] * (6 - length)
        assert np.flatnonzero(batch["mask"][i]).tolist() == [length + 1] and batch["length"][i] == length + 2
        assert batch["targets"][i, length + 1] == examples.target[i, 0]


def test_states_are_the_values_so_far():
    made, tables = task(), draw_tables(0)
    source = made.source("train")
    examples = source.fetch(source.indices(20))
    states = made.states(examples.input)
    assert states.shape == examples.input.shape
    for i, length in enumerate(examples.length):
        symbol, *functions = examples.input[i, : length + 1].tolist()
        steps = itertools.accumulate(functions, lambda value, function: int(tables[function - SYMBOLS][value]), initial=symbol)
        assert states[i, : length + 1].tolist() == list(steps)
        assert states[i, length] == examples.target[i, 0]
    assert task("backward").states is None


def test_published_cells():
    cells = {(d, c.models[0], c.split): c for d in DIRECTIONS for c in task(d).published if c.source.endswith(("LSTM", "Transformer"))}
    values = {key: (cell.value, cell.spread) for key, cell in cells.items()}
    assert values == {
        ("forward", "lstm", "iid"): (1.0, None),
        ("forward", "lstm", "9-10"): (1.0, None),
        ("forward", "decoder", "iid"): (1.0, None),
        ("forward", "decoder", "9-10"): (0.13, 0.01),
        ("backward", "lstm", "iid"): (0.59, 0.03),
        ("backward", "lstm", "9-10"): (0.22, 0.03),
        ("backward", "decoder", "iid"): (0.82, 0.39),
        ("backward", "decoder", "9-10"): (0.12, 0.01),
    }
    for direction in DIRECTIONS:
        for cell in task(direction).published:
            assert (
                (cell.tag, cell.metric, cell.statistic) == ("V", "answer_accuracy", "mean")
                and "Table 1" in cell.source
                and cell.protocol.model
            )
            assert cell.split in ctl.SPLITS


@pytest.mark.parametrize(
    ("changes", "named"), [({"lengths": "5:1"}, "task.lengths"), ({"tables_seed": -1}, "tables_seed"), ({"seed": -1}, "task.seed")]
)
def test_impossible_configs(changes, named):
    with pytest.raises(UserError, match=named):
        CTLConfig(**{"name": "ctl/forward", **DEFAULTS, **changes})


def test_splits_by_name():
    made = task()
    assert made.splits == ctl.SPLITS and set(ctl.ABOUT) == set(DIRECTIONS)
    assert set(DEFAULTS) == {field.name for field in dataclasses.fields(CTLConfig)} - {"name"}
    assert made.source("11-12").lengths == (11, 12)
    with pytest.raises(UserError, match=r"9-10.*range such as"):
        made.source("test")
    with pytest.raises(UserError, match="empty range"):
        made.source("9-8")
