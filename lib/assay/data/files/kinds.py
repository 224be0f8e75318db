"""What a column holds, from its cells: `kind_of(values)` is a number, a boolean, a date, a category, text, an identifier, labels or a
picture.

It is careful: whatever could be read in two ways stays text or category, and `notes` say what was assumed. Words for missing values, such
as NA and ?, count as missing in columns of numbers, dates and short cells only, since a text may consist of one.
"""

import json
import math
import re
from ast import literal_eval
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np

from assay.data.files.formats.signatures import is_picture, is_picture_name
from assay.data.files.numerals import PLAIN, Style, date_form, is_marker, style_of

NAMES = ("constant", "empty", "number", "boolean", "date", "category", "text", "identifier", "labels", "picture", "other")
TRUTH = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})
FEW = 20  # distinct cells: more are no short list of choices
STRAY = 0.01  # share of the distinct cells of a column of numbers that may be something else
MIXED = 0.5  # share of values that are no numbers, up to which a column that is not read as numbers is told of
WORDS, CHARACTERS = 3.0, 30.0  # a column whose cells are longer on average is text
CHOICE = 100  # characters of the longest name of a category
SAMPLED = 2_000  # cells that averages are taken over
RUNNING = 10  # rows: fewer numbers that count up by one may be a measurement
IDENTIFIER = re.compile(r"(?i:(?:.*[_\W])?(?:id|uuid|guid|key|index|idx|rowid|row|nr|no|unnamed: \d+))|.*[a-z]I[dD]")  # a column's name
UNNAMED = "column_1"  # where the first column has no name, it often is an index
MARKS = ("|", ";")  # between several labels in one cell
LONGEST_MARKER = 8  # characters of a cell that may be a word for a missing value, with spaces
PIECE = 40  # characters of a label among several


class Kind(NamedTuple):
    """What a column holds. `missing` and `distinct` count cells; distinct cells are those that are not missing."""

    name: str
    missing: int = 0
    distinct: int = 0
    style: Style = Style()  # of numbers
    form: str = ""  # of dates: see numerals.py; of labels: the mark between them, "[]" for lists as text, "" for lists
    strays: int = 0  # cells of a column of numbers that are none, and count as missing
    notes: tuple[str, ...] = ()


def kind_of(values: np.ndarray, name: str = "") -> Kind:
    """Returns the kind of a column [n]. The column's name only helps to tell identifiers from measurements."""
    cells = values.tolist()
    types = set(map(type, cells))
    if types == {str}:
        return _of_strings(Counter(cells), name, cells)
    present = [value for value in cells if not is_blank(value)]
    blank = len(cells) - len(present)
    if not present:
        return Kind("empty", blank)
    types = set(map(type, present))
    if list in types:
        return _of_lists(present, blank)
    if bytes in types:
        return Kind("picture" if all(_may_be_picture(value) for value in present) else "other", blank, len(set(present)))
    if all(issubclass(each, date) for each in types):
        return _or_constant(Kind("date", blank, len(set(present))))
    if types == {bool}:
        return _or_constant(Kind("boolean", blank, len(set(present))))
    if types <= {int, float, bool}:
        return _of_numbers(present, blank, name)
    texts = ["" if is_blank(value) else str(value) for value in cells]
    kind = _of_strings(Counter(texts), name, texts)
    if types == {str}:
        return kind
    return kind._replace(
        notes=(f"{sum(type(each) is not str for each in present):,} cells are no strings; they are read as text", *kind.notes)
    )


def is_blank(value: Any) -> bool:
    """Says whether a cell is missing whatever its column holds: None, NaN, or white space."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and (not value or value.isspace()))


def pieces(cell: str, mark: str) -> list[str] | None:
    """Returns the labels of a cell: split at a mark, or a list in the notation of JSON or Python ("[]"). None for what is no list."""
    if mark != "[]":
        return [piece.strip() for piece in cell.split(mark) if piece.strip()]
    for parse in (json.loads, literal_eval):
        try:
            found = parse(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        return (
            [str(each) for each in found] if isinstance(found, list) and not any(isinstance(each, (list, dict)) for each in found) else None
        )
    return None


# -- private --------------------------------------------------------------------------------------------------------------


def _or_constant(kind: Kind) -> Kind:
    """A single value is a constant, unless some cells are missing: a box that is ticked or not says something."""
    return kind._replace(name="constant") if kind.distinct == 1 and not kind.missing else kind


def _may_be_picture(value: Any) -> bool:
    return is_picture(value) if isinstance(value, bytes) else isinstance(value, str) and is_picture_name(value)


def _of_lists(present: Sequence[Any], blank: int) -> Kind:
    """Lists of strings or whole numbers are labels; lists of other numbers, or a mixture with other cells, are not."""
    if not all(isinstance(value, list) and all(isinstance(each, (str, int)) or each is None for each in value) for value in present):
        return Kind("other", blank, notes=("lists of something else than labels",))
    names = {each for value in present for each in value}
    if (
        names
        and all(isinstance(each, int) and not isinstance(each, bool) for each in names)
        and len({len(value) for value in present}) == 1
    ):
        width = len(present[0])
        if width > 1:  # a vector: each row has as many numbers
            return Kind("other", blank, notes=(f"lists of {width} numbers each",))
    return Kind("labels", blank, len(names))


def _of_numbers(present: Sequence[Any], blank: int, name: str | None) -> Kind:
    """Returns the kind of numbers in the order of rows; without a name, they are known to be no identifiers."""
    distinct = set(present)
    if name is not None and len(distinct) == len(present) and all(isinstance(value, int) or value.is_integer() for value in distinct):
        why = _identifying([int(value) for value in present if math.isfinite(value)], name)
        if why:
            return Kind("identifier", blank, len(distinct), notes=(why,))
    return _or_constant(Kind("number", blank, len(distinct)))


def _identifying(numbers: Sequence[int], name: str) -> str:
    """Returns why distinct whole numbers are identifiers, or ""."""
    is_named = name == UNNAMED or IDENTIFIER.fullmatch(name.strip())
    if len(numbers) >= RUNNING:
        if max(numbers) - min(numbers) + 1 == len(numbers):
            return "running numbers"
        rising = all(before < after for before, after in pairwise(numbers))
        if rising and max(numbers) - min(numbers) + 1 <= 1.5 * len(numbers):
            return "numbers that rise from row to row"
    return "a different number in each row" if is_named and len(numbers) > 1 else ""


def _of_strings(counts: Counter[str], name: str, cells: Sequence[str]) -> Kind:
    """Returns the kind of `cells`, whose numbers of occurrences are `counts`, in the order of first occurrence."""
    absent = {cell for cell in counts if not cell or cell.isspace()}
    blank = sum(counts[cell] for cell in absent)
    absent |= {cell for cell in counts if len(cell) <= LONGEST_MARKER and not cell[-1:].isdigit() and is_marker(cell.strip())}
    missing = sum(counts[cell] for cell in absent)
    bare = dict.fromkeys(cell.strip() for cell in counts if cell not in absent)  # a dictionary keeps its order, where a set has none
    if not bare:
        return Kind("empty", missing)
    filled = len(cells) - missing
    sample = list(islice(bare, 0, None, max(1, len(bare) // SAMPLED)))
    numeric = _of_numerals(bare, sample, counts, missing, filled, name)
    if numeric:
        return numeric
    if len(bare) <= FEW and {cell.lower() for cell in bare} in TRUTH:
        return Kind("boolean", missing, 2)
    form = date_form(sample) and date_form(bare)
    if form:
        notes: tuple[str, ...] = () if "/" not in form or form.startswith("year") else (f"dates are {form}",)
        return _or_constant(Kind("date", missing, len(bare), form=form, notes=notes))
    if all(map(is_picture_name, bare)) and not any("\n" in cell for cell in bare):
        return Kind("picture", missing, len(bare))
    mark = _mark(bare, sample, counts)
    if mark:
        names = {piece for cell in bare for piece in pieces(cell, mark) or ()}
        how = "lists in brackets" if mark == "[]" else f"labels separated by {mark!r}"
        return Kind("labels", missing, len(names), form=mark, notes=(how,))
    if _is_code(bare, sample, filled, name):
        return Kind("identifier", missing, len(bare), notes=("a different code in each row",))
    unclear = _unclear(bare)
    if _is_choice(bare, sample, filled):
        return _or_constant(Kind("category", missing, len(bare), notes=unclear))
    kind = Kind("text", blank, len(bare), notes=unclear)  # a text may be the word "none"
    return _or_constant(kind)


def _of_numerals(bare: Collection[str], sample: Sequence[str], counts: Counter[str], missing: int, filled: int, name: str) -> Kind | None:
    """Returns the kind of a column whose cells are numbers, or nearly all of them."""
    if sum(map(_is_wordy, sample)) > 0.1 * len(sample):
        return None
    style = style_of(bare)
    if style == Style():
        values = list(map(float, bare))
        each_once = len(bare) == filled  # and then in the order of rows
        return _of_numbers(values, missing, name if each_once else None)
    if style is not None:
        return _or_constant(Kind("number", missing, len(bare), style, notes=(f"numbers are written like {style}",)))
    odd = {cell for cell in bare if not PLAIN.fullmatch(cell)}
    if len(bare) <= FEW or not odd or len(odd) > STRAY * len(bare):
        return None
    strays = sum(count for cell, count in counts.items() if cell.strip() in odd)
    told = f"{strays:,} cells are no numbers and count as missing, such as {min(odd)[:40]!r}"
    return Kind("number", missing + strays, len(bare) - len(odd), strays=strays, notes=(told,))


def _is_wordy(cell: str) -> bool:
    """Says whether a cell is no number in any style, without much ado."""
    return len(cell) > 40 or sum(map(str.isalpha, cell)) > 3 or not any(map(str.isdigit, cell))


def _is_choice(bare: Collection[str], sample: Sequence[str], count: int) -> bool:
    """Says whether cells repeat as the names of a category do: short ones twice on average, longer ones more often."""
    if (len(bare) * 2 > count) or max(map(len, bare)) > CHOICE:
        return False
    short = sum(len(cell.split()) for cell in sample) <= WORDS * len(sample) and sum(map(len, sample)) <= CHARACTERS * len(sample)
    return short or (len(bare) <= FEW and len(bare) * 5 <= count)


def _mark(bare: Collection[str], sample: Sequence[str], counts: Counter[str]) -> str:
    """Returns the mark between labels where many cells have several, all short, and the same ones come again and again."""
    if all(cell.startswith("[") and cell.endswith("]") for cell in bare):
        return "[]" if all(pieces(cell, "[]") is not None for cell in bare) else ""
    for mark in MARKS:
        if len(bare) > len(sample) and not any(mark in cell for cell in sample):
            continue
        several = sum(count for cell, count in counts.items() if mark in cell)
        if several < 2 or several < 0.1 * sum(counts.values()):
            continue
        times, cells = Counter[str](), Counter[str]()  # rows, and distinct cells, that a label is in
        for cell, count in counts.items():
            names = set(pieces(cell, mark) or ()) if cell.strip() in bare else set()
            cells.update(names)
            times.update(dict.fromkeys(names, count))
        split = {name for cell in bare if mark in cell for name in pieces(cell, mark) or ()}
        short = all(len(name) <= PIECE and len(name.split()) <= 4 for name in cells)
        if short and len(times) * 2 <= sum(times.values()) and sum(cells[name] > 1 for name in split) * 2 >= len(split):
            return mark
    return ""


def _is_code(bare: Collection[str], sample: Sequence[str], count: int, name: str) -> bool:
    """Says whether each row has a different string without spaces, and the name or a common shape tells that it is a code."""
    if len(bare) != count or count < 2 or any(len(cell) > 64 or not cell.isascii() or len(cell.split()) > 1 for cell in bare):
        return False
    if IDENTIFIER.fullmatch(name.strip()):
        return True
    shapes = {re.sub(r"[0-9a-f]", "9", re.sub(r"[0-9a-f]{4,}", "99", cell.lower())) for cell in sample}
    numbered = {re.sub(r"\d+", "9", cell) for cell in sample}
    digits = all(any(character.isdigit() for character in cell) for cell in bare)
    return count >= RUNNING and digits and min(len(shapes), len(numbered)) == 1


def _unclear(bare: Iterable[str]) -> tuple[str, ...]:
    """Returns a note about cells that look like numbers and were left as they are, because they can be read in two ways."""
    cells = list(bare)
    if all(re.fullmatch(r"[^\w]*\d[\d.,]*[^\w]*", cell) for cell in cells):
        return (f"cells such as {min(cells)[:40]!r} are not read as numbers, because their form is not the same everywhere or not certain",)
    if all(re.fullmatch(r"\d{1,2}/\d{1,2}/\d{4}.*", cell) for cell in cells):
        return (f"cells such as {min(cells)[:40]!r} are not read as dates, because day and month cannot be told apart",)
    odd = [cell for cell in cells if not PLAIN.fullmatch(cell)]
    if len(cells) > len(odd) >= 1 and len(odd) <= MIXED * len(cells):
        share, other = 100 * (1 - len(odd) / len(cells)), min(odd)[:40]
        return (f"{share:.0f} % of its different values are numbers, but {other!r} and the like are not: correct them to have numbers",)
    return ()
