"""Assay trains models in JAX, measures what holds each one back, applies a remedy, and measures again.

model, params, task = assay.load("runs/demo/lstm/seed_0")
output = model.apply(params, task.encode(task.source("iid").fetch(indices), width))
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.treatments.pipeline.load import load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports on use, so that `import assay` costs nothing and the allocator can be set before JAX comes in."""
    if name == "load":
        from assay.treatments.pipeline.load import load

        return load
    raise AttributeError(f"module 'assay' has no attribute {name!r}")
