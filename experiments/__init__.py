"""Entry points of a checkout. Configures the allocator before JAX is imported."""

import sys

from assay.core import allocator

COMPILING = {"experiments.diagnose", "experiments.compare"}  # verbs that compile more than they compute

allocator.keep_memory(arenas=8 if COMPILING & {*sys.orig_argv} else 1)
