"""Compares the variants of a study with one of them, on the same examples: paired differences, intervals, p-values corrected by Holm.

    python -m experiments.compare --workdir=runs/overfitting --baseline=none --split=test
    python -m experiments.compare --workdir=runs/a --workdir=runs/b --baseline=a --split=valid --metric=nll
    python -m experiments.compare --workdir=runs/overfitting --baseline=none --plot=differences.svg

A variant is the folder WORKDIR/<variant>/seed_<n> of a study, or a run by its folder's name. Runs with one name and one seed in several
work directories, such as folds, count as one: the mean of their scores.
"""

import json
from pathlib import Path

from absl import flags

from assay.card.compare import as_json, compare, print_comparison, runs_of
from assay.card.differences import differences
from assay.card.plots import standalone
from assay.core.command import launch
from assay.core.errors import UserError
from assay.train.workdir import write_text

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a finished run or study; may be given several times.")
BASELINE = flags.DEFINE_string("baseline", "", "Name of the variant that the others are compared with.")
SPLIT = flags.DEFINE_string("split", "test", "Name of an evaluated split.")
METRIC = flags.DEFINE_string("metric", "", "A score of predictions/SPLIT.jsonl; empty: the headline.")
FORMAT = flags.DEFINE_enum("format", "text", ["text", "jsonl"], "For people, or a JSON object a line.")
PLOT = flags.DEFINE_string("plot", "", "A file that the picture of the differences is written to, as SVG; empty: none.")


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("compare takes no --config overrides: it reads what runs have written.")
    found = compare(runs_of(WORKDIR.value), BASELINE.value, SPLIT.value, METRIC.value)
    if PLOT.value:
        write_text(Path(PLOT.value), standalone(differences(found)))
    if FORMAT.value == "text":
        print_comparison(found)
        return
    for one in found:
        print(json.dumps(as_json(one)))


if __name__ == "__main__":
    launch(main, __doc__, required=("workdir", "baseline"))
