"""Position ids for the tasks of the Chomsky hierarchy whose answers copy the input token by token: a token and its copy share an id.

This is position coupling (Cho et al. 2024, arXiv 2405.20671), beyond addition. `Task.couples` has the ids, and the treatment `couple`
uses them.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from assay.data.source import Examples

Reads = Callable[[np.ndarray, np.ndarray], np.ndarray]  # output position, number of input tokens -> input position that it copies


def couples_of(name: str, convention: str) -> Callable[[Examples, int], np.ndarray] | None:
    """Returns (examples, width) -> position ids of a task; None if its answers are no copies."""
    first = 0 if convention == "paper" else 1  # of odds_first
    reads: dict[str, Reads] = {
        "reverse_string": lambda slot, tokens: tokens - 1 - slot,
        "duplicate_string": lambda slot, tokens: slot % tokens,
        "odds_first": partial(_alternate, first=first),
    }
    return partial(copied_places, reads=reads[name]) if name in reads else None


def copied_places(examples: Examples, width: int, reads: Reads) -> np.ndarray:
    """Returns position ids, int32 [n, width]: 1 and up for the input tokens, those of the copied tokens for the outputs, 0 for padding."""
    at, tokens = np.arange(width)[None, :], examples.input_length[:, None]
    slot = at - tokens
    answered = reads(np.clip(slot, 0, None), tokens) + 1
    return np.where(slot < 0, at + 1, np.where(slot < np.reshape(examples.slots, (-1, 1)), answered, 0)).astype(np.int32)


# -- private --------------------------------------------------------------------------------------------------------------


def _alternate(slot: np.ndarray, tokens: np.ndarray, first: int) -> np.ndarray:
    leading = (tokens + 1 - first) // 2  # tokens at first, first + 2, ...
    return np.where(slot < leading, 2 * slot + first, 2 * (slot - leading) + 1 - first)
