"""Trains one model on one task with one seed, evaluates it, and writes a report.

    assay train --config=experiments/reason/parity.py:lstm --workdir=runs/parity
    assay train --config=experiments/reason/parity.py:tiny --workdir=/tmp/tiny      (seconds)

--config names a file and one of its variants; its docstring says the question, the cost and the expected number.
--config.KEY=VALUE changes one key of it, such as --config.train.steps=2000 or --config.optimizer.learning_rate=1e-3.
The same command goes on where a stopped run ended; a finished run is printed. SIGTERM and Ctrl-C save and stop. --from_step=STEP goes back
to an older checkpoint, such as the newest good one where a disk has damaged the newest; newer ones are moved to set_aside/.
The folder then holds config.json, checkpoints/, metrics.jsonl, results.json, timing.json, predictions/, report.html and
tensorboard/; with --profile also profile/, a trace of some steps.
"""

from collections.abc import Mapping
from pathlib import Path

from absl import flags

from assay import config as configs
from assay.cli.command import launch
from assay.diagnostics.attention import picture
from assay.dist.launch import leader
from assay.reports.run import render
from assay.reports.terminal.run import print_table
from assay.reports.view import read_run
from assay.train import loop
from assay.train.workdir import WorkDir, write_text
from assay.treatments.pipeline.load import load, treatments

FLAGS = flags.FlagValues()
CONFIG = flags.DEFINE_string("config", "", "FILE.py:variant of the experiment; --config.KEY=VALUE changes a key.", flag_values=FLAGS)
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run.", flag_values=FLAGS)
PROFILE = flags.DEFINE_boolean("profile", False, "Write a trace of some steps to WORKDIR/profile, for XProf.", flag_values=FLAGS)
FROM_STEP = flags.DEFINE_integer(
    "from_step", None, "The checkpoint to go on from; newer ones are set aside. 0: from the start.", lower_bound=0, flag_values=FLAGS
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
    """Trains, evaluates and reports one run; a finished one is only printed, unless it shall go on from a step. Raises UserError."""
    config = configs.override(configs.load(spec), overrides)
    folder = WorkDir(workdir)
    folder.check_parts()
    before, missing = folder.results.stat().st_mtime_ns if folder.results.exists() else None, not folder.report.exists()
    loop.run(config, str(workdir), treatments(config.treatments), configs.experiment_name(spec), quiet, from_step, profile)
    if missing or folder.results.stat().st_mtime_ns != before:  # every process: they draw the picture of attention together
        report(workdir)
    if summary and not quiet and leader():
        print_table([read_run(workdir)])
        print(f"report: {folder.report}")
        if profile and folder.profile.is_dir():
            print(f"trace: {folder.profile} (TensorBoard's profile plugin or xprof reads it)")
        elif profile:
            print("no step was taken, so none is traced. Take a new --workdir, or --from_step.")


def report(workdir: str | Path, command: str = "") -> None:
    """Writes report.html of one run, with the command that makes it again; not given: that of a run that was trained from its config."""
    folder = WorkDir(workdir)
    view = read_run(workdir)
    if not command:
        command = f"python -m experiments.main --config=experiments/{view.config['experiment'].replace(':', '.py:')} --workdir={workdir}"
    view = view._replace(attention=picture(*load(workdir)))
    write_text(folder.report, render([view], view.config["experiment"], command))


def main(overrides: dict[str, str]) -> None:
    run(CONFIG.value, overrides, WORKDIR.value, from_step=FROM_STEP.value, profile=PROFILE.value)


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, required=("config", "workdir"))
