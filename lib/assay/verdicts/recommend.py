"""Treatment suggestions from a diagnosis: an ordered list, each with the rule that proposes it and its predicted effect.

    suggest(rows, facts)          pure: applies the rules (rules.py) to rows of a diagnosis and facts about its run
    recommend(workdir, rows)      the same, restricted to treatments that apply to the run in `workdir`

The list is ordered by potential gain, so no rule takes precedence as such. Rows are measured on the examples used for model selection
(`valid`), never on a test split. A prediction names a row of the card, the direction of its change and the minimum effect. The next
diagnosis can thus check it.
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import UserError
from assay.core.file import parse_json, read_text
from assay.data.source import Source
from assay.diagnostics.measurement import Measurement
from assay.diagnostics.subject import choosing
from assay.tasks.task import Task
from assay.train.experiment import Experiment
from assay.train.workdir import WorkDir
from assay.treatments.pipeline.check import check_stage
from assay.treatments.pipeline.load import rebuild
from assay.treatments.pipeline.stages import Stage, plan
from assay.verdicts.rules.remedies import about
from assay.verdicts.rules.rule import Facts, Found, Remedy
from assay.verdicts.rules.table import FIRST, RULES

MOST = 5  # maximum number of suggestions
NOT_LEARNT = "not learnt"  # the rule
NEXT = 0.6  # discount of a rule's next remedy relative to the previous one


def suggest(rows: Sequence[Measurement], facts: Facts) -> list[dict[str, Any]]:
    """Returns suggestions {number, treatment, rule, row, expects, effect, unit}, in order.

    Each treatment occurs once, and treatments that the run already has are excluded. Rows whose value is not finite are not read: no
    threshold holds for them.
    """
    named = {f"{row.group}/{row.name}": row for row in rows if row.applies and row.value is not None and math.isfinite(row.value)}
    listed: list[tuple[float, str, dict[str, Any]]] = []
    told = {name: found for name, rule in RULES.items() if (found := rule(named, facts)) is not None}
    if NOT_LEARNT in told:  # the others mean nothing yet
        told = {name: found for name, found in told.items() if name in FIRST}
    for name, found in told.items():
        fresh = [remedy for remedy in found.remedies if remedy.spec and not _there(remedy.spec, facts)]
        for place, remedy in enumerate(fresh):
            said = {
                "number": 0,
                "treatment": _staged(remedy, facts),
                "rule": f"{name}: {found.why}{_read(found, named, facts)}",
                "row": found.row,
                "expects": found.expects,
                "effect": float(f"{remedy.effect:.3g}"),
                "unit": found.unit,
                **about(remedy.spec)._asdict(),
            }
            listed.append((found.stake * NEXT**place, remedy.spec, said))
    ordered: dict[str, dict[str, Any]] = {}
    for _, spec, said in sorted(listed, key=lambda one: -one[0]):  # stable sort: ties keep the order of the rules
        ordered.setdefault(spec, said)
    return _numbered(ordered.values())


def recommend(workdir: str | Path, rows: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Returns at most MOST suggestions that apply to the run. Raises UserError if there is no run."""
    folder = WorkDir(workdir)
    facts = facts_of(rebuild(workdir))._replace(loss=late_loss(folder.metrics), pace=pace(folder.metrics))
    return possible(rows, facts, workdir, WorkDir(workdir).read_config())


def possible(rows: Sequence[Measurement], facts: Facts, workdir: str | Path, base: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns at most MOST suggestions that apply to a run with the config.json `base`; its folder need not exist."""
    staged = ((said, stage_of(workdir, said["treatment"], base)) for said in suggest(rows, facts))
    found = ({**said, **_cost(stage, facts)} for said, stage in staged if stage is not None)
    return _numbered(said for said, _ in zip(found, range(MOST), strict=False))


def stage_of(workdir: str | Path, spec: str, base: Mapping[str, Any] | None = None) -> Stage | None:
    """Returns the stage of a treatment that applies to the run: it assembles, and one training step can be traced. None if not.

    `base` is the content of the run's config.json; by default it is read.
    """
    try:
        base = WorkDir(workdir).read_config() if base is None else base
        (stage,) = plan(str(workdir), [spec], f"{workdir}/treated", {}, base)
        check_stage(stage)
    except UserError:
        return None
    except Exception as error:  # a treatment that fails for any reason is not suggested
        print(f"{spec} is not suggested because it failed: {type(error).__name__}: {error}", file=sys.stderr)
        return None
    return stage


def facts_of(made: Experiment) -> Facts:
    """Returns the facts of an assembled run."""
    task, batch, source = made.task, made.seen_at_once(), made.source
    pictures = task.vocabulary.inputs == 0 and batch["inputs"].ndim == 4
    texts = task.alphabet is not None and task.vocabulary.pooled
    return Facts(
        kind="images" if pictures else "text" if texts else "tokens" if task.vocabulary.inputs else "numbers",
        model=made.settings.model,
        optimizer={name: getattr(made.settings.optimizer, name) for name in ("name", "learning_rate", "schedule", "clip_norm")},
        treatments=made.settings.treatments,
        side=min(batch["inputs"].shape[1:3]) if pictures else 0,
        states=task.states is not None,
        steps=bool(task.free_running),
        outputs=task.vocabulary.outputs,
        places=_highest_place(task, source),
        farthest=max((_highest_place(task, task.source(split)) for split in made.settings.evaluate.splits), default=0),
        lengths=source.lengths,
        updates=made.settings.train.steps,
        epoch=0 if source.size is None else -(-source.size // made.settings.train.batch_size),
        split=choosing(task),
    )


def late_loss(path: Path) -> float:
    """Returns the median over the last quarter of the logged training losses, excluding penalties; 0 if none are logged."""
    found = []
    for line in read_text(path, "replace").splitlines() if path.is_file() else ():
        try:
            said = parse_json(line)
            found.append(float(said["loss"]) - sum(float(said.get(penalty, 0.0)) for penalty in ("l1", "l2")))
        except (ValueError, KeyError, TypeError, AttributeError):  # a validation record, or a line truncated by an interruption
            continue
    return float(np.median(found[-max(1, len(found) // 4) :])) if found else 0.0


def pace(path: Path) -> float:
    """Returns the seconds of a step, from the times that were logged; 0 if there are none."""
    found = []
    for line in read_text(path, "replace").splitlines() if path.is_file() else ():
        try:
            said = parse_json(line)
            found.append((int(said["step"]), float(said["elapsed_seconds"])))
        except (ValueError, KeyError, TypeError):
            continue
    (first, begun), (last, done) = (found[0], found[-1]) if found else ((0, 0.0), (0, 0.0))
    return max((done - begun) / (last - first), 0.0) if last > first else 0.0


# -- private --------------------------------------------------------------------------------------------------------------


def _cost(stage: Stage, facts: Facts) -> dict[str, Any]:
    """Returns the updates of a treatment, and the seconds that they take at the pace of the run, 0 if it is not known."""
    updates = int(stage.config["train"]["steps"])
    return {"updates": updates, "seconds": float(f"{updates * facts.pace:.2g}")}


def _read(found: Found, rows: Mapping[str, Measurement], facts: Facts) -> str:
    """Returns what a rule was read on, where that is more than one example."""
    row = rows.get(found.row)
    return f" ({row.n:,} examples of {facts.split})" if row is not None and row.n > 1 and facts.split else ""


def _numbered(listed: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**said, "number": number} for number, said in enumerate(listed, 1)]


def _staged(remedy: Remedy, facts: Facts) -> str:
    """Returns the treatment spec with the steps and learning rate of its stage."""
    if not (remedy.again and facts.updates):
        return remedy.spec
    options = f"rate={facts.optimizer['learning_rate']:g},steps={round(remedy.again * facts.updates)}"
    return f"{remedy.spec}{',' if ':' in remedy.spec else ':'}{options}"


def _there(spec: str, facts: Facts) -> bool:
    """Returns True if the run has the treatment; `augment` specs list only what they add, so they are never excluded."""
    name = spec.partition(":")[0]
    return name != "augment" and any(one.partition(":")[0] == name for one in facts.treatments)


def _highest_place(task: Task, source: Source) -> int:
    """Returns the highest position id of the longest examples of a split; 0 if the task couples no positions."""
    if task.couples is None:
        return 0
    last = source.lengths[1]
    return int(task.couples(source.fetch(source.index_of(np.zeros(1), last)), task.width(last)).max(initial=0))
