"""Tokenizers behind one record: text to token ids and back.

`tokenizer("bytes")` needs no data; `tokenizer("words", texts, size=10_000)` learns its vocabulary from texts, which must be the training
split only. `restore(tokenizer.saved)` recreates the same tokenizer; `saved` is plain JSON data. All tokenizers built here start with four
ids: padding 0, unknown 1, mask 2, separator 3 (between documents). Bytes and characters round-trip every Python string exactly. WordPiece
(Schuster and Nakajima 2012) and BPE (Sennrich et al. 2016) use the `tokenizers` library (extra `text`).
"""

import codecs
import collections
import functools
import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import UserError, unknown

SPECIALS = ("<pad>", "<unk>", "<mask>", "<sep>")
PAD, UNKNOWN, MASK, SEPARATOR = range(len(SPECIALS))
FIRST = len(SPECIALS)  # id of byte 0
IDEOGRAPHS = r"\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
LONGEST = 1000  # characters of a word that WordPiece knows; sentences of scripts without spaces exceed its default of 100
JOINERS = "\u200c\u200d"  # inside words of Persian and of Indian languages, and between emoji
SPACE = "\u200b"  # has no width
INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")  # hyphenation and direction of text
BLANK = "\u2423"  # an open box, for a space
LIBRARY = ("wordpiece", "bpe")
ALPHABET = 1000  # maximum number of characters in WordPiece's alphabet, as in BERT
# Names of the four in files made elsewhere, the most common first.
ALIASES = (("<pad>", "[PAD]"), ("<unk>", "[UNK]"), ("<mask>", "[MASK]"), ("<sep>", "[SEP]", "</s>", "<|endoftext|>"))


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer. `encode` never adds special tokens; `decode` accepts any ids below `size`; `saved` is the JSON data that `restore`
    needs. `bytes_of` counts the bytes of the text that tokens stand for, also where a character is cut between two of them, so that the
    counts of the parts of a text add up to its size; without it, they are counted in the decoded text.
    """

    name: str
    size: int
    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    saved: Mapping[str, Any]
    pad: int = PAD
    unknown: int = UNKNOWN
    mask: int = MASK
    separator: int = SEPARATOR
    reserved: tuple[int, ...] = ()  # further ids that no text becomes: special tokens of a file made elsewhere
    bytes_of: Callable[[Sequence[int]], int] | None = None

    def count_bytes(self, ids: Sequence[int]) -> int:
        """Returns the number of bytes of the text that tokens stand for."""
        return len(to_bytes(self.decode(ids))) if self.bytes_of is None else self.bytes_of(ids)

    def ordinary(self) -> np.ndarray:
        """Returns the ids that represent text, int32: masking may hide them or use them as replacements."""
        special = [self.pad, self.unknown, self.mask, self.separator, *self.reserved]
        return np.setdiff1d(np.arange(self.size, dtype=np.int32), np.array(special, np.int32))


def tokenizer(name: str, texts: Iterable[str] = (), size: int = 8192, file: str = "") -> Tokenizer:
    """Builds the tokenizer of a name in TRAINERS.

    `size` bounds the learned vocabulary (from below by its bytes); `file` is a tokenizer.json to load. Raises UserError.
    """
    if name not in TRAINERS:
        raise unknown("tokenizer", name, TRAINERS, "config.task.tokenizer")
    if file:
        if name not in LIBRARY:
            raise UserError(f"config.task.tokenizer_file={file!r} needs config.task.tokenizer={' or '.join(LIBRARY)}, not {name}.")
        return restore({"name": name, "json": _read(file)})
    made = restore({"name": name, **TRAINERS[name](texts, size)})
    if not len(made.ordinary()):
        raise UserError(
            f"the tokenizer {name} finds no token in the training texts with config.task.tokenizer_size={size}: raise it, or set "
            "config.task.tokenizer=bytes, which reads any text that is not empty."
        )
    return made


def restore(saved: Mapping[str, Any]) -> Tokenizer:
    """Recreates the tokenizer that returned `saved`."""
    return RESTORERS[saved["name"]](saved)


def symbols(tokens: Tokenizer) -> tuple[str, ...]:
    """Returns the display form of each id: spaces, line ends and bytes of partial characters, otherwise invisible, become symbols."""
    special = {
        tokens.pad: SPECIALS[PAD],
        tokens.unknown: SPECIALS[UNKNOWN],
        tokens.mask: SPECIALS[MASK],
        tokens.separator: SPECIALS[SEPARATOR],
    }
    return tuple("".join(map(_sign, special.get(i) or tokens.decode([i]))) for i in range(tokens.size))


def _sign(character: str) -> str:
    return BLANK if character == " " else character if character.isprintable() else repr(character)[1:-1]


# -- bytes and characters ---------------------------------------------------------------------------------------------------


def to_bytes(text: str) -> bytes:
    """Encodes as UTF-8 with three bytes for a lone surrogate, as in WTF-8, so that every string is accepted and none coincide."""
    return text.encode("utf-8", "surrogatepass")


def from_bytes(data: bytes) -> str:
    """Inverts `to_bytes`. Bytes that are not UTF-8, which a model may well produce, become surrogates as in `surrogateescape`."""
    return data.decode("utf-8", "assay-bytes")


def _any_byte(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogatepass")(error)
    except UnicodeError:
        return codecs.lookup_error("surrogateescape")(error)


codecs.register_error("assay-bytes", _any_byte)


def _bytes(saved: Mapping[str, Any]) -> Tokenizer:
    def encode(text: str) -> list[int]:
        return [FIRST + byte for byte in to_bytes(text)]

    def decode(ids: Sequence[int]) -> str:
        return from_bytes(bytes(int(i) - FIRST for i in ids if i >= FIRST))

    def count(ids: Sequence[int]) -> int:
        return sum(i >= FIRST for i in ids)

    return Tokenizer("bytes", FIRST + 256, encode, decode, saved, bytes_of=count)


def _learn_characters(texts: Iterable[str], size: int) -> dict[str, Any]:
    counts = collections.Counter(character for text in texts for character in text)
    room = max(0, size - FIRST - 256)
    kept = sorted(counts, key=lambda character: (-counts[character], character))[:room]
    return {"characters": sorted(map(ord, kept))}  # numbers: JSON in UTF-8 cannot hold a lone surrogate


def _characters(saved: Mapping[str, Any]) -> Tokenizer:
    first = FIRST + 256
    characters = [chr(code) for code in saved["characters"]]
    ids = {character: first + i for i, character in enumerate(characters)}

    def encode(text: str) -> list[int]:
        found: list[int] = []
        for character in text:
            if character in ids:
                found.append(ids[character])
            else:  # characters unseen in training are written as bytes, so that nothing is lost
                found += [FIRST + byte for byte in to_bytes(character)]
        return found

    def decode(tokens: Sequence[int]) -> str:
        parts, run = [], bytearray()
        for token in map(int, tokens):
            if FIRST <= token < first:
                run.append(token - FIRST)
            elif token >= first:
                parts += [from_bytes(bytes(run)), characters[token - first]]
                run.clear()
        return "".join(parts) + from_bytes(bytes(run))

    sizes = [0] * FIRST + [1] * 256 + [len(to_bytes(character)) for character in characters]

    def count(ids: Sequence[int]) -> int:
        return sum(sizes[i] for i in ids)

    return Tokenizer("characters", first + len(characters), encode, decode, saved, bytes_of=count)


# -- words ------------------------------------------------------------------------------------------------------------------


def words_of(text: str) -> list[str]:
    """Splits text into lower-case words and punctuation marks.

    Each ideograph is a word, since nothing separates them. Combining marks (vowel signs, accents) belong to their word or sign, and the
    composed and the decomposed form of a character (Unicode NFC and NFD) are the same. Invisible characters, such as soft hyphens, do
    not count.
    """
    return _word().findall(unicodedata.normalize("NFC", INVISIBLE.sub("", text.lower())))


def spoken(text: str) -> list[str]:
    """Returns the words of `words_of` without punctuation marks."""
    return [word for word in words_of(text) if word[0].isalnum() or word[0] == "_"]


@functools.cache
def _word() -> re.Pattern[str]:
    """Matches a word or a punctuation mark. To Python's `\\w`, combining marks are no part of a word."""
    marks = [code for code in (*range(0x300, 0x1F000), *range(0xE0100, 0xE01F0)) if unicodedata.category(chr(code)).startswith("M")]
    spans = itertools.groupby(enumerate(marks), key=lambda place: place[1] - place[0])
    ends = [(span[0][1], span[-1][1]) for span in (list(group) for _, group in spans)]
    inside = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ends) + JOINERS
    letters = rf"[^\W{IDEOGRAPHS}]+"
    return re.compile(rf"[{IDEOGRAPHS}][{inside}]*|{letters}(?:[{inside}]+(?:{letters})?)*|[^\w\s{SPACE}][{inside}]*")


def _learn_words(texts: Iterable[str], size: int) -> dict[str, Any]:
    counts = collections.Counter(word for text in texts for word in words_of(text))
    return {"words": sorted(counts, key=lambda word: (-counts[word], word))[: max(0, size - FIRST)]}


def _words(saved: Mapping[str, Any]) -> Tokenizer:
    words = [*SPECIALS, *saved["words"]]
    ids = {word: i for i, word in enumerate(words) if i >= FIRST}

    def encode(text: str) -> list[int]:
        return [ids.get(word, UNKNOWN) for word in words_of(text)]

    def decode(tokens: Sequence[int]) -> str:
        return " ".join(words[token] for token in tokens)

    return Tokenizer("words", len(words), encode, decode, saved)


# -- the tokenizers library -------------------------------------------------------------------------------------------------


def library() -> Any:
    """Returns the `tokenizers` library. Raises UserError if it is not installed."""
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            f"the package tokenizers is not installed, and {' and '.join(LIBRARY)} need it. Install the extra: pip install -e '.[text]', "
            "or set config.task.tokenizer=bytes."
        ) from None
    return tokenizers


def _learn_bpe(texts: Iterable[str], size: int) -> dict[str, Any]:
    tokenizers = library()
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())  # every byte is a token, so nothing is unknown
    options = {"special_tokens": list(SPECIALS), "initial_alphabet": alphabet, "show_progress": False}
    plain = [_plain(text) for text in texts]
    model.train_from_iterator(plain, tokenizers.trainers.BpeTrainer(vocab_size=min(size, _most(plain)), **options))
    return {"json": model.to_str()}


def _learn_wordpiece(texts: Iterable[str], size: int) -> dict[str, Any]:
    """Learns a WordPiece vocabulary with a deterministic order of ids.

    The library numbers the `##x` in the order of a randomised hash table, and ties follow the numbers. Here they are given explicitly,
    sorted.
    """
    tokenizers = library()
    model = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token=SPECIALS[UNKNOWN], max_input_chars_per_word=LONGEST))
    # Joiners and accents tell words apart (ma, má, mạ); other control characters are dropped, as in BERT.
    spaced = tokenizers.normalizers.Replace(SPACE, " ")
    dropped = tokenizers.normalizers.Replace(tokenizers.Regex(rf"[\p{{C}}&&[^\t\n\r{JOINERS}]]|\ufffd"), "")
    lower = tokenizers.normalizers.BertNormalizer(clean_text=False, lowercase=True, strip_accents=False)
    model.normalizer = tokenizers.normalizers.Sequence([spaced, dropped, lower, tokenizers.normalizers.NFC()])
    model.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    model.decoder = tokenizers.decoders.WordPiece()
    plain = [model.normalizer.normalize_str(_plain(text)) for text in texts]
    counts = collections.Counter(character for text in plain for character in text if not character.isspace())
    kept = sorted(counts, key=lambda character: (-counts[character], character))[: min(ALPHABET, max(0, size - FIRST) // 4)]
    inner = [f"##{character}" for character in sorted(kept)]
    options = {"special_tokens": [*SPECIALS, *inner], "initial_alphabet": sorted(kept), "limit_alphabet": len(kept)}
    most = min(size, _most(plain))
    model.train_from_iterator(plain, tokenizers.trainers.WordPieceTrainer(vocab_size=most, show_progress=False, **options))
    made = json.loads(model.to_str())
    made["added_tokens"] = [token for token in made["added_tokens"] if token["content"] in SPECIALS]  # `##x` is not a token of raw text
    return {"json": json.dumps(made)}


def _most(texts: Sequence[str]) -> int:
    """Returns an upper bound of a vocabulary's size: the library reserves memory for as many tokens as it is told."""
    return FIRST + 256 + 2 * ALPHABET + sum(len(text.encode()) for text in texts)


def _library(saved: Mapping[str, Any]) -> Tokenizer:
    model = library().Tokenizer.from_str(saved["json"])
    model.no_padding()
    model.no_truncation()
    model.encode_special_tokens = True  # text that spells `<pad>` is text: only code adds special tokens
    special = []
    for names in ALIASES:
        here = next((name for name in names if model.token_to_id(name) is not None), names[0])
        model.add_special_tokens([here])  # if the file has none, it follows the vocabulary
        special.append(model.token_to_id(here))
    added = model.get_added_tokens_decoder()
    reserved = {i for i, token in added.items() if token.special} - set(special)
    avoided = ({*special} | reserved) - {special[UNKNOWN]}
    spelled = re.compile("|".join(re.escape(model.id_to_token(i)) for i in avoided), re.IGNORECASE)

    def encode(text: str) -> list[int]:
        text = _plain(text)
        ids = model.encode(text, add_special_tokens=False).ids
        if avoided.isdisjoint(ids):
            return ids
        # Special tokens are also pieces of this vocabulary, so a cut after their first character keeps the model from them.
        cuts = [0, *(found.start() + 1 for found in spelled.finditer(text)), len(text)]
        parts = [text[start:end] for start, end in itertools.pairwise(cuts)]
        cut = [i for part in model.encode_batch(parts, add_special_tokens=False) for i in part.ids]
        return [special[UNKNOWN] if i in avoided else i for i in cut]

    def decode(tokens: Sequence[int]) -> str:
        return model.decode([int(token) for token in tokens], skip_special_tokens=True)

    pad, unseen, mask, separator = special
    size = model.get_vocab_size(with_added_tokens=True)
    if (json.loads(saved["json"]).get("decoder") or {}).get("type") != "ByteLevel":
        return Tokenizer(saved["name"], size, encode, decode, saved, pad, unseen, mask, separator, tuple(sorted(reserved)))
    sizes = [len(model.id_to_token(i) or "") for i in range(size)]  # each character of a token stands for a byte
    for i, token in added.items():  # but in words that were added to the vocabulary
        sizes[i] = 0 if token.special or i in special else len(to_bytes(token.content))

    def count(ids: Sequence[int]) -> int:
        return sum(sizes[i] for i in ids)

    return Tokenizer(saved["name"], size, encode, decode, saved, pad, unseen, mask, separator, tuple(sorted(reserved)), count)


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # the library rejects lone surrogates


def _read(file: str) -> str:
    try:
        content = Path(file).expanduser().read_text(encoding="utf-8")
        library().Tokenizer.from_str(content)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"config.task.tokenizer_file={file!r} cannot be read: {error}.") from None
    except Exception as error:  # the library raises bare exceptions
        raise UserError(f"config.task.tokenizer_file={file!r} is not a tokenizer.json: {error}.") from None
    return content


TRAINERS: Mapping[str, Callable[[Iterable[str], int], dict[str, Any]]] = {
    "bytes": lambda texts, size: {},
    "characters": _learn_characters,
    "words": _learn_words,
    "wordpiece": _learn_wordpiece,
    "bpe": _learn_bpe,
}
RESTORERS: Mapping[str, Callable[[Mapping[str, Any]], Tokenizer]] = {
    "bytes": _bytes,
    "characters": _characters,
    "words": _words,
    "wordpiece": _library,
    "bpe": _library,
}
