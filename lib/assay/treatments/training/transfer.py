"""Transfers parameters from one run to another by path: loads those that agree in path and shape, and reports the rest.

    params, report = transfer(target, source, [(r"/head/", "/unused/"), (r"^model/trunk/", "model/")])
    print(report)

The first rule whose regex is found in a source path rewrites it, as `re.sub` does; other paths are unchanged. Parameters of another shape,
such as a head for other classes, are refused and reported. If nothing can be loaded, a UserError is raised.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.errors import UserError
from assay.core.tree import PyTree, by_path, merge, path_string

Rules = Sequence[tuple[str, str]]  # (regex, replacement) for source paths; the first match applies


@dataclass(frozen=True)
class Refused:
    """A target and a source parameter whose shapes or dtypes do not match."""

    target: str
    source: str
    expected: str  # dtype and shape of the target, such as `float32[4,3]`
    found: str


@dataclass(frozen=True)
class Report:
    """Outcome of a transfer for every parameter; `str(report)` formats it for reading."""

    loaded: tuple[tuple[str, str], ...]  # (target path, source path)
    initial: tuple[str, ...]  # target paths without a source path
    unused: tuple[str, ...]  # source paths without a target path
    refused: tuple[Refused, ...]
    numbers: int  # number of scalars loaded

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.initial) + len(self.refused)
        lines = [f"{len(self.loaded)} of {total} parameters loaded ({self.numbers:,} numbers)"]
        lines += [f"  {target} <- {source}" for target, source in self.loaded if target != source]
        for title, names in (("not in the source, initial values kept", self.initial), ("in the source, not used", self.unused)):
            lines += [f"{title}: {len(names)}", *(f"  {name}" for name in names)] if names else []
        if self.refused:
            lines += [f"shape or dtype differs, initial values kept: {len(self.refused)}"]
            lines += [f"  {bad.target} is {bad.expected}, {bad.source} in the source {bad.found}" for bad in self.refused]
        return "\n".join(lines)


def transfer(target_params: PyTree, source_params: PyTree, rules: Rules = ()) -> tuple[PyTree, Report]:
    """Returns the target with all matching source values, and a report.

    Raises UserError if no parameter matches, or if two source paths map to the same target path.
    """
    found, report = match(target_params, source_params, rules)
    return merge(target_params, found), report


def match(target: PyTree, source: PyTree, rules: Rules = ()) -> tuple[PyTree, Report]:
    """Returns the part of the target that the source has values for, as nested dicts, and a report.

    Only the shapes and dtypes of the target are read. Raises UserError as `transfer` does, and if two parameters have the same path.
    """
    wanted, there = by_path(target), by_path(source)
    places = [key_path for key_path, _ in jax.tree_util.tree_leaves_with_path(target)]
    keys = dict(zip(wanted, (tuple(map(_key, place)) for place in places), strict=True))
    compiled = [(_compiled(regex), replacement) for regex, replacement in rules]
    origin: dict[str, str] = {}
    for path in there:
        new = _rewritten(path, compiled)
        if new in origin:
            raise UserError(f"{origin[new]} and {path} of the source both map to {new}. Change the mapping.")
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
            *parents, name = keys[path]  # a name may hold a slash
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
        raise UserError(f"no parameter of the source matches. Map its paths onto those of the model.\n{report}")
    return found, report


def parse_rules(text: str) -> list[tuple[str, str]]:
    """Parses `a->b;c->d` into rules. Raises UserError for a rule without an arrow or with an invalid regex."""
    rules = []
    for rule in (rule for rule in text.split(";") if rule):
        regex, arrow, replacement = rule.partition("->")
        if not (arrow and regex):
            raise UserError(f"{rule!r} is not a mapping rule. Write it as regex->replacement, several separated by `;`.")
        _compiled(regex)
        rules.append((regex, replacement))
    return rules


# -- private --------------------------------------------------------------------------------------------------------------


def _key(key: Any) -> Any:
    """Returns the key of a dict, or the name of another node's child."""
    return getattr(key, "key", path_string((key,)))


def _compiled(regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except re.error as error:
        raise UserError(f"{regex!r} in a mapping is not a valid regular expression: {error}.") from None


def _rewritten(path: str, rules: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in rules:
        if pattern.search(path):
            try:
                return pattern.sub(replacement, path)
            except (re.error, IndexError) as error:
                raise UserError(f"the replacement {replacement!r} of {pattern.pattern!r} is not possible: {error}.") from None
    return path


def _fits(target: Any, source: Any) -> bool:
    """Checks for equal shapes and dtypes; floating-point dtypes may differ, since they are converted."""
    floating = jnp.issubdtype(target.dtype, jnp.floating) and jnp.issubdtype(source.dtype, jnp.floating)
    return target.shape == source.shape and (target.dtype == source.dtype or floating)


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
