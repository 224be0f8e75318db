"""Trains one model on one task with one seed, evaluates it, and writes a report.

    assay train --config=parity:lstm --workdir=runs/parity
    assay train --config=parity:tiny --workdir=runs/tiny                                  (a few seconds)
    assay train --config=parity:lstm --config.train.steps=2000 --workdir=runs/short

--config names a config and one of its variants: NAME:VARIANT for a config that ships with assay (see `assay list`), or
FILE.py:VARIANT for one of your own. The docstring of the config states its question, cost and expected result.
--config.KEY=VALUE overrides one key, such as --config.optimizer.learning_rate=1e-3.

WORKDIR then contains config.json, checkpoints/, metrics.jsonl, results.json, timing.json, predictions/, report.html and
tensorboard/. With --profile, it also contains profile/, a trace of some steps.

Run the same command again to resume a stopped run. For a finished run, it prints the results. SIGTERM and Ctrl-C save a
checkpoint and stop. --from_step=STEP resumes from an older checkpoint, for example if the newest one is damaged on disk.
Newer checkpoints are moved to set_aside/.
"""

from collections.abc import Mapping
from pathlib import Path

from absl import flags

from assay import config as configs
from assay.cli.command import launch
from assay.config.modules import OWN
from assay.config.reproduce import training_command
from assay.diagnostics.attention import picture
from assay.dist.launch import leader
from assay.reports.run import render
from assay.reports.terminal.run import print_table
from assay.reports.view import read_run
from assay.train import loop
from assay.train.treatment import links
from assay.train.workdir import OVERRIDES, WorkDir, write_text
from assay.treatments.pipeline.load import load, treatments

FLAGS = flags.FlagValues()
CONFIG = flags.DEFINE_string(
    "config", "", "Config of the run, as NAME:VARIANT or FILE.py:VARIANT; --config.KEY=VALUE overrides a key.", flag_values=FLAGS
)
WORKDIR = flags.DEFINE_string("workdir", "", "Work directory of the run; created if it does not exist.", flag_values=FLAGS)
PROFILE = flags.DEFINE_boolean("profile", False, "Write a trace of some steps to WORKDIR/profile, for XProf.", flag_values=FLAGS)
FROM_STEP = flags.DEFINE_integer(
    "from_step",
    None,
    "Step of the checkpoint to resume from; newer ones move to set_aside/. 0 restarts from scratch. Default: the newest.",
    lower_bound=0,
    flag_values=FLAGS,
)


def run(
    spec: str,
    overrides: Mapping[str, str],
    workdir: str | Path,
    quiet: bool = False,
    summary: bool = True,
    from_step: int | None = None,
    profile: bool = False,
) -> None:
    """Trains, evaluates and reports one run. A finished run is only printed, unless `from_step` is given. Raises UserError."""
    config = configs.override(configs.load(spec), overrides)
    folder = WorkDir(workdir)
    folder.check_parts()
    before, missing = folder.results.stat().st_mtime_ns if folder.results.exists() else None, not folder.report.exists()
    loop.run(
        config,
        str(workdir),
        treatments(config.treatments),
        configs.experiment_name(spec),
        quiet,
        from_step,
        profile,
        configs.source_of(spec),
        overrides,
    )
    if missing or folder.results.stat().st_mtime_ns != before:  # in every process: together they compute the attention picture
        report(workdir)
    if summary and not quiet and leader():
        print_table([read_run(workdir)])
        print(f"report: {folder.report}")
        if profile and folder.profile.is_dir():
            print(f"trace: {folder.profile} (open it with TensorBoard's profile plugin or xprof)")
        elif profile:
            print("no step was taken, so no trace was written. Choose a new --workdir, or set --from_step.")


def report(workdir: str | Path, command: str = "") -> None:
    """Writes report.html of one run, with the `command` that reproduces it. Empty: the command that trains its config."""
    folder = WorkDir(workdir)
    view = read_run(workdir)
    command = command or command_of(workdir)
    view = view._replace(attention=picture(*load(workdir)))
    write_text(folder.report, render([view], view.config["experiment"], command))


def command_of(workdir: str | Path) -> str:
    """Returns the command that trains the run of a work directory again, with a comment on what no command can say.

    For a model made elsewhere it is a call of Python, since a command does not know its code.
    """
    written = WorkDir(workdir).read_config()
    if str(written["model"].get("name")).startswith(OWN):
        changed = written.get(OVERRIDES, {}) | ({"seed": written["seed"]} if written["seed"] else {})
        start = f", start={written['model']['start']!r}" if written["model"].get("start") != "given" else ""
        return f"assay.fit(subject, {str(workdir)!r}{f', {changed!r}' if changed else ''}{start})"
    command = training_command(written, str(workdir))
    if links(treatments(written["treatments"])) != written["composition"]:
        command += "  # with the treatments that were passed to assay.run"
    return command


def main(overrides: dict[str, str]) -> None:
    run(CONFIG.value, overrides, WORKDIR.value, from_step=FROM_STEP.value, profile=PROFILE.value)


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, required=("config", "workdir"))
