"""One function for each library: a model of one's own and its examples become a Subject, to be diagnosed, trained further and treated.

    subject = assay.from_nnx(model, {"train": (images, labels), "test": (test_images, test_labels)})
    found = assay.diagnose(subject)
    rows = assay.fit(subject, "runs/mine")

`data` names splits: each is (inputs, targets). Inputs are an array, token ids [n, length] (integers), a dict of arrays or a tuple of them.
Targets are classes [n]; classes per token [n, length], with -1 where none is asked for; numbers [n] or [n, k]; or several labels [n, k],
each 0 or 1. Every function takes these options:

    target      "classes", "numbers" (a regression) or "labels" (several of 0 and 1), where type and shape of the targets leave it open
    loss        (logits, batch) -> loss of each example [n]: what training minimizes; by default cross-entropy or squared error
    call        (model, inputs, train) -> result: how the model is called, where the guess is wrong; its parameters are bound
    output      entry or attribute of the result that holds the logits, if it is not "logits"
    taps        result -> activations by name, {"block_0/hidden": [n, ..., units]}
    classes, name, examples, seconds, bounds    as for `bring` of diagnostics/bring.py

The model is called in the forms that its library and its signature suggest, on two examples and without computing anything; the first form
that works is used. It returns logits, (logits, anything), a dict with "logits" or a single entry, or an object with `.logits`. `Model.init`
makes fresh parameters where the library can (Linen, Haiku); otherwise the given ones are the start.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack

import jax
import numpy as np

from assay.core.errors import UserError, unknown
from assay.core.tree import PyTree
from assay.diagnostics.arrays import LABELS, NUMBERS, tables_of
from assay.diagnostics.bring import made_from, subject_of
from assay.diagnostics.subject import Subject
from assay.models.brought import equinox, haiku, keras, linen, nnx
from assay.models.brought import function as functions
from assay.models.brought.call import Layout, Reading
from assay.models.brought.library import Library
from assay.models.model import Batch, Model
from assay.models.model import from_linen as of_module

Data = Mapping[str, tuple[Any, Any]]
TRIED = 16  # examples on which a NumPy function is tried


class Options(TypedDict, total=False):
    """Options of every function; see above."""

    target: str
    loss: Callable[[Any, Batch], jax.Array] | None
    call: Callable[[Any, Any, bool], Any] | None
    output: str
    taps: Any
    classes: Sequence[Any]
    name: str
    examples: int
    seconds: float
    bounds: tuple[float, float] | None


def from_linen(
    module: Any,
    variables: Mapping[str, Any] | None = None,
    data: Data | None = None,
    *,
    init_cache: Any = None,
    convolves: bool = False,
    method: Callable[..., Any] | None = None,
    **options: Unpack[Options],
) -> Any:
    """Brings a Flax Linen module with its variables and data, as a Subject; without them, returns the module as a Model for configs.

    Args:
      module: the module, called as module(inputs), with `train`, `training` or `deterministic` if it takes one. For a Model it is called as
        module(batch, train).
      variables: what module.init returned, {"params": ..., "batch_stats": ...}, or the parameters alone. Collections other than "params"
        are the model's state: training carries them as the module updates them.
      data: split -> (inputs, targets).
      init_cache, convolves, method: of a Model only; see `from_linen` of models/model.py.
      options: target, loss, call, output, taps, classes, name, examples, seconds, bounds. `taps=True` exposes the outputs of all
        submodules, and {"block_0/hidden": "Dense_0"} those of some by a name of their own.

    Raises UserError with the module's own error if it cannot be called, and if the data do not fit.

    >>> import flax.linen as nn, jax
    >>> class Net(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x, train):
    ...         return nn.Dense(2)(nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x)))
    >>> x, y = np.ones((16, 3), np.float32), np.arange(16) % 2
    >>> variables = Net().init(jax.random.key(0), x, False)
    >>> subject = assay.from_linen(Net(), variables, {"train": (x, y), "test": (x, y)})
    >>> sorted(subject.params), subject.task.metrics[0]
    (['BatchNorm_0', 'Dense_0', 'Dense_1', 'state'], 'accuracy')
    >>> class Small(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, batch, train):
    ...         return nn.Dense(2)(batch["inputs"])
    >>> model = assay.from_linen(Small())
    >>> model.apply(model.init(jax.random.key(0), {"inputs": x}), {"inputs": x}).logits.shape
    (16, 2)
    """
    if data is None and not options:
        if variables is not None:
            raise UserError("from_linen has variables but no data: pass from_linen(module, variables, data), or the module alone.")
        return of_module(module, init_cache, convolves, method)
    if data is None or variables is None:
        raise UserError("from_linen takes a module, its variables and data: pass from_linen(module, variables, data).")
    if method is not None:
        options = {"call": lambda model, inputs, train: model(inputs, method=method), **options}
    return _brought(partial(linen.library, module, variables), data, options)


def from_nnx(model: Any, data: Data, **options: Unpack[Options]) -> Subject:
    """Brings a Flax NNX model, which is read and not changed.

    Answers come from a copy in eval mode, training runs in a copy in train mode. Variables other than nnx.Param, such as batch statistics,
    are the model's state; the random streams of dropout follow the key of each step.

    Args:
      model: the model, called as model(inputs).
      data: split -> (inputs, targets).
      options: target, loss, call, output, taps, classes, name, examples, seconds, bounds.

    Raises UserError with the model's own error if it cannot be called, and if the data do not fit.

    >>> from flax import nnx
    >>> model = nnx.Sequential(nnx.Linear(3, 8, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)), nnx.Linear(8, 2, rngs=nnx.Rngs(2)))
    >>> x, y = np.ones((16, 3), np.float32), np.arange(16) % 2
    >>> subject = assay.from_nnx(model, {"test": (x, y)})
    >>> subject.answers("test").mean
    0.5
    """
    return _brought(partial(nnx.library, model), data, options)


def from_equinox(model: Any, data: Data, state: Any = None, **options: Unpack[Options]) -> Subject:
    """Brings an Equinox module: `from_equinox(model, {"test": (images, labels)})`.

    The module is called on one example, model(x) or model(x, key=key), and vectorized. Answers use `eqx.nn.inference_mode`.

    Args:
      model: the module.
      data: split -> (inputs, targets).
      state: the state of `eqx.nn.make_with_state`; the module is then called as model(x, state), with the axis name "batch".
      options: target, loss, call, output, taps, classes, name, examples, seconds, bounds. `call` gets the module itself, to vectorize it.

    Raises UserError with the module's own error if it cannot be called, and if the data do not fit.
    """
    return _brought(partial(equinox.library, model, state), data, options)


def from_haiku(transformed: Any, params: Any, data: Data, state: Any = None, **options: Unpack[Options]) -> Subject:
    """Brings a Haiku function: `from_haiku(hk.transform(forward), params, {"test": (images, labels)})`.

    Args:
      transformed: what hk.transform, hk.transform_with_state or hk.without_apply_rng returned.
      params: its parameters.
      data: split -> (inputs, targets).
      state: its state, for hk.transform_with_state; training carries it.
      options: target, loss, call, output, taps, classes, name, examples, seconds, bounds.

    Raises UserError with the function's own error if it cannot be called, and if the data do not fit.
    """
    return _brought(partial(haiku.library, transformed, params, state), data, options)


def from_keras(model: Any, data: Data, **options: Unpack[Options]) -> Subject:
    """Brings a Keras 3 model that runs on JAX (KERAS_BACKEND=jax): `from_keras(model, {"test": (images, labels)})`.

    The model is called by its `stateless_call`. Its last layer must return logits: without a softmax or sigmoid.

    Args:
      model: a model with variables.
      data: split -> (inputs, targets).
      options: target, loss, call, output, taps, classes, name, examples, seconds, bounds.

    Raises UserError for a model of another backend, with the model's own error if it cannot be called, and if the data do not fit.
    """
    return _brought(partial(keras.library, model), data, options)


def from_function(apply: Callable[..., Any], params: PyTree, data: Data, **options: Unpack[Options]) -> Subject:
    """Brings a JAX function of parameters and inputs.

    Floating-point arrays of the parameters are trained. Other arrays, and with {"params": ..., ...} all other entries, stay as they are.

    Args:
      apply: (params, inputs) -> logits, with `train` or `key` if it takes them; or (params, batch) -> logits.
      params: parameters, any tree.
      data: split -> (inputs, targets).
      options: target, loss, call, output, taps, classes, name, examples, seconds, bounds.

    Raises UserError with the function's own error if it cannot be called, and if the data do not fit.

    >>> x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    >>> subject = assay.from_function(lambda params, x: x @ params["w"], {"w": np.ones((3, 1))}, {"test": (x, x.sum(axis=1))})
    >>> subject.task.metrics, bool(subject.answers("test").mean < 1e-9)
    (('r2', 'mse', 'mae'), True)
    """
    return _brought(partial(functions.library, apply, params, batches=False), data, options, "apply")


def from_predict(function: Callable[..., Any], data: Data, **options: Unpack[Options]) -> Subject:
    """Brings a NumPy function that only answers: scikit-learn's predict_proba, a PyTorch model, an API.

    Rows that need gradients, parameters or a compiled program do not apply. The function gets up to 128 examples at a time, float32 where
    they are numbers. It returns one row per example: logits, or probabilities, which are recognized (from 0 to 1, and of classes with a sum
    of 1).

    Args:
      function: inputs -> probabilities or logits [n, classes]; of a regression, numbers [n] or [n, k].
      data: split -> (inputs, targets).
      options: target, call, output, classes, name, examples, seconds, bounds.

    Raises UserError with the function's own error if it cannot be called, and if the data do not fit.

    >>> from sklearn.linear_model import LogisticRegression
    >>> x = np.random.default_rng(0).normal(size=(200, 2)); y = (x[:, 0] > 0).astype(int)
    >>> subject = assay.from_predict(LogisticRegression().fit(x, y).predict_proba, {"test": (x, y)})
    >>> bool(subject.answers("test").mean > 0.95)
    True
    """
    if not callable(function):
        raise UserError(f"from_predict takes a function, not {type(function).__name__}: pass model.predict_proba, or model.predict.")
    reading, rest = _apart(options)

    def make(layout: Layout, batch: Batch, where: str, kind: str) -> tuple[Model, PyTree]:
        del batch, where
        split, table = next(iter(tables_of(data)[1].items()))
        tried: dict[str, Any] = {name: array[:TRIED] for name, array in table.inputs.items()}
        tried = {name: array.astype(np.int32) if array.dtype.kind in "iu" else array for name, array in tried.items()}
        several = kind if kind in (NUMBERS, LABELS) else ""
        return functions.answering(function, layout, tried, f"inputs of {split!r}, {layout.described(tried)}", reading, several), {}

    return subject_of(make, data, **rest, what="function")


# -- private --------------------------------------------------------------------------------------------------------------


def _brought(library: Callable[..., Library], data: Data, options: Options, what: str = "model") -> Subject:
    reading, rest = _apart(options)
    return subject_of(made_from(lambda layout, reading: library(layout=layout, reading=reading), reading), data, **rest, what=what)


def _apart(options: Options) -> tuple[Reading, dict[str, Any]]:
    """Returns how the model is read, and the options of the data. Raises UserError for an unknown option."""
    for name in options:
        if name not in Options.__annotations__:
            raise unknown("option", name, Options.__annotations__, "a keyword of this name")
    rest: dict[str, Any] = dict(options)
    reading = Reading(rest.pop("call", None), rest.pop("output", ""), rest.pop("taps", None))
    if reading.call is not None and not callable(reading.call):
        raise UserError(f"call={reading.call!r} must be a function: call=lambda model, inputs, train: model(inputs).")
    return reading, rest
