"""The runs of a card: their folders, their diagnoses, made where there is none yet, and what was suggested for them.

    card = card_of("runs/A", ["runs/B", "runs/C"], seconds=20)

A run's diagnosis is made anew where the run has another checkpoint by now. Its times are measured again, in turns with the others.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.cli.apply import APPLIED
from assay.core.errors import UserError
from assay.reports.card import card_page
from assay.train.checkpoint import fingerprint
from assay.train.workdir import WorkDir, write_text
from assay.verdicts.card import BEFORE, build, check, different
from assay.verdicts.diagnosis import ROWS, Diagnosis, diagnose, read
from assay.verdicts.turns import retime

CARD, PAGE = "card.json", "card.html"
SHOWN = 6  # runs that a mistake lists


def card_of(before: str, afters: Sequence[str], seconds: float) -> dict[str, Any]:
    """The card of runs by their folders. Raises UserError for folders that are no runs, or runs that were asked other questions."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f"--seconds={seconds} is no time to measure in. Give a number above 0.")
    check_run(before, "--before")
    names = short_names(afters)
    for name, path in zip(names, afters, strict=True):
        check_run(path, "--after")
        task, other = _task(before), _task(path)
        if task and other and task != other:  # told before a diagnosis, which takes minutes
            raise different("tasks", task, other, name)
    there = [path for path in (before, *afters) if (Path(path) / ROWS).exists()]
    quick = bool(read(there[0]).about["quick"]) if there else False
    first = diagnosed(before, quick)
    found = {}
    for name, path in zip(names, afters, strict=True):
        found[name] = diagnosed(path, quick)
        check(first, found[name], name)  # before the next is diagnosed
    workdirs = dict(zip(names, afters, strict=True))
    applied = {name: said for name, path in workdirs.items() if (said := _applied(path))}
    return build(first, found, retime(before, workdirs, seconds), applied, {BEFORE: before, **workdirs})


def write_card(card: dict[str, Any], folder: str | Path) -> tuple[Path, Path]:
    """card.json and card.html, and where they are."""
    rows, page = Path(folder) / CARD, Path(folder) / PAGE
    drawn = card_page(card)  # before anything is written
    write_text(page, drawn)
    WorkDir.write_json(rows, card)
    return rows, page


def diagnosed(workdir: str, quick: bool) -> Diagnosis:
    """The diagnosis of a run, made where it has none of its present checkpoint. Raises UserError where one is there that cannot be read."""
    if (Path(workdir) / ROWS).exists():
        found = read(workdir)
        kept = fingerprint(workdir)
        if not kept or found.about["checkpoint"] == kept:
            return found
        print(f"{workdir} has another checkpoint than when it was diagnosed", file=sys.stderr)
    print(f"diagnosing {workdir}", file=sys.stderr)
    diagnose(workdir, quick)
    return read(workdir)  # as the others are: lists where tuples were


def check_run(workdir: str, flag: str) -> None:
    """Raises UserError where a folder holds no run, and names the runs below it, such as those of a study."""
    root = Path(workdir)
    if WorkDir(root).config.exists() or (root / ROWS).exists():
        return
    runs = sorted({path.parent for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}/config.json")})
    if runs:
        listed = ", ".join(str(path.relative_to(root)) for path in runs[:SHOWN]) + (", ..." if len(runs) > SHOWN else "")
        raise UserError(f"{workdir} holds {len(runs)} runs, and {flag} takes one. Give {flag} one of them: {listed}.")
    raise UserError(f"no run in {workdir}: it has neither a config.json nor a {ROWS}. Give {flag} the folder of a finished run.")


def short_names(paths: Sequence[str]) -> list[str]:
    """The ends of paths that tell them apart. Raises UserError where two are the same folder."""
    whole = [Path(path).absolute() for path in paths]
    resolved = [path.resolve() for path in whole]
    twice = next((path for i, path in enumerate(paths) if resolved[i] in resolved[:i]), None)
    if twice is not None:
        raise UserError(f"--after={twice} is given twice. Give each run once.")
    for parts in range(1, max(len(path.parts) for path in whole) + 1):
        names = ["/".join(path.parts[-parts - path.name.startswith("seed_") :]) for path in whole]
        if len(set(names)) == len(names) and BEFORE not in names:
            return names
    return [str(path) for path in whole]


# -- private --------------------------------------------------------------------------------------------------------------


def _task(workdir: str) -> str:
    """ "" where a diagnosis without a run lies in the folder."""
    folder = WorkDir(workdir)
    return str(folder.read_config()["task"].get("name")) if folder.config.exists() else ""


def _applied(workdir: str) -> dict[str, Any] | None:
    """What was suggested, and done to get the run; None where nothing was."""
    path = Path(workdir) / APPLIED
    if not path.exists():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if not {"row", "expects"} <= set(said["suggestion"]) or not isinstance(said["from"], str):
            raise ValueError("it lacks a row or what is expected of it")
        return dict(said)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}. Remove it, or apply the suggestion again with experiments.treat.") from None
