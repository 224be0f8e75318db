"""Compares runs on the same examples: paired differences, intervals, p-values corrected by Holm.

    python -m experiments.compare --before=runs/A --after=runs/B [--after=runs/C ...] [--out=DIR] [--seconds=20]
    python -m experiments.compare --workdir=runs/overfitting --baseline=none --split=test
    python -m experiments.compare --workdir=runs/a --workdir=runs/b --baseline=a --split=valid --metric=nll
    python -m experiments.compare --workdir=runs/overfitting --baseline=none --plot=differences.svg
    python -m experiments.compare --pareto --workdir=runs/small [--workdir=runs/small2 ...] [--plot=pareto.svg]

With --before and --after every row of two or more diagnoses stands side by side, with a verdict each: in the terminal, and as card.html and
card.json in --out. A run that has no diagnosis of its checkpoint is diagnosed first. Times are measured again, all runs in turns.
With --baseline the variants of a study are compared with one of them by one score. A variant is the folder WORKDIR/<variant>/seed_<n>
of a study, or a run by its folder's name. Runs with one name and one seed in several work directories, such as folds, count as one: the
mean of their scores. With --pareto the stages of a treatment (WORKDIR/stages.json) stand side by side, by score, size on disk and latency,
and the picture of their Pareto fronts is written to WORKDIR/pareto.svg.
"""

import json
import sys
from pathlib import Path

from absl import flags

from assay.cli.command import launch
from assay.cli.compare import card_of, write_card
from assay.core.errors import UserError
from assay.dist.launch import leader
from assay.reports.drawings.differences import differences
from assay.reports.drawings.pareto import as_json as stages_as_json
from assay.reports.drawings.pareto import pareto, print_stages, stages_of
from assay.reports.drawings.plots import standalone
from assay.reports.terminal.card import print_card
from assay.train.workdir import check_writable, write_text
from assay.verdicts.card import crashed
from assay.verdicts.comparison import as_json, compare, print_comparison, runs_of

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Folder of a finished run or study; may be given several times.")
BASELINE = flags.DEFINE_string("baseline", "", "Name of the variant that the others are compared with.")
SPLIT = flags.DEFINE_string("split", "test", "Name of an evaluated split.")
METRIC = flags.DEFINE_string("metric", "", "A score of predictions/SPLIT.jsonl; empty: the headline.")
FORMAT = flags.DEFINE_enum("format", "text", ["text", "jsonl"], "For people, or a JSON object a line.")
PLOT = flags.DEFINE_string(
    "plot", "", "A file that the picture is written to, as SVG; empty: none, and WORKDIR/pareto.svg of the first with --pareto."
)
PARETO = flags.DEFINE_bool("pareto", False, "Score against size and latency, from WORKDIR/stages.json, in place of paired differences.")
BEFORE = flags.DEFINE_string("before", "", "Folder of the run that others are set against, row by row of their diagnoses.")
AFTER = flags.DEFINE_multi_string(
    "after", [], "Folder of a run after a treatment, or of any other of the task; may be given several times."
)
OUT = flags.DEFINE_string("out", "", "Folder that card.html and card.json are written to; empty: that of the first --after.")
SECONDS = flags.DEFINE_float("seconds", 20.0, "Seconds in which times are measured, of all runs together.")
OF_CARDS, OF_SCORES = ("before", "after", "out", "seconds"), ("workdir", "baseline", "split", "metric", "format", "plot", "pareto")


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("compare takes no --config overrides: it reads what runs have written.")
    cards, scores = ([f"--{name}" for name in names if flags.FLAGS[name].present] for names in (OF_CARDS, OF_SCORES))
    if cards and scores:
        raise UserError(
            f"{' and '.join(cards)} and {' and '.join(scores)} are of two comparisons. Give --before and --after, or --workdir."
        )
    if cards:
        _card()
        return
    if not WORKDIR.value:
        raise UserError("missing --before and --after, or --workdir. See --help.")
    if PARETO.value:
        _pareto()
        return
    if not BASELINE.value:
        raise UserError("missing --baseline. See --help.")
    found = compare(runs_of(WORKDIR.value), BASELINE.value, SPLIT.value, METRIC.value)
    if PLOT.value:
        write_text(Path(PLOT.value), standalone(differences(found)))
    if FORMAT.value == "text":
        print_comparison(found)
        return
    for one in found:
        print(json.dumps(as_json(one)))


def _card() -> None:
    missing = [f"--{flag.name}" for flag in (BEFORE, AFTER) if not flag.value]
    if missing:
        raise UserError(f"missing {' and '.join(missing)}. See --help.")
    out = OUT.value or AFTER.value[0]
    check_writable(out)  # a card takes minutes
    card = card_of(BEFORE.value, AFTER.value, SECONDS.value)
    rows, page = write_card(card, out)
    if leader():
        print_card(card)
        print(f"card: {rows}\npage: {page}")
    failed = crashed(card)
    if failed:
        print(f"error: {', '.join(failed)} could not be measured; the rows say what happened.", file=sys.stderr)
        sys.exit(1)


def _pareto() -> None:
    if BASELINE.value or METRIC.value:
        raise UserError("--pareto takes neither --baseline nor --metric: stages.json holds one metric, and its first row is the baseline.")
    found = stages_of(WORKDIR.value)
    path = Path(PLOT.value) if PLOT.value else Path(WORKDIR.value[0]) / "pareto.svg"
    write_text(path, standalone(pareto(found)))
    if FORMAT.value == "text":
        print_stages(found)
        print(f"picture: {path}")
        return
    for one in stages_as_json(found):
        print(json.dumps(one))


if __name__ == "__main__":
    launch(main, __doc__)
