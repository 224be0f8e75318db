"""The results table as strings, for the page (run.py) and the terminal (terminal/run.py).

Rows are grouped into blocks, one per run (label, experiment, task, model, treatment, steps), so that the table fits 100 columns. Long texts
(the source of a published number, a note) are footnotes marked by letters. Fractions are printed in per cent; a value below 1 is never
printed as 100. Tags of sources: V, read in the paper or its repository; V2, in a document that quotes it; MEM, from
memory, which is never printed.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from assay.reports.view import RunView
from assay.tasks.published import TAGS, value_text

FRACTIONS = ("accuracy", "token_accuracy", "answer_accuracy", "exact_match", "f1_macro", "f1_micro", "ece")
COLUMNS = ("task.name", "treatments", "train.steps")  # overrides that a table shows in columns of their own
UNTRAINED = ("evaluate", "checkpoint", "mesh")  # groups that do not change what is trained; n shows the number of examples
DASH = "\N{EN DASH}"
UNTREATED = ("", "none", "identity")
NOT_PRIVATE = "private: no. Computed from private examples, outside the guarantee of differential privacy."


class Published(NamedTuple):
    """A published value as printed, with the letter of its source."""

    text: str
    tag: str
    letter: str


class Line(NamedTuple):
    """A results row as printed; `notes` are footnote letters, `mean` is True for a mean over seeds."""

    split: str
    metric: str
    seed: str
    ours: str
    interval: str
    n: str
    baselines: str
    published: tuple[Published, ...]
    notes: tuple[str, ...]
    mean: bool


class Block(NamedTuple):
    """The lines of one run (or of its seeds) and their shared facts: (name, value) pairs."""

    label: str
    facts: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]


class Layout(NamedTuple):
    """The whole table: facts shared by all rows, blocks, footnotes {text: letter}, and remarks below the table."""

    shared: tuple[tuple[str, str], ...]
    blocks: tuple[Block, ...]
    footnotes: Mapping[str, str]
    remarks: tuple[str, ...]


def arrange(runs: Sequence[RunView]) -> Layout:
    """Formats the rows of all runs. Runs with the same label share blocks: the seeds of a metric in order, then their mean."""
    rows: dict[str, list[Mapping]] = {}
    for run in runs:
        known = rows.setdefault(run.label, [])
        known += [row for row in run.rows if row not in known]
    every = [row for known in rows.values() for row in known]
    methods = _methods(every)
    one_each = all(len(names) < 2 for names in methods.values())
    facts = {id(row): _row_facts(row) for row in every}
    common = [pair for pair in next(iter(facts.values()), ()) if all(pair in has for has in facts.values())]
    shared = tuple(pair for pair in common if pair[0] in ("experiment", "task"))

    blocks: dict[tuple, list[Mapping]] = {}
    for label, known in rows.items():
        if not known:
            blocks[label, (("results", "none"),)] = []
        for row in known:
            blocks.setdefault((label, tuple(pair for pair in facts[id(row)] if pair not in shared)), []).append(row)

    footnotes: dict[str, str] = {}
    made = []
    for (label, own), known in blocks.items():
        lines = [_line(row, footnotes, show_method=not one_each) for row in _published_once(_in_order(known))]
        made.append(Block(label, own, tuple(lines)))
    return Layout(shared, tuple(made), footnotes, _remarks(every, methods if one_each else {}))


def format_value(value: float | None, unit: str, metric: str = "", plain: bool = False) -> str:
    """Formats `99.83 %` for a fraction, `12.3 s` otherwise. Unless `plain`, no fraction below 1 is 100 % and none above 0 is 0 %."""
    if value is None:
        return DASH
    if not is_fraction(unit, metric):
        return f"{value:,.4g} {unit}".strip()
    if not plain and 0.99995 <= value < 1:
        return "> 99.99 %"
    return "< 0.01 %" if not plain and 0 < value < 0.00005 else f"{100 * value:.2f} %"


def signed(value: float, form: str) -> str:
    """Formats a difference with its sign, such as `+0.12` by the form `.2f`; what rounds to zero has none."""
    text = f"{value:+{form}}"
    return text.lstrip("+-") if float(text) == 0 else text


def is_fraction(unit: str, metric: str) -> bool:
    """Returns True if a value of this unit and metric is printed in per cent."""
    return unit == "fraction" or metric in FRACTIONS


def without_value(rows: Sequence[Mapping]) -> str:
    """Returns how many of the rows, one per seed, have no value, or ""."""
    lost = sum(row["value"] is None for row in rows)
    return f"{lost} of {len(rows)} seeds {'has' if lost == 1 else 'have'} no value" if lost else ""


def format_seed(seed: int | Sequence[int]) -> str:
    """Formats `0`; `mean 0, 2, 5`; a range for three or more consecutive seeds."""
    if isinstance(seed, int):
        return str(seed)
    seeds = sorted(seed)
    whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    return "mean " + (f"{seeds[0]}{DASH}{seeds[-1]}" if whole else ", ".join(map(str, seeds)))


def format_n(row: Mapping) -> str:
    """Formats the number of examples, of each seed if there are several: `3,680 x 5 seeds`."""
    return f"{row['n']:,}" if isinstance(row["seed"], int) else f"{row['n']:,} x {len(row['seed'])} seeds"


def format_learned(row: Mapping) -> str:
    """Formats `3 of 5 learned` for a mean over seeds: those whose interval lies beyond each baseline."""
    return "" if row.get("learned") is None else f"{row['learned']} of {len(row['seed'])} learned"


def format_overrides(row: Mapping) -> str:
    """Formats the overrides of a row that change its training and that no column shows, such as `model.dropout=0.2`; or ""."""
    changed = (row.get("overrides") or {}).items()
    return " ".join(f"{key}={text}" for key, text in changed if key not in COLUMNS and key.partition(".")[0] not in UNTRAINED)


def format_flags(row: Mapping) -> list[str]:
    """Formats what makes a score uninformative: `constant answer (99.9 % of the examples)`, `at chance`."""
    constant = [f"constant answer ({100 * row['constant']:.1f} % of the examples)"] if row.get("constant") else []
    return [*constant, *(["at chance: within 5 points of a baseline that needs no input"] if row.get("at_chance") else [])]


def _row_facts(row: Mapping) -> tuple[tuple[str, str], ...]:
    treatment = str(row["treatment"] or "none")
    steps = "not trained" if row["steps"] is None else f"{row['steps']:,}"
    pairs = {"experiment": row["experiment"], "task": row["task"], "model": row["model"], "treatment": treatment, "steps": steps}
    changed = format_overrides(row)
    return tuple((name, str(value)) for name, value in (pairs | ({"overrides": changed} if changed else {})).items())


def _line(row: Mapping, footnotes: dict[str, str], show_method: bool) -> Line:
    unit, metric = row["unit"], row["metric"]
    interval = DASH if not row["interval"] else _span(*(format_value(end, unit, metric, plain=True) for end in row["interval"]))
    published = tuple(_published(cell, unit, metric, footnotes) for cell in row.get("published") or [] if cell["tag"] != "MEM")
    notes = [row[key] for key in ("note", "caution") if row.get(key)]
    notes += format_flags(row)
    if row.get("seen_in_training") is not None:
        notes.append(f"{format_value(row['seen_in_training'], 'fraction')} of the inputs of this split also occurred in training.")
    if row.get("private") is False:
        notes.append(NOT_PRIVATE)
    if show_method and row["interval"] and row.get("interval_method"):
        notes.append(f"Interval: {row['interval_method']}.")
    baselines = ", ".join(f"{name} {format_value(value, unit, metric)}" for name, value in (row.get("baselines") or {}).items())
    letters = tuple(_letter(note, footnotes) for note in notes)
    ours, seed = format_value(row["value"], unit, metric), format_seed(row["seed"])
    if row.get("best") is not None:
        seed += f"; best {format_value(row['best'], unit, metric, plain=True)}"
    seed = "; ".join(filter(None, (seed, format_learned(row))))
    mean = not isinstance(row["seed"], int)
    return Line(str(row["split"]), metric, seed, ours, interval, format_n(row), baselines, published, letters, mean)


def _published(cell: Mapping, unit: str, metric: str, footnotes: dict[str, str]) -> Published:
    letter = _letter("; ".join(filter(None, (cell["source"], cell.get("protocol")))), footnotes)
    if cell["tag"] == "bound" or cell["value"] is None:
        return Published(value_text(None, range=cell["range"]) if cell.get("range") else "a range", cell["tag"], letter)
    value = _short(format_value(cell["value"], unit, metric))
    if cell.get("spread") is not None:
        value = f"{value.removesuffix(' %')} ± {_short(format_value(cell['spread'], unit, metric))}"
    best = f"best of {cell['runs']} runs" if cell.get("runs") else "best run"
    return Published(f"{value} {best if cell['statistic'] == 'max' else cell['statistic']}", cell["tag"], letter)


def _in_order(rows: Sequence[Mapping]) -> list[Mapping]:
    """Sorts rows by (split, metric) in order of appearance, then by seed, means last."""
    places = list(dict.fromkeys((row["split"], row["metric"]) for row in rows))

    def key(row: Mapping) -> tuple:
        seed = row["seed"]
        return places.index((row["split"], row["metric"])), *((0, [seed]) if isinstance(seed, int) else (1, list(seed)))

    return sorted(rows, key=key)


def _published_once(rows: Sequence[Mapping]) -> list[Mapping]:
    """Removes published values from single seeds if the mean over seeds carries the same ones."""
    means = {(row["split"], row["metric"]): row.get("published") for row in rows if not isinstance(row["seed"], int)}
    told = [isinstance(row["seed"], int) and means.get((row["split"], row["metric"])) == row.get("published") for row in rows]
    return [{**row, "published": []} if once else row for row, once in zip(rows, told, strict=True)]


def _methods(rows: Sequence[Mapping]) -> dict[str, list[str]]:
    """Returns the interval methods of single seeds and of means over seeds."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        if row["interval"] and row.get("interval_method"):
            names = methods.setdefault("single seeds" if isinstance(row["seed"], int) else "means over seeds", [])
            names += [] if row["interval_method"] in names else [row["interval_method"]]
    return methods


def _remarks(rows: Sequence[Mapping], methods: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Returns the lines below the table: unit, interval, tags, baselines."""
    remarks = []
    if any(is_fraction(row["unit"], row["metric"]) for row in rows):
        remarks.append("Accuracies are fractions, printed in per cent; n counts examples.")
    if methods:
        told = [f"{names[0]} ({which})" if len(methods) > 1 else names[0] for which, names in methods.items()]
        remarks.append(f"95 % intervals: {'; '.join(told)}.")
    tags = list(dict.fromkeys(cell["tag"] for row in rows for cell in row.get("published") or [] if cell["tag"] in TAGS))
    if tags:
        remarks.append("Published: " + "; ".join(f"[{tag}] {TAGS[tag]}" for tag in sorted(tags)) + ".")
    for row in rows:
        values = [f"{name} {format_value(value, row['unit'], row['metric'])}" for name, value in (row.get("baselines") or {}).items()]
        if values:
            remarks.append(f"Baselines on {row['task']}, {row['split']}, {row['metric']}: {', '.join(values)}.")
    return tuple(dict.fromkeys(remarks))


def _letter(text: str, footnotes: dict[str, str]) -> str:
    """Returns the footnote letter of a text: a to z, then aa, ab, ..."""
    if text not in footnotes:
        first, last = divmod(len(footnotes), 26)
        footnotes[text] = ("" if first == 0 else chr(96 + first)) + chr(97 + last)
    return footnotes[text]


def _span(low: str, high: str) -> str:
    return f"{low.removesuffix(' %')}{DASH}{high}" if high.endswith(" %") else f"{low}{DASH}{high}"


def _short(text: str) -> str:
    """Formats a published value with its original number of decimals, at least one: `52.00 %` is `52.0 %`."""
    return re.sub(r"(\.\d)0 %$", r"\1 %", text)
