"""A committed result file, read: the rows of a study with what its other keys say of them.

`configs`            resolved config of each experiment
`seen_in_training`   share of a split's inputs that training had, by experiment and split, for rows that lack it
`chosen_on_test`     settings that were chosen by test scores, in words, by experiment
`recovered`          how a key was obtained that the version which wrote the rows did not record
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from assay.config.overrides import recorded
from assay.core.errors import UserError
from assay.core.file import read_json
from assay.evals.written import wrong_row
from assay.verdicts.published import Ours, runs_of

FLAG = "--config."


class ResultFile(NamedTuple):
    """Contents of `NAME.json`. `rows` have the overrides of the command, and the shares that training had seen."""

    name: str
    command: str
    commit: str
    rows: Sequence[Mapping[str, Any]]
    configs: Mapping[str, Any]
    chosen: Mapping[str, str]

    @property
    def runs(self) -> list[Ours]:
        """The runs of the file, one for each task, split and metric."""
        return runs_of(self.rows, self.configs, self.name, self.chosen)


def read(path: Path) -> ResultFile:
    """Reads a result file; one without rows has none. Raises UserError if it is damaged."""
    found = read_results(path)
    command, seen = found.get("command") or "", found.get("seen_in_training", {})
    given = {"overrides": changed} if (changed := overrides_of(command)) else {}
    rows = []
    for row in found.get("rows", ()):
        share = seen.get(row["experiment"], {}).get(row["split"])
        rows.append({**given, **({} if share is None else {"seen_in_training": share}), **row})
    commit = commit_text(found.get("environment", {}).get("commit"))
    return ResultFile(path.stem, command, commit, rows, found.get("configs", {}), found.get("chosen_on_test", {}))


def read_results(path: Path) -> dict[str, Any]:
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


def commit_text(commit: str | None) -> str:
    """Shortens a commit to seven digits; a mark for uncommitted changes stays."""
    head, plus, changes = (commit or "").partition(" + ")
    return head[:7] + plus + changes


def overrides_of(command: str) -> dict[str, str]:
    """Returns the keys that a command changes with --config.KEY=VALUE and that a row records."""
    pairs = [word.removeprefix(FLAG).partition("=") for word in shlex.split(command) if word.startswith(FLAG)]
    return recorded({key: text for key, _, text in pairs})
