"""Inputs that a user writes as text, for tasks over tokens: `0110`, `jump twice`, `3 + 4 * 1`.

    Task(..., asked=partial(prompts, name="chomsky/parity_check", symbols=("0", "1"), room=lambda tokens: (len(tokens), 1)))

Tokens are separated by spaces. Where every symbol is one character, the spaces may be left out, and `12+3` is `12 + 3` where numbers are
symbols. Where a space is itself a symbol, each character of the text is a token.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.errors import UserError
from assay.data.source import Examples, Source, in_memory, padded

Room = Callable[[list[int]], tuple[int, int]]  # token ids -> nominal length, and number of answer tokens
SHOWN = 20  # symbols that an error lists
KEY = "Change --text or --input."


def prompts(texts: Sequence[Any], name: str, symbols: Sequence[str], room: Room, unknown: int | None = None, most: int = 0) -> Source:
    """Returns the inputs as a split without answers: target tokens are 0, as many as the answer has room for.

    Args:
      texts: one input each.
      name: the task, for errors.
      symbols: the text of each input id.
      room: token ids -> (nominal length, number of answer tokens). It may raise ValueError with the reason why an input is none.
      unknown: the id of a symbol that is not listed; None: an error.
      most: the greatest number of input tokens; 0: any.

    Raises UserError for an input that is not text, is empty, is longer than `most`, or has an unknown symbol.
    """
    ids = {symbol: i for i, symbol in enumerate(symbols)}
    rows = [_tokens(text, number, name, ids, unknown) for number, text in enumerate(texts)]
    sizes = []
    for number, row in enumerate(rows):
        if most and len(row) > most:
            raise UserError(f"input {number} has {len(row)} tokens; {name} reads at most {most}. {KEY}")
        try:
            sizes.append(room(row))
        except ValueError as error:
            raise UserError(f"input {number} is none of {name}: {error}. {KEY}") from None
    tokens, counts = padded(rows)
    lengths, slots = np.array(sizes, np.int64).T
    target = np.zeros((len(rows), int(slots.max())), np.int32)
    return in_memory("asked", Examples(np.arange(len(rows)), lengths, tokens, counts, target, slots, slots))


def numbers(size: int) -> tuple[str, ...]:
    """Returns the symbols of ids that are displayed as numbers."""
    return tuple(map(str, range(size)))


# -- private --------------------------------------------------------------------------------------------------------------


def _tokens(text: object, number: int, name: str, ids: Mapping[str, int], unknown: int | None) -> list[int]:
    if not isinstance(text, str):
        raise UserError(f"input {number} is {text!r}; {name} reads text, such as {' '.join([*ids][:4])!r}. {KEY}")
    characters = max(map(len, ids)) == 1
    parts = [*text] if " " in ids else [*"".join(text.split())] if characters else _apart(text, ids)
    if not parts:
        raise UserError(f"input {number} is empty. {KEY}")
    for part in parts:
        if part not in ids and unknown is None:
            listed = [*ids] if len(ids) <= SHOWN else [*[*ids][: SHOWN - 1], "..."]
            raise UserError(f"{part!r} in input {number} is no symbol of {name}, which has {' '.join(listed)}. {KEY}")
    return [ids.get(part, -1 if unknown is None else unknown) for part in parts]


def _apart(text: str, ids: Mapping[str, int]) -> list[str]:
    """Returns the words of a text; one that is no symbol is cut into numbers and other characters if each of them is a symbol."""
    found: list[str] = []
    for word in text.split():
        pieces = re.findall(r"\d+|\D", word)
        found += [word] if word in ids or not all(piece in ids for piece in pieces) else pieces
    return found
