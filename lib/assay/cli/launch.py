"""Starts a command in several processes on this machine, which compute together as those of a cluster do.

    assay launch --processes=2 -- assay train --config=experiments/reason/parity.py:tiny --workdir=/tmp/two
    assay launch --processes=2 --devices=2 -- ...      (each with two simulated CPU devices)

Process 0 writes the files and speaks. SIGTERM and Ctrl-C are handed on: all save at the same step and stop. Where one process dies, the
others are stopped within 20 s, and the same command goes on from the last checkpoint.

On a cluster, whatever starts the processes takes this verb's place; each verb has the flags
    --coordinator=HOST:PORT --processes=16 --process=3      where nobody else knows
    --coordinator=auto                                      under Slurm, Open MPI, Kubernetes or on TPUs, where JAX finds it out
"""

import sys

from absl import flags

from assay.cli.command import launch
from assay.core.errors import UserError
from assay.dist import local

FLAGS = flags.FlagValues()
DEVICES = flags.DEFINE_integer("devices", 0, "Simulated CPU devices of each process; 0: what there is.", flag_values=FLAGS)


def main(overrides: dict[str, str], command: list[str]) -> None:
    if overrides:
        raise UserError("launch takes no --config overrides of its own. Write -- before the command that it starts.")
    text = FLAGS["processes"].value or "2"
    if not text.isdecimal():
        raise UserError(f"--processes={text!r} is no number.")
    sys.exit(local.run(command, int(text), DEVICES.value))


def start() -> None:
    """Runs the verb from the command line."""
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, sys.argv = sys.argv[at + 1 :], sys.argv[:at]
    launch(lambda overrides: main(overrides, given), __doc__, given=FLAGS)
