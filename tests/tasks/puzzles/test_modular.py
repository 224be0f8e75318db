"""Equations modulo a prime against a table searched by hand; shares of the splits, and that none is in two."""

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.tasks.puzzles import modular
from assay.tasks.task import text


def make(name: str = "add", run_seed: int = 0, **changes):
    return modular.build(modular.ModularConfig(f"modular/{name}", **{**modular.DEFAULTS, **changes}), run_seed)


def equations(task, split: str) -> list[tuple[int, str, int, int]]:
    source = task.source(split)
    examples = source.fetch(np.arange(source.size))
    shown = [text(source.describe(examples, i)["input"], task.symbols).split() for i in range(source.size)]
    return [(int(x), sign, int(y), int(c)) for (x, sign, y), c in zip(shown, examples.target[:, 0], strict=True)]


def holds(x: int, sign: str, y: int, c: int, p: int) -> bool:
    """Subtraction and division by what they undo."""
    return {"+": (x + y - c) % p == 0, "-": (y + c) % p == x, "*": sum([x] * y) % p == c, "/": y > 0 and (c * y) % p == x}[sign]


@pytest.mark.parametrize("name", modular.OPERATIONS)
def test_every_equation_is_in_one_split_and_holds(name):
    task = make(name)
    parts = {split: equations(task, split) for split in task.splits}
    every = [equation for part in parts.values() for equation in part]
    ys = range(1 if name == "divide" else 0, 97)
    assert {(x, y) for x, _, y, _ in every} == {(x, y) for x in range(97) for y in ys} and len(every) == 97 * len(ys)
    assert all(holds(x, sign, y, c, 97) and 0 <= c < 97 for x, sign, y, c in every)
    train, rest = len(parts["train"]), len(every) - len(parts["train"])
    assert train == round(len(every) / 2) and len(parts["valid"]) == round(rest / 10) and len(parts["test"]) == rest - len(parts["valid"])


def test_the_share_and_the_seed_of_the_split():
    parts = [set(equations(make(modulus=13, share=share, split_seed=seed), "train")) for share, seed in ((0.3, 0), (0.6, 0), (0.3, 1))]
    assert [len(part) for part in parts] == [round(0.3 * 169), round(0.6 * 169), round(0.3 * 169)]
    assert parts[0] < parts[1] and parts[0] != parts[2]
    assert set(equations(make(modulus=13, share=0.3, run_seed=5), "train")) == parts[0], "the run's seed changes nothing"
    rows = np.array([equation[0] for equation in equations(make(), "train")])
    assert np.bincount(rows, minlength=97).std() < 8, "no row of the table is left out"
    train, subtract = ({(x, y) for x, _, y, _ in equations(make(name), "train")} for name in ("add", "subtract"))
    assert train == subtract


@pytest.mark.parametrize("name", modular.OPERATIONS)
def test_the_answer_is_read_at_the_equals_sign(name):
    task = make(name, modulus=7)
    source = task.source("train")
    examples = source.fetch(np.arange(source.size))
    batch = task.encode(examples, task.width(int(examples.length[0])))
    assert batch["inputs"].shape[1] == 4 and (batch["inputs"][:, 1] == 7).all() and (batch["inputs"][:, 3] == 8).all()
    assert (batch["mask"] == [[0, 0, 0, 1]]).all() and (batch["targets"][:, 3] == examples.target[:, 0]).all()
    assert task.vocabulary.outputs == 7 and task.chance == 1 / 7 and task.metrics == ("answer_accuracy",) and task.published == ()
    assert task.free_running == 0


@pytest.mark.parametrize(
    "changes", [{"modulus": 91}, {"modulus": 3}, {"share": 0.0}, {"share": 1.0}, {"modulus": 5, "share": 0.9}, {"split_seed": -1}], ids=str
)
def test_mistakes_name_the_key(changes):
    with pytest.raises(UserError, match=f"task.{list(changes)[-1]}"):
        make(**changes)
