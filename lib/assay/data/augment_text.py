"""Text augmentation: pure functions of a key under jit, on right-padded tokens int32 [batch, seq] with `length` [batch] valid tokens.

    augment = make_augment("dropout:0.1,noise:0.05", alphabet, "--config.task.augment")
    tokens, length = augment(key, tokens, length)

Only ids of the alphabet are changed: padding and marks (beginning, end, separator) are preserved. Dropout and span keep every token's
position, so they suit per-token targets. Swap, delete and noise move tokens and suit pooled tasks only. All are the identity at rate 0.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from assay.core import rng
from assay.data.augment import Entry, parse
from assay.data.tokenizers import Tokenizer

SPAN = 3  # tokens per masked span

Tokens = Int[Array, "batch seq"]
Length = Int[Array, "batch"]
Chosen = Bool[Array, "batch seq"]
Augment = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class Alphabet(NamedTuple):
    """Specifies which ids are text. For bytes followed by marks: Alphabet(mask=256, first=0, size=256). The ids may be traced under jit."""

    mask: int  # id that replaces removed tokens
    first: int  # text ids are [first, first + size)
    size: int
    padding: int = 0  # fills the positions that deletions free


def alphabet_of(tokens: Tokenizer) -> Alphabet:
    """Returns the longest contiguous range of text ids of a tokenizer."""
    ids = tokens.ordinary()
    row = max(np.split(ids, np.flatnonzero(np.diff(ids) > 1) + 1), key=len)
    return Alphabet(tokens.mask, int(row[0]), len(row), tokens.pad)


def make_augment(spec: str, alphabet: Alphabet, config_key: str) -> Augment:
    """Builds `(key, tokens, length) -> (tokens, length)`."""
    parts = parse(spec, TEXT, config_key)

    def augment(key: jax.Array, tokens: Tokens, length: Length) -> tuple[Tokens, Length]:
        for place, (name, rate) in enumerate(parts):
            tokens, length = TEXT[name].function(rng.stream(key, f"augment/{name}", place), tokens, length, rate, alphabet)
        return tokens, length

    return augment


def token_dropout(key: jax.Array, tokens: Tokens, length: Length, rate: float, alphabet: Alphabet) -> tuple[Tokens, Length]:
    """Replaces each token by `alphabet.mask` with probability `rate` (word dropout, Bowman et al. 2016)."""
    chosen = is_text(tokens, length, alphabet) & (jax.random.uniform(key, tokens.shape) < rate)
    return jnp.where(chosen, alphabet.mask, tokens), length


def token_deletion(key: jax.Array, tokens: Tokens, length: Length, rate: float, alphabet: Alphabet) -> tuple[Tokens, Length]:
    """Deletes each token with probability `rate` and closes the gaps (Iyyer et al. 2015)."""
    return delete(tokens, length, is_text(tokens, length, alphabet) & (jax.random.uniform(key, tokens.shape) < rate), alphabet)


def span_masking(
    key: jax.Array, tokens: Tokens, length: Length, rate: float, alphabet: Alphabet, span: int = SPAN
) -> tuple[Tokens, Length]:
    """Replaces spans of `span` tokens by `alphabet.mask`; each token is masked with probability `rate` (spans after Joshi et al. 2020).

    A span starts at each position with the same probability, including just before the text, and may overlap another: 1 - (1 - start)^span
    = rate.
    """
    batch, seq = tokens.shape
    starts = jax.random.uniform(key, (batch, seq + span - 1)) < 1 - (1 - rate) ** (1 / span)
    covered = jnp.stack([starts[:, i : i + seq] for i in range(span)]).any(axis=0)
    return jnp.where(covered & is_text(tokens, length, alphabet), alphabet.mask, tokens), length


def neighbour_swap(key: jax.Array, tokens: Tokens, length: Length, rate: float, alphabet: Alphabet) -> tuple[Tokens, Length]:
    """Swaps each token with the next one with probability `rate`."""
    text = is_text(tokens, length, alphabet)
    return swap(tokens, text & (jax.random.uniform(key, tokens.shape) < rate), text), length


def character_noise(key: jax.Array, tokens: Tokens, length: Length, rate: float, alphabet: Alphabet) -> tuple[Tokens, Length]:
    """Simulates misspelling: with probability `rate` / 3 each, a character is replaced by another one, swapped with the
    next, or dropped.
    """
    draw = jax.random.uniform(rng.stream(key, "what"), tokens.shape) * 3
    text = is_text(tokens, length, alphabet)
    steps = jax.random.randint(rng.stream(key, "replacement"), tokens.shape, 0, jnp.maximum(alphabet.size - 1, 1))
    tokens = replace(tokens, text & (draw < rate), steps, alphabet)
    tokens = swap(tokens, text & (draw >= rate) & (draw < 2 * rate), text)
    return delete(tokens, length, text & (draw >= 2 * rate) & (draw < 3 * rate), alphabet)


TEXT: Mapping[str, Entry] = {
    "dropout": Entry(token_dropout, 0.1, 1, "share of tokens"),
    "delete": Entry(token_deletion, 0.1, 1, "share of tokens"),
    "span": Entry(span_masking, 0.15, 1, f"share of tokens, in spans of {SPAN}"),
    "swap": Entry(neighbour_swap, 0.1, 1, "share of tokens"),
    "noise": Entry(character_noise, 0.05, 1, "share of characters"),
}
PLACED = ("dropout", "span")  # these keep every token's position


# -- edits at chosen places, which corruptions share ------------------------------------------------------------------------


def is_text(tokens: Tokens, length: Length, alphabet: Alphabet) -> Chosen:
    """Returns True where a token is valid and belongs to the alphabet."""
    inside = jnp.arange(tokens.shape[1])[None, :] < length[:, None]
    return inside & (tokens >= alphabet.first) & (tokens < alphabet.first + alphabet.size)


def replace(tokens: Tokens, chosen: Chosen, steps: Int[Array, "batch seq"], alphabet: Alphabet) -> Tokens:
    """Advances chosen tokens by 1 + steps around the alphabet: to any other token for steps in [0, size - 2]."""
    return jnp.where(chosen, alphabet.first + (tokens - alphabet.first + 1 + steps) % alphabet.size, tokens)


def swap(tokens: Tokens, chosen: Chosen, text: Chosen) -> Tokens:
    """Swaps chosen tokens with the next one, if that is text. No token moves twice: in a run of chosen tokens, every
    second one is swapped.
    """
    starts = chosen[:, :-1] & text[:, 1:]
    at = jnp.arange(starts.shape[1], dtype=jnp.int32)[None, :]
    before = jax.lax.cummax(jnp.where(starts, -1, at), axis=1)  # the last position that is not chosen
    starts = jnp.pad(starts & ((at - before) % 2 == 1), ((0, 0), (0, 1)))
    moved = jnp.where(starts, jnp.roll(tokens, -1, axis=1), tokens)
    return jnp.where(jnp.roll(starts, 1, axis=1), jnp.roll(tokens, 1, axis=1), moved)


def delete(tokens: Tokens, length: Length, chosen: Chosen, alphabet: Alphabet) -> tuple[Tokens, Length]:
    """Deletes chosen tokens, closes the gaps, and pads the end of the text. If all would be deleted, the first remains."""
    at = jnp.arange(tokens.shape[1])[None, :]
    inside = at < length[:, None]
    emptied = ~(inside & ~chosen).any(axis=1, keepdims=True)
    chosen = chosen & inside & ~(emptied & (at == 0))
    left = length - chosen.sum(axis=1, dtype=length.dtype)
    closed = jnp.take_along_axis(tokens, jnp.argsort(chosen, axis=1, stable=True), axis=1)
    return jnp.where(at < left[:, None], closed, jnp.where(inside, alphabet.padding, tokens)), left
