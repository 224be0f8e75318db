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
from assay.cli.python import own, treated
from assay.cli.python.board import Board, fit_file
from assay.cli.python.shown import Card, Diagnosed, Rows, Stages, Suggestions, diagnosed
from assay.cli.train import report
from assay.config.modules import explaining
from assay.core.errors import UserError
from assay.diagnostics.subject import Subject
from assay.train import loop
from assay.train.treatment import Treatment
from assay.train.workdir import WorkDir
from assay.treatments.pipeline import load as loading
from assay.treatments.pipeline.load import Loaded
from assay.treatments.pipeline.load import treatments as named
from assay.verdicts import card as cards
from assay.verdicts.diagnosis import Diagnosis

FILES = {  # options of data in files, with their defaults
    "test": None,
    "target": "",
    "text": (),
    "ignore": (),
    "regression": False,
    "group": (),
    "quality": "fast",
    "budget": "",
    "issues": True,
}


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
    changed = _texts(overrides)
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
    overrides: Mapping[str, Any] = {},
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
    issues: bool = True,
    start: str = "given",
    quiet: bool = True,
) -> Board | Rows:
    """Trains on your own data, or trains a model made elsewhere on its own; the work directory is then a run.

    Of data, it trains a model beside a simple learner, and returns the leaderboard; its `sentence` says which of them to use. Of a model,
    it returns the rows of the run, as `assay.run` does. `diagnose`, `treat`, `compare` and `load` take the run; of a model made elsewhere
    as long as the process has been given its subject, which a run does not hold.

    Args:
      data: a file (CSV, TSV, JSONL, Parquet, Arrow), a data set saved by Hugging Face, a folder with one folder of pictures for each class,
        or a DataFrame. Or a model with its data, as returned by `assay.from_linen`, `from_nnx` and the like.
      workdir: the work directory of the run. The same call resumes a stopped run.
      overrides: dotted keys of the config and their values, such as {"train.steps": 100}.
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
      issues: False leaves out the search for what may be wrong with the data.
      start: of a model made elsewhere: "given" trains further from its parameters; "fresh" begins with new ones, for Linen and Haiku.
      quiet: True prints nothing and shows no progress.

    A model made elsewhere takes `overrides`, `metric`, `seed`, `start` and `quiet`; it stops early by the split `valid`, which is held out
    of `train` if its data have none.

    Raises UserError for data that cannot be read, where it is not certain which column to predict, for a model without gradients
    (`from_predict`), and for a folder that holds another run.

    >>> from pathlib import Path
    >>> words = ["fine", "grand", "poor", "dull"]
    >>> lines = [f"{words[i % 4]} thing {i},{'good' if i % 4 < 2 else 'bad'}" for i in range(40)]
    >>> _ = Path("reviews.csv").write_text("text,label\\n" + "\\n".join(lines))
    >>> board = assay.fit("reviews.csv", "runs/reviews", {"train.steps": 8}, issues=False)
    >>> [row["title"] for row in board], board.sentence[:4]
    (['the commonest answer', 'TF-IDF with logistic regression', 'the bag of words'], 'Use ')
    >>> assay.load("runs/reviews").predict("a grand thing")[0]["label"] in ("bad", "good")
    True
    >>> x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    >>> data = {"train": (x[:30], x[:30].sum(axis=1)), "test": (x[30:], x[30:].sum(axis=1))}
    >>> subject = assay.from_function(lambda params, x: x @ params["w"], {"w": np.zeros((3, 1))}, data, name="sums")
    >>> rows = assay.fit(subject, "runs/mine", {"train.steps": 200, "optimizer.learning_rate": 0.1})
    >>> next(row["value"] > 0.9 for row in rows if (row["split"], row["metric"]) == ("test", "r2"))
    True
    """
    asked = {"test": test, "target": target, "text": text, "ignore": ignore, "regression": regression, "group": group, "quality": quality}
    asked |= {"budget": str(budget), "issues": issues}
    if isinstance(data, Subject):
        given = [name for name, value in asked.items() if value is not FILES[name] and (name == "test" or value != FILES[name])]
        if given:
            raise UserError(f"{given[0]} is an option of data in files, and the model has its own. Leave it out.")
        changed = {**overrides, **({"train.metric": metric} if metric else {}), **({"seed": seed} if seed else {})}
        return Rows(own.fit(data, workdir, _texts(changed), start, quiet), workdir)
    return fit_file(data, workdir, {**asked, "metric": metric, "seed": seed}, _texts(overrides), quiet)


def load(
    workdir: str | Path, treated: Sequence[Treatment] | None = None, step: int | None = None, subject: Subject | None = None
) -> Loaded:
    """Returns the treated model, its parameters and the task of a run: three values, with `predict` for new inputs.

    The parameters are those of the most recent checkpoint, or of the best checkpoint if the run used early stopping, or of `step`.

    Args:
      workdir: work directory of the run.
      treated: the run's treatments, if some were passed from a notebook and are not listed in its config.
      step: the checkpoint to load, such as one that `checkpoint.keep_every` kept; 0: the parameters before the first step.
      subject: the model and the data of the run, if it was trained on a model made elsewhere. The process then knows them.

    Raises UserError if there is no such checkpoint, and for a run of another subject.

    >>> model, params, task = assay.load("runs/tiny")
    >>> batch = task.encode(task.source("iid").fetch(np.arange(2)), task.width(8))
    >>> model.apply(params, batch).logits.shape
    (2, 9, 2)
    """
    if subject is not None:
        own.check(subject, workdir)
    return loading.load(workdir, treated, step)


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
        return diagnosed(diagnosing.examined(run, name, quick=quick), f"assay.diagnose(subject{', quick=True' if quick else ''})")
    return diagnosed(diagnosing.diagnose(run, quick), diagnosing.command_of(run, quick))


def suggest(run: str | Path | Subject) -> Suggestions:
    """Returns the treatments that the diagnosis of a run suggests, most promising first. Diagnoses the run if necessary.

    `run` is a work directory, or a model made elsewhere. A notebook shows the list as a table; it has `to_dataframe()` and `save(path)`.
    Each is {number, treatment, rule, row, expects, effect, unit}: the treatment, the reason, and the row that is expected to change, with
    the direction and size of the change. `assay.treat(run, suggestion["treatment"], ...)` applies it.

    >>> all(one["treatment"] and one["rule"] for one in assay.suggest("runs/tiny"))
    True
    """
    if isinstance(run, Subject):
        return Suggestions(diagnosing.examined(run).suggestions, run.task.name)
    return Suggestions(comparing.diagnosed(str(run), quick=True).suggestions, str(run))


def treat(
    source: str | Path | Subject,
    treatments: str | Sequence[str],
    workdir: str | Path,
    overrides: Mapping[str, Any] = {},
    seconds: float = 20.0,
    control: bool = True,
) -> Stages:
    """Applies treatments to a finished run, stage by stage, and returns the rows of stages.json: the cost and score of each stage.

    A notebook shows the rows as a table; they have `to_dataframe()` and `save("report.html")`.

    Args:
      source: the work directory of the run, which is not changed; or a model made elsewhere, which is treated as it was given.
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
    listed, changed = [treatments] if isinstance(treatments, str) else list(treatments), _texts(overrides)
    if isinstance(source, Subject):
        treated.treat(source, listed, workdir, changed, seconds, control)
    else:
        treating.treat(str(source), listed, str(workdir), changed, seconds, control, False)
    path = Path(workdir) / treating.STAGES
    paths = [path] if path.exists() else sorted(Path(workdir).glob(f"seed_*/{treating.STAGES}"))
    return Stages((row for one in paths for row in json.loads(one.read_text(encoding="utf-8"))["rows"]), workdir)


def compare(
    before: str | Path | Diagnosis | Subject,
    after: str | Path | Subject | Sequence[str | Path] | Mapping[str, Diagnosis | Subject],
    seconds: float = 20.0,
) -> Card:
    """Compares a run with one or more others, row by row of their diagnoses, and returns the card as plain JSON data.

    The card is a dict that a notebook shows as a table, with `to_dataframe()` and `save("card.html")`.

    Args:
      before: the work directory of a run, a diagnosis, or a model made elsewhere.
      after: the work directory of another run of the same task, or several; a model made elsewhere; diagnoses and models by name.
      seconds: seconds to measure latency and throughput in turns, all models together.

    Raises UserError if the models have different tasks or examples.

    >>> card = assay.compare("runs/tiny", "runs/pruned", seconds=0.5)
    >>> next(row["after"]["pruned"]["verdict"] for row in card["rows"] if row["name"] == "parameters")
    'no difference'
    """
    named = after if isinstance(after, Mapping) else {"after": after} if isinstance(after, Subject | Diagnosis) else {}
    if isinstance(before, Subject) or any(isinstance(one, Subject) for one in named.values()):
        return Card(treated.compare(before, named or _by_name(after), seconds))
    if isinstance(before, Diagnosis):
        diagnoses = {name: one for name, one in after.items() if isinstance(one, Diagnosis)} if isinstance(after, Mapping) else {}
        if not diagnoses:
            raise UserError("if `before` is a diagnosis, `after` must hold diagnoses by name: compare(before, {'name': after}).")
        return Card(cards.build(before, diagnoses))
    if isinstance(after, Mapping | Diagnosis):
        raise UserError("if `before` is the folder of a run, `after` must be folders of runs: compare('runs/A', ['runs/B']).")
    return Card(comparing.card_of(str(before), [str(path) for path in _by_name(after).values()], seconds))


# -- private --------------------------------------------------------------------------------------------------------------


def _by_name(after: Any) -> dict[str, Any]:
    """Returns the folders of runs by name. Raises UserError for anything else."""
    paths = [after] if isinstance(after, str | Path) else list(after)
    if not paths or not all(isinstance(path, str | Path) for path in paths):
        raise UserError("`after` must be folders of runs; pass models and diagnoses by name: compare(before, {'name': after}).")
    return dict(zip(comparing.short_names([str(path) for path in paths]), paths, strict=True))


def _texts(overrides: Mapping[str, Any]) -> dict[str, str]:
    return {key: _text(value) for key, value in overrides.items()}


def _text(value: Any) -> str:
    """Returns the value as text, as in `--config.KEY=VALUE`."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
