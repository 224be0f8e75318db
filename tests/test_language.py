"""Users search pages, help, messages and docstrings by the field's words: phrases that replace them are found here, each with its term.

The scan covers README.md, templates, and the docstrings, strings and comments of lib/assay and experiments. Code and identifiers are not
scanned. A phrase may wrap over lines.
"""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Phrase -> what to write. A space in a phrase matches any white space, and the # of a comment that wraps.
INSTEAD = {
    r"\blook(?:s|ed|ing)? at (?:the |its )?(?:validation|split|.?valid\b)": "validate, a validation",
    r"\b(?:between|without|few|two|three|all|these) looks\b": "validations",
    r"\b(?:a|an|each|every|one|best|last|first|next) look(?:'s|s)?\b(?!-)": "a validation",
    r"\bby heart\b": "memorized",
    r"\b(?:runs?|stages?|commands?|pipelines?|training|it|one|ones|that|which) (?:goes|go|going|went|gone) on\b": "resumes; continues",
    r"\b(?:goes|go|going|went|gone) on (?:from|where|with|after|until)\b|\bto go on\b": "resumes; to resume",
    r"\banew\b": "restarts; again; from scratch",
    r"\b(?:a|each|every|last|newest|complete|between) saves?\b(?!\()": "a checkpoint",
    r"\bset aside\b": "moved to `set_aside/` by `--from_step`",
    r"\btimes those before\b": "relative to the baseline",
    r"\bheads? of (?:a|the|its) columns?\b": "the header",
    r"\bare left of a score\b": "accuracy drops from A to B under the corruption",
    r"\bneeds? a far token\b|\bthose of a near one\b": "when the needed token is distant, when it is nearby",
    r"\bsamples? stands? behind\b": "not applicable (deterministic quantity)",
    r"\bare as they should be\b": "are unaffected",
    r"\bit is not said\b": "method not recorded",
    r"\bthe numbers as data\b": "raw data (JSON)",
    r"\b(?:newest )?ones that stay\b": "number of recent checkpoints to keep",
    r"\bmakes? disjoint rows\b": "each process builds its own slice of the batch",
    r"\bwrites? and speaks?\b|\b(?:process 0|the first|leader) speaks\b": "process 0 writes logs and results",
    r"\bone step a token\b": "one step per token",
    r"\(how far they reach\)": "logs gradient norms per block",
}
PHRASES = {re.compile(phrase.replace(" ", r"(?:\s+#?\s*)"), re.IGNORECASE): term for phrase, term in INSTEAD.items()}


def files() -> list[Path]:
    """Returns every file to scan."""
    library, experiments = ROOT / "lib" / "assay", ROOT / "experiments"
    pages = [ROOT / "README.md", ROOT / "WORKSPACE_NOTES.md", library / "README.md", experiments / "README.md"]
    pages += [experiments / "results" / name for name in ("README.md", "CELLS.md", "benchmarks.md")]
    code = [*library.rglob("*.py"), *experiments.glob("*.py"), *experiments.glob("*/*.py")]
    every = [*pages, *code, *library.rglob("*.j2"), *(ROOT / "colab").glob("*.ipynb")]
    assert every, "nothing is scanned"
    return sorted(every)


def findings(file: str, source: str) -> list[str]:
    """Returns one line per banned phrase: file, line, phrase and term to write."""
    found = []
    texts = {".py": _python, ".ipynb": _notebook}.get(Path(file).suffix, lambda source: [(1, source, False)])
    for line, text, is_docstring in texts(source):
        hits = [(match, term) for phrase, term in PHRASES.items() for match in phrase.finditer(text)]
        opening = re.match(r"\s*Of\b", text) if is_docstring else None
        if opening:
            hits.append((opening, "a docstring starts with a verb or a noun"))
        for match, term in hits:
            found.append(f"{file}:{line + text.count(chr(10), 0, match.start())}: {' '.join(match[0].split())!r} -> {term}")
    return found


def _python(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yields (first line, text, whether it is a docstring) of strings and of blocks of comments."""
    tree = ast.parse(source)
    docstrings, inside = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
            docstrings.add(id(node.body[0].value))  # type: ignore[attr-defined]
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield node.lineno, text, False
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value, id(node) in docstrings
    yield from _comments(source)


def _notebook(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yields each cell of a notebook and each text that it printed, with the number of the cell."""
    for number, cell in enumerate(json.loads(source)["cells"], 1):
        printed = [line for output in cell.get("outputs", ()) for line in output.get("text", ())]
        for lines in (cell["source"], printed):
            yield number, "".join(lines), False


def _comments(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yields each run of comments on consecutive lines as one text."""
    start, block = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != start + len(block):
            yield start, "\n".join(block), False
            block = []
        start = start if block else token.start[0]
        block.append(token.string)
    if block:
        yield start, "\n".join(block), False


def test_texts_use_the_terms_of_the_field():
    found = [finding for file in files() for finding in findings(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8"))]
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    ("source", "line", "term"),
    [
        ('"""Counts looks at the\nsplit `valid`."""', 1, "a validation"),
        ('"""Counts.\n\nA look at `valid`, then another."""', 3, "a validation"),
        ("x = 0  # two looks without a better value", 1, "validations"),
        ("# It is known by\n# heart then.\nx = 0", 1, "memorized"),
        ('x = 1\nraise ValueError(f"step {x}; the same command "\n"goes on from there")', 2, "resumes"),
        ('"""The stage that a run goes on with."""', 1, "resumes"),
        ('print("Start anew with another --workdir.")', 1, "restarts"),
        ("every = 200  # steps between saves", 1, "a checkpoint"),
        ('HELP = "newer ones are set aside"', 1, "set_aside/"),
        ('"""Of the only column."""', 1, "a verb or a noun"),
        ('def mean():\n    """Of the only column."""', 2, "a verb or a noun"),
    ],
)
def test_a_phrase_is_reported_with_its_line_and_term(source, line, term):
    found = findings("some.py", source)
    assert any(finding.startswith(f"some.py:{line}: ") and term in finding for finding in found), found


@pytest.mark.parametrize("text", ["It is not said.", "the first writes and\nspeaks", "What it could not do it does one step a token."])
def test_pages_and_templates_are_scanned_as_text(text):
    assert findings("README.md", text)


@pytest.mark.parametrize(
    "source",
    [
        '"""Moved to `set_aside/` by `--from_step`."""',
        "def look(anew): return anew.set_aside()  # code is not text",
        'TABLE = "a look-up of a table"',
        'raise ValueError("It looks like UTF-16.")',
        "x = 0  # the chain goes on at either side",
        'OF = "Of 60 runs"  # a string that is not a docstring',
        '"""Offsets of each row; saves a copy."""',
    ],
)
def test_what_is_fine_is_not_reported(source):
    assert findings("some.py", source) == []
