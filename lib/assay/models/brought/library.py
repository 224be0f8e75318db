"""What a library's file says of one of its models, and the Model that is made of it.

A library says how its function runs with given parameters (`run`), in which forms it may be called (`forms`), and how fresh parameters are
made (`init`). The first form that works on two examples is taken; `model_of` then returns a Model like any other: differentiable, with its
state under params["state"], and its randomness from the key of the step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from assay.core.errors import UserError
from assay.core.tree import PyTree, differing
from assay.models.brought.call import Form, Layout, Reading, as_logits, find, given, read
from assay.models.brought.parts import renewed
from assay.models.model import STATE, Batch, Model, Output


class Ran(NamedTuple):
    result: Any
    state: Mapping[str, PyTree]  # new params["state"]; {} if there is none
    taps: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Library:
    """A model of one library.

    `run(params, use, key, train)` binds the parameters to the model's function and returns what `use(function)` returns. `key` is None
    where nothing is random. `init(key, use)` returns fresh parameters of the same structure; there `use(function, train)` says the mode.
    """

    what: str  # name of the model in messages
    params: PyTree
    run: Callable[[PyTree, Callable[[Any], Any], Any, bool], Ran]
    forms: Sequence[Form]
    init: Callable[[Any, Callable[[Any, bool], Any]], PyTree] | None = None  # None: the given parameters are the start
    hint: str = "Pass call=lambda model, inputs, train: model(inputs), with the arguments that yours takes."
    named: bool = False  # whether a dict beside the logits holds activations by name, without taps=


def model_of(library: Library, layout: Layout, batch: Batch, where: str, reading: Reading) -> Model:
    """Returns the Model of a library's model, called in the form that works on `batch`, two examples.

    Raises UserError with the library's own error if there is no such form, or if it is not clear what the logits are.
    """

    def called(form: Form, params: PyTree, batch: Batch, key: Any = None, train: bool = False) -> Output:
        ran = library.run(params, lambda model: form.use(model, layout.inputs(batch), batch, train, key), key, train)
        if isinstance(ran.result, Output):
            return ran.result._replace(logits=as_logits(ran.result.logits))
        logits, beside = read(ran.result, reading.output, library.what)
        taps = ran.taps or (reading.taps(ran.result) if callable(reading.taps) else beside if library.named else {})
        if logits is None or not hasattr(logits, "dtype"):
            raise UserError(f"{library.what} returns {_kind(logits)}: {library.hint if library.named else _EXPECTED}")
        state = renewed({**params[STATE], **ran.state}) if train and isinstance(params, Mapping) and STATE in params else {}
        return Output(as_logits(logits), dict(taps), state)

    tried = [given(reading.call)] if reading.call is not None else library.forms
    form = find(
        tried,
        lambda form: jax.eval_shape(lambda params, batch: called(form, params, batch).logits, library.params, dict(batch)),
        library.what,
        where,
        library.hint,
    )

    def apply(params: PyTree, batch: Batch, *, key: Any = None, train: bool = False, edits: Any = None) -> Output:
        del edits
        return called(form, params, batch, key, train)

    def fresh(key: Any, batch: Batch) -> PyTree:
        assert library.init is not None
        made = library.init(key, lambda model, train: form.use(model, layout.inputs(batch), batch, train, None))
        return jax.tree.map(lambda new, old: new.astype(old.dtype), made, library.params)

    def same(key: Any, batch: Batch) -> PyTree:
        del key, batch
        return jax.tree.map(lambda leaf: jax.numpy.asarray(leaf), library.params)

    restarts = _restarts(library, fresh, batch)
    return Model(fresh if restarts else same, apply, fixed=not restarts)


# -- private --------------------------------------------------------------------------------------------------------------

_EXPECTED = "return logits, (logits, anything), a dict with 'logits', or an object with .logits."


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _restarts(library: Library, fresh: Callable, batch: Batch) -> bool:
    """Returns True if the library makes fresh parameters of the structure that was given; a pruned model has another one."""
    if library.init is None:
        return False
    try:
        return not differing(library.params, jax.eval_shape(fresh, jax.random.key(0), dict(batch)))
    except Exception:  # such as an initializer that reads a file: the given parameters are then the start
        return False
