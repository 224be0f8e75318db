"""The n-gram language model: a baseline for every text task, fitted exactly by counting and not by gradients.

    add_k         p(w | c) = (count(c w) + k) / (count(c) + k outputs)
    kneser_ney    p(w | c) = max(count(c w) - D, 0) / count(c) + D distinct(c) / count(c) p(w | c without its oldest token), interpolated
                  (Kneser and Ney 1995; Chen and Goodman 1999, 4.1.6). Below the highest order, count(c w) is the number of distinct tokens
                  seen before c w; below the lowest order is the uniform distribution. D = n1 / (n1 + 2 n2) for each order

A context is the last order - 1 tokens of `inputs`, padded at the start with beginning-of-text tokens. One array holds all contexts, sorted
by length, then by the context without its oldest token, then by that token. The tokens seen after each context are stored in the same way.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from assay.config.schema import require
from assay.core.errors import UserError, unknown
from assay.models.model import Batch, Decode, Model, Output, Vocabulary

MAX_ORDER = 6
FALLBACK = 0.5  # the discount if no n-gram occurred exactly once, where the estimate is undefined
BLOCK = 2**20  # keys that are looked up at a time
Params = Mapping[str, Any]


@dataclass(frozen=True)
class NgramConfig:
    order: int  # tokens of an n-gram, including the predicted one: 1 to 6
    smoothing: str  # a name in SMOOTHINGS
    add: float  # add_k: the value added to each count
    discount: float  # kneser_ney: the value subtracted from each count, in (0, 1]; 0: estimated for each order
    capacity: int  # maximum number of distinct n-grams over all orders, 20 bytes each; fixes the shapes before any text is read

    def __post_init__(self):
        require(1 <= self.order <= MAX_ORDER, "model.order", self.order, f"it must be 1 to {MAX_ORDER}")
        require(self.add > 0.0, "model.add", self.add, "it must be above 0, so that no token has probability 0")
        require(0.0 <= self.discount <= 1.0, "model.discount", self.discount, "it must be in (0, 1], or 0 to estimate it")
        require(1 <= self.capacity <= 2**29, "model.capacity", self.capacity, "it must be 1 to 2**29")
        if self.smoothing not in SMOOTHINGS:
            raise unknown("smoothing", self.smoothing, SMOOTHINGS, "--config.model.smoothing")


class Pairs(NamedTuple):
    """Distinct pairs of a context of one length and its next token, sorted."""

    context: np.ndarray  # index among the contexts of this length
    token: np.ndarray
    times: np.ndarray


class Smoothing(NamedTuple):
    """A smoothing method.

    `pairs(highest, shorter)` returns the pairs of each order; shorter[k] maps contexts of k + 1 tokens to those without their oldest token.
    `predict(config, params, nodes, outputs)` returns probabilities [positions, outputs]; nodes[k] is the context of k tokens, or -1 if it
    was never seen.
    """

    pairs: Callable[[Pairs, list[np.ndarray]], list[Pairs]]
    predict: Callable[[NgramConfig, Params, list[jax.Array], int], jax.Array]


def ngram(config: NgramConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """Builds an n-gram model. Its logits are log-probabilities, always in float32; its cache holds the last tokens."""
    del dtype
    if not vocabulary.inputs or vocabulary.pooled:
        raise UserError(
            "ngram predicts the next token at each position, which does not match this task. Choose another --config.model.name."
        )

    def init_cache(params: Params, batch: Batch, max_length: int) -> jax.Array:
        del params, max_length
        return jnp.full((len(batch["inputs"]), max(config.order - 2, 0)), vocabulary.inputs, jnp.int32)

    def extend(params: Params, cache: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        history = jnp.concatenate([cache, tokens.astype(jnp.int32)], axis=1)
        probabilities = SMOOTHINGS[config.smoothing].predict(config, params, walk(config, vocabulary, params, history), vocabulary.outputs)
        return jnp.log(probabilities).reshape(*tokens.shape, vocabulary.outputs), history[:, tokens.shape[1] :]

    def apply(params: Params, batch: Batch, *, key=None, train=False, edits=None) -> Output:
        del key, train, edits  # the model is deterministic and has no taps
        return Output(extend(params, init_cache(params, batch, 0), batch["inputs"])[0], {})

    return Model(
        init=lambda key, batch: empty(config),
        apply=apply,
        decode=Decode(init_cache, extend),
        fit=lambda params, batches: fit(config, vocabulary, params, batches),
    )


def empty(config: NgramConfig) -> dict[str, jax.Array]:
    """Returns the parameters before fitting, which predict the uniform distribution."""
    shapes = {"child_start": 1, "child_token": 0, "successor_start": 1, "successor_token": 0, "successor_count": 0}
    counts = {name: jnp.zeros(config.capacity + extra, jnp.int32) for name, extra in shapes.items()}
    return {**counts, "discount": jnp.zeros(config.order, jnp.float32)}


def fit(config: NgramConfig, vocabulary: Vocabulary, params: Params, batches: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Counts all tokens with positive mask and weight in these batches, each example once. `params` is not modified.

    A sequence s is the batch {"inputs": s[None, :-1], "targets": s[None, 1:], "mask": ones}. Raises UserError if the n-grams exceed the
    capacity.
    """
    del params
    tokens, column, at, token = _flat(batches, vocabulary)
    context, sizes = np.zeros(len(at), np.int32), [1]  # one empty context
    shorter, older = [], []
    for k in range(config.order - 1):  # extends each context from k to k + 1 tokens
        keys, context = _numbered(_keys(context, sizes[-1], _before(tokens, column, at, k, vocabulary.inputs), vocabulary.inputs + 1))
        shorter.append(keys // (vocabulary.inputs + 1))
        older.append(keys % (vocabulary.inputs + 1))
        sizes.append(len(keys))
    keys, counts = np.unique(_keys(context, sizes[-1], token, vocabulary.outputs), return_counts=True)
    highest = Pairs(keys // vocabulary.outputs, keys % vocabulary.outputs, counts)
    orders = SMOOTHINGS[config.smoothing].pairs(highest, shorter)
    needed = max(sum(sizes), sum(len(pairs.context) for pairs in orders))
    if needed > config.capacity:
        raise UserError(
            f"the text has {needed:,} distinct n-grams of orders up to {config.order}, more than config.model.capacity={config.capacity}. "
            "Raise --config.model.capacity, or lower --config.model.order."
        )
    ends = np.cumsum(sizes)
    children = [np.searchsorted(parents, np.arange(size)) + end for parents, size, end in zip(shorter, sizes, ends, strict=False)]
    before = np.cumsum([0, *(len(pairs.context) for pairs in orders)])
    successors = [np.searchsorted(pairs.context, np.arange(size)) + end for pairs, size, end in zip(orders, sizes, before, strict=False)]
    discounts = [config.discount or _discount(pairs.times) for pairs in orders]
    return {
        "child_start": _padded(children, config.capacity + 1, int(ends[-1])),
        "child_token": _padded([np.zeros(1, np.int32), *older], config.capacity, 0),
        "successor_start": _padded(successors, config.capacity + 1, int(before[-1])),
        "successor_token": _padded([pairs.token for pairs in orders], config.capacity, 0),
        "successor_count": _padded([pairs.times for pairs in orders], config.capacity, 0),
        "discount": np.asarray(discounts, np.float32),
    }


def walk(config: NgramConfig, vocabulary: Vocabulary, params: Params, history: Int[Array, "batch reach"]) -> list[jax.Array]:
    """Returns the contexts of 0, 1, ..., order - 1 tokens that end at each position, [batch * seq] each; -1 for one that was never seen."""
    reach = max(config.order - 2, 0)
    rows, seq = history.shape[0], history.shape[1] - reach
    nodes = [jnp.zeros(rows * seq, jnp.int32)]
    for k in range(config.order - 1):
        nodes.append(_child(params, nodes[-1], history[:, reach - k : reach - k + seq].reshape(-1), (vocabulary.inputs + 1).bit_length()))
    return nodes


def successor_counts(params: Params, nodes: Int[Array, " positions"], outputs: int) -> Float[Array, "positions outputs"]:
    """Returns how often each token was counted after each context."""
    start, end = _span(params["successor_start"], nodes)
    entry = start[:, None] + jnp.arange(outputs)[None, :]  # a context has at most `outputs` successors
    there = entry < end[:, None]
    token = jnp.where(there, jnp.take(params["successor_token"], entry, mode="clip"), outputs)  # entries past the row are dropped
    count = jnp.take(params["successor_count"], entry, mode="clip").astype(jnp.float32)
    return jnp.zeros(entry.shape, jnp.float32).at[jnp.arange(len(nodes))[:, None], token].set(count, mode="drop")


# -- smoothing ------------------------------------------------------------------------------------------------------------


def _raw(highest: Pairs, shorter: list[np.ndarray]) -> list[Pairs]:
    nothing = np.zeros(0, np.int64)
    return [Pairs(nothing, nothing, nothing)] * len(shorter) + [highest]


def _continuations(highest: Pairs, shorter: list[np.ndarray]) -> list[Pairs]:
    """Returns raw counts at the highest order; below it, the number of pairs of the next order that end in each pair."""
    orders = [highest]
    for parents in reversed(shorter):
        above = orders[0]
        span = int(highest.token.max(initial=0)) + 1
        keys, counts = np.unique(parents[above.context].astype(np.int64) * span + above.token, return_counts=True)
        orders.insert(0, Pairs(keys // span, keys % span, counts))
    return orders


def _add_k(config: NgramConfig, params: Params, nodes: list[jax.Array], outputs: int) -> jax.Array:
    counts = successor_counts(params, nodes[-1], outputs) + config.add
    return counts / counts.sum(axis=1, keepdims=True)


def _kneser_ney(config: NgramConfig, params: Params, nodes: list[jax.Array], outputs: int) -> jax.Array:
    probabilities = jnp.full((len(nodes[0]), outputs), 1.0 / outputs, jnp.float32)
    for k, context in enumerate(nodes):
        counts, discount = successor_counts(params, context, outputs), params["discount"][k]
        start, end = _span(params["successor_start"], context)
        total = counts.sum(axis=1, keepdims=True)
        kept = jnp.maximum(counts - discount, 0.0) + discount * (end - start)[:, None] * probabilities
        probabilities = jnp.where(total > 0, kept / jnp.maximum(total, 1.0), probabilities)
    return probabilities


SMOOTHINGS: Mapping[str, Smoothing] = {
    "add_k": Smoothing(_raw, _add_k),
    "kneser_ney": Smoothing(_continuations, _kneser_ney),
}


# -- private --------------------------------------------------------------------------------------------------------------


def _flat(batches: Iterable[Mapping[str, Any]], vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Concatenates all rows: tokens, their columns, the positions of counted targets, and those targets."""
    small = np.min_scalar_type(max(vocabulary.inputs, vocabulary.outputs))
    tokens, columns, chosen, targets = [], [], [], []
    for batch in batches:
        inputs = np.asarray(batch["inputs"])
        counted = (np.asarray(batch["mask"]) > 0) & (np.asarray(batch.get("weight", np.ones(len(inputs)))) > 0)[:, None]
        tokens.append(inputs.astype(small).ravel())
        columns.append(np.minimum(np.broadcast_to(np.arange(inputs.shape[1]), inputs.shape), MAX_ORDER).astype(np.uint8).ravel())
        chosen.append(counted.ravel())
        targets.append(np.asarray(batch["targets"])[counted].astype(small))
    if not tokens:
        raise UserError("the training split has no text to count. Choose a task with training examples with --config.task.name.")
    return np.concatenate(tokens), np.concatenate(columns), np.flatnonzero(np.concatenate(chosen)).astype(np.int32), np.concatenate(targets)


def _keys(context: np.ndarray, contexts: int, token: np.ndarray, span: int) -> np.ndarray:
    """Returns context * span + token in the smallest type that holds it, because sorting dominates the cost."""
    keys = context.astype(np.int32 if contexts * span < 2**31 else np.int64)
    np.multiply(keys, span, out=keys)
    return np.add(keys, token, out=keys)


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct keys, sorted, and the index of each key among them. Works in blocks to limit memory."""
    distinct, number = np.unique(keys), np.empty(len(keys), np.int32)
    for i in range(0, len(keys), BLOCK):
        number[i : i + BLOCK] = np.searchsorted(distinct, keys[i : i + BLOCK])
    return distinct, number


def _before(tokens: np.ndarray, column: np.ndarray, at: np.ndarray, k: int, beginning: int) -> np.ndarray:
    """Returns the token k places before each position, or the beginning-of-text token if the row has none."""
    found = tokens[np.maximum(at - k, 0)]
    found[column[at] < k] = beginning
    return found


def _discount(counts: np.ndarray) -> float:
    once, twice = (counts == 1).sum(), (counts == 2).sum()
    return float(once / (once + 2 * twice)) if once else FALLBACK


def _padded(parts: list[np.ndarray], size: int, value: int) -> np.ndarray:
    found = np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int32)
    return np.concatenate([found, np.full(size - len(found), value, np.int32)])


def _span(starts: jax.Array, nodes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the start and end of the entries of each node; node -1 has none."""
    start, end = (jnp.take(starts, jnp.maximum(nodes, 0) + i, mode="clip") for i in range(2))
    return start, jnp.where(nodes < 0, start, end)


def _child(params: Params, nodes: jax.Array, tokens: jax.Array, bits: int) -> jax.Array:
    """Finds the context that extends each of `nodes` by `tokens`, by binary search among its children; -1 if there is none."""
    low, end = _span(params["child_start"], nodes)

    def halve(_, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) // 2
        less = jnp.take(params["child_token"], middle, mode="clip") < tokens
        return jnp.where((low < high) & less, middle + 1, low), jnp.where((low < high) & ~less, middle, high)

    low, _ = jax.lax.fori_loop(0, bits + 1, halve, (low, end))
    found = (low < end) & (jnp.take(params["child_token"], low, mode="clip") == tokens)
    return jnp.where(found, low, -1)
