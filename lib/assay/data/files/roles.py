"""Which column is predicted, and from which: `roles(table)` finds the target by its name, or because no other column can be it.

It never guesses between two columns, and never takes numbers for a quantity to predict without `--regression`: then it names the flag.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from assay.core.errors import UserError, unknown
from assay.data.files.kinds import Kind, kind_of
from assay.data.files.table import Table, size
from assay.data.files.values import categories, missing, numbers

TARGETS = frozenset({"label", "labels", "target", "targets", "class", "classes", "y", "category", "sentiment", "outcome", "intent"})
QUANTITIES = frozenset({"target", "targets", "label", "y", "outcome", "price", "score", "value"})  # with --regression
FEW = 20  # distinct values that always are classes
PER_CLASS = 20  # rows of each class on average from which more distinct values are classes too
PAIRED = 20  # rows from which a column that is the target in other words is no coincidence
SHOWN = 12  # columns that an error lists
INPUTS = {"text": "texts", "number": "numbers", "category": "categories", "boolean": "categories", "date": "dates", "picture": "pictures"}

PARTS = ("texts", "numbers", "categories", "dates", "pictures")  # fields of Roles


class Roles(NamedTuple):
    """The part that each column plays."""

    target: str
    kind: str  # "classes", "labels" (any number of names) or "number"
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()  # booleans too
    dates: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    ignored: Mapping[str, str] = {}  # name -> why
    kinds: Mapping[str, Kind] = {}  # of all columns
    notes: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that a model reads."""
        return (*self.texts, *self.numbers, *self.categories, *self.dates, *self.pictures)


def roles(table: Table, target: str = "", texts: Sequence[str] = (), ignore: Sequence[str] = (), regression: bool = False) -> Roles:
    """Returns the parts of a table's columns. Raises UserError where the target is not certain, or nothing is left to predict it from."""
    if size(table) < 2:
        raise UserError(f"{table.source} has only one row to use. Give a file with rows of at least two classes.")
    for name, flag in [
        *((name, "--text") for name in texts),
        *((name, "--ignore") for name in ignore),
        *([(target, "--target")] if target else []),
    ]:
        if name not in table.columns:
            raise unknown(f"column of {table.source}", name, table.columns, f"{flag}=NAME")
    for names, flag in ((texts, "--text"), (ignore, "--ignore")):
        if target and target in names:
            raise UserError(f"the column {target!r} is both --target and {flag}. Name it once.")
    if set(texts) & set(ignore):
        raise UserError(f"the column {min(set(texts) & set(ignore))!r} is both --text and --ignore. Name it once.")
    kinds = {name: kind_of(column, name) for name, column in table.columns.items()}
    kinds |= {name: kinds[name]._replace(name="text") for name in texts if kinds[name].name not in ("empty", "picture")}
    candidates = {name: kind for name, kind in kinds.items() if name not in ignore and name not in texts}
    target = target or _found(table, candidates, kinds, regression)
    predicted = _target_kind(table, target, kinds[target], regression)
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    ignored, identifiers = dict[str, str](), list[str]()
    for name, kind in kinds.items():
        if name == target:
            continue
        if name in ignore:
            ignored[name] = "asked by --ignore"
        elif kind.name in INPUTS:
            parts[INPUTS[kind.name]].append(name)
        else:
            identifiers += [name] if kind.name in ("identifier", "labels") else []
            ignored[name] = _why(kind)
    notes = [f"{name}: {said}" for name, kind in kinds.items() if name not in ignored for said in kind.notes]
    for name in _copies(table, target, predicted, kinds, parts["categories"] + parts["numbers"] + parts["texts"]):
        ignored[name] = f"it says the same as the target {target!r} in other words"
        for names in parts.values():
            if name in names:
                names.remove(name)
    if not any(parts.values()):
        usable = [name for name in identifiers if kinds[name].name == "identifier"]
        if len(usable) != 1:
            told = "; ".join(f"{name}: {why}" for name, why in list(ignored.items())[:SHOWN]) or "it is the only column"
            raise UserError(f"{table.source} has no column to predict {target!r} from ({told}). Name a column of text with --text=NAME.")
        (name,) = usable
        del ignored[name]
        numeric = not np.isnan(numbers(table.columns[name], kinds[name])).all()
        parts["numbers" if numeric else "texts"].append(name)
        kinds[name] = kinds[name]._replace(name="number" if numeric else "text")
        notes.append(f"{name} looks like an identifier, but no other column is left to predict from")
    inputs = {part: tuple(names) for part, names in parts.items()}
    return Roles(target, predicted, ignored=ignored, kinds=kinds, notes=tuple(notes), **inputs)


# -- private --------------------------------------------------------------------------------------------------------------


def _found(table: Table, candidates: Mapping[str, Kind], kinds: Mapping[str, Kind], regression: bool) -> str:
    """Returns the target of a table whose user names none."""
    usual = QUANTITIES if regression else TARGETS
    named = [name for name in candidates if name.strip().lower() in usual and kinds[name].name != "empty"]
    if len(named) == 1:
        return named[0]
    if len(named) > 1:
        raise _ask(table, f"{_listed(named)} may each be the target", regression)
    plausible = [name for name, kind in candidates.items() if _is_plausible(table, name, kind, regression)]
    if len(plausible) == 1:
        (only,) = plausible
        inputs = [kind.name for name, kind in candidates.items() if name != only and kind.name in INPUTS]
        if only == list(table.columns)[-1] or all(kind in ("text", "picture") for kind in inputs):
            return only
    if plausible:
        raise _ask(table, f"no column is called label or target, and {_listed(plausible)} may be it", regression)
    raise _ask(table, "no column looks like a target", regression)


def _is_plausible(table: Table, name: str, kind: Kind, regression: bool) -> bool:
    if regression:
        return kind.name == "number"
    if kind.name == "number":
        return _is_few(kind.distinct, size(table) - kind.missing) and _are_whole(table.columns[name], kind)
    return kind.name in ("category", "boolean", "labels") and kind.distinct > 1


def _ask(table: Table, reason: str, regression: bool) -> UserError:
    flags = "--target=NAME --regression" if regression else "--target=NAME"
    return UserError(f"{table.source}: {reason}. Say which with {flags}. Columns: {_listed(list(table.columns))}.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", ... ({len(names)} in all)" if len(names) > SHOWN else "")


def _target_kind(table: Table, name: str, kind: Kind, regression: bool) -> str:
    """Returns what is predicted. Raises UserError for a column that cannot be."""
    column, rows = table.columns[name], size(table)
    if kind.name == "empty":
        raise UserError(f"{table.source}: every cell of the target {name!r} is missing. Choose another column with --target=NAME.")
    if regression:
        if kind.name in ("number", "identifier") and not np.isnan(numbers(column, kind)).all():
            return "number"
        odd = np.flatnonzero(np.isnan(numbers(column, kind)) & ~missing(column, kind))
        shown = f" (line {table.lines[odd[0]]}: {str(column[odd[0]])[:40]!r})" if len(odd) else ""
        if kind.name == "constant":
            raise UserError(f"{table.source}: every cell of the target {name!r} is the same. Choose another column with --target=NAME.")
        raise UserError(f"{table.source}: the target {name!r} is no column of numbers{shown}. Leave out --regression, or change --target.")
    if kind.name in ("labels", "constant", "category", "boolean"):
        return "labels" if kind.name == "labels" else "classes"
    if kind.name in ("date", "picture", "other"):
        article = {"date": "dates", "picture": "pictures"}.get(kind.name, "something that has no classes")
        raise UserError(f"{table.source}: the target {name!r} holds {article}. Choose a column of classes with --target=NAME.")
    count = rows - kind.missing
    if _is_few(kind.distinct, count):
        return "classes"
    if kind.name == "number" and not _are_whole(column, kind):
        raise UserError(
            f"{table.source}: the target {name!r} has {kind.distinct:,} different numbers in {count:,} rows, too many for classes. "
            "To predict a number, add --regression; for another column, --target=NAME."
        )
    if kind.distinct * 2 > count:
        also = "To predict a number, add --regression. " if kind.name in ("number", "identifier") else ""
        raise UserError(
            f"{table.source}: the target {name!r} has {kind.distinct:,} different values in {count:,} rows, so it does not hold classes. "
            f"{also}Choose another column with --target=NAME."
        )
    return "classes"


def _is_few(distinct: int, rows: int) -> bool:
    return distinct <= min(FEW, max(2, rows // 2)) or distinct * PER_CLASS <= rows


def _are_whole(column: np.ndarray, kind: Kind) -> bool:
    values = numbers(column, kind)
    return bool((np.floor(values) == values)[~np.isnan(values)].all())


def _why(kind: Kind) -> str:
    reasons = {
        "constant": "every cell is the same",
        "empty": "every cell is missing",
        "identifier": "it identifies rows",
        "labels": "lists of labels are targets only",
    }
    detail = f" ({kind.notes[0]})" if kind.notes and kind.name == "identifier" else ""
    return reasons.get(kind.name, kind.notes[0] if kind.notes else "it holds bytes that are no pictures") + detail


def _copies(table: Table, target: str, predicted: str, kinds: Mapping[str, Kind], names: Iterable[str]) -> list[str]:
    """Returns the columns with exactly one value for each class, and another for each, such as `label_text` beside `label`."""
    if predicted != "classes":
        return []
    classes = categories(table.columns[target], kinds[target])
    count = len(set(classes) - {None})
    found = list[str]()
    for name in names:
        if kinds[name].distinct != count or kinds[name].missing != kinds[target].missing:
            continue
        pairs = {pair for pair in zip(classes, categories(table.columns[name], kinds[name]), strict=True) if pair[0] is not None}
        if len(pairs) == count and len({value for _, value in pairs}) == count and size(table) >= max(PAIRED, 5 * count):
            found.append(name)
    return found
