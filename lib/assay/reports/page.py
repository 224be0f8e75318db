"""What the pages of a diagnosis and of a card have in common: the templates, names as people read them, trees as lines of a table."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from assay.core.number import DASH, bounded, limits, number

NAMES = {  # of rows whose key does not read as it stands
    "train_test_gap": "train\u2013test gap",
    "nll": "negative log-likelihood",
    "flops": "operations, counted",
    "xla_flops": "operations, as XLA counts",
    "latency_p50": "latency, median",
    "latency_p90": "latency, nine of ten",
    "compile_seconds": "time to compile",
    "examples_per_second": "examples a second, one by one",
    "batched_examples_per_second": "examples a second, in batches",
    "tokens_per_second": "tokens a second, decoding",
    "roofline": "share of the roofline",
}
MANY = 24  # values of a list, up to which they are shown


class Amount(NamedTuple):
    """A value in two parts, so that a page may set its unit smaller."""

    digits: str
    unit: str


def template(name: str) -> jinja2.Template:
    """With every text escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)


def label(name: str) -> str:
    """The name of a row or of a group, as a heading has it."""
    text = NAMES.get(name, name.replace("_", " "))
    return text[:1].upper() + text[1:]


def amount(value: float | None, unit: str) -> Amount:
    digits, _, rest = number(value, unit).partition(" ")
    return Amount(digits, rest)


def span(interval: Sequence[float | None] | None, unit: str, bound: str = "", limit: float | None = None) -> str:
    """The interval of a value, or what a bound says; "" where there is neither."""
    if bound:
        return bounded(limit, unit, bound)
    return limits([*interval], unit) if interval else ""  # type: ignore[list-item]


def breakable(text: str) -> Markup:
    """Escaped, and may end a line after a slash, a colon, a plus or a comma."""
    return Markup("<wbr>").join(re.split(r"(?<=[/:+,])", text))


def pairs(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, text) of what JSON can hold; a list of plain values is one text."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from pairs(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        if any(isinstance(value, Mapping) for value in tree):
            for index, value in enumerate(tree):
                yield from pairs(value, f"{path}.{index}")
        else:
            more = f", \u2026 ({len(tree)} in all)" if len(tree) > MANY else ""
            yield path, ", ".join(map(_plain, tree[:MANY])) + more or DASH
    else:
        yield path, _plain(tree)


# -- private --------------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> str:
    if value is None or value == "":
        return DASH
    return value if isinstance(value, str) else json.dumps(value, default=str)
