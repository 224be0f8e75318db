"""Evaluates a run again, on other lengths or splits, without training.

    assay evaluate --workdir=runs/demo/lstm/seed_0 --lengths=501:1000
    assay evaluate --workdir=runs/demo/lstm/seed_0 --split=valid --per_length=64
    assay evaluate --workdir=runs/path_star --split=test --samples=8 --temperature=0.7

Writes predictions/<split>.jsonl, puts the split's rows into results.json (in place of rows that it had) and renews report.html.
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
from assay.train.measure import labels_of, measure
from assay.train.state import final_params
from assay.train.workdir import WorkDir
from assay.treatments.pipeline.load import rebuild, restore

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a run that has a checkpoint.", flag_values=FLAGS)
LENGTHS = flags.DEFINE_multi_string("lengths", [], "FIRST:LAST, both included; may be given several times.", flag_values=FLAGS)
SPLIT = flags.DEFINE_multi_string("split", [], "Name of a split, such as iid or valid; may be given several times.", flag_values=FLAGS)
PER_LENGTH = flags.DEFINE_integer(
    "per_length", 0, "Examples of each length; 0: as the run's config says.", lower_bound=0, flag_values=FLAGS
)
SAMPLES = flags.DEFINE_integer(
    "samples", 0, "Answers drawn for each example, for a vote and a verifier; 0: as the config says.", lower_bound=0, flag_values=FLAGS
)
TEMPERATURE = flags.DEFINE_float("temperature", None, "Of the draw; not given: as the run's config says.", flag_values=FLAGS)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 0, "Examples in one compiled call; 0: as the run's config says.", lower_bound=0, flag_values=FLAGS
)


def evaluate(
    workdir: str | Path, splits: Sequence[str], lengths: Sequence[str], changes: Mapping[str, float], overrides: Mapping[str, str]
) -> None:
    """Evaluates more splits of a run that is there, and joins their rows to its results. Raises UserError."""
    if overrides:
        known = "--lengths, --split, --per_length, --batch_size, --samples, --temperature"
        raise UserError(f"evaluate takes no --config overrides: the run's own hold. Use {known}.")
    ranges = [f"{first}-{last}" for first, last in (span(text, "--lengths") for text in lengths)]
    wanted = [*splits, *ranges]
    if not wanted:
        raise UserError("nothing to evaluate: give --lengths=FIRST:LAST or --split=NAME.")
    processes.start()
    folder = WorkDir(workdir)
    before = folder.read_results()["rows"] if folder.results.exists() else []
    try:
        made = rebuild(workdir, {"evaluate": {"splits": wanted, **changes}})
    except UserError as error:  # its keys are flags here
        raise UserError(str(error).replace("--config.evaluate.splits", "--lengths").replace("--config.evaluate.", "--")) from None
    state = restore(made, workdir)
    labels = labels_of(made, folder.read_config()["experiment"])._replace(steps=int(state.step))
    rows = measure(made, folder, final_params(state, made.treatment)["model"], make_mesh(MeshConfig(-1, 1, 1)), labels)
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
            raise UserError("--temperature is that of drawn answers: give --samples=N too.")
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
