"""Cost as rows: what cost.py counts of a model, by the parts of it. Numbers of the model as it is, which no sample stands behind."""

from collections.abc import Mapping
from typing import Any

import jax

from assay.diagnostics.cost.cost import Cost, cost, example_batch, forward
from assay.diagnostics.cost.flops import by_kind
from assay.diagnostics.cost.speed import ONE
from assay.diagnostics.health import parts_of
from assay.diagnostics.measurement import LOWER, SHARE, Measurement, Plot, inapplicable
from assay.diagnostics.subject import Subject
from assay.infer.export import exported_bytes

GROUP = "cost"
COSTS = {  # field of Cost -> (name, unit, how, what it means)
    "parameters": ("parameters", "", "numbers in the parameters, scales of quantised ones included", ""),
    "bytes_on_disk": ("bytes_on_disk", "bytes", "values of the exported parameters, int4 packed two to a byte", "So much is shipped."),
    "bytes_in_memory": ("bytes_in_memory", "bytes", "of the parameters on the device", "So much memory the parameters take."),
    "flops_per_example": (
        "flops",
        "operations",
        "of one of the longest examples, in products, convolutions and attention; a multiplication and an addition are two",
        "So many operations an answer takes.",
    ),
    "xla_flops_per_example": ("xla_flops", "operations", "of one example as XLA counts them, a loop once", "XLA's count beside ours."),
    "peak_memory_bytes": (
        "peak_memory",
        "bytes",
        "of the forward pass of one example: parameters, batch, results and temporaries",
        "So much memory an answer takes.",
    ),
}

COMPILED = ("xla_flops", "peak_memory")  # rows of the compiled program, which an edit makes another one
EDITED = "; without edits, which unroll the loop over blocks, and where they change attention weights leave the fused kernel"


def costs(subject: Subject) -> list[Measurement]:
    """Numbers of the parameters and of the forward pass of one example. The interval of a count is the count."""
    found = cost_of(subject)
    pictures, looped = _pictures(subject, found), getattr(getattr(subject.model.module, "config", None), "scan", False)
    rows = []
    for field, (name, unit, how, sentence) in COSTS.items():
        value = getattr(found, field)
        if value is None:
            rows.append(inapplicable(GROUP, name, "not measured: a loop's length is data, or the device's compiler does not say."))
            continue
        meaning = sentence or f"{found.parameters:,} numbers were learnt, of which {found.nonzero:,} are not zero."
        rows.append(
            Measurement(
                GROUP,
                name,
                float(value),
                unit=unit,
                n=1,
                interval=(float(value), float(value)),
                how=f"{how}; counted, so that its interval is the number itself{EDITED if looped and name in COMPILED else ''}",
                meaning=meaning,
                better=LOWER,
                margin=SHARE,
                relative=True,
                exact=True,
                plot=pictures.get(name),
            )
        )
    return rows


def cost_of(subject: Subject) -> Cost:
    if "cost" not in subject.asked:
        subject.asked["cost"] = cost(subject.model, subject.params, batch_of(subject, ONE))
    return subject.asked["cost"]


def batch_of(subject: Subject, rows: int) -> dict[str, Any]:
    """The longest examples of a split that choices may look at, where the task has one."""
    return subject.first(rows, again=True) if list(subject.task.splits) == ["test"] else example_batch(subject.task, "", rows)


# -- private --------------------------------------------------------------------------------------------------------------


def _pictures(subject: Subject, found: Cost) -> dict[str, Plot]:
    """By the names of rows."""
    blocks = parts_of(subject.params)
    numbers = {name: float(sum(leaf.size for leaf in jax.tree.leaves(part))) for name, part in blocks.items()}
    stored = {name: float(exported_bytes(part)) for name, part in blocks.items()}
    plots = {
        "parameters": _bars(numbers, "numbers"),
        "bytes_on_disk": _bars(stored, "bytes"),
        "bytes_in_memory": _bars(stored, "bytes as stored"),
    }
    if found.peak_memory_bytes is not None and found.temporary_bytes is not None:
        parts = {"parameters": float(found.bytes_in_memory), "temporaries": float(found.temporary_bytes)}
        plots["peak_memory"] = _bars({**parts, "batch and results": max(found.peak_memory_bytes - sum(parts.values()), 0.0)}, "bytes")
    if found.flops_per_example is not None:
        kinds = by_kind(forward(subject.model), subject.params, batch_of(subject, ONE))
        plots["flops"] = _bars({kind: float(count) for kind, count in kinds.items()}, "operations")
        if found.xla_flops_per_example is not None:
            both = {"counted": float(found.flops_per_example), "by XLA": found.xla_flops_per_example}
            plots["xla_flops"] = _bars(both, "operations")
    return plots


def _bars(values: Mapping[str, float], label: str) -> Plot:
    return Plot("bar", list(range(len(values))), {label: list(values.values())}, "", label, list(values))
