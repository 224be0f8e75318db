"""Named randomness on the device and on the host, both without hidden state.

On the device, `stream(key, "dropout", step)` folds a stable hash of the name into a JAX key, so adding a stream never changes another. On
the host, draws are counter-based in NumPy (SplitMix64, Steele et al. 2014). Example i of a split has one 64-bit key derived from (names,
seed, i). Every draw is a pure function of (key, slot, position), so any example can be generated alone, in any order.
"""

import hashlib

import jax
import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stable_hash(name: str) -> int:
    """Returns 64 bits of BLAKE2b: the same in every process and Python version, unlike `hash`."""
    return bytes_hash(name.encode("utf-8", "surrogatepass"))


def bytes_hash(content: bytes) -> int:
    """Returns 64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def stream(key: jax.Array, name: str, step: int | jax.Array = 0) -> jax.Array:
    """Returns the key of stream `name` at `step`, independent of every other name and step."""
    return jax.random.fold_in(jax.random.fold_in(key, stable_hash(name) & 0x7FFFFFFF), step)


def mix(values: np.ndarray | np.uint64) -> np.ndarray:
    """Applies SplitMix64's finaliser: a bijection of uint64 in which every input bit affects every output bit."""
    with np.errstate(over="ignore"):
        words = np.asarray(values, np.uint64)
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return words ^ (words >> np.uint64(31))


def example_keys(name: str, seed: int, indices: np.ndarray) -> np.ndarray:
    """Returns one uint64 key for each index. `name` identifies the set of examples (a task and its split)."""
    with np.errstate(over="ignore"):
        base = mix(np.uint64(stable_hash(name)) + GOLDEN * np.uint64(seed & 0xFFFFFFFFFFFFFFFF))
        return mix(base + GOLDEN * np.asarray(indices).astype(np.uint64))


def integers(keys: np.ndarray, slot: str, count: int, span: int | np.ndarray) -> np.ndarray:
    """Returns uniform integers in [0, span), shape [len(keys), count], int64.

    `slot` names the use; draws of different slots are independent. `span` (up to 2**32) is one number, or one for each key. The bias of the
    multiply-shift is below span / 2**32.
    """
    with np.errstate(over="ignore"):
        start = mix(np.asarray(keys, np.uint64) ^ np.uint64(stable_hash(slot)))
        words = mix(start[:, None] + GOLDEN * np.arange(1, count + 1, dtype=np.uint64)[None, :])
        spans = np.broadcast_to(np.asarray(span, np.uint64), (len(keys),))[:, None]
        return (((words >> np.uint64(32)) * spans) >> np.uint64(32)).astype(np.int64)
