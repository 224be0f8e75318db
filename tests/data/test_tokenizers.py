"""Tokenisers: exact round trips, the same ids in every process, and nothing learnt from what is not given."""

import importlib.util
import json
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import UserError
from assay.data import tokenizers
from assay.data.tokenizers import (
    FIRST,
    LIBRARY,
    MASK,
    PAD,
    SEPARATOR,
    SPECIALS,
    TRAINERS,
    UNKNOWN,
    restore,
    symbols,
    to_bytes,
    tokenizer,
    words_of,
)

TEXTS = ["the cat sat on the mat.", "The dog sat, too!", "这只猫坐在垫子上。", "naïve café 😀"]
needs_library = pytest.mark.skipif(importlib.util.find_spec("tokenizers") is None, reason="the extra text is not installed")
ANY_STRING = st.text(st.characters(), max_size=30)  # lone surrogates are among them
NAMES = [pytest.param(name, marks=needs_library) if name in LIBRARY else name for name in TRAINERS]


@settings(deadline=None)
@given(ANY_STRING)
def test_bytes_and_characters_come_back_exactly(text):
    for name in ("bytes", "characters"):
        made = tokenizer(name, TEXTS)
        ids = made.encode(text)
        assert all(FIRST <= token < made.size for token in ids)
        assert made.decode(ids) == text


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_any_bytes_have_a_text_and_come_back_through_it(data):
    made = tokenizer("bytes")
    text = data.decode("utf-8", "surrogateescape")  # how text of unknown encoding is read
    assert made.decode(made.encode(text)).encode("utf-8", "surrogateescape") == data
    made.decode([FIRST + byte for byte in data])  # whatever a model writes is some text


def test_two_strings_never_share_their_bytes():
    for texts in (("\ud83d\ude00", "😀"), ("\udcc3\udca9", "é")):
        ids = [tokenizer("bytes").encode(text) for text in texts]
        assert ids[0] != ids[1] and [tokenizer("bytes").decode(i) for i in ids] == list(texts)


def test_characters_are_those_of_the_training_text_and_the_rest_is_written_in_bytes():
    made = tokenizer("characters", ["abca"])
    assert made.size == FIRST + 256 + 3
    assert len(made.encode("abc")) == 3 and len(made.encode("é")) == 2 and len(made.encode("猫")) == 3
    assert tokenizer("characters", ["aab"], size=FIRST + 257).encode("a")[0] == FIRST + 256, "the most frequent are kept"


def test_words_keep_the_most_frequent_and_the_rest_is_unknown():
    made = tokenizer("words", TEXTS, size=FIRST + 3)
    assert made.size == FIRST + 3
    assert made.decode(made.encode("THE cat sat")) == "the <unk> sat"
    assert tokenizers.words_of("Don't 猫坐 a_b 12.") == ["don", "'", "t", "猫", "坐", "a_b", "12", "."]
    assert made.encode("<mask>").count(MASK) == 0, "no text writes a special token"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_the_tokenizer(name):
    made = tokenizer(name, TEXTS, size=300)
    again = restore(json.loads(json.dumps(made.saved)))
    assert (again.size, again.pad, again.mask, again.separator, again.unknown) == (made.size, PAD, MASK, SEPARATOR, UNKNOWN)
    for text in (*TEXTS, "unseen ☃ text", "", "\ud800"):
        ids = made.encode(text)
        assert again.encode(text) == ids and all(0 <= token < made.size for token in ids)
    assert set(made.ordinary().tolist()) == set(range(made.size)) - set(range(len(SPECIALS)))


@needs_library
def test_bpe_comes_back_exactly_and_special_tokens_are_found_at_their_ids():
    made = tokenizer("bpe", TEXTS, size=400)
    for text in (*TEXTS, " two  spaces\n\ttab ☃"):
        assert made.decode(made.encode(text)) == text
    assert len(made.encode("the cat")) < len("the cat")
    pieces = tokenizer("wordpiece", TEXTS, size=100)
    assert pieces.size <= 100 and pieces.decode(pieces.encode("The cat sat")) == "the cat sat"
    assert pieces.encode("##t") != pieces.encode("t")[:1], "what stands for the inside of a word is no token of raw text"


LEARN = """
import json, sys
from assay.data.tokenizers import tokenizer
texts = [f"word{i * 7919 % 101} other{i * 31 % 17} und so weiter {i}" for i in range(400)]
print(json.dumps([tokenizer(name, texts, size=300).saved for name in json.loads(sys.argv[1])]))
"""


def test_learning_is_the_same_in_every_process():
    names = [name for name in TRAINERS if name not in LIBRARY or importlib.util.find_spec("tokenizers")]
    command = [sys.executable, "-c", LEARN, json.dumps(names)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    assert runs[0].stdout == runs[1].stdout == runs[2].stdout


@needs_library
def test_a_tokenizer_json_made_elsewhere(tmp_path):
    import tokenizers as other

    model = other.Tokenizer(other.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "[MASK]": 3, "[PAD]": 4}, unk_token="[UNK]"))
    model.pre_tokenizer = other.pre_tokenizers.Whitespace()
    model.enable_padding(length=8, pad_id=4, pad_token="[PAD]")
    model.save(str(tmp_path / "tokenizer.json"))
    made = tokenizer("wordpiece", file=str(tmp_path / "tokenizer.json"))
    assert made.encode("a b c") == [1, 2, 0], "the file's own padding is off"
    assert (made.pad, made.unknown, made.mask, made.separator) == (4, 0, 3, 5) and made.size == 6
    assert made.ordinary().tolist() == [1, 2]


@needs_library
@pytest.mark.parametrize("content", [None, b"", b"{}", b"not json", b"\xff\xfe"])
def test_a_bad_tokenizer_json_is_one_message(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="tokenizer_file"):
        tokenizer("bpe", file=str(path))


def test_mistakes_are_told():
    with pytest.raises(UserError, match="Did you mean 'words'"):
        tokenizer("word")
    with pytest.raises(UserError, match="wordpiece or bpe, not words"):
        tokenizer("words", file="tokenizer.json")
    for texts, size in ((["", "  "], 100), (["some words"], 1)):
        with pytest.raises(UserError, match=f"finds no token in the training texts with config.task.tokenizer_size={size}"):
            tokenizer("words", texts, size)


@needs_library
@pytest.mark.parametrize("name", LIBRARY)
def test_a_vocabulary_has_no_room_that_its_texts_cannot_fill(name):
    """The library would reserve memory for as many tokens, and end the process."""
    assert tokenizer(name, TEXTS, 10**30).saved == tokenizer(name, TEXTS, 10_000).saved


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match="text"):
        tokenizer("bpe", TEXTS)


@pytest.mark.parametrize("name", NAMES)
def test_every_id_is_written_so_that_it_is_seen(name):
    tokens = tokenizer(name, ["one two\n\tthree", "one"], size=300)
    written = symbols(tokens)
    assert len(written) == tokens.size and written[tokens.mask] == "<mask>"
    assert not any(text != text.strip() or "\n" in text for text in written)
    for id_, text in zip(tokens.encode("one two"), [written[id_] for id_ in tokens.encode("one two")], strict=True):
        assert text.replace("\u2423", " ") == tokens.decode([id_])


# -- words that are not English ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी विकिपीडिया", ["हिन्दी", "विकिपीडिया"]),
        ("Café-crème", ["café", "-", "crème"]),
        ("ภาษาไทย ครับ", ["ภาษาไทย", "ครับ"]),
        ("می\u200cخواهم رفت", ["می\u200cخواهم", "رفت"]),  # noqa: RUF001
        ("السَّلَامُ عَلَيْكُمْ", ["السَّلَامُ", "عَلَيْكُمْ"]),
        ("東京x漢\ufe00字", ["東", "京", "x", "漢\ufe00", "字"]),
        ("\U00020000\U0002a700時々", ["\U00020000", "\U0002a700", "時", "々"]),
        ("❤\ufe0f, ❤ \U0001f468\u200d\U0001f467!", ["❤\ufe0f", ",", "❤", "\U0001f468\u200d", "\U0001f467", "!"]),
        ("\ufeffco\u00adoperate ab\u200bcd \u200fאב", ["cooperate", "ab", "cd", "אב"]),
        ("ក្រុងភ្នំពេញ རྒྱལ", ["ក្រុងភ្នំពេញ", "རྒྱལ"]),
        ("don't x_1", ["don", "'", "t", "x_1"]),
    ],
)
def test_combining_marks_belong_to_their_word(text, words):
    for form in ("NFC", "NFD"):
        assert words_of(unicodedata.normalize(form, text)) == [unicodedata.normalize("NFC", word) for word in words]


@needs_library
@pytest.mark.parametrize("name", ["words", "wordpiece", "bpe"])
def test_different_words_have_different_ids(name):
    words = ["ma", "má", "mà", "mả", "mã", "mạ", "क", "के", "कु", "कै", "می\u200cروم", "میروم"]
    made = tokenizer(name, [" ".join(words)] * 3, 600)
    assert len({tuple(made.encode(word)) for word in words}) == len(words)
    if name != "bpe":  # bytes differ
        assert made.encode(unicodedata.normalize("NFD", "má")) == made.encode("má")


@needs_library
@pytest.mark.parametrize("name", ["wordpiece", "bpe"])
def test_text_that_spells_a_special_token_is_text(name, tmp_path):
    text = "a <pad> b <sep> c <mask> <unk> [PAD]"
    made = tokenizer(name, [text] * 3, 600)
    path = tmp_path / "tokenizer.json"
    path.write_text(made.saved["json"])
    for one in (made, tokenizer(name, file=str(path))):
        ids = one.encode(text)
        assert not {one.pad, one.separator, one.mask, one.unknown} & set(ids)
        assert one.decode(ids).replace(" ", "") == text.lower().replace(" ", "") if name == "wordpiece" else one.decode(ids) == text


@needs_library
def test_a_long_sentence_without_spaces_is_known():
    made = tokenizer("wordpiece", ["ภาษาไทย"] * 3, 600)
    ids = made.encode("ภาษาไทย" * 60)
    assert made.unknown not in ids and made.decode(ids) == "ภาษาไทย" * 60


@needs_library
@pytest.mark.parametrize("kind", ["words", "unigram", "bpe"])
def test_text_that_spells_a_special_token_of_a_file_made_elsewhere_is_text(kind, tmp_path):
    """The special tokens may be pieces of the vocabulary, or added tokens that are not marked as special."""
    made, names = tokenizers.library(), ["<pad>", "<unk>", "<mask>", "<sep>"]
    if kind == "words":
        model = made.Tokenizer(made.models.WordLevel({name: i for i, name in enumerate([*names, "a", "b"])}, unk_token="<unk>"))
        model.pre_tokenizer = made.pre_tokenizers.WhitespaceSplit()
    elif kind == "unigram":
        pieces = [*((name, 0.0) for name in names), *((letter, -3.0) for letter in "▁<>padmskeuns")]
        model = made.Tokenizer(made.models.Unigram(pieces, unk_id=1))
        model.normalizer = made.normalizers.Lowercase()
        model.pre_tokenizer = made.pre_tokenizers.Metaspace()
    else:
        model = made.Tokenizer(made.models.BPE())
        model.pre_tokenizer, model.decoder = made.pre_tokenizers.ByteLevel(add_prefix_space=False), made.decoders.ByteLevel()
        options = {"initial_alphabet": made.pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
        model.train_from_iterator(["a b"], made.trainers.BpeTrainer(vocab_size=280, **options))
        model.add_tokens([*names, "<|user|>"])
    model.add_special_tokens(["<s>"])
    path = tmp_path / "tokenizer.json"
    model.save(str(path))
    one, text = tokenizer("bpe", file=str(path)), "a <pad> b <PAD><sep> <mask>, <s> and <|user|>"
    ids = one.encode(text)
    assert not {one.pad, one.mask, one.separator, *one.reserved} & set(ids)
    assert one.reserved == (model.token_to_id("<s>"),) and one.reserved[0] not in one.ordinary(), "augmentation must not draw it either"
    if kind == "bpe":
        assert one.decode(ids) == text and one.count_bytes(ids) == len(text)


@pytest.mark.parametrize("name", ["bytes", "characters", pytest.param("bpe", marks=needs_library)])
def test_bytes_of_parts_add_up_to_those_of_the_text(name):
    """A window that ends inside a character would otherwise count U+FFFD, three bytes, for each of its parts."""
    text = "".join(chr(0x4E00 + i) for i in range(300)) + " plain, naïve and \U0001f600" + ("" if name == "bpe" else "\ud800")
    made = tokenizer(name, ["an other text, in plain letters; naïve"], 300)
    ids = made.encode(text)
    assert made.count_bytes(ids) == len(to_bytes(text))
    for width in (1, 7, 16, 256):
        assert sum(made.count_bytes(ids[i : i + width]) for i in range(0, len(ids), width)) == len(to_bytes(text))
    assert made.count_bytes([made.pad, made.mask, made.separator]) == 0
    assert restore(json.loads(json.dumps(made.saved))).count_bytes(ids) == len(to_bytes(text))
