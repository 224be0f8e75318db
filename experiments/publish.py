"""Makes a finished study small enough to commit: experiments/results/NAME.json and NAME.svg, and a Markdown table on the terminal.

python -m experiments.publish --workdir=runs/demo --name=parity_demo
"""

from absl import flags

from assay.card.publish import publish
from assay.core.command import launch
from assay.core.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a finished study.")
NAME = flags.DEFINE_string("name", "", "Name of the files.")
OUT = flags.DEFINE_string("out", "experiments/results", "Folder of the files.")


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("publish takes no --config overrides: it reads what a study has written.")
    print(publish(WORKDIR.value, NAME.value, OUT.value))


if __name__ == "__main__":
    launch(main, __doc__, required=("workdir", "name"))
