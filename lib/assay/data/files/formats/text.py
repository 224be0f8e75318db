"""Text files of any encoding, plain or gzipped: `with opened(path, encoding_of(path)) as lines`.

UTF-8, with or without a byte-order mark; UTF-16 and UTF-32 by their mark; anything else is Windows-1252 or Latin-1, and a note says so.
`encoding_of` reads the whole file once, in blocks, so whoever reads it afterwards meets no byte that cannot be decoded, and no NUL.
"""

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from assay.core.errors import UserError

BLOCK = 1 << 20  # bytes
MARKS = (  # the mark of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
STRAY = 0.01  # a file with at most this share of invalid lines among those beyond ASCII is damaged UTF-8, not another encoding


class Encoding(NamedTuple):
    name: str
    errors: str = "strict"
    notes: tuple[str, ...] = ()


def encoding_of(path: str, asked: str = "") -> Encoding:
    """Returns how to decode a file. Raises UserError for a NUL byte, and for what is not in the encoding that was asked for."""
    if asked:
        _check(path, _known(asked), f"--encoding={asked}")
        return Encoding(asked)
    start = head(path, 4)
    for mark, name in MARKS:
        if start.startswith(mark):
            _check(path, name, "its byte-order mark")
            return Encoding(name)
    try:
        _check(path, "utf-8", "")
    except UnicodeDecodeError:
        return _other(path)
    return Encoding("utf-8")


@contextmanager
def opened(path: str, encoding: Encoding) -> Iterator[io.TextIOWrapper]:
    """Opens a text whose line ends stay as they are."""
    with raw(path) as file, io.TextIOWrapper(file, encoding.name, encoding.errors, newline="") as text:
        yield text


def head(path: str, count: int) -> bytes:
    """Returns the first bytes, unpacked where the file is gzipped."""
    with raw(path) as file:
        return file.read(count)


@contextmanager
def raw(path: str) -> Iterator[IO[bytes]]:
    """Opens a regular file, unpacked where it is gzipped. Raises UserError for whatever the system or gzip says until it is closed."""
    regular(path)
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                with gzip.open(file) as unpacked:
                    yield unpacked  # type: ignore[misc]
            else:
                yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is a damaged gzip file ({error}). Download or pack it again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None


def regular(path: str) -> None:
    """Raises UserError unless `path` is a file, and no pipe or device: files are read more than once."""
    if os.path.isdir(path):  # os.path returns False, where pathlib raises, for a name that no file can have
        raise UserError(f"{path} is a folder. Give a file.")
    if not os.path.exists(path):
        raise UserError(f"no file or folder {path!r} (from {Path.cwd()}).")
    if not os.path.isfile(path):
        raise UserError(f"{path} is a pipe or a device, but files are read more than once. Save it as a file.")


# -- private --------------------------------------------------------------------------------------------------------------


def _known(name: str) -> str:
    try:
        codecs.getincrementaldecoder(name)
        if codecs.lookup(name)._is_text_encoding:
            return name
    except (LookupError, ValueError):
        pass
    raise UserError(f"unknown encoding {name!r}. Give one that Python knows, such as utf-8, utf-16, cp1252, cp1251, gbk or shift_jis.")


def _check(path: str, name: str, why: str) -> None:
    """Raises UnicodeDecodeError, or UserError where `why` says that the encoding is certain."""
    decoder, line, last = codecs.getincrementaldecoder(name)(), 1, ""
    with raw(path) as file:
        while True:
            block = file.read(BLOCK)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                if not why:
                    raise
                line += line_ends(error.object[: error.start].decode(name, "ignore"), last)
                raise UserError(f"{path}, line {line}: not {name}, which {why} says ({error.reason}). Give another --encoding.") from None
            if "\0" in text:
                raise _nul(path, line + line_ends(text[: text.index("\0")], last), head(path, 4096))
            line, last = line + line_ends(text, last), text[-1:] or last
            if not block:
                return


def line_ends(text: str, last: str = "") -> int:
    """Returns the number of LF, CR and CRLF. `last` is the character before the text: a LF that follows a CR is counted with it."""
    return text.count("\n") + text.count("\r") - text.count("\r\n") - (last == "\r" and text.startswith("\n"))


def _nul(path: str, line: int, start: bytes) -> UserError:
    wide = max((start[side::2].count(0) for side in (0, 1)), default=0) > len(start) // 5
    order = "be" if start[0::2].count(0) > start[1::2].count(0) else "le"
    hint = f" It looks like UTF-16: give --encoding=utf-16-{order}." if wide else ""
    return UserError(f"{path}, line {line}: a NUL byte, so this is not a text file in UTF-8.{hint}")


def _other(path: str) -> Encoding:
    """Tells UTF-8 with a few damaged lines from a file in an encoding of one byte per character, which becomes Windows-1252 or Latin-1."""
    valid, invalid, first, undefined = 0, 0, 0, False
    with raw(path) as file:
        for number, line in enumerate(file, 1):
            if b"\0" in line:
                raise _nul(path, number, head(path, 4096))
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                valid += 1
            except UnicodeDecodeError:
                invalid += 1
                first = first or number
            undefined = undefined or any(byte in line for byte in b"\x81\x8d\x8f\x90\x9d")
    if invalid <= STRAY * valid:
        count = "1 line is" if invalid == 1 else f"{invalid:,} lines are"
        return Encoding("utf-8", "replace", (f"{count} not UTF-8 (first: line {first}); their wrong bytes became U+FFFD",))
    name, said = ("latin-1", "Latin-1") if undefined else ("cp1252", "Windows-1252")
    return Encoding(name, notes=(f"not UTF-8 at line {first}; read as {said} (another: --encoding=NAME)",))
