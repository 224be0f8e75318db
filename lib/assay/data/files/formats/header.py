"""Whether the first record of a file names the columns or is data like the rest.

It is a header where a column of numbers begins with something else, or its fields are words that columns are called by. It is data where a
column of numbers begins with one, or where a field occurs again in its column, as a label does. Without any sign, it is a header.
"""

from collections.abc import Sequence
from itertools import pairwise

from assay.data.files.numerals import COMMA, DOTTED, GROUPED, PLAIN, UNIT, date_form, is_marker

USUAL_NAMES = """id index text label labels target class y x category sentiment outcome sentence sentence1 sentence2 review title body
    message content question answer name date price score rating stars value tags intent topic language comment tweet headline description
    image picture file path filename"""
USUAL = frozenset(USUAL_NAMES.split())
MANY = 0.9  # share of a column that has to be numbers for it to be a column of numbers
LONGEST = 64  # characters of a column's name
ENDS = (".", "!", "?", "\u3002", "\uff01", "\uff1f", "\u0964")  # of a sentence
FEW = 0.5  # a column with at most this many distinct fields per record has labels


def is_header(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Says whether `first` is a header of the records `rest`, which have as many fields."""
    cells = [cell.strip() for cell in first]
    others = [record for record in rest if list(record) != list(first)]  # where files were joined, a header comes again
    if not others:
        return not any(map(_is_data, cells))
    columns = [[cell.strip() for cell in column] for column in zip(*others, strict=True)]
    running = _running(cells, columns)
    header, data = 0, 0  # signs of either
    for i, (cell, column) in enumerate(zip(cells, columns, strict=True)):
        filled = [other for other in column if other and not is_marker(other)]
        distinct = set(filled)
        numeric = bool(filled) and sum(map(_is_data, filled)) >= MANY * len(filled)
        if cell.lower() in USUAL or i in running:
            header += 1 + numeric
        elif not cell or is_marker(cell):
            continue
        elif numeric:
            header, data = (header, data + 1) if _is_data(cell) else (header + 1, data)
        elif len(filled) >= 4 and len(distinct) <= FEW * len(filled):
            header, data = (header, data + 1) if cell in distinct else (header + 1, data)
        elif len(cell) > LONGEST or "\n" in cell or cell.endswith(ENDS):
            data += 1
    return header >= data


# -- private --------------------------------------------------------------------------------------------------------------


def _is_data(cell: str) -> bool:
    bare = UNIT.sub("", cell, count=1)
    return any(form.fullmatch(bare) for form in (PLAIN, GROUPED, DOTTED, COMMA)) or date_form([cell]) != ""


def _running(cells: Sequence[str], columns: Sequence[Sequence[str]]) -> frozenset[int]:
    """Returns the places of names such as 0, 1, 2, ... or 1990, 1991, ..., if no other field looks like data."""
    numbers = [(i, int(cell)) for i, cell in enumerate(cells) if cell.isascii() and cell.isdigit() and len(cell) < 9]
    steps = {after[1] - before[1] for before, after in pairwise(numbers)}
    places = frozenset(i for i, _ in numbers)
    others = [i for i in range(len(cells)) if i not in places]
    if len(numbers) < 2 or steps != {1} or not others or any(_is_data(cells[i]) or cells[i] in columns[i] for i in others if cells[i]):
        return frozenset()
    return places
