"""Makes a finished study small enough to commit: experiments/results/NAME.json and NAME.svg, and a Markdown table on the terminal.

python -m experiments.publish --workdir=runs/demo --name=parity_demo
python -m experiments.publish --readme=README.md                        renders all of experiments/results into the README's tables
"""

from absl import flags

from assay.cli.command import launch
from assay.cli.publish import publish
from assay.core.errors import UserError
from assay.reports.results import render
from experiments.reason.chomsky import POSITIONS

REGULAR = ("parity_check", "even_pairs", "cycle_navigation", "modular_arithmetic")
LONGER = ("reverse_string", "stack_manipulation", "duplicate_string", "odds_first")  # than a finite state
PLANNED = (  # (tasks, experiment, variants): what the reasoning suite asks for; without a file it is shown as not run
    (tuple(f"chomsky/{name}" for name in (*REGULAR, *LONGER)), "reason/chomsky", tuple(POSITIONS)),
    (tuple(f"chomsky/{name}" for name in (*REGULAR[1:], *LONGER)), "reason/chomsky", ("lstm",)),  # parity's is reason/parity:lstm
    (("ctl/forward", "ctl/backward"), "reason/table_lookup", ("lstm", "universal", "relative", "gate", "geometric", "more_loops")),
    (("scan/length", "scan/jump", "scan/turn_left"), "reason/scan", ("lstm", "transformer")),
    (("recall/induction",), "reason/induction", ("rotary", "learned", "alibi", "none", "randomised", "local")),
    (("modular/divide",), "reason/grokking", ("decay", "none")),
    (("addition",), "reason/addition", ("plain", "reversed", "alone", "coupled")),
    (("path_star",), "reason/path_star", ("forward", "reversed")),
    (("recall/mqar",), "reason/recall", ("attention", "lstm")),
    (("recall/p_hop",), "reason/recall", ("flat", "looped")),
    (("listops/depth", "arithmetic/nested"), "reason/trees", ("lstm", "universal", "geometric")),
)

WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a finished study.")
NAME = flags.DEFINE_string("name", "", "Name of the files.")
README = flags.DEFINE_string("readme", "", "A README whose table of results is written anew from the folder of the files.")
OUT = flags.DEFINE_string("out", "experiments/results", "Folder of the files.")


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("publish takes no --config overrides: it reads what a study has written.")
    if not (WORKDIR.value and NAME.value) and not README.value:
        raise UserError("nothing to publish: give --workdir and --name of a study, or --readme=README.md.")
    if WORKDIR.value or NAME.value:
        print(publish(WORKDIR.value, NAME.value, OUT.value))
    if README.value:
        planned = [(task, f"{experiment}:{name}") for tasks, experiment, variants in PLANNED for task in tasks for name in variants]
        render(README.value, OUT.value, planned)


if __name__ == "__main__":
    launch(main, __doc__)
