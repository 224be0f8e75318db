"""Published cells: each names its source, tag, statistic and protocol, and is that of its task."""

import pytest

from assay.tasks.cells import cells
from assay.tasks.published import PLAIN, TAGS, TRANSFORMERS, is_beside, protocol_text, shown
from assay.tasks.table import TASKS, build

EVERY = cells()


@pytest.mark.parametrize("task", EVERY)
def test_a_cell_names_its_source_and_protocol(task):
    for cell in EVERY[task]:
        assert cell.tag in TAGS and cell.statistic in ("max", "mean") and cell.source
        assert (cell.value is None) == (cell.tag == "bound") == (cell.range is not None)
        assert cell.protocol.model and cell.protocol.trained and cell.protocol.model in protocol_text(cell)
        assert "quoted in" in cell.source or cell.tag != "V2", "a value at second hand names where it was read"
        if cell.models == TRANSFORMERS:
            assert cell.needs["model.window"] == (0,) and cell.needs["model.mixers"] == (("attention",),), "full attention"
        assert shown(cell).keys() == {"value", "spread", "range", "statistic", "source", "tag", "protocol"}


@pytest.mark.parametrize("task", ["chomsky/parity_check", "chomsky/reverse_string", "scan/jump", "ctl/backward", "arithmetic/nested"])
def test_a_task_holds_its_cells(task):
    made = build({"name": task, **TASKS[task].defaults}, 0)
    assert made.published == EVERY[task]
    assert {cell.metric for cell in made.published} <= set(made.metrics)


def test_two_protocols_of_the_formal_tasks_stand_in_two_splits():
    found = EVERY["chomsky/cycle_navigation"]
    farther, nearer = ([cell for cell in found if cell.split == split] for split in ("41-500", "40-256"))
    assert len(farther) + len(nearer) == len(found)
    assert {(cell.models[0], cell.value, cell.statistic, cell.tag) for cell in nearer} == {
        ("lstm", 1.0, "mean", "V2"),
        ("decoder", 0.244, "mean", "V2"),
    }
    assert all(cell.protocol.chosen == "best validation accuracy" and "quoted in" in cell.source for cell in nearer)
    assert {cell.statistic for cell in farther} == {"max"} and all("10 seeds" in cell.protocol.runs for cell in farther)
    text = protocol_text(nearer[0])
    assert "mean of 5 configurations, each the best validation accuracy" in text
    assert text.endswith("not stated: layers, width, updates, batch size")
    assert protocol_text(nearer[1]).endswith("batch size, attention, positions"), "what was not read in the source"
    encoder = protocol_text(next(cell for cell in farther if cell.models == TRANSFORMERS))
    assert "full attention; 5 layers; width 64; 8 heads" in encoder and "not stated" not in encoder


def test_the_other_range_can_be_evaluated():
    source = build({"name": "chomsky/parity_check", **TASKS["chomsky/parity_check"].defaults}, 0).source("40-256")
    assert source.lengths == (40, 256) and source.name == "40-256"


def test_a_window_a_loop_or_another_family_is_not_beside_a_plain_transformer():
    cell = next(one for one in EVERY["chomsky/parity_check"] if one.models == TRANSFORMERS)
    model = {"mixers": ["attention"], "window": 0, "loops": 1, "gate": False, "attention_weights": "softmax", "test_loops": 0}
    assert {f"model.{key}" for key in model} == set(PLAIN)
    assert is_beside(cell, "decoder", model)
    for key, value in {"window": 80, "loops": 2, "gate": True, "mixers": ["attention", "lstm"], "test_loops": 20}.items():
        assert not is_beside(cell, "decoder", {**model, key: value}), key
    assert not is_beside(cell, "encoder_decoder", model)
    (best, *_) = (one for one in EVERY["scan/length"] if not one.models)
    assert not is_beside(best, "lstm", {}) and not is_beside(best, "gru", {}), "a part that no model here has"
