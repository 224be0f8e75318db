"""What the axes of a tapped activation are: a word for each axis, a letter for each thing that it counts.

    b  examples      s  tokens           h  heads             w  features
    q  queries       k  keys             d  features of a head
    y  rows, x  columns of a picture     i, j  cells of a memory, and memories
    m  members of an ensemble

"bs w" is [examples * tokens, features], "s b w" is [tokens, examples, features].
"""

from math import prod
from typing import Any

EXAMPLES = "b"
PLACES = "sqyx"  # what lies at one place of an example: a token, a query, a pixel


def to_tokens(value: Any, axes: str, rows: int) -> Any:
    """[examples, places, ...]: places are tokens, queries or pixels in order, or one where there are none; the other axes follow in order.

    `rows`: how many examples there are. Raises ValueError where the axes are not those of the value, or no examples are among them.
    """
    letters, sizes = _sizes(axes, value.shape, rows)
    order = _order(letters)
    places = prod(sizes[letter] for letter in letters if letter in PLACES)
    others = [sizes[letter] for letter in order if letter not in EXAMPLES + PLACES]
    return (
        value.reshape([sizes[letter] for letter in letters]).transpose([letters.index(one) for one in order]).reshape(rows, places, *others)
    )


def from_tokens(tokens: Any, axes: str, shape: tuple[int, ...]) -> Any:
    """The activation of this shape of which `to_tokens` made `tokens`."""
    letters, sizes = _sizes(axes, shape, len(tokens))
    order = _order(letters)
    return tokens.reshape([sizes[letter] for letter in order]).transpose([order.index(one) for one in letters]).reshape(shape)


# -- private --------------------------------------------------------------------------------------------------------------


def _order(letters: list[str]) -> list[str]:
    places = [letter for letter in letters if letter in PLACES]
    return [EXAMPLES, *places, *(letter for letter in letters if letter not in EXAMPLES + PLACES)]


def _sizes(axes: str, shape: tuple[int, ...], rows: int) -> tuple[list[str], dict[str, int]]:
    """The letters in order, and what each counts."""
    words = axes.split()
    letters = [letter for word in words for letter in word]
    if len(words) != len(shape) or EXAMPLES not in letters:
        raise ValueError(f"axes {axes!r} do not name the examples and others of an activation of shape {shape}")
    sizes: dict[str, int] = {}
    for word, size in zip(words, shape, strict=True):
        known = rows if EXAMPLES in word else 1
        if size % known or (len(word) == 1 and word == EXAMPLES and size != rows):
            raise ValueError(f"an activation of shape {shape} with axes {axes!r} is not one of {rows} examples")
        sizes |= {letter: rows if letter == EXAMPLES else size // known for letter in word}
    return letters, sizes
