"""The stages of a treatment in the terminal: cost, score, and membership in Pareto fronts."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from assay.reports.drawings.pareto import BYTES, SECONDS, quantity
from assay.reports.table import DASH, is_fraction, signed
from assay.verdicts.pareto import Stages, fronts

TITLES = ("parameters", "nonzero", "on disk", "smaller", "FLOPs", "latency p50", "faster", "verdict", "batch of 64")
DETAILS = ("in memory", "folder", "peak memory", "XLA FLOPs", "compile", "latency p90", "examples/s", "in batches of 64")


def print_stages(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints one line per stage: its cost, its score, and whether it is faster or slower than the treated run."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    controlled = any(row.get("control") for row in found["rows"])
    for name in (*TITLES, found["metric"], "change", "95 %", *(("control", "effect", "95 %") if controlled else ())):
        table.add_column(name, justify="right", no_wrap=True)
    first, factor = found["rows"][0], 100.0 if is_fraction("", found["metric"]) else 1.0
    for row in found["rows"]:
        price, pace = row["cost"], row["speed"]
        table.add_row(
            row["name"],
            f"{price['parameters']:,}",
            f"{price['nonzero'] / max(price['parameters'], 1):.0%}",
            _bytes(price["bytes_on_disk"]),
            f"{first['cost']['bytes_on_disk'] / price['bytes_on_disk']:.2f}x",
            "-" if price["flops_per_example"] is None else f"{price['flops_per_example']:.3g}",
            f"{1e3 * pace['latency_p50_seconds']:.3g} ms",
            _times(pace["latency_ratio"]),
            pace["verdict"],
            _times(pace["throughput_ratio"]),
            f"{factor * row['score']:.4g}",
            *_change(row, factor),
            *(_beside(row.get("control"), factor) if controlled else ()),
        )
    if console is None:
        console = Console()
        console.width = max(console.width, 210)
    console.print(table)
    console.print(_details(found["rows"]))
    slower = [row["name"] for row in found["rows"] if row["speed"]["verdict"] == "slower"]
    note = f" Slower than {first['name']} on this device: {', '.join(slower)}." if slower else ""
    disturbed = first["speed"].get("timing", {}).get("disturbed")
    if disturbed:
        note += f" Times are not compared ({disturbed}). Remove stages.json and repeat the command on a quiet machine."
    unit = " in per cent" if factor > 1 else ""
    console.print(
        f"{found['metric']} on {found['split']}{unit}, n = {first['n']}, paired with {first['name']}. faster: for one example and for "
        f"batches of 64; values below 1 are slower.{note}{_control(found['rows'])}"
    )


def print_fronts(found: Stages, console: Console | None = None) -> None:
    """Prints one line per stage: size and latency relative to the first stage, and the fronts that it is on."""
    table = Table(box=None, pad_edge=False)
    several = max(one.runs for one in found.stages) > 1
    interval = "range over runs" if several else "interval"
    for column in ("name", "runs", found.metric, interval, "size", "times smaller", "latency", "times faster"):
        table.add_column(column, justify="left" if column == "name" else "right", no_wrap=True)
    table.add_column("on the front of", no_wrap=True)
    for one, of_size, of_latency in zip(found.stages, *fronts(found), strict=True):
        on = " and ".join(name for name, is_on in (("size", of_size), ("latency", of_latency)) if is_on) or DASH
        span = DASH if one.interval is None else f"{one.interval[0]:.4f} to {one.interval[1]:.4f}"
        smaller = found.stages[0].size / one.size
        cells = [one.name, str(one.runs), f"{one.score:.4f}", span, quantity(one.size, BYTES), f"{smaller:.2f}"]
        faster = "disturbed" if one.faster is None else f"{one.faster:.2f}{' (slower)' if one.faster < 0.995 else ''}"
        table.add_row(*cells, quantity(one.latency, SECONDS), faster, on)
    if console is None:
        console = Console()
        console.width = max(console.width, 140)  # a pipe has no fixed width
    console.print(table, markup=False)
    first = found.stages[0].name
    console.print(
        f"Split {found.split}; size: parameters on disk; latency: one example, median; smaller and faster: relative to {first}.",
        markup=False,
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _change(row: Mapping[str, Any], factor: float) -> tuple[str, str]:
    span = row["difference_interval"]
    difference = "" if row["difference"] is None else signed(factor * row["difference"], ".2f")
    return difference, "" if span is None else " to ".join(signed(factor * end, ".2f") for end in span)


def _beside(control: Mapping[str, Any] | None, factor: float) -> tuple[str, str, str]:
    """Returns the score of a control, and the difference of the stage from it."""
    return ("", "", "") if control is None else (f"{factor * control['score']:.4g}", *_change(control, factor))


def _control(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns what the differences include, in a sentence."""
    if any(row.get("control") for row in rows):
        return " effect: the difference from a control, trained for as many updates without the treatments."
    longest = max(row.get("updates", 0) for row in rows)
    return f" change: includes the effect of {longest:,} more updates, since no control was trained." if longest else ""


def _details(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Returns a table of the other measurements of each stage."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    for name in DETAILS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        price, pace = row["cost"], row["speed"]
        table.add_row(
            row["name"],
            *("-" if price[name] is None else _bytes(price[name]) for name in ("bytes_in_memory", "folder_bytes", "peak_memory_bytes")),
            "-" if price["xla_flops_per_example"] is None else f"{price['xla_flops_per_example']:.3g}",
            f"{pace['compile_seconds']:.2f} s",
            f"{1e3 * pace['latency_p90_seconds']:.3g} ms",
            f"{pace['examples_per_second']:.4g}",
            f"{pace['batched_examples_per_second']:.4g}",
        )
    return table


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
