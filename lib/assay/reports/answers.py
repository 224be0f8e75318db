"""What a report shows of the answers of a classifier: the confusion matrix, each class, the surest wrong and the least sure right answers.

Examples are those of `test`, or of `valid` without one. Groups of examples and confidences come from predictions/SPLIT.jsonl.
"""

import base64
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.file import parse_json
from assay.core.number import DASH, limits, number
from assay.core.stats import wilson
from assay.reports.drawings.picture import png

SPLITS = ("test", "valid")
SHOWN = 6  # examples of each kind
MATRIX, MOST = 12, 60  # classes up to which the matrix is shown, and the table of classes
LINES = 200_000  # answers that are read
WORDS = 280  # characters of an example


class Example(NamedTuple):
    """An answer that is shown."""

    text: str  # "" for a picture
    picture: str  # PNG as base64, "" for a text
    target: str
    prediction: str
    confidence: str
    id: str


class AnswersView(NamedTuple):
    """The section of a page."""

    split: str
    answered: str  # number of answers
    classes: Sequence[str]
    matrix: Sequence[tuple[str, Sequence[tuple[str, int]]]]  # class -> (count, share of its row in per cent) for each answer; or none
    table: Sequence[tuple[str, str, str, str, str]]  # class, rows, right, interval, right among the answers of this class
    wrong: Sequence[Example]
    unsure: Sequence[Example]


def answers_of(folder: Path) -> AnswersView | None:
    """Returns the section of a work directory; None if its answers are no classes with confidences, or cannot be read."""
    path = next((one for split in SPLITS if (one := folder / "predictions" / f"{split}.jsonl").is_file()), None)
    if path is None:
        return None
    try:
        return _view(path.stem, _records(path))
    except (OSError, ValueError, KeyError, TypeError):
        return None


# -- private --------------------------------------------------------------------------------------------------------------


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    with open(path, encoding="utf-8") as file:
        yield from map(parse_json, islice(file, LINES))


def _view(split: str, records: Iterator[Mapping[str, Any]]) -> AnswersView | None:
    pairs: Counter[tuple[str, str]] = Counter()
    wrong: list[tuple[float, int, Mapping[str, Any]]] = []
    unsure: list[tuple[float, int, Mapping[str, Any]]] = []
    for place, record in enumerate(records):
        target, prediction, confidence = record["target"], record["prediction"], record["scores"]["confidence"]
        if not all(isinstance(one, (str, int)) and not isinstance(one, bool) for one in (target, prediction)) or confidence is None:
            return None
        pairs[str(target), str(prediction)] += 1
        right = target == prediction
        kept, key = (unsure, -float(confidence)) if right else (wrong, float(confidence))
        heapq.heappush(kept, (key, -place, record))
        if len(kept) > SHOWN:
            heapq.heappop(kept)
    classes = sorted({name for pair in pairs for name in pair}, key=lambda name: (len(name), name) if name.isdecimal() else (0, name))
    if not 2 <= len(classes) <= MOST:
        return None
    return AnswersView(
        split,
        f"{pairs.total():,}",
        classes,
        _matrix(pairs, classes) if len(classes) <= MATRIX else (),
        [_class(pairs, name) for name in classes],
        [_example(record) for _, _, record in sorted(wrong, key=lambda one: (-one[0], -one[1]))],
        [_example(record) for _, _, record in sorted(unsure, key=lambda one: (-one[0], -one[1]))],
    )


def _matrix(pairs: Mapping[tuple[str, str], int], classes: Sequence[str]) -> list[tuple[str, list[tuple[str, int]]]]:
    rows = []
    for target in classes:
        counts = [pairs.get((target, name), 0) for name in classes]
        total = max(sum(counts), 1)
        rows.append((target, [(f"{count:,}" if count else "", round(100 * count / total)) for count in counts]))
    return rows


def _class(pairs: Mapping[tuple[str, str], int], name: str) -> tuple[str, str, str, str, str]:
    rows = sum(count for (target, _), count in pairs.items() if target == name)
    said = sum(count for (_, prediction), count in pairs.items() if prediction == name)
    right = pairs.get((name, name), 0)
    found, ends = (number(right / rows, "fraction"), limits(wilson(right / rows, rows), "fraction")) if rows else (DASH, DASH)
    return name, f"{rows:,}", found, ends, number(right / said, "fraction") if said else DASH


def _example(record: Mapping[str, Any]) -> Example:
    told, image = record.get("input", ""), ""
    if isinstance(told, list) and told and isinstance(told[0], list):
        image, told = base64.b64encode(png(_pixels(told))).decode(), ""
    elif isinstance(told, list):
        told = " ".join(map(str, told))
    text = " ".join(str(told).split())
    text = text if len(text) <= WORDS else f"{text[:WORDS]}..."
    confidence = number(float(record["scores"]["confidence"]), "fraction")
    return Example(text, image, str(record["target"]), str(record["prediction"]), confidence, str(record["id"]))


def _pixels(image: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Returns pixels from 0 to 1; whole numbers are from 0 to 255, or less where none is above 16."""
    flat = [value for row in image for pixel in row for value in (pixel if isinstance(pixel, list) else [pixel])]
    highest = max((value for value in flat if value is not None), default=1)
    scale = 255.0 if highest > 16 else 16.0 if highest > 1 else 1.0

    def scaled(value: Any) -> Any:
        return None if value is None else value / scale

    return [[[scaled(one) for one in pixel] if isinstance(pixel, list) else scaled(pixel) for pixel in row] for row in image]
