"""The seam: a model is pure functions over plain trees. This file and its neighbours are the only door to Flax.

params = model.init(key, batch)
output = model.apply(params, batch, key=key, train=True)      # output.logits, output.taps, output.axes
cache = model.decode.init_cache(params, batch, max_length)    # batch: as for apply; only its size matters where nothing is encoded first
logits, cache = model.decode.extend(params, cache, tokens)    # tokens [batch, n]: n more positions
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.nn.tap import editing, recorded

Batch = Mapping[str, jax.Array]  # one leading axis of examples; "weight" is always there, 0 where a row does not count


class Output(NamedTuple):
    logits: PyTree  # an array, or one for each head by name
    taps: Mapping[str, jax.Array]  # every tap by path; under jit those that nobody reads cost nothing
    state: Mapping[str, PyTree] = {}  # in training: params["state"] anew, which no gradient moves (batch statistics); {} for most

    @property
    def axes(self) -> Mapping[str, str]:
        """What the axes of each tap are, as words of nn/tap.py; a model that was made elsewhere does not say."""
        return getattr(self.taps, "axes", {})


@dataclass(frozen=True)
class Decode:
    """Cached decoding. `init_cache(params, batch, max_length) -> cache`; `extend(params, cache, tokens) -> (logits, cache)`.

    A model that reads a source first (an encoder-decoder) encodes `batch["inputs"]` in `init_cache`; the tokens are those that it writes.
    """

    init_cache: Callable[[PyTree, Batch, int], PyTree]
    extend: Callable[[PyTree, PyTree, jax.Array], tuple[jax.Array, PyTree]]


@jax.tree_util.register_static
@dataclass(frozen=True)
class Model:
    """`init(key, batch) -> params`; `apply(params, batch, *, key=None, train=False, edits={}) -> Output`.

    An edit that no tap applies raises UserError, and so does any edit of a model that is not `editable`.
    """

    init: Callable[[jax.Array, Batch], PyTree]
    apply: Callable[..., Output]
    decode: Decode | None = None  # None where a family cannot decode step by step
    module: Any = None  # the Linen module, opaque to all but the treatments that rebuild it
    fit: Callable[[PyTree, Iterable[Batch]], PyTree] | None = None  # (params, batches) -> params; None where gradients fit
    convolves: bool = False  # whether it has convolutions, which XLA:CPU computes 20 times slower inside a loop
    settings: Any = None  # the frozen dataclass of its family's keys
    remake: "Callable[[Any], Model] | None" = None  # other settings -> the model with those; None where parameters are not the family's own
    editable: bool = False  # whether `apply` takes edits
    stream: tuple[str, ...] = ()  # taps of the residual stream in the order of evaluation, which `readout` reads; () where there is none
    source_stream: tuple[str, ...] = ()  # those of an encoder whose output a decoder attends to

    def readout(self, params: PyTree, residual: jax.Array) -> jax.Array:
        """Logits [rows, outputs] of rows of the residual stream [rows, width], as if each were its last value (a logit lens; nostalgebraist
        2020): the last norm and the head, with whatever treatments made of them.

        It applies the model with an edit at the end of the stream. Under `jit` the blocks before it are dropped. A pooled model answers for
        each row; an encoder's answer is the mean over tokens. Raises UserError for a model without a residual stream.
        """
        if not self.stream:
            raise UserError(
                "this model has no residual stream, so nothing can be read out of it. Choose decoder or encoder with model.name."
            )
        token = jnp.zeros((len(residual), 1), jnp.int32)
        batch = {"inputs": token, "decoder_inputs": token, "length": jnp.ones(len(residual), jnp.int32)}
        edits = {self.stream[-1]: jax.tree_util.Partial(_put, residual)}
        logits = self.apply(params, batch | {"weight": jnp.ones(len(residual))}, edits=edits).logits
        return jax.tree.map(lambda array: array.reshape(len(residual), -1), logits)


@dataclass(frozen=True)
class Vocabulary:
    """What a model reads and answers."""

    inputs: int  # token ids that it reads; 0 where it reads numbers, as those of an image
    outputs: int  # classes that it answers with, or numbers where the task is a regression
    pooled: bool = False  # one answer for the whole input, logits [batch, outputs], in place of one for each token
    heads: tuple[tuple[str, int], ...] = ()  # name and classes of each head where there are several; `outputs` is their sum


def from_linen(module: nn.Module, init_cache: Callable[[PyTree, Batch, int], PyTree] | None = None, convolves: bool = False) -> Model:
    """A Model from a Linen module called as `module(batch, train)`, or `module(batch, train, cache) -> (logits, cache)` to decode."""

    def init(key: jax.Array, batch: Batch) -> PyTree:
        shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), dict(batch))  # parameters depend on shapes only
        return module.lazy_init(rng.stream(key, "params"), shapes, False, mutable=["params"])["params"]

    def apply(params, batch, *, key=None, train=False, edits=None) -> Output:
        rngs = {} if key is None else {"dropout": rng.stream(key, "dropout")}
        with editing(edits or {}):
            logits, variables = module.apply({"params": params}, batch, train, rngs=rngs, mutable=["taps"])
        return Output(logits, recorded(variables))

    def extend(params, cache, tokens):
        return module.apply({"params": params}, {"inputs": tokens}, False, cache)

    return Model(init, apply, Decode(init_cache, extend) if init_cache else None, module, convolves=convolves, editable=True)


def refuse_edits(edits: Mapping[str, Any] | None) -> None:
    """Raises UserError where a model that has no taps, or that was made elsewhere, is given edits."""
    if edits:
        raise UserError(
            f"edits at {', '.join(map(repr, edits))}: this model takes none (Model.editable is False). Its answers would not change. "
            "Edit a model that was built from a config of a network."
        )


def with_heads(model: Model, heads: tuple[tuple[str, int], ...]) -> Model:
    """The model whose logits are one array for each head by name: parts of the last axis. One matrix makes all of them, so that they share
    all parameters but their own columns. It does not decode."""

    def apply(params: PyTree, batch: Batch, **keywords: Any) -> Output:
        output, start, logits = model.apply(params, batch, **keywords), 0, {}
        for name, outputs in heads:
            logits[name] = output.logits[..., start : start + outputs]
            start += outputs
        return output._replace(logits=logits)

    return replace(model, apply=apply, decode=None)


def _put(new: jax.Array, old: jax.Array) -> jax.Array:
    return new.astype(old.dtype).reshape(old.shape)
