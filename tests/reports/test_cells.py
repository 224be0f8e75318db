"""The page of published values: one line per cell, the verdict and its reason, and the differences of every run beside it."""

import json

import pytest

from assay.reports.cells import page, published_of
from assay.tasks.cells import cells
from assay.verdicts.published import VERDICTS
from assay.verdicts.result_file import read

CONFIG = {
    "model": {"name": "lstm", "width": 64, "depth": 1},
    "train": {"batch_size": 128},
    "task": {"lengths": "1:40", "convention": "code"},
}


def row(split, value, seed, **changes):
    made = {"experiment": "reason/parity:lstm", "task": "chomsky/parity_check", "model": "lstm", "treatment": "none", "split": split}
    made |= {"metric": "answer_accuracy", "value": value, "unit": "fraction", "n": 100, "seed": seed, "steps": 1000, "published": []}
    return made | {"interval": [value - 0.05, min(value + 0.05, 1.0)], "interval_method": "W", "baselines": {"chance": 0.5}} | changes


@pytest.fixture
def folder(tmp_path):
    rows = [row(split, 0.98, seed) for split in ("iid", "41-500") for seed in range(3)]
    found = {"command": "assay study --config=parity:lstm --workdir=W", "environment": {"commit": "0123456789"}, "rows": rows}
    (tmp_path / "parity.json").write_text(json.dumps({**found, "configs": {"reason/parity:lstm": CONFIG}}))
    return tmp_path


def test_every_cell_has_one_line_and_one_verdict(folder):
    text = page(folder)
    total = sum(map(len, cells().values()))
    lines = [line for line in text.splitlines() if line.startswith("| ") and (line.count(" | ") == 6) and "---" not in line]
    assert len([line for line in lines if not line.startswith("| published model")]) == total
    title, _, answer = text.splitlines()[:3]
    assert title.endswith("?") and answer.startswith(f"**Of {total} published cells: 1 reproduced") and f"{total - 1} not run" in answer
    assert all(f"| {verdict} | " in text for verdict in VERDICTS)


def test_a_reproduction_names_value_file_protocol_differences_and_command(folder):
    text = page(folder)
    (line,) = (one for one in text.splitlines() if "**reproduced**" in one)
    assert line.startswith("| LSTM | 41-500 | 100.0 % best [V] | P1 | `parity:lstm`: 98.00 % (93.00\N{EN DASH}100.00), best of 3 seeds")
    assert line.endswith("| [parity](parity.json) |")
    assert "width 64 (published 256); updates 1,000 (published 1,000,000)" in text
    assert "- **P1** LSTM; width 256; " in text and "best of 30 runs (10 seeds, 3 learning rates)" in text
    assert "| [parity](parity.json) | `0123456` | `assay study --config=parity:lstm --workdir=W` |" in text


def test_a_value_that_is_not_comparable_stands_in_the_notes_only(folder):
    found = json.loads((folder / "parity.json").read_text())
    found["rows"] = [one for one in found["rows"] if one["seed"] == 0]
    (folder / "parity.json").write_text(json.dumps(found))
    text = page(folder)
    (line,) = (one for one in text.splitlines() if "**not comparable**" in one)
    assert "98.00" not in line and "a maximum beside 1 seed; 3 are needed" in text
    key = ("parity", "chomsky/parity_check", "reason/parity:lstm", "none", "", "41-500", "answer_accuracy")
    assert published_of([read(folder / "parity.json")]) == {key: "not comparable"}
