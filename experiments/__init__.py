"""The verbs. The allocator is set here, before any of them imports JAX."""

import sys

from assay.core import allocator

COMPILING = {"experiments.diagnose", "experiments.compare"}  # verbs that compile more than they compute

allocator.keep_memory(arenas=8 if COMPILING & {*sys.orig_argv} else 1)
