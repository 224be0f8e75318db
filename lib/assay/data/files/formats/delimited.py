"""CSV and its relatives: `read_delimited("train.csv")` returns a table of strings.

Records with another number of fields than the header are left out and counted, up to a fifth of them; more, or a quote that is never
closed, is one error with its line. Blank lines, and headers that come again, are skipped. The file is read as a stream.
"""

import csv
from array import array
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path

import numpy as np

from assay.core.errors import UserError
from assay.data.csv import REASONS
from assay.data.files.formats.dialect import SAMPLE, Dialect, dialect_of, long_fields
from assay.data.files.formats.header import is_header
from assay.data.files.formats.text import encoding_of, opened
from assay.data.files.table import FIRST, Dropped, Table, column_of, unique_names

MOST_BAD = 0.2  # share of records that may be left out
JUDGED = 1_000  # records that decide whether there is a header
PART = 4_000  # records that become columns at once, while they are in the processor's cache
SHARED = 4  # a column with at most one distinct cell in this many keeps one copy of each
SAMPLED = 500  # cells of a part that show it

Record = tuple[int, list[str]]  # line where it starts, fields; no fields where text follows a closing quote


def read_delimited(path: str, delimiter: str = "", encoding: str = "", has_header: bool | None = None) -> Table:
    """Reads a file whose fields are separated by one character. What is not given is found from the file.

    Raises UserError, with file and line, for an empty file, a NUL byte, an unclosed quote, and too many records of another length.
    """
    code = encoding_of(path, encoding)
    with opened(path, code) as text:
        sample = text.read(SAMPLE)
        whole = not text.read(1)
    suffixes = [suffix.lower() for suffix in Path(path).suffixes if suffix.lower() != ".gz"]
    dialect = dialect_of(sample, whole, delimiter, suffixes[-1] if suffixes else "")

    def read(dialect: Dialect) -> Table:
        with opened(path, code) as text, long_fields():
            return _table(path, text, dialect, has_header)

    made, failed = None, None
    try:
        made = read(dialect)
    except UserError as error:
        failed = error
    if dialect.delimiter == "\t" and '"' in sample and (made is None or made.dropped):  # writers of tabs often leave quotes as they are
        try:
            other = read(dialect._replace(quoted=False))
        except UserError:
            other = None
        if other and (made is None or _lost(other) < _lost(made)):
            made = Table(other.columns, other.lines, path, other.dropped, (*other.notes, 'quotes (") are plain characters in this file'))
    if made is None:
        raise failed or AssertionError
    return Table(made.columns, made.lines, path, made.dropped, (*code.notes, *made.notes))


# -- private --------------------------------------------------------------------------------------------------------------


def _table(path: str, text: TextIOWrapper, dialect: Dialect, has_header: bool | None) -> Table:
    for _ in range(dialect.skip):
        text.readline()
    records = _records(path, text, dialect)
    line, first = next(records, (0, []))
    if not line:
        raise UserError(f"{path} is empty. Its first line must name the columns.")
    judged = list(islice(records, JUDGED))
    rows = [fields for _, fields in judged if len(fields) == len(first)]
    named = is_header(first, rows) if has_header is None else has_header
    names = unique_names(first if named else [""] * len(first))
    notes = list[str]()
    if not named and has_header is None:
        shown = f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]
        notes.append(f"no header: the first line looks like data, so the columns are {shown} (else: --has_header=True)")
    return _filled(path, chain(judged if named else [(line, first), *judged], records), names, first if named else [], dialect, notes)


def _filled(path: str, records: Iterable[Record], names: list[str], header: list[str], dialect: Dialect, notes: Sequence[str]) -> Table:
    """Returns the table of all records with as many fields as there are names."""
    lines, part = array("q"), list[list[str]]()
    columns: list[list[np.ndarray]] = [[] for _ in names]
    copies: list[dict[str, str]] = [{} for _ in names]
    width, bad, again, quotes = len(names), _Places(), _Places(), _Places()
    for line, fields in records:
        if len(fields) == width and fields != header:
            lines.append(line)
            part.append(fields)
            if len(part) == PART:
                _store(part, columns, copies)
        elif fields and fields == header:
            again.add(line)
        elif fields:
            bad.add(line, len(fields))
        else:
            quotes.add(line)
    _store(part, columns, copies)
    count, lost = len(lines), bad.count + quotes.count
    if lost > MOST_BAD * (count + lost):
        raise _too_many(path, names, header, dialect, bad, quotes, count + lost)
    if not count:
        raise UserError(f"{path} has a header and no rows below it. If its first line is data, add --has_header=False.")
    found = (
        bad.dropped(f"another number of fields than the {width} of the {'header' if header else 'first line'}"),
        quotes.dropped("text after a closing quote"),
        again.dropped("the header again"),
    )
    cells = {name: np.concatenate(parts) for name, parts in zip(names, columns, strict=True)}
    return Table(cells, np.array(lines, np.int64), path, tuple(each for each in found if each.count), tuple(notes))


class _Places:
    """Counts records; keeps the first lines, and the number of fields of the first record."""

    def __init__(self) -> None:
        self.count, self.lines, self.fields = 0, list[int](), 0

    def add(self, line: int, fields: int = 0) -> None:
        self.count += 1
        if self.count <= FIRST:
            self.lines.append(line)
            self.fields = self.fields or fields

    def dropped(self, reason: str) -> Dropped:
        return Dropped(reason, self.count, tuple(self.lines))


def _records(path: str, text: TextIOWrapper, dialect: Dialect) -> Iterator[Record]:
    if dialect.quoted:
        reader = csv.reader(text, delimiter=dialect.delimiter, strict=True)
    else:
        reader = csv.reader(text, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE, strict=True)
    while True:
        line = reader.line_num + 1 + dialect.skip
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if str(error) == "unexpected end of data":
                raise UserError(f"{path}, line {line}: {REASONS[str(error)]}. Close it, or write a quote inside a text twice.") from None
            yield line, []  # the reader continues with the next line
            continue
        if len(fields) > 1 or (fields and fields[0].strip()):
            yield line, fields


def _store(part: list[list[str]], columns: list[list[np.ndarray]], copies: list[dict[str, str]]) -> None:
    """Appends the records to the columns, with one copy of cells that repeat, and empties `part`."""
    for cells, column, known in zip(zip(*part, strict=True), columns, copies, strict=False):
        if len(set(cells[:SAMPLED])) * SHARED <= len(cells[:SAMPLED]):
            cells = tuple(known.setdefault(cell, cell) for cell in cells)
        column.append(column_of(cells, len(cells)))
    part.clear()


def _too_many(path: str, names: list[str], header: list[str], dialect: Dialect, bad: _Places, quotes: _Places, count: int) -> UserError:
    mark = {"\t": "a tab"}.get(dialect.delimiter, f"'{dialect.delimiter}'")
    if bad.count < quotes.count:
        reason = f"{quotes.count:,} of {count:,} records have text after a closing quote; a quote inside a quoted field is written twice"
        line = quotes.lines[0]
    else:
        shown = f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        whose = f"the header names {len(names)} ({shown})" if header else f"the first line has {len(names)}"
        reason = f"{bad.count:,} of {count:,} records have another number of fields than the first line: here {bad.fields}, but {whose}"
        line = bad.lines[0]
    return UserError(f"{path}, line {line}: {reason}. Fields were separated at {mark}; change it with --delimiter, or mend the file.")


def _lost(table: Table) -> int:
    return sum(each.count for each in table.dropped)
