"""How a model made elsewhere is called: the forms that are tried on two examples, and what its result may be.

    layout, batch = Layout("dict", ("input_ids", "attention_mask"), "input_ids"), {"inputs": ..., "inputs/attention_mask": ...}
    form = found(forms(layout, module.__call__), probe, "the model", ...)     # model(**inputs, train=train)
    logits, taps = read(form.use(model, layout.inputs(batch), batch, train, key), output="")

The signature decides what it can: a parameter called `train` or `deterministic` is told the mode, and one called `rngs` or `key` the
randomness. A function that hides its signature is tried with each mode, and without.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from assay.core.errors import UserError, unknown
from assay.models.model import Batch, Output

MODES = {  # parameter -> its value in training
    **dict.fromkeys(("train", "training", "is_training", "is_train"), True),
    **dict.fromkeys(("deterministic", "inference", "use_running_average"), False),
}
HIDDEN = ("is_training", "train", "training", "deterministic")  # modes that a function with a hidden signature is tried with
KEYS = ("rngs", "rng", "key")  # parameters that take randomness
OF_SIGNATURE = re.compile(r"unexpected keyword argument|required (positional|keyword-only) argument|positional arguments? but")

Way = tuple[str, Callable[[Any, Batch], tuple[tuple, dict]]]  # how it is shown; (inputs, batch) -> arguments and keywords
Use = Callable[[Any, Any, Batch, bool, Any], Any]  # (model, inputs, batch, train, key) -> its result


class Layout(NamedTuple):
    """The inputs of a model: one array, or several by name or by place. `main` is called "inputs" in a batch, others "inputs/NAME"."""

    kind: str  # "array", "dict" or "tuple"
    names: tuple[str, ...] = ("inputs",)
    main: str = "inputs"

    def inputs(self, batch: Batch) -> Any:
        """Returns the inputs of a batch as the model takes them."""
        found = {name: batch[self.key(name)] for name in self.names}
        return found if self.kind == "dict" else tuple(found.values()) if self.kind == "tuple" else batch["inputs"]

    def key(self, name: str) -> str:
        """Returns the name of an array in a batch."""
        return "inputs" if name == self.main else f"inputs/{name}"

    def batch(self, batch: Batch) -> Mapping[str, Any]:
        """Returns a batch for a function of batches: `inputs` as they were given, beside the rest."""
        if self.kind == "array":
            return batch
        return {**{key: array for key, array in batch.items() if not key.startswith("inputs/")}, "inputs": self.inputs(batch)}

    def described(self, batch: Mapping[str, Any]) -> str:
        """Returns types and shapes of the inputs, for messages."""
        said = {name: f"{batch[self.key(name)].dtype} {list(batch[self.key(name)].shape)}" for name in self.names}
        if self.kind == "array":
            return said["inputs"]
        return "(" + ", ".join(said.values() if self.kind == "tuple" else (f"{name}: {one}" for name, one in said.items())) + ")"


class Form(NamedTuple):
    shown: str
    use: Use


class Reading(NamedTuple):
    """What a caller says of a model, where the guess is wrong. See diagnostics/doors.py."""

    call: Callable[[Any, Any, bool], Any] | None = None  # (model, inputs, train) -> its result
    output: str = ""  # the entry of a dict, or the attribute, that holds the logits
    taps: Any = None  # result -> activations by name; of a Linen module also True, or names of taps to paths of modules


def forms(
    layout: Layout,
    function: Any,
    skip: int = 0,
    batches: bool = False,
    keys: Sequence[str] = KEYS,
    rngs: Callable[[Any], Any] = lambda key: {"dropout": key},
) -> list[Form]:
    """Returns the forms in which a function may be called, the likeliest first.

    Args:
        function: the function whose signature tells them.
        skip: number of leading parameters that are bound already.
        batches: whether it takes a batch rather than inputs.
        keys: names of parameters that take randomness.
        rngs: makes of a key what the parameter `rngs` takes.
    """
    known = _parameters(function, skip)
    named: dict[str, inspect.Parameter] = known or {}
    taken = set(layout.names) if layout.kind == "dict" else set()
    modes = [tuple(name for name in MODES if name in named and name not in taken)] if known else [*((name,) for name in HIDDEN), ()]
    keys = [name for name in keys if name in named and name not in taken]
    whole: Way = ("inputs", lambda inputs, batch: ((inputs,), {}))
    parts: Way = ("**inputs", lambda inputs, batch: ((), dict(inputs)))
    ways = [whole]
    if layout.kind == "dict":
        ways = [parts, whole] if taken <= set(named) else [whole, parts]
    elif layout.kind == "tuple":
        ways = [("*inputs", lambda inputs, batch: (inputs, {})), whole]
    of_batch: Way = ("batch", lambda inputs, batch: ((layout.batch(batch),), {}))
    ways = [of_batch, *ways] if batches or next(iter(named), "") == "batch" else [*ways, of_batch]
    found = []
    for shown, way in ways:
        for mode in modes:
            said = ", ".join((shown, *(f"{name}={'train' if MODES[name] else 'not train'}" for name in mode), *(f"{k}={k}" for k in keys)))
            found.append(Form(f"({said})", _using(way, mode, {name: named[name] for name in keys}, rngs)))
    return found


def given(call: Callable[[Any, Any, bool], Any]) -> Form:
    """Returns the form that a caller gives as call=."""
    return Form(" by call=", lambda model, inputs, batch, train, key: call(model, inputs, train))


def find(tried: Sequence[Form], probe: Callable[[Form], Any], what: str, where: str, expected: str) -> Form:
    """Returns the first form in which the model can be called.

    Args:
        probe: calls the model in a form, without computing anything; its errors are those of the model.
        what: name of the model in messages, such as "model".
        where: what it was called on, such as "inputs of 'test', float32 [2, 8]".
        expected: what a caller writes instead.

    Raises UserError with the model's own error if there is none.
    """
    errors: list[Exception] = []
    for form in tried:
        try:
            probe(form)
            return form
        except UserError:
            raise
        except Exception as error:
            errors.append(error)
    first = next((error for error in errors if not OF_SIGNATURE.search(str(error))), errors[0])
    ways = f" Tried: {', '.join(what + form.shown for form in tried[:8])}{', ...' * (len(tried) > 8)}." if len(tried) > 1 else ""
    raise UserError(f"{what} fails on {where}: {said(first)}.{ways} {expected}") from first


def said(error: BaseException) -> str:
    """Returns an error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300].rstrip('.')}"


def read(found: Any, output: str = "", what: str = "model") -> tuple[Any, Mapping[str, Any]]:
    """Returns (logits, what stood beside them by name) of a model's result: logits, (logits, anything), a dict, or an object.

    `output` names the entry or attribute that holds the logits. Raises UserError where it is not clear which they are.
    """
    if isinstance(found, Output):
        return found.logits, found.taps
    if isinstance(found, tuple | list) and found and not hasattr(found, "_fields"):
        beside = found[1] if len(found) > 1 and isinstance(found[1], Mapping) else {}
        return read(found[0], output, what)[0], beside
    if isinstance(found, Mapping):
        name = output or ("logits" if "logits" in found else next(iter(found)) if len(found) == 1 else "")
        if not name:
            raise UserError(f"{what} returns {', '.join(map(repr, found))}: name the entry that holds the logits with output=.")
        if name not in found:
            raise unknown("output", name, map(str, found), "output=")
        return found[name], {}
    if not hasattr(found, "dtype") and hasattr(found, output or "logits"):
        return getattr(found, output or "logits"), {}
    if output and not hasattr(found, "dtype"):
        raise UserError(f"output={output!r}, but {what} returns {type(found).__name__}, which has no such attribute.")
    return found, {}


def as_logits(found: Any) -> jax.Array:
    """Returns logits as floating-point numbers; whole numbers are exact scores."""
    logits = jnp.asarray(found)
    return logits.astype(jnp.float32) if jnp.issubdtype(logits.dtype, jnp.integer) else logits


# -- private --------------------------------------------------------------------------------------------------------------


def _using(way: Callable, modes: tuple[str, ...], keys: Mapping[str, inspect.Parameter], rngs: Callable[[Any], Any]) -> Use:
    def use(model: Any, inputs: Any, batch: Batch, train: bool, key: Any) -> Any:
        arguments, keywords = way(inputs, batch)
        keywords |= {name: train == MODES[name] for name in modes}
        for name, parameter in keys.items():  # without a key, the function's own default stands
            if key is not None or parameter.default is inspect.Parameter.empty:
                keywords[name] = rngs(key) if name == "rngs" and key is not None else key
        return model(*arguments, **keywords)

    return use


def _parameters(function: Any, skip: int) -> dict[str, inspect.Parameter] | None:
    """Returns the parameters of a function by name; None if they are hidden."""
    try:
        found = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):
        return None
    if any(one.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD) for one in found):
        return None
    return {one.name: one for one in found}
