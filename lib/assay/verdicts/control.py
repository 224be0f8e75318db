"""The control of a treated run: the same further updates without the treatment, as stages.json of the treated run tells.

    control_of("runs/B", "runs/A")      Control(workdir="runs/B/stages/1_control", updates=120, why="")

A treatment that trains also trains longer, which may raise a score by itself. Its effect is the difference to its control.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from assay.train.workdir import WorkDir

MEANT = "more updates are the treatment"
LEFT_OUT, OLDER, REMOVED = "--control=False", "treated by an older version, which trained no control", "the control was removed"


class Control(NamedTuple):
    """The control of a treated run, or the reason why there is none."""

    workdir: str  # "": there is none
    updates: int  # updates of the treated run beyond those of the run before
    why: str  # why there is none; "" also if the treatment does not train


def control_of(workdir: str | Path, before: str | Path) -> Control | None:
    """Returns the control of the treated run in `workdir`, or None if it was not made by treating the run in `before`."""
    path = Path(workdir) / "stages.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        if os.path.realpath(rows[0]["workdir"]) != os.path.realpath(before):
            return None
        return _told(rows, Path(workdir), Path(before))
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def placed(control: Control | None) -> dict[str, Any] | None:
    """Returns the control as plain data."""
    return None if control is None else control._asdict()


# -- private --------------------------------------------------------------------------------------------------------------


def _told(rows: Sequence[Mapping[str, Any]], root: Path, before: Path) -> Control:
    row, names = rows[-1], {row.get("spec", "").partition(":")[0] for row in rows}
    if "larger" in names and row.get("control") is None:
        more = int(row["updates"]) - int(WorkDir(before).read_config()["train"]["steps"])  # from scratch: none, unless steps were given
        return Control("", max(more, 0), MEANT if more > 0 else "")
    if "updates" not in row:
        return Control("", 0, OLDER)
    updates = int(row["updates"])
    if row["control"] is None:
        return Control("", updates, (MEANT if "longer" in names else LEFT_OUT) if updates else "")
    folder = root / row["control"]["workdir"]
    if not WorkDir(folder).results.exists():
        return Control("", updates, REMOVED)
    return Control(os.fspath(folder), updates, "")
