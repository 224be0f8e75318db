"""Entry points of a checkout. Configures the allocator before JAX is imported."""

import sys

from assay.cli import main
from assay.core import allocator

COMPILING = {f"experiments.{verb}" for verb in main.COMPILING}

allocator.keep_memory(arenas=8 if COMPILING & {*sys.orig_argv} else 1)
