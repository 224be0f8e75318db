"""What rows of results.json, lines of predictions/SPLIT.jsonl and of metrics.jsonl must hold to be read; a file may have been changed."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Rule = Callable[[Any], bool]

LARGEST = 1e39  # magnitude of a number; no float32 is beyond it


def a_number(value: Any) -> bool:
    """Returns True for a finite number of a usual size."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST


def a_number_or_none(value: Any) -> bool:
    return value is None or a_number(value)


def a_text(value: Any) -> bool:
    return isinstance(value, str)


def a_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def a_count_or_none(value: Any) -> bool:
    return value is None or a_count(value)


def ends(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(map(a_number_or_none, value)))


def lengths(value: Any) -> bool:
    return isinstance(value, dict) and all(key.isdecimal() and a_number_or_none(one) for key, one in value.items())


def baselines(value: Any) -> bool:
    return isinstance(value, dict) and all(map(a_number_or_none, value.values()))


def cells(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(cell, dict) and not _wrong(cell, CELL) for cell in value)


def seed(value: Any) -> bool:
    return a_count(value) or (isinstance(value, list) and bool(value) and all(map(a_count, value)))


def scores(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(a_number_or_none, value.values()))


CELL: Mapping[str, Rule] = {"value": a_number_or_none, "spread": a_number_or_none, "statistic": a_text, "source": a_text, "tag": a_text}
ROW: Mapping[str, Rule] = {
    **dict.fromkeys(("experiment", "task", "model", "treatment", "split", "metric", "unit", "interval_method"), a_text),
    **{"value": a_number_or_none, "interval": ends, "n": a_count, "seed": seed, "steps": a_count_or_none, "published": cells},
}
SOMETIMES: Mapping[str, Rule] = {  # keys that not every row has
    **{"by_length": lengths, "baselines": baselines, "best": a_number_or_none, "constant": a_number, "seen_in_training": a_number_or_none},
    **{"note": a_text, "caution": a_text},
}
RECORD: Mapping[str, Rule] = {"id": a_count, "scores": scores, "target": lambda value: value is not None}


def wrong_row(rows: Iterable[Any]) -> str:
    """Describes the first row of results that is none, as "row 3 has no right 'unit'"; "" if there is none."""
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            return f"row {number} is not an object"
        if wrong := _wrong(row, ROW) or _wrong(row, {name: rule for name, rule in SOMETIMES.items() if name in row}):
            return f"row {number} has no valid {wrong!r}"
    return ""


def wrong_record(record: Any) -> str:
    """Describes what is wrong with a line of predictions, or ""."""
    if not isinstance(record, dict):
        return "it is not an object"
    wrong = _wrong(record, RECORD)
    return f"it has no valid {wrong!r}" if wrong else ""


def wrong_line(line: Any) -> str:
    """Describes what is wrong with a line of metrics, or ""."""
    if not isinstance(line, dict):
        return "it is not an object"
    marks = {"private": lambda value: value is False}  # of a run whose treatment claims privacy
    wrong = next((name for name, value in line.items() if not marks.get(name, a_number_or_none)(value)), "")
    wrong = wrong or ("" if a_count(line.get("step")) else "step")
    return f"it has no valid {wrong!r}" if wrong else ""


# -- private --------------------------------------------------------------------------------------------------------------


def _wrong(found: Mapping[str, Any], rules: Mapping[str, Rule]) -> str:
    """Returns the first key that is missing or breaks its rule, or ""."""
    return next((name for name, rule in rules.items() if name not in found or not rule(found[name])), "")
