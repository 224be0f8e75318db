"""The model interface: pure functions over plain trees. Only `models/` and `nn/` import Flax.

params = model.init(key, batch)
output = model.apply(params, batch, key=key, train=True)      # output.logits, output.taps, output.axes
cache = model.decode.init_cache(params, batch, max_length)    # batch: as for apply; without a source, only its size matters
logits, cache = model.decode.extend(params, cache, tokens)    # tokens [batch, n]: the next n positions
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import PyTree
from assay.nn.tap import editing, recorded

Batch = Mapping[str, jax.Array]  # arrays with one leading axis of examples; "weight" is always present, and 0 for rows that do not count


STATE = "state"  # part of a model's parameters that the model itself updates in training, without gradients (batch statistics)
STATISTICS = "batch_stats"  # the Linen collection of that part


class Output(NamedTuple):
    """Result of `Model.apply`."""

    logits: PyTree  # an array, or one array per head by name
    taps: Mapping[str, jax.Array]  # all taps by path; under jit, unused taps cost nothing
    state: Mapping[str, PyTree] = {}  # new params["state"] in training, not updated by gradients; {} for most

    @property
    def axes(self) -> Mapping[str, str]:
        """Axes of each tap, in the words of nn/tap.py. Empty for an external model, which does not declare them."""
        return getattr(self.taps, "axes", {})


@dataclass(frozen=True)
class Decode:
    """Functions for cached decoding.

    `init_cache(params, batch, max_length) -> cache`; `extend(params, cache, tokens) -> (logits, cache)`. An encoder-decoder encodes its
    source `batch["inputs"]` in `init_cache`; the tokens are those of the target.
    """

    init_cache: Callable[[PyTree, Batch, int], PyTree]
    extend: Callable[[PyTree, PyTree, jax.Array], tuple[jax.Array, PyTree]]


@jax.tree_util.register_static
@dataclass(frozen=True)
class Model:
    """Pure functions `init(key, batch) -> params` and `apply(params, batch, *, key=None, train=False, edits={}) -> Output`.

    Raises UserError for an edit that no tap applies, and for any edit of a model that is not `editable`.

    >>> model, params, task = assay.load("runs/tiny")
    >>> isinstance(model, assay.Model), model.decode is not None
    (True, True)
    """

    init: Callable[[jax.Array, Batch], PyTree]
    apply: Callable[..., Output]
    decode: Decode | None = None  # None if the family cannot decode step by step
    module: Any = None  # the Linen module; only treatments that rebuild it may read it
    fit: Callable[[PyTree, Iterable[Batch]], PyTree] | None = None  # (params, batches) -> params; None if the model is trained by gradients
    convolves: bool = False  # True if the model has convolutions, which XLA:CPU computes 20 times slower inside a loop
    settings: Any = None  # the frozen dataclass of the family's keys
    remake: "Callable[[Any], Model] | None" = None  # new settings -> model; None if parameters are not the family's own
    start: Callable[[], PyTree] | None = None  # parameters from which a run starts, in place of those of `init`; None: those of `init`
    fixed: bool = (
        False  # True if `init` returns the same parameters for every key: a model made elsewhere that its library cannot start from scratch
    )
    opaque: str = ""  # why it has no gradients and no program of its own: a function of the host answers (from_predict); "" for all others
    editable: bool = False  # True if `apply` accepts edits
    stream: tuple[str, ...] = ()  # taps of the residual stream in the order of evaluation, read by `readout`; () if there is none
    source_stream: tuple[str, ...] = ()  # the same for an encoder whose output a decoder attends to

    def __post_init__(self) -> None:
        if not self.editable and not isinstance(self.apply, _Uneditable):
            object.__setattr__(self, "apply", _Uneditable(self.apply))

    def readout(self, params: PyTree, residual: jax.Array) -> jax.Array:
        """Returns logits [rows, outputs] for rows of the residual stream [rows, width] (a logit lens; nostalgebraist 2020).

        Each row is treated as the final value of the stream: the last norm and the head are applied, including changes by treatments. The
        function applies the model with an edit at the end of the stream, and `jit` drops the blocks before it. A pooled model answers for
        each row; an encoder answers with the mean over tokens. Raises UserError for a model without a residual stream.
        """
        if not self.stream:
            raise UserError("this model has no residual stream, so it has no readout. Choose decoder or encoder with model.name.")
        token = jnp.zeros((len(residual), 1), jnp.int32)
        batch = {"inputs": token, "decoder_inputs": token, "length": jnp.ones(len(residual), jnp.int32)}
        edits = {self.stream[-1]: jax.tree_util.Partial(_put, residual)}
        logits = self.apply(params, batch | {"weight": jnp.ones(len(residual))}, edits=edits).logits
        return jax.tree.map(lambda array: array.reshape(len(residual), -1), logits)


@dataclass(frozen=True)
class Vocabulary:
    """Sizes of the inputs and outputs of a model."""

    inputs: int  # number of input token ids; 0 if inputs are numbers, such as images
    outputs: int  # number of output classes, or of output values in a regression
    pooled: bool = False  # True: one answer for the whole input, logits [batch, outputs]; False: one answer per token
    heads: tuple[tuple[str, int], ...] = ()  # name and classes of each head of a multi-head model; `outputs` is their sum


def from_linen(
    module: nn.Module,
    init_cache: Callable[[PyTree, Batch, int], PyTree] | None = None,
    convolves: bool = False,
    method: Callable[..., Any] | None = None,
) -> Model:
    """Wraps a Linen module, called as `module(batch, train)`, or to decode as `module(batch, train, cache) -> (logits, cache)`.

    Batch statistics (`batch_stats` of flax.linen.BatchNorm) become `params["state"]`: read in evaluation, and updated by training without
    gradients. A module trained elsewhere has the parameters `{**variables["params"], "state": variables["batch_stats"]}`. Rows that do not
    count have batch["weight"] 0; a module that must not see them passes `mask` to its normalisation.

    Args:
      module: the module. Its logits are [batch, classes], or [batch, tokens, classes].
      init_cache: creates the cache for decoding; None if the module cannot decode.
      convolves: True if the module has convolutions, which XLA:CPU computes 20 times slower inside a loop.
      method: how the module is called, such as `lambda module, batch, train: module(batch["inputs"], train=train)`.

    Raises UserError if the module calls a part of it "state", or has variables of other collections.

    >>> import flax.linen as nn, jax
    >>> class Net(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, batch, train):
    ...         hidden = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(batch["inputs"]))
    ...         return nn.Dense(2)(nn.relu(hidden))
    >>> model, batch = assay.from_linen(Net()), {"inputs": np.ones((4, 3), np.float32)}
    >>> params = model.init(jax.random.key(0), batch)
    >>> sorted(params["state"]["BatchNorm_0"]), model.apply(params, batch).logits.shape
    (['mean', 'var'], (4, 2))
    >>> round(float(model.apply(params, batch, train=True).state["BatchNorm_0"]["var"][0]), 2)
    0.99
    """

    def init(key: jax.Array, batch: Batch) -> PyTree:
        shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), dict(batch))  # parameters depend on shapes only
        try:
            variables = module.lazy_init(rng.stream(key, "params"), shapes, False, method=method, mutable=["params", STATISTICS])
        except flax.errors.ScopeCollectionNotFound as error:
            raise UserError(
                f"the module has variables other than parameters and {STATISTICS}, which training would not update: "
                f"{str(error).partition(' (http')[0]} Remove them from the module."
            ) from None
        params = variables["params"]
        if STATE in params:
            raise UserError(f"the module names a part of it {STATE!r}, a name kept for batch statistics. Rename that part.")
        return {**params, STATE: variables[STATISTICS]} if STATISTICS in variables else params

    def apply(params, batch, *, key=None, train=False, edits=None) -> Output:
        rngs = {} if key is None else {"dropout": rng.stream(key, "dropout")}
        mutable = ["taps", STATISTICS] if train else ["taps"]
        with editing(edits or {}):
            logits, variables = module.apply(_variables(params), batch, train, rngs=rngs, method=method, mutable=mutable)
        return Output(logits, recorded(variables), variables.get(STATISTICS, {}))

    def extend(params, cache, tokens):
        return module.apply(_variables(params), {"inputs": tokens}, False, cache, method=method)

    return Model(init, apply, Decode(init_cache, extend) if init_cache else None, module, convolves=convolves, editable=True)


def of_client(tree: PyTree, batch: Batch) -> PyTree:
    """Returns each row's own part of personal parameters: leaves [clients, ...] at `batch["client"]`, [rows, ...].

    A client outside the tree gets NaN, so that its score is not that of another. Raises UserError if the batch does not name clients.
    """
    if "client" not in batch:
        raise UserError("the model has parameters for each client, but these examples have none: the split needs a column `client`.")
    who = batch["client"]

    def own(leaf: jax.Array) -> jax.Array:
        return jnp.take(leaf, jnp.where(who < 0, len(leaf), who), axis=0, mode="fill", fill_value=jnp.nan)

    return jax.tree.map(own, tree)


def with_heads(model: Model, heads: tuple[tuple[str, int], ...]) -> Model:
    """Returns the model with its logits split into one array per head by name: slices of the last axis.

    One matrix computes all heads, so they share all parameters except their own columns. The model cannot decode.
    """

    def apply(params: PyTree, batch: Batch, **keywords: Any) -> Output:
        output, start, logits = model.apply(params, batch, **keywords), 0, {}
        for name, outputs in heads:
            logits[name] = output.logits[..., start : start + outputs]
            start += outputs
        return output._replace(logits=logits)

    return replace(model, apply=apply, decode=None)


@dataclass(frozen=True)
class _Uneditable:
    """The `apply` of a model that is not editable: an edit would have no effect, which looks like a finding."""

    plain: Callable[..., Output]

    def __call__(self, params: PyTree, batch: Batch, **keywords: Any) -> Output:
        if edits := keywords.pop("edits", None):
            raise UserError(
                f"edits at {', '.join(map(repr, edits))}: this model does not support edits (Model.editable is False). "
                "Use a model that was built from the config of a neural network."
            )
        return self.plain(params, batch, **keywords)


def _variables(params: PyTree) -> dict[str, PyTree]:
    """Returns a module's parameters as its Linen variables."""
    if STATE not in params:
        return {"params": params}
    return {"params": {name: tree for name, tree in params.items() if name != STATE}, STATISTICS: params[STATE]}


def _put(new: jax.Array, old: jax.Array) -> jax.Array:
    return new.astype(old.dtype).reshape(old.shape)
