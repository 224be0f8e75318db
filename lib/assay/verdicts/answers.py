"""Comparison of files of predictions from any program, paired by the id of each example.

    card = compare(["a.jsonl", "b.csv"], score="f1", group="document")

Every file is compared with the first: `judge` of verdict.py gives the intervals, tests, Holm's correction over the files and the verdicts,
with the margin that a task's score has. The card is plain data:

    {"schema", "kind": "answers", "id", "score", "better", "unit", "test", "n", "groups": number or None, "level", "margin", "relative",
     "files": [{"path", "lines", "mean", "interval", "difference", "difference_interval", "p_value", "adjusted", "verdict", "why"}],
     "notes": [sentences on how the files were read]}

The first file has no difference and the verdict "". A verdict is one on these answers: another training of a model may differ.
"""

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.core.errors import UserError, unknown
from assay.core.plain import finite
from assay.diagnostics.measurement import HIGHER, LOWER, POINT, SHARE, Measurement, sample
from assay.evals.rows import HEADLINES, LOWER_IS_BETTER, headline_of
from assay.verdicts.answer_file import ABSENT, AnswerFile, key_of, read, score_of
from assay.verdicts.verdict import LEVEL, Pair, Verdict, judge

SCHEMA = 1
ID = "id"
SCORES = ("score", "correct", "accuracy")  # default columns, the first that all files have
PREDICTIONS, TARGETS = ("prediction", "label"), ("target", "answer")  # else a score is 1 where these two are equal
COMPUTED = "prediction == target"
OWN = "scores"  # the object that holds the scores in a run's own predictions
SET = "answers"
LEAST_COMMON = 0.5  # of the ids of a file that the others must have


class Paired(NamedTuple):
    """Scores of the same examples in all files."""

    values: list[np.ndarray]  # [examples] of each file
    lines: list[int]  # number of examples in each file
    groups: list[str] | None
    tokens: np.ndarray | None  # tokens of each example, where scores are means over tokens
    id: str
    score: str
    notes: list[str]


def compare(paths: Sequence[str], id: str = "", score: str = "", group: str = "", lower_is_better: bool = False) -> dict[str, Any]:
    """Returns the card of two or more files, each compared with the first.

    Args:
      paths: JSON Lines, or CSV files whose names end in .csv.
      id: the field that names an example. Default: `id` if every line has it, else the number of the line.
      score: the field with a number, or true or false. Default: the first of SCORES that all files have, the headline score of a run's own
        predictions, or whether prediction and target are equal.
      group: a field; examples of one group are resampled together. Default: none, or `group` in a run's own predictions.
      lower_is_better: True for an error or a loss; implied by scores whose direction is known, such as nll.

    Raises UserError for files that cannot be paired.
    """
    paired = pair([read(path) for path in _distinct(paths)], id, score, group)
    return card_of(list(paths), paired, lower_is_better or paired.score.rpartition(".")[2] in LOWER_IS_BETTER)


def pair(files: Sequence[AnswerFile], id: str = "", score: str = "", group: str = "") -> Paired:
    """Pairs the examples of all files by their ids, and reads their scores. Raises UserError if that is not possible."""
    name, keys = _ids(files, id)
    notes = [] if name else ["The files have no id, so examples are paired by the number of their line."]
    common = set(keys[0]).intersection(*keys[1:])
    most = max(map(len, keys))
    if not common:
        first = ", ".join(f"{next(iter(own))!r} in {file.path}" for own, file in zip(keys, files, strict=True))
        raise UserError(f"the files have no {name or 'line'} in common; the first is {first}. Name the field that they share with --id.")
    if len(common) < LEAST_COMMON * most:
        raise UserError(
            f"only {len(common):,} of up to {most:,} ids are in all files, fewer than half, so the rest would decide. "
            "Give answers to the same examples, or name another field with --id."
        )
    order = [key for key in keys[0] if key in common]
    rows = [[own[key] for key in order] for own in keys]
    for file, own in zip(files, keys, strict=True):
        if len(own) > len(common):
            notes.append(f"{len(own) - len(common):,} of {len(own):,} ids of {file.path} are not in every file and are left out.")
    label, values, how = _scores(files, rows, score)
    notes += how
    groups = _groups(files, rows, order, group)
    if groups is not None and not group:
        notes.append("Examples of one group are resampled together, as the predictions say.")
    tokens = _tokens(files, rows, label)
    broken = ~np.isfinite(values)
    kept = ~broken.all(axis=0)
    alone = broken.any(axis=0) & kept
    if alone.any():
        at = int(np.flatnonzero(alone)[0])
        bad = int(np.flatnonzero(broken[:, at])[0])
        raise UserError(
            f"{_many(int(alone.sum()))} with a score in one file and none, or one that is not finite, in another; the first is at "
            f"{files[bad].at(rows[bad][at])}. Left out, they would favour that file: score them, for example as wrong, or remove them from "
            "every file."
        )
    if not kept.any():
        raise UserError(f"no example has a finite score {label!r}. Name another field with --score.")
    if not kept.all():
        notes.append(f"{_many(int((~kept).sum()))} without a finite score in any file left out.")
        groups = None if groups is None else [one for one, keep in zip(groups, kept, strict=True) if keep]
        tokens = None if tokens is None else tokens[kept]
    differing = _other_targets(files, rows)
    if differing:
        notes.append(f"{_many(differing)} with different targets in the files: check that they are the same examples.")
    return Paired(list(values[:, kept]), [len(own) for own in keys], groups, tokens, name, label, notes)


def card_of(paths: Sequence[str], paired: Paired, lower_is_better: bool) -> dict[str, Any]:
    """Returns the card of paired scores; `paths` name the files."""
    every = np.stack(paired.values)
    error = lower_is_better or paired.score.rpartition(".")[2] in LOWER_IS_BETTER  # a loss may happen to be small, or 0
    fraction = not error and bool(every.min() >= 0 and every.max() <= 1)
    right = fraction and bool(np.isin(every, (0.0, 1.0)).all())  # nothing else tells of foreign files
    margin: dict[str, Any] = {"margin": POINT, "unit": "fraction"} if fraction else {"margin": SHARE, "relative": True}

    def row(values: np.ndarray) -> Measurement:
        columns = {f"{SET}/score": values} | ({} if paired.tokens is None else {f"{SET}/tokens": paired.tokens})
        statistic, marked = ("mean", ("score",) if right else ()) if paired.tokens is None else ("token_mean", ())
        better = LOWER if lower_is_better else HIGHER
        return sample(SET, "score", statistic, columns, groups, marked, better=better, measures=paired.score, **margin)

    groups = {SET: paired.groups}
    rows = [row(values) for values in paired.values]
    pairs = [Pair(SET, path, rows[0], after) for path, after in zip(paths[1:], rows[1:], strict=True)]
    verdicts: list[Verdict | None] = [None, *judge(pairs, groups)]
    told = zip(paths, paired.lines, rows, verdicts, strict=True)
    found = {
        "schema": SCHEMA,
        "kind": "answers",
        "id": paired.id,
        "score": paired.score,
        "better": rows[0].better,
        "unit": rows[0].unit,
        "test": _test(right and paired.tokens is None, paired.groups is not None),
        "n": len(paired.values[0]),
        "groups": None if paired.groups is None else len(set(paired.groups)),
        "level": LEVEL,
        "margin": rows[0].margin,
        "relative": rows[0].relative,
        "files": [{"path": path, "lines": lines, **_side(mean, verdict)} for path, lines, mean, verdict in told],
        "notes": [*paired.notes, *dict.fromkeys(one.caution[:1].upper() + one.caution[1:] + "." for one in rows if one.caution)],
    }
    return dict(finite(found))


# -- private --------------------------------------------------------------------------------------------------------------


def _distinct(paths: Sequence[str]) -> Sequence[str]:
    """Returns the paths. Raises UserError for fewer than two, and for a file that is given twice."""
    if len(paths) < 2:
        raise UserError(f"{', '.join(paths) or 'no file'} alone cannot be compared. Give two or more files: assay compare A.jsonl B.jsonl.")
    whole = [os.path.realpath(os.path.expanduser(path)) for path in paths]
    twice = next((path for i, path in enumerate(paths) if whole[i] in whole[:i]), None)
    if twice is not None:
        raise UserError(f"{twice} is given twice. Give each file once.")
    return paths


def _ids(files: Sequence[AnswerFile], given: str) -> tuple[str, list[dict[str, int]]]:
    """Returns the field of the ids, "" for line numbers, and the index of the record of each id, file by file."""
    name = given or (ID if all(file.has(ID) for file in files) else "")
    if not name:
        sizes = {len(file.records) for file in files}
        if len(sizes) > 1:
            raise UserError(
                f"the files have {' and '.join(map(str, (len(file.records) for file in files)))} lines and no {ID!r} to pair them by. "
                "Name the field that identifies an example with --id."
            )
        return "", [{str(index + 1): index for index in range(len(file.records))} for file in files]
    found = []
    for file in files:
        own: dict[str, int] = {}
        twice: dict[str, int] = {}
        for index in range(len(file.records)):
            key = key_of(file.value(index, name))
            if not key:
                raise (
                    unknown("field", name, file.columns(), "--id")
                    if not file.has(name)
                    else UserError(f"{file.at(index)} has no {name!r}. Give every line an id, or name another field with --id.")
                )
            if key in own:
                twice.setdefault(key, index)
            own.setdefault(key, index)
        if twice:
            key, index = next(iter(twice.items()))
            raise UserError(
                f"{file.path} has {len(twice):,} ids more than once, the first {key!r} in lines {file.lines[own[key]]} and "
                f"{file.lines[index]}. Give each example one line, or name another field with --id."
            )
        found.append(own)
    return name, found


def _scores(files: Sequence[AnswerFile], rows: Sequence[Sequence[int]], given: str) -> tuple[str, np.ndarray, list[str]]:
    """Returns the name of the score, its values [files, examples], and a note on how it was found. Raises UserError."""
    name = given or next((one for one in SCORES if all(file.has(one) for file in files)), "") or _own_headline(files)
    if name:
        found = []
        for file, own in zip(files, rows, strict=True):
            if not any(file.value(index, name) is not ABSENT for index in own):
                raise unknown(f"field of {file.path}", name, file.columns(), "--score")
            found.append([_number(file, index, name) for index in own])
        return name, np.array(found, np.float64), [] if given else [f"The score is the field {name!r}; --score names another."]
    columns = [(_first(file, PREDICTIONS), _first(file, TARGETS)) for file in files]
    if not all(prediction and target for prediction, target in columns):
        fields = "; ".join(f"{file.path} has {', '.join(file.columns())}" for file in files)
        raise UserError(
            f"the files have no score in common ({fields}). Name a field with a number or true or false with --score, or give every line "
            f"one of {', '.join(SCORES)}, or a {' or '.join(PREDICTIONS)} and a {' or '.join(TARGETS)}."
        )
    found = [
        [_equal(file.value(index, prediction), file.value(index, target)) for index in own]
        for file, own, (prediction, target) in zip(files, rows, columns, strict=True)
    ]
    told = " and ".join(dict.fromkeys(f"{prediction!r} equals {target!r}" for prediction, target in columns))
    return COMPUTED, np.array(found, np.float64), [f"An answer is right where {told}; --score names a field instead."]


def _own_headline(files: Sequence[AnswerFile]) -> str:
    """Returns the headline score of predictions that runs have written, "" for other files."""
    held = [file.value(0, OWN) for file in files]
    if not all(isinstance(one, dict) and one for one in held):
        return ""
    names = [name for name in held[0] if all(name in one for one in held)]
    return f"{OWN}.{headline_of(sorted(names, key=lambda name: name not in HEADLINES))}" if names else ""


def _number(file: AnswerFile, index: int, name: str) -> float:
    value = file.value(index, name)
    if value is ABSENT:
        raise UserError(f"{file.at(index)} has no {name!r}. Give every line a score, or name another field with --score.")
    found = score_of(value, file.typed)
    if found is None:
        raise UserError(
            f"{file.at(index)}: the score {name!r} is {str(value)[:60]!r}, neither a number nor true or false. Name another with --score."
        )
    return found


def _first(file: AnswerFile, names: Sequence[str]) -> str:
    return next((name for name in names if file.has(name)), "")


def _equal(prediction: Any, target: Any) -> float:
    """Returns 1 where both are the same value, 0 where not, NaN where there is no target."""
    wanted = key_of(target)
    return float(key_of(prediction) == wanted) if wanted else math.nan


def _groups(files: Sequence[AnswerFile], rows: Sequence[Sequence[int]], order: Sequence[str], given: str) -> list[str] | None:
    """Returns the group of each example. Raises UserError if a line has none, or files differ."""
    name = given or ("group" if all(file.has(OWN) and file.has("group") for file in files) else "")
    if not name:
        return None
    found: list[list[str]] = []
    for file, own in zip(files, rows, strict=True):
        if not file.has(name):
            raise unknown(f"field of {file.path}", name, file.columns(), "--group")
        found.append([key_of(file.value(index, name)) for index in own])
    for other, file in zip(found[1:], files[1:], strict=True):
        bad = next((i for i, (one, another) in enumerate(zip(found[0], other, strict=True)) if one != another), None)
        if bad is not None:
            raise UserError(
                f"the example {order[bad]!r} is in the group {found[0][bad]!r} of {files[0].path} and in {other[bad]!r} of {file.path}. "
                "Give an example one group, or name another field with --group."
            )
    return found[0]


def _tokens(files: Sequence[AnswerFile], rows: Sequence[Sequence[int]], score: str) -> np.ndarray | None:
    """Returns the tokens that each score of a run's own predictions is a mean over, None for other scores."""
    name = f"{OWN}.tokens"
    if not score.startswith(f"{OWN}.") or not all(file.has(name) for file in files):
        return None
    return np.array([_number(files[0], index, name) for index in rows[0]])


def _other_targets(files: Sequence[AnswerFile], rows: Sequence[Sequence[int]]) -> int:
    """Counts the examples whose targets differ between files, where all files have one."""
    names = [_first(file, TARGETS) for file in files]
    if not all(names):
        return 0
    told = [[key_of(file.value(index, name)) for index in own] for file, own, name in zip(files, rows, names, strict=True)]
    return sum(len(set(each)) > 1 for each in zip(*told, strict=True))


def _many(count: int) -> str:
    return f"{count:,} example{'s' if count > 1 else ''}"


def _test(right: bool, grouped: bool) -> str:
    if grouped:
        return "sign flips of groups"
    return "exact McNemar test" if right else "sign flips of examples"


def _side(row: Measurement, verdict: Verdict | None) -> dict[str, Any]:
    found = {"mean": row.value, "interval": row.interval}
    if verdict is None:
        return found | dict.fromkeys(("difference", "difference_interval", "p_value", "adjusted")) | {"verdict": "", "why": ""}
    return found | {
        "difference": verdict.difference,
        "difference_interval": verdict.interval,
        "p_value": verdict.p_value,
        "adjusted": verdict.adjusted,
        "verdict": verdict.verdict,
        "why": verdict.why,
    }
