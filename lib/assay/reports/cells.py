"""The page of published results: every cell, our runs beside it, the verdict by code, the differences, and the commands.

`page(folder)` renders it from the result files in a folder and from `misses.toml`, which says what was tried for each missed cell. Equal
files give an equal page.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from assay.core.errors import UserError
from assay.reports.table import DASH, format_overrides, format_value
from assay.tasks.cells import cells
from assay.tasks.published import TAGS, Published, protocol_text, value_text
from assay.verdicts.published import (
    AT_CHANCE,
    CLOSE,
    IMPROVED,
    MISSED,
    NOT_COMPARABLE,
    NOT_RUN,
    REPRODUCED,
    VERDICTS,
    Ours,
    Verdict,
    beside,
    compared,
    judged,
)
from assay.verdicts.result_file import ResultFile, read

COLUMNS = ("published model", "tested on", "published", "protocol", "ours", "verdict", "from")
TRAINED = "trained lengths"  # the split `iid`
MISSES = "misses.toml"
LISTED = (REPRODUCED, IMPROVED, CLOSE, MISSED, AT_CHANCE)  # verdicts whose cells are listed at the top
INTRODUCTION = """\
{answer}

Each published value ("cell") stands beside our runs of the same model on the same data and lengths. The verdict follows from the committed
rows by these rules. A cell with several runs counts by the best verdict; the notes under each table list every run. A maximum is compared
with our best of at least 3 seeds, and a mean with our mean. Fewer updates, other sizes, batches, schedules and curricula do not make a run
incomparable: they are printed as differences. What was not read in the source is "not stated".

| verdict | cells | rule | which |
|---|---|---|---|
{counts}

Tags: {tags}. This page is written from the result files by

```
assay publish --cells=experiments/results/CELLS.md
```
"""


class Line(NamedTuple):
    """A cell, one of the runs beside it, and the verdict."""

    cell: Published
    ours: Ours | None
    verdict: Verdict


def name_of(cell: Published) -> str:
    """Returns the name of a cell within its task: `LSTM, 41-500`."""
    return f"{cell.protocol.model}, {_where(cell)}"


def judge(files: Sequence[ResultFile]) -> Mapping[str, list[list[Line]]]:
    """Returns the lines of each task's cells: one per run beside a cell, or one without a run."""
    runs = [run for file in files for run in file.runs]
    found: dict[str, list[list[Line]]] = {}
    for task, known in cells().items():
        near = beside(known, [run for run in runs if run.task == task])
        pairs: list[tuple[Published, list[Ours | None]]] = [(cell, [*own] or [None]) for cell, own in zip(known, near, strict=True)]
        found[task] = [[Line(cell, ours, judged(cell, ours)) for ours in own] for cell, own in pairs]
    return found


def best_of(each: Sequence[Line]) -> Line:
    """Returns the line by which a cell counts."""
    return min(each, key=_rank)


def page(folder: Path) -> str:
    """Returns the page of all cells in Markdown, from the result files in `folder`."""
    files = [read(path) for path in sorted(folder.glob("*.json"))]
    lines = judge(files)
    named: dict[str, list[str]] = {name: [] for name in VERDICTS}
    for task, known in lines.items():
        for each in known:
            cell, _, verdict = best_of(each)
            named[verdict.name].append(f"{task}, {name_of(cell)}")
    answer = f"**Of {sum(map(len, named.values()))} published cells: {', '.join(f'{len(each)} {name}' for name, each in named.items())}.**"
    which = {name: "<br>".join(each) if name in LISTED else DASH for name, each in named.items()}
    counts = "\n".join(f"| {name} | {len(named[name])} | {rule} | {which[name] or DASH} |" for name, rule in VERDICTS.items())
    tags = "; ".join(f"[{tag}] {meaning}" for tag, meaning in TAGS.items())
    protocols: dict[str, str] = {}
    parts = ["# Which published results do our runs reproduce?\n", INTRODUCTION.format(answer=answer, counts=counts, tags=tags)]
    remarks = remarks_of(folder)
    parts += [_section(task, known, protocols, remarks.get(task, {})) for task, known in lines.items()]
    parts.append("## Protocols\n\n" + "\n".join(f"- **{name}** {text}" for text, name in protocols.items()) + "\n")
    used = {line.ours.file for known in lines.values() for each in known for line in each if line.ours}
    parts.append("## Commands\n\nEach is valid at its commit.\n\n| rows | commit | command |\n|---|---|---|")
    parts += [f"| [{file.name}]({file.name}.json) | `{file.commit}` | `{file.command}` |" for file in files if file.name in used]
    return "\n".join(parts) + "\n"


def remarks_of(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Returns what was tried for missed cells, by task and then by `MODEL, SPLIT`; {} without a file. Raises UserError if it is damaged."""
    path = folder / MISSES
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None


def published_of(files: Sequence[ResultFile]) -> dict[tuple[str, ...], str]:
    """Returns what the tables of runs say of published results, by file, task, experiment, treatment, overrides, split and metric."""
    found: dict[tuple[str, ...], list[str]] = {}
    for known in judge(files).values():
        for each in known:
            for cell, ours, verdict in each:
                if ours is not None:
                    row = ours.rows[0]
                    key = (ours.file, ours.task, row["experiment"], row["treatment"], format_overrides(row), ours.split, ours.metric)
                    found.setdefault(key, []).append(_short(cell, verdict))
    return {key: "; ".join(dict.fromkeys(texts)) for key, texts in found.items()}


# -- private --------------------------------------------------------------------------------------------------------------


def _section(task: str, known: Sequence[Sequence[Line]], protocols: dict[str, str], remarks: Mapping[str, str]) -> str:
    rows, notes, tried = [], [], []
    for each in known:
        cell, ours, verdict = best_of(each)
        name = protocols.setdefault(protocol_text(cell), f"P{len(protocols) + 1}")
        kind = "best" if cell.statistic == "max" else "mean"
        cited = f"{value_text(cell.value, cell.spread, cell.range)} {kind} [{cell.tag}]"
        value, link = DASH, DASH
        if ours and verdict.name != NOT_COMPARABLE:  # what is not comparable stands in the notes only
            value, link = _ours(cell, ours), f"[{ours.file}]({ours.file}.json)"
        if verdict.name == MISSED and (remark := remarks.get(name_of(cell))):
            tried.append(f"- **Missed: {name_of(cell)}.** {remark}")
        rows.append(f"| {cell.protocol.model} | {_where(cell)} | {cited} | {name} | {value} | {_bold(verdict.name)} | {link} |")
        for _, ours, verdict in sorted(each, key=_rank):
            if ours:
                why = f" {verdict.name}: {verdict.why}." if verdict.why else f" {verdict.name}."
                beside = f"{cell.protocol.model}, {_where(cell)}, beside {_ours(cell, ours)}"
                notes.append(f"- {beside} ({ours.file}):{why} Differences: {'; '.join(verdict.differences)}.")
    sources = dict.fromkeys(f"{cell.source} [{cell.tag}]" for each in known for cell, *_ in each[:1])
    told = [f"Metric: {known[0][0].cell.metric}. Sources: {'; '.join(sources)}.", *("\n".join(each) for each in (tried, notes) if each)]
    table = "\n".join([f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *rows])
    return f"## {task}\n\n{table}\n\n" + "\n\n".join(told) + "\n"


def _run(ours: Ours) -> str:
    """Formats `scan:lstm + recombine, model.dropout=0.2`."""
    row = ours.rows[0]
    name = row["experiment"].rpartition("/")[2]
    treated = f" + {ours.treatment}" if ours.treatment != "none" else ""
    changed = format_overrides(row)
    return f"`{name}{treated}`" + (f" with `{changed}`" if changed else "")


def _ours(cell: Published, ours: Ours) -> str:
    """Formats a run, its value with the interval, and the seeds that it is of."""
    row, seeds = compared(cell, ours), len(ours.rows)
    ends = f" ({DASH.join(f'{100 * end:.2f}' for end in row['interval'])})" if row["interval"] else ""
    kind = f"{'best' if cell.statistic == 'max' else 'mean'} of {seeds} seeds" if seeds > 1 else "1 seed"
    return f"{_run(ours)}: {format_value(row['value'], row['unit'], row['metric'])}{ends}, {kind}"


def _short(cell: Published, verdict: Verdict) -> str:
    """Formats `100.0 % best [V]: near`; without the value where it is not comparable."""
    kind = "best" if cell.statistic == "max" else "mean"
    value = f"{value_text(cell.value, None, cell.range)} {kind} [{cell.tag}]: "
    return f"{'' if verdict.name == NOT_COMPARABLE else value}{verdict.name}"


def _rank(line: Line) -> int:
    return list(VERDICTS).index(line.verdict.name)


def _where(cell: Published) -> str:
    return TRAINED if cell.split == "iid" else cell.split


def _bold(name: str) -> str:
    return name if name == NOT_RUN else f"**{name}**"
