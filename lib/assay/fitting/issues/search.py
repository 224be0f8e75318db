"""Everything that is suspect in a data set: `searched(found, task)`, by the kinds of issue.py.

What takes long is done on a part of the rows, evenly spaced and of a size that depends on the data only, so equal data give equal issues.
`notes` say so. On two cores of 2024, a million rows take about a minute.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from assay.data.files.content import located
from assay.data.files.kinds import is_blank
from assay.data.files.pictures import sizes_of
from assay.data.files.table import size, take
from assay.fitting.issues import duplicates, folds, outliers, suspects
from assay.fitting.issues.issue import KINDS, MOST, Issue, Searched
from assay.fitting.issues.leaks import leaks
from assay.fitting.issues.names import missing_classes, similar_names
from assay.fitting.issues.near import near_pictures, near_texts, reduced
from assay.fitting.issues.rows import Rows, gathered, some
from assay.fitting.simple import matrices, title_of, unfitted
from assay.tasks.files.opened import Opened
from assay.tasks.task import Task

ROWS = {"texts": 100_000, "pictures": 20_000, "table": 100_000}  # that are searched for more than contradictions and names
CHARACTERS = 20_000_000  # of all texts together
FITTED = 40_000  # rows at most that a learner is fitted on
SIDE = 32  # pixels to which pictures are reduced for the learner
WORK = {"texts": 2.5e7, "pictures": 2.5e8, "table": 2e6}  # features x classes x rows that a learner is fitted on, for each fold
Progress = Callable[[str], None]


def searched(found: Opened, task: Task, progress: Progress = lambda text: None) -> Searched:
    """Searches all parts of a data set. `progress` is told what is being searched for."""
    rows, notes = gathered(found), list[str]()
    progress("searching for contradicting labels")
    issues = [*duplicates.contradictions(found, rows), *similar_names(rows), *missing_classes(found, rows)]
    progress("searching for leak columns")
    issues += leaks(rows)
    whole, texts = size(rows.table), texts_of(rows)
    chosen = np.flatnonzero(folds.reading(whole, _most(found, texts)))
    if len(chosen) < whole:
        notes.append(f"{len(chosen):,} of {whole:,} rows were searched for suspect labels, near duplicates and outliers")
        rows, texts = some(rows, chosen), [texts[i] for i in chosen] if texts else []
    if found.roles.pictures:
        pixels = _pixels(found, task, chosen)
        progress("searching for near duplicates and outliers")
        issues += duplicates.near(rows, near_pictures(pixels), "correlation of pixels")
        issues += outliers.of_pictures(rows, pixels, _sizes(found, chosen))
        inputs: Any = _flat(pixels)
    else:
        if texts:
            progress("searching for near duplicates and outliers")
            pairs = near_texts(texts)
            if pairs.rows < len(texts):
                notes.append(f"only the first {pairs.rows:,} rows were compared with all others, since many texts share their rarest words")
            issues += duplicates.near(rows, pairs, "cosine of words")
            issues += outliers.of_texts(rows, texts)
        issues += outliers.of_numbers(rows)
        inputs = matrices(found._replace(parts={"train": rows.table}), task)["train"]
    progress("searching for suspect labels")
    suspected, said = suspected_rows(found, rows, inputs)
    return _ordered([*issues, *suspected], (*notes, *said))


def suspicion(found: Opened, task: Task) -> np.ndarray:
    """Returns how suspect the class of each row of train, valid and test is, float64 [n] from 0 to 1, in the order of `gathered`."""
    rows = gathered(found)
    every = np.arange(size(rows.table))
    pictures = bool(found.roles.pictures)
    inputs = _flat(_pixels(found, task, every)) if pictures else matrices(found._replace(parts={"train": rows.table}), task)["train"]
    answers, targets, _ = out_of_fold(found, rows, inputs)
    return np.zeros(len(every)) if answers is None else suspects.suspects(answers.values, targets, answers.judged).score


def suspected_rows(found: Opened, rows: Rows, inputs: Any) -> tuple[list[Issue], list[str]]:
    """Returns the rows with suspect labels or unlikely numbers, and notes. `inputs`: as the learner reads them, [n, features]."""
    learner = title_of(found)
    answers, targets, notes = out_of_fold(found, rows, inputs)
    if answers is None:
        return [], notes
    if found.roles.kind == "number":
        return suspects.of_numbers(rows, answers, targets, learner), notes
    learned, share, usual = suspects.learned(answers, targets)
    if not learned.any():
        said = (
            f"labels were not searched: out of fold, {learner} is right for {share:.1%} of rows, and the commonest answer for {usual:.1%}"
        )
        return [], [*notes, said]
    search = suspects.of_classes if found.roles.kind == "classes" else suspects.of_labels
    issues = search(rows, answers._replace(judged=answers.judged & learned), targets, found.classes, learner)
    if share < suspects.WEAK and len(issues) > suspects.MOST * len(targets):  # they are its own mistakes
        said = f"no label is called suspect: out of fold, {learner} is right for {share:.1%} of rows, and doubts {len(issues):,} labels"
        return [], [*notes, said]
    return issues, notes


def out_of_fold(found: Opened, rows: Rows, inputs: Any) -> tuple[folds.Answers | None, np.ndarray, list[str]]:
    """Returns what the simple learner answers out of fold, if there are rows enough, the targets as it reads them, and notes."""
    cells = rows.table.columns[found.roles.target].tolist()
    names, kind = np.array(found.classes, object), found.roles.kind
    targets: np.ndarray
    strata: np.ndarray
    if kind == "number":
        targets = np.array(cells, np.float64)
        strata = np.searchsorted(np.quantile(targets, np.arange(1, 10) / 10), targets)
    elif kind == "classes":
        ids = {name: i for i, name in enumerate(found.classes)}
        targets = strata = np.array([ids[cell] for cell in cells], np.int64)
    else:
        targets = np.array([np.isin(names, cell) for cell in cells], np.int64)
        strata = np.unique(targets, axis=0, return_inverse=True)[1].ravel()
    few = [f"{len(cells):,} rows are too few to search for suspect labels"]
    if len(np.unique(rows.keys)) < 2 * folds.FOLDS:
        return None, targets, few
    fold = folds.folds_of(rows.keys, strata)
    read = folds.reading(len(cells), _readable(found, inputs))
    if kind == "number":
        return folds.of_numbers(unfitted(found), inputs, targets, fold, read), targets, []
    if kind == "labels":
        answers = folds.of_labels(unfitted(found), inputs, targets, fold, read)
    else:
        answers = folds.of_classes(unfitted(found), inputs, targets, len(names), fold, read)
    judged = int(answers.judged.sum())
    if not judged:
        return None, targets, few
    few = [f"{len(names) - judged:,} of {len(names):,} classes have too few rows to be searched for suspect labels"]
    return answers, targets, few if judged < len(names) else []


def texts_of(rows: Rows) -> list[str]:
    """Returns the texts of each row as one; [] if it has none."""
    if not rows.roles.texts:
        return []
    columns = [["" if is_blank(cell) else str(cell) for cell in rows.table.columns[name].tolist()] for name in rows.roles.texts]
    return [" ".join(cells) for cells in zip(*columns, strict=True)]


# -- private --------------------------------------------------------------------------------------------------------------


def _kind(found: Opened) -> str:
    return "pictures" if found.roles.pictures else "texts" if found.roles.texts else "table"


def _most(found: Opened, texts: list[str]) -> int:
    """Returns how many rows are searched."""
    most = ROWS[_kind(found)]
    characters = sum(map(len, texts))
    return min(most, int(len(texts) * CHARACTERS / characters)) if characters > CHARACTERS else most


def _readable(found: Opened, inputs: Any) -> int:
    """Returns how many rows a learner is fitted on: as many as its time allows."""
    features = inputs.nnz / max(1, inputs.shape[0]) if hasattr(inputs, "nnz") else inputs.shape[1]
    outputs = len(found.classes) if len(found.classes) > 2 or found.roles.kind == "labels" else 1
    return min(FITTED, int(WORK[_kind(found)] / max(1.0, features * outputs) * folds.FOLDS / (folds.FOLDS - 1)))


def _flat(pixels: np.ndarray) -> np.ndarray:
    return reduced(pixels, SIDE).reshape(len(pixels), -1) / 255


def _chosen(found: Opened, chosen: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each part with those of its rows that are chosen from all parts."""
    start = 0
    for part, table in found.parts.items():
        yield part, chosen[(chosen >= start) & (chosen < start + size(table))] - start
        start += size(table)


def _pixels(found: Opened, task: Task, chosen: np.ndarray) -> np.ndarray:
    return np.concatenate([task.source(part).fetch(rows).input for part, rows in _chosen(found, chosen)])


def _sizes(found: Opened, chosen: np.ndarray) -> np.ndarray:
    """Returns heights and widths of the pictures as they are in their files."""
    (name,) = found.roles.pictures
    return np.concatenate([sizes_of(located(take(found.parts[part], rows), name)) for part, rows in _chosen(found, chosen)])


def _ordered(issues: list[Issue], notes: tuple[str, ...]) -> Searched:
    counts, kept = Counter(each.kind for each in issues), list[Issue]()
    for kind in KINDS:
        kept += sorted((each for each in issues if each.kind == kind), key=lambda each: -each.score)[:MOST]
    return Searched(tuple(kept), {kind: counts[kind] for kind in KINDS if counts[kind]}, notes)
