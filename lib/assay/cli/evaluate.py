"""Evaluates a run on other lengths or splits, without training.

    assay evaluate --workdir=runs/parity --lengths=501:1000
    assay evaluate --workdir=runs/parity --split=valid --per_length=64
    assay evaluate --workdir=runs/path_star --split=test --samples=8 --temperature=0.7

Writes WORKDIR/predictions/<split>.jsonl, and updates WORKDIR/results.json and WORKDIR/report.html. New rows of a split
replace its existing rows; the rows of other splits stay.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from assay.cli.command import launch
from assay.cli.train import report
from assay.config.schema import span
from assay.core.errors import UserError
from assay.dist import launch as processes
from assay.dist.launch import leader
from assay.dist.mesh import MeshConfig, make_mesh
from assay.reports.terminal.run import print_table
from assay.reports.view import read_run
from assay.train.measure import labels_of, measure, settled
from assay.train.workdir import OVERRIDES, WorkDir, held
from assay.treatments.pipeline.load import rebuild, restore

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "", "Work directory of a run that has a checkpoint.", flag_values=FLAGS)
LENGTHS = flags.DEFINE_multi_string("lengths", [], "Range of lengths FIRST:LAST, both inclusive", flag_values=FLAGS)
SPLIT = flags.DEFINE_multi_string("split", [], "Name of a split, such as iid or valid", flag_values=FLAGS)
PER_LENGTH = flags.DEFINE_integer(
    "per_length", 0, "Number of examples per length; 0 uses the run's config.", lower_bound=0, flag_values=FLAGS
)
SAMPLES = flags.DEFINE_integer(
    "samples",
    0,
    "Answers sampled per example, for voting and best-of-n by a verifier; 0 uses the run's config.",
    lower_bound=0,
    flag_values=FLAGS,
)
TEMPERATURE = flags.DEFINE_float(
    "temperature", None, "Sampling temperature; needs --samples. Default: the run's config.", flag_values=FLAGS
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 0, "Number of examples per compiled call; 0 uses the run's config.", lower_bound=0, flag_values=FLAGS
)


def evaluate(
    workdir: str | Path, splits: Sequence[str], lengths: Sequence[str], changes: Mapping[str, float], overrides: Mapping[str, str]
) -> None:
    """Evaluates more splits of a trained run, and adds their rows to its results. Raises UserError."""
    if overrides:
        known = "--lengths, --split, --per_length, --batch_size, --samples, --temperature"
        raise UserError(f"evaluate takes no --config overrides, since it uses the run's own config. Use {known}.")
    ranges = [f"{first}-{last}" for first, last in (span(text, "--lengths") for text in lengths)]
    wanted = [*splits, *ranges]
    if not wanted:
        raise UserError("nothing to evaluate: give --lengths=FIRST:LAST or --split=NAME.")
    processes.start()
    folder = WorkDir(workdir)
    try:
        made = rebuild(workdir, {"evaluate": {"splits": wanted, **changes}})
    except UserError as error:  # here its keys are flags
        raise UserError(str(error).replace("--config.evaluate.splits", "--lengths").replace("--config.evaluate.", "--")) from None
    with held(workdir):
        before = folder.read_results()["rows"] if folder.results.exists() else []
        state = restore(made, workdir)
        written = folder.read_config()
        labels = labels_of(made, written["experiment"], written.get(OVERRIDES, {}))._replace(steps=int(state.step))
        rows = measure(made, folder, settled(made, folder, state), make_mesh(MeshConfig(-1, 1, 1)), labels)
        replaced = {row["split"] for row in rows}
        folder.write_results([*(row for row in before if row["split"] not in replaced), *rows])
        report(workdir)
    if leader():
        print_table([read_run(workdir)._replace(rows=rows)])
        print(f"report: {folder.report}")


def main(overrides: dict[str, str]) -> None:
    changes: dict[str, float] = {
        "per_length": PER_LENGTH.value,
        "batch_size": BATCH_SIZE.value,
        "samples": SAMPLES.value,
    }
    if TEMPERATURE.value is not None:
        if not SAMPLES.value:
            raise UserError("--temperature applies to sampled answers. Also give --samples=N.")
        changes["temperature"] = TEMPERATURE.value
    evaluate(
        WORKDIR.value,
        SPLIT.value,
        LENGTHS.value,
        {name: value for name, value in changes.items() if value or name == "temperature"},
        overrides,
    )


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS, required=("workdir",))
