"""Parameters of one run into another by path: what agrees in path and shape is loaded, and a report says what was and was not.

    params, report = transfer(target, source, [(r"/head/", "/unused/"), (r"^model/trunk/", "model/")])
    print(report)

A source path is rewritten by the first rule whose regex is found in it (as `re.sub` does), else stays as it is. A shape that differs is
refused and reported, as a head for other classes is. Nothing loaded is a UserError.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree, merge, paths

Rules = Sequence[tuple[str, str]]  # (regex, replacement) on source paths, the first that is found


@dataclass(frozen=True)
class Refused:
    """A pair of one path whose arrays do not fit."""

    target: str
    source: str
    expected: str  # dtype and shape of the target, as `float32[4,3]`
    found: str


@dataclass(frozen=True)
class Report:
    """What became of every parameter of a transfer; `str(report)` is for people."""

    loaded: tuple[tuple[str, str], ...]  # (target path, source path)
    initial: tuple[str, ...]  # target paths that no source path leads to
    unused: tuple[str, ...]  # source paths that lead to no target path
    refused: tuple[Refused, ...]
    numbers: int  # how many were loaded

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.initial) + len(self.refused)
        lines = [f"{len(self.loaded)} of {total} parameters loaded ({self.numbers:,} numbers)"]
        lines += [f"  {target} <- {source}" for target, source in self.loaded if target != source]
        for title, names in (("left as drawn, not in the source", self.initial), ("in the source, not used", self.unused)):
            lines += [f"{title}: {len(names)}", *(f"  {name}" for name in names)] if names else []
        if self.refused:
            lines += [f"left as drawn, of another shape: {len(self.refused)}"]
            lines += [f"  {bad.target} is {bad.expected}, {bad.source} in the source {bad.found}" for bad in self.refused]
        return "\n".join(lines)


def transfer(target_params: PyTree, source_params: PyTree, rules: Rules = ()) -> tuple[PyTree, Report]:
    """The target with all values of the source that fit. Raises UserError where none does, or where two lead to one."""
    found, report = match(target_params, source_params, rules)
    return merge(target_params, found), report


def match(target: PyTree, source: PyTree, rules: Rules = ()) -> tuple[PyTree, Report]:
    """The part of the target that the source has values for, as nested dicts. Of the target only shapes and dtypes are read."""
    wanted, there = (dict(zip(paths(tree), jax.tree.leaves(tree), strict=True)) for tree in (target, source))
    compiled = [(_compiled(regex), replacement) for regex, replacement in rules]
    origin: dict[str, str] = {}
    for path in there:
        new = _rewritten(path, compiled)
        if new in origin:
            raise UserError(f"{origin[new]} and {path} of the source both lead to {new}. Change the mapping.")
        origin[new] = path
    both = [path for path in wanted if path in origin]
    refused = tuple(
        Refused(path, origin[path], _kind(wanted[path]), _kind(there[origin[path]]))
        for path in both
        if not _fits(wanted[path], there[origin[path]])
    )
    bad = {pair.target for pair in refused}
    found: dict[str, Any] = {}
    for path in both:
        if path not in bad:
            *parents, name = path.split("/")
            node = found
            for part in parents:
                node = node.setdefault(part, {})
            node[name] = there[origin[path]].astype(wanted[path].dtype)
    report = Report(
        loaded=tuple((path, origin[path]) for path in both if path not in bad),
        initial=tuple(path for path in wanted if path not in origin),
        unused=tuple(path for new, path in origin.items() if new not in wanted),
        refused=refused,
        numbers=sum(int(np.prod(wanted[path].shape)) for path in both if path not in bad),
    )
    if not report.loaded:
        raise UserError(f"no parameter of the source fits. Map its paths onto those of the model.\n{report}")
    return found, report


def parse_rules(text: str) -> list[tuple[str, str]]:
    """`a->b;c->d` as rules. Raises UserError for a rule without an arrow or a regex that is none."""
    rules = []
    for rule in (rule for rule in text.split(";") if rule):
        regex, arrow, replacement = rule.partition("->")
        if not (arrow and regex):
            raise UserError(f"{rule!r} is no rule of a mapping. Write it as regex->replacement, several separated by `;`.")
        _compiled(regex)
        rules.append((regex, replacement))
    return rules


# -- private --------------------------------------------------------------------------------------------------------------


def _compiled(regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except re.error as error:
        raise UserError(f"{regex!r} in a mapping is no regular expression: {error}.") from None


def _rewritten(path: str, rules: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in rules:
        if pattern.search(path):
            try:
                return pattern.sub(replacement, path)
            except (re.error, IndexError) as error:
                raise UserError(f"the replacement {replacement!r} of {pattern.pattern!r} is not possible: {error}.") from None
    return path


def _fits(target: Any, source: Any) -> bool:
    """Equal shapes; equal dtypes, or both of floating point (which are converted)."""
    floating = jnp.issubdtype(target.dtype, jnp.floating) and jnp.issubdtype(source.dtype, jnp.floating)
    return target.shape == source.shape and (target.dtype == source.dtype or floating)


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
