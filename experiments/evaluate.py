"""Evaluates a run again, on other lengths or splits, without training.

    python -m experiments.evaluate --workdir=runs/demo/lstm/seed_0 --lengths=501:1000
    python -m experiments.evaluate --workdir=runs/demo/lstm/seed_0 --split=valid --per_length=64
    python -m experiments.evaluate --workdir=runs/path_star --split=test --samples=8 --temperature=0.7

Writes predictions/<split>.jsonl, puts the split's rows into results.json (in place of rows that it had) and renews report.html.
"""

from absl import flags

from assay.cli import train as conduct
from assay.cli.command import launch
from assay.core.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a run that has a checkpoint.")
LENGTHS = flags.DEFINE_multi_string("lengths", [], "FIRST:LAST, both included; may be given several times.")
SPLIT = flags.DEFINE_multi_string("split", [], "Name of a split, such as iid or valid; may be given several times.")
PER_LENGTH = flags.DEFINE_integer("per_length", 0, "Examples of each length; 0: as the run's config says.", lower_bound=0)
SAMPLES = flags.DEFINE_integer(
    "samples", 0, "Answers drawn for each example, for a vote and a verifier; 0: as the config says.", lower_bound=0
)
TEMPERATURE = flags.DEFINE_float("temperature", None, "Of the draw; not given: as the run's config says.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 0, "Examples in one compiled call; 0: as the run's config says.", lower_bound=0)


def main(overrides: dict[str, str]) -> None:
    changes = {
        "per_length": PER_LENGTH.value,
        "batch_size": BATCH_SIZE.value,
        "samples": SAMPLES.value,
    }
    if TEMPERATURE.value is not None:
        if not SAMPLES.value:
            raise UserError("--temperature is that of drawn answers: give --samples=N too.")
        changes["temperature"] = TEMPERATURE.value
    conduct.evaluate(
        WORKDIR.value,
        SPLIT.value,
        LENGTHS.value,
        {name: value for name, value in changes.items() if value or name == "temperature"},
        overrides,
    )


if __name__ == "__main__":
    launch(main, __doc__, required=("workdir",))
