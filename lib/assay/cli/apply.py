"""A suggestion of a diagnosis, done to the run that was diagnosed: what `experiments.treat --apply=N` is.

applied.json, beside the treated run, says which suggestion it was: {"from": WORKDIR, "suggestion": {number, treatment, rule, row, expects,
effect, unit}}, so that the next diagnosis can say whether what it predicted came true.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.cli.treat import treat
from assay.core.errors import UserError
from assay.dist import launch
from assay.train.checkpoint import fingerprint
from assay.train.workdir import WorkDir
from assay.verdicts.diagnosis import read

APPLIED = "applied.json"


def suggestion(source: str, number: int) -> dict[str, Any]:
    """Suggestion `number` of the diagnosis in `source`. Raises UserError where there is no diagnosis, or no such suggestion."""
    root = Path(source)
    if not WorkDir(root).config.exists() and (seeds := sorted(root.glob("seed_*"))):
        raise UserError(
            f"--apply={number} does what the diagnosis of a run suggests, and {source} holds {len(seeds)} runs. Give --from one of them, "
            f"such as {seeds[0]}."
        )
    found = read(source)
    if found.about["checkpoint"] != fingerprint(source):
        raise UserError(
            f"{source} has been trained on since it was diagnosed. Diagnose it again: python -m experiments.diagnose --workdir={source}"
        )
    known = found.suggestions
    for one in known:
        if one["number"] == number:
            return one
    listed = "".join(f"\n  {one['number']}  {one['treatment']}  ({one['rule']})" for one in known)
    told = f"It has:{listed}" if known else "It suggests nothing: name a treatment with --treat."
    raise UserError(f"--apply={number} is no suggestion of the diagnosis in {source}. {told}")


def apply(source: str, number: int, workdir: str, overrides: Mapping[str, str], seconds: float) -> None:
    """Treats the run in `source` as suggestion `number` says, into `workdir`. Raises UserError."""
    chosen = suggestion(source, number)
    print(f"suggestion {number}: {chosen['treatment']}\n{chosen['rule']}")
    treat(source, [chosen["treatment"]], workdir, overrides, seconds)
    if launch.leader():
        WorkDir.write_json(Path(workdir) / APPLIED, {"from": os.path.abspath(source), "suggestion": chosen})
