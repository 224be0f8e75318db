"""Trains several configs with several seeds, and joins their results in one table and one report.

    assay study --config=parity:lstm --config=parity:transformer --seeds=0:4 --workdir=runs/study
    assay study --suite=reasoning --budget=10m --workdir=runs/reasoning

--seeds=0:4 runs the seeds 0 to 4, both inclusive; --seeds=0,3 runs 0 and 3. --config.KEY=VALUE overrides a key of every
config. A suite is a grid of tasks and models, defined in assay/config/suites.py. --budget skips the runs that are
expected to exceed the remaining time; the same command with a larger budget adds them.

Each run is written to WORKDIR/<variant>/seed_<n>, and in a suite to WORKDIR/<task>/<model>/seed_<n>. Each holds the
files of `assay train`. WORKDIR/results.json and WORKDIR/report.html hold the joined results. Run the same command again
to complete a study: finished runs are skipped, and stopped runs resume.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from assay import config as configs
from assay.cli import suite
from assay.cli.command import launch
from assay.config import modules
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
from assay.train.workdir import WorkDir, held, write_text
from assay.treatments.pipeline.load import load, treatments

FLAGS = flags.FlagValues()
CONFIG = flags.DEFINE_multi_string("config", [], "Config of a run, as NAME:VARIANT or FILE.py:VARIANT", flag_values=FLAGS)
SUITE = flags.DEFINE_string("suite", "", "Name of a suite, instead of --config.", flag_values=FLAGS)
BUDGET = flags.DEFINE_string("budget", "", "Time budget of a suite, such as 90s, 10m or 2h. Default: no limit.", flag_values=FLAGS)
SEEDS = flags.DEFINE_string("seeds", "0", "Seeds as FIRST:LAST, both inclusive, or as a list such as 0,3.", flag_values=FLAGS)
WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of the study. Default: runs/<name of the first config or of the suite>.", flag_values=FLAGS
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
        raise UserError(f"two configs have the same name ({', '.join(names)}), so their runs would share a folder. Give each config once.")
    planned = []
    for spec, name in zip(specs, names, strict=True):  # every config is checked before the first run starts
        for seed in seeds:
            config = configs.override(configs.load(spec), {**overrides, "seed": str(seed)})
            planned.append((spec, name, config, treatments(config.treatments), root / name / f"seed_{seed}"))
    with held(root):
        views = []
        for spec, name, config, treated, path in planned:
            loop.run(config, str(path), treated, configs.experiment_name(spec), source=configs.source_of(spec), overrides=overrides)
            views.append(read_run(path, name))
        views = _with_picture(views, [path for *_, path in planned])
        means = mean_rows([row for view in views for row in view.rows])
        shown = views + [RunView(name, {}, [row for row in means if label(row["experiment"]) == name], [], {}) for name in names if means]
        rows = [row for view in views for row in view.rows] + means
        command = shlex.join(
            ["assay", "study", *(f"--config={spec}" for spec in specs), f"--seeds={seeds_text(seeds)}"]
            + [f"--import={name}" for name in modules.given()]
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
        raise UserError("give either --config, once per config, or --suite=NAME. See --help.")
    if BUDGET.value and not SUITE.value:
        raise UserError(
            "--budget applies only to a suite, whose runs have an order and estimated times. Give --suite=NAME, or omit --budget."
        )
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
    """Adds one attention picture to the page: that of the last run with attention, since treated runs are listed last."""
    first_seeds = {view.label: i for i, view in reversed(list(enumerate(views)))}
    for i in sorted(first_seeds.values(), reverse=True):
        drawn = picture(*load(paths[i]))
        if drawn is not None:
            views[i] = views[i]._replace(attention=drawn)
            break
    return views
