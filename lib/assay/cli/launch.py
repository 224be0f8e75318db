"""Runs a command in several processes on this machine, which compute together like those of a cluster.

    assay launch --processes=2 -- assay train --config=parity:tiny --workdir=runs/two
    assay launch --processes=2 --devices=2 -- assay train --config=parity:tiny --workdir=runs/four

The second example gives each process two simulated CPU devices. The command writes its usual files: process 0 writes logs
and results. SIGTERM and Ctrl-C are forwarded to all processes, which save a checkpoint at the same step and stop. If one
process dies, the others are stopped within 20 s. The same command then resumes from the last checkpoint.

On a cluster, start each process with the cluster's own launcher instead of this verb. Every verb has the flags
    --coordinator=HOST:PORT --processes=16 --process=3      to name the processes explicitly
    --coordinator=auto                                      under Slurm, Open MPI, Kubernetes or on TPUs, where JAX detects them
"""

import sys

from absl import flags

from assay.cli.command import launch
from assay.core.errors import UserError
from assay.dist import local

FLAGS = flags.FlagValues()
DEVICES = flags.DEFINE_integer("devices", 0, "Number of simulated CPU devices per process; 0 uses the existing devices.", flag_values=FLAGS)


def main(overrides: dict[str, str], command: list[str]) -> None:
    if overrides:
        raise UserError("launch takes no --config overrides of its own. Write -- before the command to run.")
    if FLAGS["import"].value:
        raise UserError("launch imports no modules of its own. Write --import after --, in the command to run.")
    text = FLAGS["processes"].value or "2"
    if not text.isdecimal():
        raise UserError(f"--processes={text!r} is not a number.")
    sys.exit(local.run(command, int(text), DEVICES.value))


def start() -> None:
    """Runs the verb from the command line."""
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, sys.argv = sys.argv[at + 1 :], sys.argv[:at]
    launch(lambda overrides: main(overrides, given), __doc__, given=FLAGS)
