"""Taps: identity functions at which an activation is read, replaced or differentiated.

    x = tap(self, "hidden", x, axes="b w")  # inside a module

Read: `Model.apply(...).taps["block_0/attention/weights"]`. Replace: `apply(..., edits={path: jax.tree_util.Partial(fn, array)})`. If blocks
are applied several times, `path` is the last application and `path@k` application k, from 0; an edit at `path` acts on all of them. Models
must not contain `jax.jit`, which would cache an edit.

The axes of a tap are one word per axis, with one letter for each quantity it indexes:

    b  examples      s  tokens           h  heads             w  features
    q  queries       k  keys             d  features of a head
    y  rows, x  columns of an image      i, j  cells of a memory, and memories
    m  members of an ensemble

"bs w" is [examples * tokens, features], "s b w" is [tokens, examples, features]. `to_tokens` and `from_tokens` use these letters.
"""

import contextlib
import contextvars
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax

from assay.core.errors import UserError

MARK = "|"  # separates a tap's name from its axes in the Linen collection, so that axes survive every module transformation
NEAREST = 5  # number of paths that an error suggests
EXAMPLES = "b"
PLACES = "sqyx"  # positions within an example: a token, a query, a pixel


@dataclass
class Editing:
    """The edits of one call, and which of them its taps applied."""

    edits: Mapping[str, Callable]
    taken: set[str] = field(default_factory=set)  # paths of edits that a tap applied
    offered: set[str] = field(default_factory=set)  # paths at which an edit can be applied


_editing: contextvars.ContextVar[Editing | None] = contextvars.ContextVar("editing", default=None)
_loop: contextvars.ContextVar[int | None] = contextvars.ContextVar("loop", default=None)


@jax.tree_util.register_pytree_with_keys_class
class Taps(Mapping[str, Any]):
    """Activations by path, in the order in which the model computed them; `axes[path]` describes their axes (see above).

    A pytree whose leaves are the activations; the axes are static. Under `vmap`, the axes are those of a single call.
    """

    def __init__(self, values: Mapping[str, Any], axes: Mapping[str, str]):
        self.values_by_path, self.axes = dict(values), dict(axes)

    def __getitem__(self, path: str) -> Any:
        return self.values_by_path[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_path)

    def __len__(self) -> int:
        return len(self.values_by_path)

    def __repr__(self) -> str:
        return f"Taps({self.values_by_path!r}, {self.axes!r})"

    def led(self, letter: str) -> "Taps":
        """Returns the same values with a leading axis that all of them share, such as the members of an ensemble."""
        return Taps(self.values_by_path, {path: f"{letter} {axes}" for path, axes in self.axes.items()})

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[tuple[str, str], ...]]:
        keys = [(jax.tree_util.DictKey(path), value) for path, value in self.values_by_path.items()]
        return keys, tuple((path, self.axes.get(path, "")) for path in self.values_by_path)

    @classmethod
    def tree_unflatten(cls, static: tuple[tuple[str, str], ...], values: Any) -> "Taps":
        return cls(dict(zip((path for path, _ in static), values, strict=True)), {path: axes for path, axes in static if axes})


def tap(module: nn.Module, name: str, value: jax.Array, axes: str) -> jax.Array:
    """Records `value` under the module's path and returns it, or the result of an edit. `axes`: one word per axis, see above."""
    for edit in edits_at(module, name):
        value = edit(value)
    record(module, name, value, axes)
    return value


def record(module: nn.Module, name: str, value: jax.Array, axes: str) -> None:
    """Records `value` under the module's path without support for edits."""
    if len(axes.split()) != value.ndim:
        raise ValueError(f"the tap {name} has axes {axes!r}, but its value has {value.ndim} axes: {value.shape}")
    if module.is_mutable_collection("taps"):  # not `sow`, which rejects the name of a submodule, such as the matrix `query`
        loop = _loop.get()
        for kept in (name,) if loop is None else (name, f"{name}@{loop}"):
            module.put_variable("taps", f"{kept}{MARK}{axes}", value)


def edits_at(module: nn.Module, name: str) -> list[Callable]:
    """Returns the edits requested at a path: first those for all loops, then those for the current loop."""
    editing, loop = _editing.get(), _loop.get()
    if editing is None:
        return []
    path = "/".join((*module.path, name))
    paths = [path] if loop is None else [path, f"{path}@{loop}"]
    editing.offered.update(paths)
    found = [path for path in paths if path in editing.edits]
    editing.taken.update(found)
    return [editing.edits[path] for path in found]


def edited() -> bool:
    """Returns True if the model that is being traced has an edit."""
    editing = _editing.get()
    return editing is not None and bool(editing.edits)


def recorded(variables: Mapping[str, Any]) -> Taps:
    """Returns the taps in the variables that `apply` of a Linen module returned."""
    found = flax.traverse_util.flatten_dict(variables.get("taps", {}), sep="/")
    split = {key: key.partition(MARK) for key in found}
    return Taps({split[key][0]: value for key, value in found.items()}, {path: axes for path, _, axes in split.values()})


def to_tokens(value: Any, axes: str, rows: int) -> Any:
    """Reshapes an activation to [examples, places, ...].

    Places are tokens, queries or pixels in order, or a single place if there are none; the other axes follow in order. `rows`: the number
    of examples. Raises ValueError if the axes do not match the value or do not include examples.
    """
    letters, sizes = _sizes(axes, value.shape, rows)
    order = _order(letters)
    places = prod(sizes[letter] for letter in letters if letter in PLACES)
    others = [sizes[letter] for letter in order if letter not in EXAMPLES + PLACES]
    return (
        value.reshape([sizes[letter] for letter in letters]).transpose([letters.index(one) for one in order]).reshape(rows, places, *others)
    )


def from_tokens(tokens: Any, axes: str, shape: tuple[int, ...]) -> Any:
    """Restores the activation of this shape from the output of `to_tokens`."""
    letters, sizes = _sizes(axes, shape, len(tokens))
    order = _order(letters)
    return tokens.reshape([sizes[letter] for letter in order]).transpose([order.index(one) for one in letters]).reshape(shape)


@contextlib.contextmanager
def editing(edits: Mapping[str, Callable]) -> Iterator[None]:
    """Context in which the taps of a traced model apply these edits.

    Raises UserError at the end for an edit that no tap applied.
    """
    one = Editing(edits)
    token = _editing.set(one)
    try:
        yield
    finally:
        _editing.reset(token)
    for path in edits:
        if path not in one.taken:
            raise _missed(path, one.offered)


@contextlib.contextmanager
def looping(loop: int | None) -> Iterator[None]:
    """Context in which taps of traced blocks belong to this loop; None if there is only one."""
    token = _loop.set(loop)
    try:
        yield
    finally:
        _loop.reset(token)


# -- private --------------------------------------------------------------------------------------------------------------


def _missed(path: str, offered: set[str]) -> UserError:
    near = difflib.get_close_matches(path, sorted(offered), n=NEAREST, cutoff=0.0)
    nearest = f"The nearest taps are {', '.join(near)}" if near else "The model has no taps"
    return UserError(f"an edit at {path!r} has no effect: the model has no such tap. {nearest}. Change the path in `edits`.")


def _order(letters: list[str]) -> list[str]:
    places = [letter for letter in letters if letter in PLACES]
    return [EXAMPLES, *places, *(letter for letter in letters if letter not in EXAMPLES + PLACES)]


def _sizes(axes: str, shape: tuple[int, ...], rows: int) -> tuple[list[str], dict[str, int]]:
    """Returns the letters in order, and the size of each."""
    words = axes.split()
    letters = [letter for word in words for letter in word]
    if len(words) != len(shape) or EXAMPLES not in letters:
        raise ValueError(f"axes {axes!r} do not match an activation of shape {shape}: one word per axis, one of them with the letter b")
    sizes: dict[str, int] = {}
    for word, size in zip(words, shape, strict=True):
        known = rows if EXAMPLES in word else 1
        if size % known or (len(word) == 1 and word == EXAMPLES and size != rows):
            raise ValueError(f"an activation of shape {shape} with axes {axes!r} does not have {rows} examples")
        sizes |= {letter: rows if letter == EXAMPLES else size // known for letter in word}
    return letters, sizes
