"""Implements the command `assay VERB ...`, also available as `python -m assay VERB ...`: finds the verb, and imports nothing else.

Each verb is a file of this folder with a function `start()`. In a checkout, `python -m experiments.VERB` is the same.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Mapping

from assay.core import allocator

VERBS: Mapping[str, str] = {
    "fit": "train on a file or folder of your own, beside a simple learner",
    "train": "train, evaluate and report one run",
    "study": "train several configs and seeds, with a joint table and report",
    "evaluate": "evaluate a run on other splits or lengths, without training",
    "diagnose": "measure what limits a run, and suggest treatments",
    "treat": "apply treatments to a finished run, stage by stage",
    "compare": "compare runs: a before/after card, paired differences, or Pareto fronts",
    "predict": "answer new texts, rows or pictures with a finished run",
    "show": "print examples of a task",
    "list": "list the configs, or copy one as a starting point",
    "plan": "estimate the cost of a training step on devices you do not have",
    "launch": "run a command in several processes on this machine",
    "publish": "write a finished study to files small enough to commit",
}
ALIASES = {"main": "train"}
USAGE = """Trains models in JAX, measures what limits each one, applies a treatment, and measures again.

usage: assay VERB [--flag=value ...]

{verbs}

Start with a run of a few seconds:   assay train --config=parity:tiny --workdir=runs/tiny
Print the flags of a verb:           assay VERB --help"""
COMPILING = ("diagnose", "compare")  # verbs that compile more than they compute: see core/allocator.py


def usage() -> str:
    """Returns the help of the command."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {about}" for verb, about in VERBS.items()]
    return USAGE.format(verbs="\n".join(lines))


def main() -> None:
    """Runs the verb that the command line names. Exits with code 2 for an unknown verb."""
    try:
        _run(sys.argv[1:])
    except BrokenPipeError:
        pass
    finally:
        flush()


def flush() -> None:
    """Writes what is left of standard output; nothing if its reader, such as `head`, has closed the pipe."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# -- private --------------------------------------------------------------------------------------------------------------


def _run(words: list[str]) -> None:
    if not words or words[0] in ("--help", "-h", "help"):
        print(usage())
        sys.exit(0 if words else 2)
    if words[0] == "--version":
        import assay

        print(assay.__version__)
        sys.exit(0)
    verb = ALIASES.get(words[0], words[0])
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        print(f"error: unknown verb {words[0]!r}.{guess} Known: {', '.join(VERBS)}.", file=sys.stderr)
        sys.exit(2)
    allocator.keep_memory(arenas=8 if verb in COMPILING else 1)  # before JAX is imported
    sys.argv = [f"assay {verb}", *words[1:]]
    importlib.import_module(f"assay.cli.{verb}").start()
