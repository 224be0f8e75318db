"""Several runs side by side: each config with each seed, in WORKDIR/<variant>/seed_<n>, joined in one table and one page.

    assay study --config=experiments/reason/parity.py:lstm --config=experiments/reason/parity.py:transformer \\
        --seeds=0:4 --workdir=runs/study
    assay study --suite=reasoning --budget=10m --workdir=runs/reasoning

--seeds=0:4 is 0 to 4, both included; --seeds=0,3 is 0 and 3. --config.KEY=VALUE changes a key of every config.
Finished runs are skipped, stopped ones go on: the same command completes a study. A suite is a grid of tasks against models
(assay/config/suites.py); --budget leaves out what would take longer, and the same command with more time adds it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from assay import config as configs
from assay.cli import suite
from assay.cli.command import launch
from assay.config.seeds import label, seeds_of, seeds_text
from assay.config.suites import SUITES
from assay.core.errors import UserError, unknown
from assay.diagnostics.attention import picture
from assay.dist.launch import leader
from assay.evals.rows import mean_rows
from assay.reports.run import render
from assay.reports.terminal.run import print_table
from assay.reports.view import RunView, read_run
from assay.train import loop
from assay.train.workdir import WorkDir, write_text
from assay.treatments.pipeline.load import load, treatments

FLAGS = flags.FlagValues()
CONFIG = flags.DEFINE_multi_string("config", [], "FILE.py:variant of an experiment; may be given several times.", flag_values=FLAGS)
SUITE = flags.DEFINE_string("suite", "", "Name of a suite, in place of --config.", flag_values=FLAGS)
BUDGET = flags.DEFINE_string("budget", "", "Time for a suite, such as 10m; empty: all of it.", flag_values=FLAGS)
SEEDS = flags.DEFINE_string("seeds", "0", "FIRST:LAST, both included, or a list such as 0,3.", flag_values=FLAGS)
WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of the study. Default: runs/<name of the first config, or of the suite>.", flag_values=FLAGS
)


def study(specs: Sequence[str], seeds: Sequence[int], overrides: Mapping[str, str], workdir: str | Path) -> None:
    """Trains each missing run in `workdir/<variant>/seed_<n>`, and writes the joined results.json and report.html. Raises UserError."""
    root = Path(workdir)
    if "seed" in overrides:
        raise UserError("a study takes its seeds from --seeds=FIRST:LAST, not from --config.seed.")
    if (root / "config.json").exists():
        raise UserError(f"{root} holds a single run. Give the study another --workdir.")
    names = [label(spec) for spec in specs]
    if len(set(names)) < len(names):
        raise UserError(f"two configs have the same name ({', '.join(names)}), so their runs would share a folder. Give each once.")
    planned = []
    for spec, name in zip(specs, names, strict=True):  # every config is checked before the first run starts
        for seed in seeds:
            config = configs.override(configs.load(spec), {**overrides, "seed": str(seed)})
            planned.append((spec, name, config, treatments(config.treatments), root / name / f"seed_{seed}"))
    views = []
    for spec, name, config, treated, path in planned:
        loop.run(config, str(path), treated, configs.experiment_name(spec))
        views.append(read_run(path, name))
    views = _with_picture(views, [path for *_, path in planned])
    means = mean_rows([row for view in views for row in view.rows])
    shown = views + [RunView(name, {}, [row for row in means if label(row["experiment"]) == name], [], {}) for name in names if means]
    rows = [row for view in views for row in view.rows] + means
    command = " ".join(
        ["python -m experiments.study", *(f"--config={spec}" for spec in specs), f"--seeds={seeds_text(seeds)}"]
        + [f"--config.{key}={value}" for key, value in overrides.items()]
        + [f"--workdir={workdir}"]
    )
    WorkDir.write_json(root / "results.json", {"schema": 1, "rows": rows, "environment": views[0].environment, "command": command})
    task = views[0].rows[0]["task"] if views and views[0].rows else "study"
    write_text(root / "report.html", render(shown, task, command))
    if leader():
        print_table(shown)
        print(f"report: {root / 'report.html'}")


def main(overrides: dict[str, str]) -> None:
    if bool(CONFIG.value) == bool(SUITE.value):
        raise UserError("give either --config, once for each, or --suite=NAME. See --help.")
    if BUDGET.value and not SUITE.value:
        raise UserError("--budget is for a suite: its runs have an order and estimates. Give --suite=NAME, or leave out --budget.")
    seeds = seeds_of(SEEDS.value)
    if not SUITE.value:
        study(CONFIG.value, seeds, overrides, WORKDIR.value or f"runs/{label(CONFIG.value[0])}")
        return
    if SUITE.value not in SUITES:
        raise unknown("suite", SUITE.value, SUITES, "--suite")
    about, entries = SUITES[SUITE.value]
    suite.run(SUITE.value, about, entries, seeds, overrides, BUDGET.value, WORKDIR.value or f"runs/{SUITE.value}")


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS)


# -- private --------------------------------------------------------------------------------------------------------------


def _with_picture(views: list[RunView], paths: Sequence[Path]) -> list[RunView]:
    """One attention picture for the page: of the last run that has attention, since treated runs are named last."""
    first_seeds = {view.label: i for i, view in reversed(list(enumerate(views)))}
    for i in sorted(first_seeds.values(), reverse=True):
        drawn = picture(*load(paths[i]))
        if drawn is not None:
            views[i] = views[i]._replace(attention=drawn)
            break
    return views
