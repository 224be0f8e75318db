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

from assay.core.errors import UserError
from assay.core.file import read_json
from assay.evals.rows import SAME, at_chance, mean_rows
from assay.evals.written import wrong_row
from assay.reports.table import DASH, format_flags, format_learned, format_n, format_seed, format_value

Row = Mapping[str, Any]

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
    for path in sorted(folder.glob("*.json")):
        results = published(path)
        have |= {(row["task"], row["experiment"]) for row in results.get("rows", ())}
        link = os.path.relpath(path, beside).replace(os.sep, "/")
        made = f"[{path.stem}]({link}), `{str(results.get('environment', {}).get('commit') or '')[:7]}`"
        for area, line in lines(averaged(results.get("rows", ()))):
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


def published(path: Path) -> dict[str, Any]:
    """Reads results.json of a study, or a file that `publish` wrote. Raises UserError."""
    try:
        found = read_json(path)
        parts = isinstance(found, dict) and isinstance(found.get("rows", []), list) and isinstance(found.get("environment", {}), dict)
        wrong = wrong_row(found.get("rows", [])) if parts else "it needs rows and an environment"
        if parts and not wrong and not isinstance(found.get("command", ""), str):
            wrong = "its command is not text"
    except (OSError, ValueError) as error:
        wrong = str(error)
    if wrong:
        raise UserError(f"{path} is damaged: {wrong}. Write it again, or remove it.")
    return found


def averaged(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows of single seeds and their means as this version makes them, in place of the means of the version that wrote them."""
    single = [{**row, "at_chance": True} if at_chance(row) else row for row in rows if isinstance(row["seed"], int)]
    means = {_same(row): row for row in mean_rows(single)}
    own = iter(single)
    return [next(own) if isinstance(row["seed"], int) else means.get(_same(row), row) for row in rows]


def lines(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yields (area, all cells but the last) for each displayed task, run, treatment and metric."""
    runs: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        runs.setdefault((row["task"], row["experiment"], row["treatment"]), []).append(row)
    for (task, experiment, treatment), group in runs.items():
        several = any(not isinstance(row["seed"], int) for row in group)
        shown = [row for row in group if not (several and isinstance(row["seed"], int))]
        single = [row for row in group if several and isinstance(row["seed"], int)]
        area, _, name = experiment.partition("/")
        for metric in metrics(shown):
            own = [row for row in shown if row["metric"] == metric]
            tests = [row for row in own if row["split"] not in NOT_TESTS] or [row for row in own if row["split"] == "iid"]
            if tests:
                trained = next((fitted(row) for row in own if row["split"] == "iid"), DASH)
                seeds, updates = format_seed(tests[0]["seed"]), f"{tests[0]['steps']:,}"
                published = "<br>".join(filter(None, (_published(row) for row in tests))) or DASH
                told = "<br>".join(tested(row, each(row, single)) for row in tests)
                run = name if treatment == "none" else f"{name}<br>+ {treatment}"
                cells = (task, run, metric, trained, told, seeds, updates, published)
                yield area, " | ".join(cells)


def metrics(rows: Sequence[Row]) -> list[str]:
    """Returns the metrics with published values, or else the first headline metric; and those that are always shown."""
    have = dict.fromkeys(row["metric"] for row in rows)
    cited = {row["metric"] for row in rows if row["published"]}
    told = cited or {next((metric for metric in HEADLINES if metric in have), None)}
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
    told = "; ".join(part for part in (ends, best, format_learned(row), *flags, format_n(row)) if part)
    return f"{row['split']}: **{value(row)}** ({told})"


def value(row: Row) -> str:
    return format_value(row["value"], row["unit"], row["metric"])


# -- private --------------------------------------------------------------------------------------------------------------


def _same(row: Row) -> tuple:
    return tuple(row[key] for key in SAME)


def _plain(row: Row, number: float) -> str:
    return format_value(number, row["unit"], row["metric"], plain=True)


def _published(row: Row) -> str:
    """Returns published values with their tags; the result file lists the sources."""
    cells = "; ".join(
        f"{100 * cell['value']:.1f} % {'best' if cell['statistic'] == 'max' else 'mean'} [{cell['tag']}]" for cell in row["published"]
    )
    return f"{row['split']}: {cells}" if cells else ""
