"""Cost rows: the counts of cost.py, by part of the model. These are deterministic quantities."""

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
COSTS = {  # field of Cost -> (name, unit, how, meaning)
    "parameters": ("parameters", "", "number of parameter values, including the scales of quantized ones", ""),
    "bytes_on_disk": ("bytes_on_disk", "bytes", "exported parameter values, with two int4 values per byte", "Size of the shipped model."),
    "bytes_in_memory": ("bytes_in_memory", "bytes", "parameters on the device", "Memory for the parameters."),
    "flops_per_example": (
        "flops",
        "operations",
        "matrix products, convolutions and attention on one of the longest examples; a multiply-add counts as two",
        "Operations per answer.",
    ),
    "xla_flops_per_example": ("xla_flops", "operations", "XLA's count for one example, in which a loop counts once", "XLA's own count."),
    "peak_memory_bytes": (
        "peak_memory",
        "bytes",
        "forward pass of one example: parameters, batch, results and temporaries",
        "Memory needed for an answer.",
    ),
}

FACTS = {"flops": "operations", "xla_flops": "operations", "parameters": "size", "bytes_on_disk": "size", "bytes_in_memory": "size"}
COMPILED = ("xla_flops", "peak_memory")  # rows that depend on the compiled program, which edits change
EDITED = "; measured without edits, which unroll a loop over blocks (scan) and bypass a fused kernel if they change attention weights"


def costs(subject: Subject) -> list[Measurement]:
    """Counts parameters and the forward pass of one example. The interval of a count is the count itself."""
    if subject.model.opaque:
        reason = f"does not apply: {subject.model.opaque}, and shows no parameters."
        return [inapplicable(GROUP, name, reason) for name, *_ in COSTS.values()]
    found = cost_of(subject)
    pictures, config = _pictures(subject, found), getattr(subject.model.module, "config", None)
    fused = ("fused",) if jax.default_backend() == "cpu" else ("fused", "auto")
    otherwise = getattr(config, "scan", False) or getattr(config, "attention", "") in fused
    rows = []
    for field, (name, unit, how, sentence) in COSTS.items():
        value = getattr(found, field)
        if value is None:
            rows.append(inapplicable(GROUP, name, "not measured: a loop's length depends on data, or the compiler does not report it."))
            continue
        meaning = sentence or f"{found.parameters:,} values were learned, of which {found.nonzero:,} are nonzero."
        rows.append(
            Measurement(
                GROUP,
                name,
                float(value),
                unit=unit,
                n=1,
                interval=(float(value), float(value)),
                how=f"{how}; a deterministic count{EDITED if otherwise and name in COMPILED else ''}",
                meaning=meaning,
                better=LOWER,
                margin=SHARE,
                relative=True,
                exact=True,
                fact=FACTS.get(name, ""),
                plot=pictures.get(name),
            )
        )
    return rows


def cost_of(subject: Subject) -> Cost:
    if "cost" not in subject.asked:
        subject.asked["cost"] = cost(subject.model, subject.params, batch_of(subject, ONE))
    return subject.asked["cost"]


def batch_of(subject: Subject, rows: int) -> dict[str, Any]:
    """Returns the longest examples, from a split that choices may use if the task has one."""
    return subject.first(rows, again=True) if list(subject.task.splits) == ["test"] else example_batch(subject.task, "", rows)


# -- private --------------------------------------------------------------------------------------------------------------


def _pictures(subject: Subject, found: Cost) -> dict[str, Plot]:
    """Returns plots by row name."""
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
