"""Assay trains models in JAX, measures what holds each one back, applies a remedy, and measures again.

assay.fit("reviews.csv", "runs/mine")                      a model of your own data, beside a simple learner
assay.run("parity:tiny", "runs/tiny")                      trains, evaluates and reports
model, params, task = assay.load("runs/tiny")              pure functions over plain trees
assay.suggest("runs/tiny")                                 remedies, from the diagnosis of the run
assay.treat("runs/tiny", "quantize:int8", "runs/small")    applies one
assay.compare("runs/tiny", "runs/small")                   every row before and after, with a verdict each
assay.diagnose(assay.from_nnx(model, data))                a model made elsewhere; also from_linen, from_keras, from_predict, ...

Other names are private and may change between versions.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay import config
    from assay.cli.python.api import compare, diagnose, fit, load, run, suggest, treat
    from assay.cli.python.register import register
    from assay.diagnostics.brought.doors import (
        from_equinox,
        from_function,
        from_haiku,
        from_keras,
        from_linen,
        from_nnx,
        from_predict,
    )
    from assay.models.model import Model
    from assay.tasks.task import Task
    from assay.train.treatment import Treatment

__all__ = [
    "Model",
    "Task",
    "Treatment",
    "compare",
    "config",
    "diagnose",
    "fit",
    "from_equinox",
    "from_function",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_predict",
    "load",
    "register",
    "run",
    "suggest",
    "treat",
]
__version__ = "0.1.0"

_PLACES = {  # name -> its module; "" where it is a module itself
    "Model": "assay.models.model",
    "Task": "assay.tasks.task",
    "Treatment": "assay.train.treatment",
    "compare": "assay.cli.python.api",
    "config": "",
    "diagnose": "assay.cli.python.api",
    "fit": "assay.cli.python.api",
    "from_equinox": "assay.diagnostics.brought.doors",
    "from_function": "assay.diagnostics.brought.doors",
    "from_haiku": "assay.diagnostics.brought.doors",
    "from_keras": "assay.diagnostics.brought.doors",
    "from_linen": "assay.diagnostics.brought.doors",
    "from_nnx": "assay.diagnostics.brought.doors",
    "from_predict": "assay.diagnostics.brought.doors",
    "load": "assay.cli.python.api",
    "register": "assay.cli.python.register",
    "run": "assay.cli.python.api",
    "suggest": "assay.cli.python.api",
    "treat": "assay.cli.python.api",
}


def __getattr__(name: str) -> Any:
    """Imports on use, so that `import assay` costs nothing and the allocator can be set before JAX is imported."""
    if name not in _PLACES:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    from importlib import import_module

    if not _PLACES[name]:
        return import_module(f"assay.{name}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
