"""`assay.register`: as a function and as decorators, for each kind; and what a registered metric takes and returns."""

import dataclasses
import math

import numpy as np
import pytest

import assay
from assay.cli.python.register import TABLES
from assay.config import generated
from assay.core.errors import UserError
from assay.diagnostics.measurement import Measurement
from assay.diagnostics.table import Diagnostic, examine
from assay.evals import rows as rows_of
from assay.evals.rows import value_of
from assay.evals.summary import SUMMARIES
from assay.models.families import FAMILIES, Family
from assay.tasks.table import TASKS, Entry
from assay.train.experiment import assemble
from assay.treatments.pipeline.load import treatments


@pytest.fixture(autouse=True)
def _as_before():
    """What a test registers is gone afterwards."""
    tables = [*TABLES.values(), generated.KEYS]
    known, lower = [dict(table) for table in tables], set(rows_of.LOWER_IS_BETTER)
    yield
    for table, before in zip(tables, known, strict=True):
        table.clear()
        table.update(before)
    rows_of.LOWER_IS_BETTER.clear()
    rows_of.LOWER_IS_BETTER.update(lower)


@dataclasses.dataclass(frozen=True)
class Keys:
    name: str = "mine/task"
    size: int = 3


def test_decorators_make_the_entries_of_their_tables_and_return_the_function():
    @assay.register.treatment
    def nothing(share: float = 0.5) -> assay.Treatment:
        return assay.Treatment()

    @assay.register.treatment("nothing_named")
    def other() -> assay.Treatment:
        return assay.Treatment()

    @assay.register.model("mine", config=Keys)
    def build_model(config, vocabulary, dtype):
        return FAMILIES["mlp"].build(config, vocabulary, dtype)

    @assay.register.task("mine/task", config=Keys)
    def build_task(config, seed):
        """Two numbers -> their sum.

        More.
        """

    @assay.register.diagnostic(group="mine")
    def length_of_names(subject):
        return [Measurement("mine", "letters", float(len(subject)))]

    assert isinstance(nothing(0.1), assay.Treatment) and isinstance(other(), assay.Treatment)
    assert [one.name for one in treatments(["nothing:share=0.1", "nothing_named"])] == ["nothing:share=0.1", "nothing_named"]
    assert FAMILIES["mine"] == Family(Keys, build_model)
    assert TASKS["mine/task"] == Entry(Keys, build_task, {"size": 3}, ("train", "valid", "test"), "Two numbers -> their sum.")
    assert generated.KEYS["mine/task"] == {"size": 3}
    assert TABLES["diagnostic"]["length_of_names"] == Diagnostic("mine", ("length_of_names",), length_of_names)
    found = examine("abc")  # the others crash, and say so
    assert [row.value for row in found if row.group == "mine"] == [3.0] and found[0].crashed


def test_names_that_are_taken_and_wrong_entries_are_refused():
    taken = "a {} named {!r} already exists. Choose another name."
    for kind, name, entry in (("treatment", "l2", lambda: None), ("model", "lstm", FAMILIES["lstm"]), ("task", "digits", TASKS["digits"])):
        with pytest.raises(UserError, match=taken.format(kind, name)):
            assay.register(kind, name, entry)
    for name in ("f1_macro", "accuracy", "nll"):  # a summary, and scores, which would hide it
        with pytest.raises(UserError, match=taken.format("metric", name)):
            assay.register.metric(name)(lambda predictions, targets: 0.0)
    with pytest.raises(UserError, match=r"unknown kind 'models'\. Did you mean 'model'"):
        assay.register("models", "mine", FAMILIES["lstm"])
    with pytest.raises(UserError, match=r"the model 'mine' is function, not Family .*decorator register\.model"):
        assay.register("model", "mine", lambda: None)
    with pytest.raises(UserError, match=r"the treatment 'mine' is Treatment, not a function that returns a Treatment"):
        assay.register("treatment", "mine", assay.Treatment())
    with pytest.raises(UserError, match=r"register\.model\(config=.* needs a frozen dataclass"):
        assay.register.model("mine", config=dict)
    with pytest.raises(UserError, match="unknown direction 'up'"):
        assay.register.metric(better="up")
    with pytest.raises(UserError, match="'' is not the name"):
        assay.register("treatment", "", lambda: None)


RECORDS = [{"prediction": [0, one], "target": [0, 1], "length": 2, "scores": {"answer_accuracy": float(one)}} for one in (0, 1, 1, 1)]


def test_a_metric_is_a_function_of_all_predictions_and_targets():
    seen = []

    @assay.register.metric(unit="points", better="lower")
    def distance(predictions, targets):
        seen.append((predictions, targets))
        return np.float32(sum(one != other for one, other in zip(predictions, targets, strict=True)))

    assert value_of(RECORDS, "distance", by_length=True) == 1.0
    assert seen[0] == ([[0, 0], [0, 1], [0, 1], [0, 1]], [[0, 1]] * 4)  # lists of tokens stay lists
    assert "distance" in rows_of.LOWER_IS_BETTER and SUMMARIES["distance"].unit == "points"
    assert value_of(RECORDS, "answer_accuracy", by_length=False) == 0.75


FAILING = ((lambda predictions, targets: 1 / 0, "ZeroDivisionError: division by zero"), (lambda predictions, targets: None, "TypeError"))


@pytest.mark.parametrize(("function", "told"), FAILING)
def test_a_metric_that_fails_is_one_message(function, told):
    assay.register.metric("fails")(function)
    with pytest.raises(UserError, match=rf"the metric '<lambda>' raised {told}.*--config.train.metric"):
        value_of(RECORDS, "fails", by_length=False)


def test_a_run_is_scored_by_the_metric_that_it_names(tiny):
    @assay.register.metric("share")
    def share(predictions, targets):
        return math.nan

    made = assemble(tiny("lstm", {"train.metric": "share"}), [])
    assert made.task.metrics == ("share", "answer_accuracy")
    assert assemble(tiny("lstm", {"train.metric": "answer_accuracy"}), []).task.metrics == ("answer_accuracy",)
    assert assemble(tiny("lstm"), []).task.metrics == ("answer_accuracy",)
    with pytest.raises(UserError, match=r"unknown metric of chomsky/parity_check 'f1_macro'.*Known: answer_accuracy, share.*train.metric"):
        assemble(tiny("lstm", {"train.metric": "f1_macro"}), [])
