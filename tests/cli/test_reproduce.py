"""The command under "Reproduce" trains the same run again, to the bit: taken from the page and run in another folder."""

import html
import json
import re
import shlex
from pathlib import Path

import assay
from assay.cli import train
from assay.cli.command import split_overrides
from assay.config.files import shipped

ROWS = "".join(f"{('good', 'fine', 'nice')[i % 3]} {i},pos\nbad ugly sad {i},neg\n" for i in range(20))
CONFIG = """
from assay.config import texts
from experiments.text.bilstm_classifier import get_config as shipped

def get_config(variant):
    config = shipped("tiny")
    config.task = texts("csv", max_length=8, tokenizer_size=50)
    return config
"""


def command_of(page: Path) -> list[str]:
    (found,) = re.findall(r'id="reproduce">.*?<pre>(.*?)</pre>', page.read_text(encoding="utf-8"), re.DOTALL)
    return shlex.split(html.unescape(found), comments=True)


def again(words: list[str], folder: Path) -> None:
    """Runs `assay train` by its own function, with another work directory."""
    rest, overrides = split_overrides(words)
    assert rest[:2] == ["assay", "train"]
    (spec,) = [word.removeprefix("--config=") for word in rest if word.startswith("--config=")]
    train.run(spec, overrides, folder, quiet=True, summary=False)


def test_a_run_with_files_treatments_and_a_seed_comes_back(tmp_path, monkeypatch):
    """A config of the user's own, CSV files, a seed and a list of treatments with options, evaluated again before the page is read."""
    (tmp_path / "my data.csv").write_text(f"text,label\n{ROWS}")
    (tmp_path / "mine.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    overrides = {
        "task.train": "my data.csv",
        "seed": "3",
        "train.steps": "2",
        "evaluate.splits": "('valid')",
        "treatments": "l2:weight=0.01,paths=kernel$,accumulate:parts=2",
        "train.batch_size": "8",
    }
    train.run("mine.py", overrides, "first", quiet=True, summary=False)
    train.report("first")
    words = command_of(Path("first/report.html"))
    assert "--workdir=first" in words and "--config.task.train=my data.csv" in words
    again(words, Path("second"))
    results = [json.loads((Path(run) / "results.json").read_text())["rows"] for run in ("first", "second")]
    losses = [[json.loads(line)["loss"] for line in (Path(run) / "metrics.jsonl").read_text().splitlines()] for run in ("first", "second")]
    for row in results[0] + results[1]:
        del row["overrides"]  # the page's command leaves out those that change nothing
    assert results[0] == results[1] and losses[0] == losses[1] and results[0][0]["seed"] == 3


def test_treatments_that_no_command_can_name_are_told(tmp_path):
    spec = f"{shipped() / 'reason' / 'parity.py'}:lstm,tiny"
    changes = {"train.steps": 0, "evaluate.splits": "iid", "evaluate.per_length": 1}
    half = assay.Treatment(objective=lambda objective: objective, name="nothing much")
    assay.run(spec, tmp_path / "run", changes, treatments=[half])
    command = train.command_of(tmp_path / "run")
    assert command.endswith("# with the treatments that were passed to assay.run") and "--config.train.steps=0" in command
