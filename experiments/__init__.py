"""The verbs. The allocator is set here, before any of them imports JAX."""

from assay.core import allocator

allocator.keep_memory()
