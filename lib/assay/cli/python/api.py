"""Provides the public functions of `assay`: the verbs as functions that return values. `import assay` loads this file on first use."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from assay import config as configs
from assay.cli import compare as comparing
from assay.cli import diagnose as diagnosing
from assay.cli import treat as treating
from assay.cli.python.board import Board, fit_file
from assay.cli.python.shown import Card, Diagnosed, Rows, diagnosed
from assay.cli.train import report
from assay.config.modules import explaining
from assay.core.errors import UserError
from assay.diagnostics.subject import Subject
from assay.train import loop
from assay.train.treatment import Treatment
from assay.train.workdir import WorkDir
from assay.treatments.pipeline.load import treatments as named
from assay.verdicts import card as cards
from assay.verdicts.diagnosis import Diagnosis


def run(
    config: str | ConfigDict,
    workdir: str | Path,
    overrides: Mapping[str, Any] = {},
    treatments: Sequence[Treatment] | None = None,
    quiet: bool = True,
) -> Rows:
    """Trains, evaluates and reports one run, and returns the rows of its results.json; those of a finished run are read.

    The rows are a list of dicts that a notebook shows as a table, with `to_dataframe()` and `save("report.html")`.

    Args:
      config: a config, or the name or file of one, such as "parity:tiny" or "./mine.py".
      workdir: the work directory of the run. The same call resumes a stopped run.
      overrides: dotted keys of the config and their values, such as {"train.steps": 100}.
      treatments: treatments as values, instead of those that the config names.
      quiet: True shows no progress.

    Raises UserError for mistakes that can be fixed, such as an unknown key or a folder that holds another run.

    >>> rows = assay.run("parity:tiny", "runs/tiny", {"train.steps": 16, "evaluate.splits": "iid"})
    >>> rows[0]["task"], rows[0]["split"], rows[0]["steps"]
    ('chomsky/parity_check', 'iid', 16)
    >>> rows.save("page.html")
    """
    loaded = configs.load(config) if isinstance(config, str) else config
    changed = {key: _text(value) for key, value in overrides.items()}
    made = configs.override(loaded, changed)
    name = configs.experiment_name(config) if isinstance(config, str) else ""
    source = configs.source_of(config) if isinstance(config, str) else ""
    with explaining(workdir):
        applied = named(made.treatments) if treatments is None else treatments
        results = loop.run(made, str(workdir), applied, name, quiet, source=source, overrides=changed)
    if treatments is None and not WorkDir(workdir).report.exists():
        report(workdir)
    return Rows(results["rows"], workdir)


def fit(
    data: Any,
    workdir: str | Path,
    *,
    test: Any = None,
    target: str = "",
    text: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    regression: bool = False,
    metric: str = "",
    group: str | Sequence[str] = (),
    quality: str = "fast",
    budget: str | float = "",
    seed: int = 0,
    overrides: Mapping[str, Any] = {},
    quiet: bool = True,
) -> Board:
    """Trains on your own data, beside a simple learner, and returns the leaderboard; its `sentence` says which of them to use.

    The work directory is then a run, for `load`, `diagnose`, `treat` and `compare`.

    Args:
      data: a file (CSV, TSV, JSONL, Parquet, Arrow), a data set saved by Hugging Face, a folder with one folder of pictures for each class,
        or a DataFrame.
      workdir: the work directory of the run.
      test: data to test on. Default: a part of `data` is held out.
      target: column to predict. Default: found by its name.
      text, ignore: columns to read as text, and not to read.
      regression: True to predict a number.
      metric: of early stopping, choice and leaderboard: accuracy, f1_macro, auroc, nll, ece; exact_match, jaccard; rmse, mae, r2; or a
        registered one.
      group: columns by whose values the metric is also listed, in `groups`.
      quality: "fast", "good" or "best": how many models are tried.
      budget: time to train in: seconds, or a text such as "5m".
      seed: of the training.
      overrides: dotted keys of the config and their values, such as {"train.steps": 100}.
      quiet: True prints nothing and shows no progress.

    Raises UserError for data that cannot be read, and where it is not certain which column to predict.

    >>> from pathlib import Path
    >>> words = ["fine", "grand", "poor", "dull"]
    >>> lines = [f"{words[i % 4]} thing {i},{'good' if i % 4 < 2 else 'bad'}" for i in range(40)]
    >>> _ = Path("reviews.csv").write_text("text,label\\n" + "\\n".join(lines))
    >>> board = assay.fit("reviews.csv", "runs/reviews", budget=5)
    >>> [row["title"] for row in board], board.sentence[:4]
    (['the commonest answer', 'TF-IDF with logistic regression', 'the bag of words'], 'Use ')
    >>> assay.load("runs/reviews").predict("a grand thing")[0]["label"] in ("bad", "good")
    True
    """
    asked = {"test": test, "target": target, "text": text, "ignore": ignore, "regression": regression, "metric": metric, "group": group}
    asked |= {"quality": quality, "budget": str(budget), "seed": seed}
    return fit_file(data, workdir, asked, {key: _text(value) for key, value in overrides.items()}, quiet)


def diagnose(run: str | Path | Subject, quick: bool = False, name: str = "yours") -> Diagnosed:
    """Measures what limits a model, and returns the diagnosis: its `rows`, and `suggestions` of treatments.

    A notebook shows it as a table; `to_dataframe()` and `save("diagnosis.html")` give the rows and the page.

    Args:
      run: the work directory of a run, to which diagnosis.json and diagnosis.html are written; or an external model, as
        returned by `assay.from_nnx`, `from_keras` and the like.
      quick: True uses fewer examples and less time.
      name: the name of an external model, as pages show it.

    Raises UserError if there is no checkpoint.

    >>> found = assay.diagnose("runs/tiny", quick=True)
    >>> {"reasoning", "generalisation", "cost"} <= {row.group for row in found.rows if row.applies}
    True
    """
    if isinstance(run, Subject):
        return diagnosed(diagnosing.examined(run, name))
    return diagnosed(diagnosing.diagnose(run, quick), diagnosing.command_of(run, quick))


def suggest(workdir: str | Path) -> list[dict[str, Any]]:
    """Returns the treatments that the diagnosis of a run suggests, most promising first. Diagnoses the run if necessary.

    Each is {number, treatment, rule, row, expects, effect, unit}: the treatment, the reason, and the row that is expected to change, with
    the direction and size of the change. `assay.treat(workdir, suggestion["treatment"], ...)` applies it.

    >>> all(one["treatment"] and one["rule"] for one in assay.suggest("runs/tiny"))
    True
    """
    return comparing.diagnosed(str(workdir), quick=True).suggestions


def treat(
    source: str | Path,
    treatments: str | Sequence[str],
    workdir: str | Path,
    overrides: Mapping[str, Any] = {},
    seconds: float = 20.0,
    control: bool = True,
) -> list[dict[str, Any]]:
    """Applies treatments to a finished run, stage by stage, and returns the rows of stages.json: the cost and score of each stage.

    Args:
      source: the work directory of the run, which is not changed.
      treatments: one treatment or several in order, such as ["prune:units=0.5", "quantize:int8"].
      workdir: the work directory of the treated run.
      overrides: dotted keys of every stage's config and their values.
      seconds: seconds to measure latency and throughput, all stages together.
      control: True also trains as many updates without the treatments, which `compare` judges the treated run against.

    Raises UserError for a treatment that does not apply.

    >>> rows = assay.treat("runs/tiny", "prune:sparsity=0.5,steps=0", "runs/pruned", seconds=0.1)
    >>> [row["name"] for row in rows]
    ['untreated', '1_prune']
    """
    listed = [treatments] if isinstance(treatments, str) else list(treatments)
    treating.treat(str(source), listed, str(workdir), {key: _text(value) for key, value in overrides.items()}, seconds, control, False)
    path = Path(workdir) / treating.STAGES
    paths = [path] if path.exists() else sorted(Path(workdir).glob(f"seed_*/{treating.STAGES}"))
    return [row for one in paths for row in json.loads(one.read_text(encoding="utf-8"))["rows"]]


def compare(
    before: str | Path | Diagnosis, after: str | Path | Sequence[str | Path] | Mapping[str, Diagnosis], seconds: float = 20.0
) -> Card:
    """Compares a run with one or more others, row by row of their diagnoses, and returns the card as plain JSON data.

    The card is a dict that a notebook shows as a table, with `to_dataframe()` and `save("card.html")`.

    Args:
      before: the work directory of a run, or a diagnosis.
      after: the work directory of another run of the same task, or several; diagnoses by name if `before` is a diagnosis.
      seconds: seconds to measure latency and throughput in turns, all runs together.

    Raises UserError if the runs have different tasks or examples.

    >>> card = assay.compare("runs/tiny", "runs/pruned", seconds=0.5)
    >>> next(row["after"]["pruned"]["verdict"] for row in card["rows"] if row["name"] == "parameters")
    'no difference'
    """
    if isinstance(before, Diagnosis):
        if not isinstance(after, Mapping):
            raise UserError("if `before` is a diagnosis, `after` must hold diagnoses by name: compare(before, {'name': after}).")
        return Card(cards.build(before, after))
    if isinstance(after, Mapping):
        raise UserError("if `before` is the folder of a run, `after` must be folders of runs: compare('runs/A', ['runs/B']).")
    listed = [after] if isinstance(after, str | Path) else list(after)
    return Card(comparing.card_of(str(before), [str(path) for path in listed], seconds))


# -- private --------------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """Returns the value as text, as in `--config.KEY=VALUE`."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
