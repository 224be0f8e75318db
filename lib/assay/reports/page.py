"""Shared parts of diagnosis and card pages: templates, display names, and nested data as table lines."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from assay.core.number import DASH, bounded, limits, number

NAMES = {  # display names of rows whose key is not readable as it is
    "train_test_gap": "train\u2013test gap",
    "nll": "negative log-likelihood",
    "flops": "FLOPs, counted",
    "xla_flops": "FLOPs, counted by XLA",
    "latency_p50": "latency, median",
    "latency_p90": "latency, 90th percentile",
    "compile_seconds": "compilation time",
    "examples_per_second": "examples per second, batch size 1",
    "batched_examples_per_second": "examples per second, batched",
    "tokens_per_second": "tokens per second, decoding",
    "roofline": "fraction of the roofline",
}
MANY = 24  # maximum number of list values shown


class Amount(NamedTuple):
    """A value split into digits and unit, so that a page can set the unit in smaller type."""

    digits: str
    unit: str


def template(name: str) -> jinja2.Template:
    """Loads a template; all text is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)


def label(name: str) -> str:
    """Returns the display name of a row or group, capitalized."""
    text = NAMES.get(name, name.replace("_", " "))
    return text[:1].upper() + text[1:]


def amount(value: float | None, unit: str) -> Amount:
    digits, _, rest = number(value, unit).partition(" ")
    return Amount(digits, rest)


def span(interval: Sequence[float | None] | None, unit: str, bound: str = "", limit: float | None = None) -> str:
    """Returns the interval of a value, or the text of a bound; "" if there is neither."""
    if bound:
        return bounded(limit, unit, bound)
    return limits([*interval], unit) if interval else ""  # type: ignore[list-item]


def breakable(text: str) -> Markup:
    """Escapes text and allows line breaks after a slash, colon, plus or comma."""
    return Markup("<wbr>").join(re.split(r"(?<=[/:+,])", text))


def pairs(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields (dotted path, text) pairs of JSON data; a list of plain values is one text."""
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
