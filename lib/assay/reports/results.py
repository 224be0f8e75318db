"""Tables of published results for a Markdown page, from a folder of result files: one line per task, run and metric.

    <!-- results -->
    ...
    <!-- /results -->

A study of several seeds shows the mean and each seed. Training splits are omitted. Accuracy on the trained lengths ("iid") is shown next to
the accuracy beyond them, or alone if nothing else was evaluated. A model that does not reach `FITTED` on the trained lengths is marked "not
fitted", because its test accuracy is not informative. Planned runs without a file are listed last and marked "not run".
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.evals.rows import RIGHT, averaged
from assay.reports.cells import published_of
from assay.reports.table import DASH, format_flags, format_learned, format_n, format_overrides, format_seed, format_value
from assay.verdicts.result_file import read

Row = Mapping[str, Any]
Key = tuple[str, ...]

MARKS = ("<!-- results -->", "<!-- /results -->")
TEST = "test (95 % interval; n)"
COLUMNS = ("task", "run", "metric", "trained lengths", TEST, "seeds", "updates", "published", "from")
NOT_TESTS = ("train", "valid", "iid")
HEADLINES = ("verified", "answer_accuracy", "accuracy", "bits_per_byte", "token_accuracy")  # the first metric that a run has is shown
ALWAYS = ("exact_match", "bleu")
FITTED = 0.9  # minimum accuracy on the trained lengths for a model to count as fitted
EACH = 10  # maximum number of seeds that are listed one by one
NOT_RUN = "not run"
AREAS = {"reason": "Reasoning", "text": "Texts", "vision": "Images", "translate": "Sequence to sequence", "generalise": "Generalisation"}


def tables(folder: Path, planned: Sequence[tuple[str, str]] = (), beside: Path = Path()) -> str:
    """Returns one table per area of the experiments, under its heading. Links to the files are relative to the folder `beside`."""
    areas: dict[str, list[str]] = {}
    have: set[tuple[str, str]] = set()
    files = [read(path) for path in sorted(folder.glob("*.json"))]
    cited = published_of(files)
    for file in files:
        have |= {(row["task"], row["experiment"]) for row in file.rows}
        link = os.path.relpath(folder / f"{file.name}.json", beside).replace(os.sep, "/")
        made = f"[{file.name}]({link}), `{file.commit}`"
        of = {key[1:]: text for key, text in cited.items() if key[0] == file.name}
        for area, line in lines(averaged(file.rows), of, file.chosen):
            areas.setdefault(area, []).append(f"| {line} | {made} |")
    missing: dict[tuple[str, str], list[str]] = {}
    for task, experiment in planned:
        if (task, experiment) not in have:
            area, _, name = experiment.partition("/")
            missing.setdefault((area, task), []).append(name)
    for (area, task), names in missing.items():  # one line per task
        cells = [task, "<br>".join(names), *(DASH for _ in COLUMNS[2:])]
        cells[COLUMNS.index(TEST)] = NOT_RUN
        areas.setdefault(area, []).append(f"| {' | '.join(cells)} |")
    head = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"
    known = [area for area in AREAS if area in areas] + sorted(area for area in areas if area not in AREAS)
    return "\n\n".join("\n".join([f"### {AREAS.get(area, area.capitalize())}\n\n{head}", *areas[area]]) for area in known)


def lines(rows: Sequence[Row], cited: Mapping[Key, str] = {}, chosen: Mapping[str, str] = {}) -> Iterator[tuple[str, str]]:
    """Yields (area, all cells but the last) for each displayed task, run, treatment, overrides and metric.

    `cited` says what each row reproduces, by `key_of`; `chosen` holds the settings of experiments that were chosen by test scores.
    """
    runs: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        runs.setdefault((row["task"], row["experiment"], row["treatment"], format_overrides(row)), []).append(row)
    for (task, experiment, treatment, changed), group in runs.items():
        several = any(not isinstance(row["seed"], int) for row in group)
        shown = [row for row in group if not (several and isinstance(row["seed"], int))]
        single = [row for row in group if several and isinstance(row["seed"], int)]
        area, _, name = experiment.partition("/")
        said = [changed, f"chosen on test: {chosen[experiment]}" if experiment in chosen else ""]
        run = "<br>".join([name if treatment == "none" else f"{name}<br>+ {treatment}", *filter(None, said)])
        for metric in metrics(shown, cited):
            own = [row for row in shown if row["metric"] == metric]
            tests = [row for row in own if row["split"] not in NOT_TESTS] or [row for row in own if row["split"] == "iid"]
            if tests:
                trained = next((fitted(row) for row in own if row["split"] == "iid"), DASH)
                seeds, updates = format_seed(tests[0]["seed"]), f"{tests[0]['steps']:,}"
                beside = [(row["split"], cited.get(key_of(row))) for row in own if row["split"] not in ("train", "valid")]
                published = "<br>".join(f"{'trained lengths' if split == 'iid' else split}: {text}" for split, text in beside if text)
                told = "<br>".join(tested(row, each(row, single)) for row in tests)
                yield area, " | ".join((task, run, metric, trained, told, seeds, updates, published or DASH))


def key_of(row: Row) -> Key:
    """Returns task, experiment, treatment, overrides, split and metric of a row."""
    return row["task"], row["experiment"], row["treatment"], format_overrides(row), row["split"], row["metric"]


def metrics(rows: Sequence[Row], cited: Mapping[Key, str] = {}) -> list[str]:
    """Returns the metrics with published values, or else the first headline metric; and those that are always shown."""
    have = dict.fromkeys(row["metric"] for row in rows)
    told = {row["metric"] for row in rows if key_of(row) in cited} or {next((metric for metric in HEADLINES if metric in have), None)}
    return [metric for metric in have if metric in told or metric in ALWAYS]


def fitted(row: Row) -> str:
    """Returns the value on the trained lengths, marked if the model did not fit them."""
    short = row["metric"].endswith("accuracy") and (row["value"] or 0.0) < FITTED
    return f"{value(row)}, not fitted in {row['steps']:,} updates" if short else value(row)


def each(row: Row, single: Sequence[Row]) -> Sequence[Row]:
    """Returns the same metric of each seed, if `row` is a mean over few seeds."""
    same = [one for one in single if (one["split"], one["metric"]) == (row["split"], row["metric"])]
    return same if len(same) <= EACH else ()


def tested(row: Row, seeds: Sequence[Row] = ()) -> str:
    """Returns the split, the value, and in parentheses its interval, the value of each seed or the best, and n."""
    ends = f" {DASH} ".join(_plain(row, end) for end in row["interval"] or ())
    best = f"best {_plain(row, row['best'])}" if row.get("best") is not None else ""
    if seeds:
        best = f"each {', '.join(_plain(one, one['value']).removesuffix(' %') for one in seeds)}"
    flags = [flag.partition(":")[0] for flag in format_flags(row)]
    told = "; ".join(part for part in (ends, best, format_learned(row), *flags, seen(row), format_n(row)) if part)
    return f"{row['split']}: **{value(row)}** ({told})"


def seen(row: Row) -> str:
    """Returns the share of test inputs that training had, and the least accuracy on the others: all of that share may be right."""
    share = row.get("seen_in_training")
    if not share or row["split"] == "iid":
        return ""
    told = f"{100 * share:.1f} % of the inputs occurred in training"
    least = (row["value"] - share) / (1 - share) if row["metric"] in RIGHT and share < 1 else 0.0
    return f"{told}, at least {100 * least:.1f} % right of the others" if least > 0 else told


def value(row: Row) -> str:
    return format_value(row["value"], row["unit"], row["metric"])


# -- private --------------------------------------------------------------------------------------------------------------


def _plain(row: Row, number: float) -> str:
    return format_value(number, row["unit"], row["metric"], plain=True)
