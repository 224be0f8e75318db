"""Traffic between devices in a compiled program, parsed from its text."""

import re
from collections.abc import Mapping
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
TRAVELS = {"all-reduce": 2.0}  # how often each byte crosses a link: an all-reduce is a reduce-scatter and an all-gather
_WIDTHS = {"pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "f8e4m3fn": 8, "f8e5m2": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16}
_WIDTHS |= {"s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64}
_CALL = re.compile(rf"= (\([^=]*?\)|\S+) ({'|'.join(KINDS)})(-start)?\(([^\n]*)")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_CHANNEL = re.compile(r"channel_id=(\d+)")


class Traffic(NamedTuple):
    calls: int
    bytes: float  # bytes that a device receives, summed over calls: the larger of inputs and outputs


def collectives(text: str) -> Mapping[str, Traffic]:
    """Returns the traffic of one pass through the program, by kind. A loop body counts once. A collective that the compiler split into
    pieces, which share a channel, counts once."""
    found: dict[str, dict[str, float]] = {}
    for i, (result, kind, start, rest) in enumerate(_CALL.findall(re.sub(r"/\*.*?\*/", "", text))):
        channel = _CHANNEL.search(rest)
        arguments = rest.partition(")")[0]
        moved = max(_bytes(result, start=bool(start)), _bytes(arguments))
        if kind == "all-reduce" and "all-reduce-scatter" in rest:
            kind = "reduce-scatter"
        at = found.setdefault(kind, {})
        name = channel[1] if channel else f"line {i}"
        at[name] = max(at.get(name, 0.0), moved)
    return {kind: Traffic(len(calls), sum(calls.values())) for kind, calls in found.items()}


def seconds(traffic: Mapping[str, Traffic], links: float) -> float:
    """Returns the minimum time that a device's links are busy, in seconds."""
    return sum(TRAVELS.get(kind, 1.0) * one.bytes for kind, one in traffic.items()) / links


def _bytes(text: str, start: bool = False) -> float:
    """Returns the bytes of all arrays in a type such as `(bf16[4,8]{1,0}, f32[])`; the result of a -start lists its operands first."""
    sizes = []
    for kind, shape in _ARRAY.findall(text):
        if kind in _WIDTHS:
            numbers = 1
            for size in filter(None, shape.split(",")):
                numbers *= int(size)
            sizes.append(numbers * _WIDTHS[kind] / 8)
    return max(sizes, default=0.0) if start else sum(sizes)
