r"""How the fields of a text are separated, found from its first records: one of `,`, `;`, tab and `|`, and whether quotes mean anything.

The separator is the one that gives most records the same number of fields, at least two, with quotes respected. Where several do so
equally well, a comma between two digits is a decimal comma, and tab goes before comma, semicolon and bar.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from assay.core.errors import UserError
from assay.data.csv import LONGEST

DELIMITERS = ("\t", ",", ";", "|")
NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "bar": "|"}  # what --delimiter may say instead
SAMPLE = 1 << 18  # characters
RECORDS = 300
DECIMAL = re.compile(r"(?<=\d),(?=\d)")
SEP = re.compile(r"\ufeff?sep=(.)\r?\n?")  # the first line that Excel writes and reads


class Dialect(NamedTuple):
    delimiter: str
    quoted: bool = True  # whether `"` quotes a field
    skip: int = 0  # lines before the first record


def dialect_of(sample: str, whole: bool, asked: str = "", suffix: str = "") -> Dialect:
    """Returns the dialect of a text from its first characters; `whole` says that they are all of it, and `suffix` is the file's."""
    said = SEP.match(sample)
    skip = 1 if said and "\n" not in said[1] else 0
    if asked:
        return Dialect(named(asked), skip=skip)
    if skip and said:
        return Dialect(said[1], skip=1)
    scores = {mark: _score(sample, mark, whole) for mark in DELIMITERS}
    best = max(scores.values())
    if best == 0:
        return Dialect("\t" if suffix in (".tsv", ".tab") else ",")
    tied = [mark for mark in DELIMITERS if scores[mark] == best]
    if len(tied) > 1 and "," in tied and _only_decimal(sample):
        tied.remove(",")
    return Dialect(tied[0])


def named(asked: str) -> str:
    """Returns the one character that --delimiter asks for. Raises UserError."""
    mark = NAMES.get(asked.lower(), asked)
    if len(mark) != 1 or mark in '"\r\n\0':
        raise UserError(f"--delimiter={asked} is not one character. Give one, such as --delimiter=';', or tab.")
    return mark


@contextmanager
def long_fields() -> Iterator[None]:
    """Lifts the csv module's limit of 131,072 characters per field, which is a setting of the whole process."""
    before = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# -- private --------------------------------------------------------------------------------------------------------------


def _score(sample: str, mark: str, whole: bool) -> float:
    """Returns the share of the first records that have the most frequent number of fields; 0 if that is one."""
    counts = list[int]()
    with long_fields():
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=mark)
        try:
            for fields in reader:
                counts += [len(fields)] if fields else []
                if len(counts) > RECORDS:
                    break
        except csv.Error:
            pass
    if not whole and 1 < len(counts) <= RECORDS:
        counts.pop()  # the sample ends within it
    if not counts:
        return 0.0
    (usual, times), *_ = sorted(Counter(counts).items(), key=lambda pair: (-pair[1], -pair[0]))
    return times / len(counts) if usual > 1 else 0.0


def _only_decimal(sample: str) -> bool:
    return sample.count(",") == len(DECIMAL.findall(sample))
