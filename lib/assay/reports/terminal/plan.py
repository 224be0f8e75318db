"""A plan as a table in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

GIB = 2**30


def show(plan: Mapping[str, Any]) -> None:
    """Prints a plan made by `diagnostics.cost.plan.plan`."""
    console = Console(highlight=False)
    mesh = " x ".join(f"{axis} {size}" for axis, size in plan["mesh"].items())
    console.print(
        f"{plan['parameters']:,} parameters, {plan['phase']} step on {plan['topology']} ({plan['chips']} chips: {mesh}), {plan['how']}"
    )
    console.print(f"fits: {'yes' if plan['fits'] else 'no'}", style="bold")
    if plan["told"]:
        console.print(f"compiler message: {plan['told']}")
    memory = plan["memory_bytes"]
    rows = [(f"memory, {kind}", _size(size)) for kind, size in memory.items()]
    rows.append(("memory, total", f"{_size(sum(memory.values()))} of {_size(plan['memory_of_a_chip_bytes'])}"))
    rows.append(("model FLOPs", f"{plan['model_flops']:.4g} FLOP"))
    rows.append(("executed FLOPs", f"{plan['executed_flops']:.4g} FLOP"))
    rows.append(("memory traffic per chip", _size(plan["moved_bytes"])))
    rows.append(("FLOPs per byte", f"{plan['intensity']:.0f}"))
    rows += [(f"{kind}, {one['calls']} calls", _size(one["bytes"])) for kind, one in plan["collectives"].items()]
    rows += [(f"minimum time, {part}", _time(seconds)) for part, seconds in plan["busy_seconds"].items()]
    rows.append(("minimum time per step", _time(plan["step_seconds"])))
    rows.append(("maximum tokens per second", f"{plan['tokens_per_second']:,.0f}"))
    rows.append(("maximum fraction of peak", f"{plan['utilisation']:.0%}"))
    if plan["days"] is not None:
        time = f"{plan['days']:.1f} days" if plan["days"] >= 1 else f"{plan['days'] * 24:.1f} hours"
        rows.append((f"minimum time for {plan['budget_tokens']:.3g} tokens", f"{time}, {plan['chip_hours']:,.0f} chip-hours"))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def show_ranked(plans: Sequence[Mapping[str, Any]]) -> None:
    """Prints plans side by side, in the given order."""
    table = Table(box=None, pad_edge=False)
    for column in ("data", "fsdp", "tensor", "remat", "fits", "memory per chip", "minimum time", "bound by", "tokens per second"):
        table.add_column(column, justify="left" if column in ("remat", "bound by") else "right", no_wrap=True)
    for one in plans:
        busy = one["busy_seconds"]
        cells = [*(str(one["mesh"][axis]) for axis in ("data", "fsdp", "tensor")), one["remat"], "yes" if one["fits"] else "no"]
        cells += [_size(sum(one["memory_bytes"].values())), _time(one["step_seconds"]), max(busy, key=busy.__getitem__)]
        table.add_row(*cells, f"{one['tokens_per_second']:,.0f}")
    console = Console(highlight=False)
    console.width = max(console.width, 110)  # a pipe has no fixed width
    console.print(table)


def _size(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:.2f} MiB"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
