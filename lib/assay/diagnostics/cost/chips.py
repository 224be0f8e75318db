"""Peak rates of accelerators from vendor documentation. A topology is a chip and a shape: `v5e:16x16`, `h100:8`.

TPU   docs.cloud.google.com/tpu/docs/v4, v5e, v5p, v6e, read in November 2026; links: all links of a chip together, in one direction
GPU   NVIDIA's data sheets of A100 80 GB SXM, H100 SXM, H200 SXM: dense bfloat16; links: NVLink in one direction
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from assay.core.errors import UserError, unknown


class Chip(NamedTuple):
    flops: float  # peak bfloat16 operations per second
    memory: float  # bytes
    bandwidth: float  # memory bandwidth in bytes per second
    links: float  # bytes per second from a chip to the others
    tpu: bool = False  # True if XLA can compile for it without the hardware


CHIPS: Mapping[str, Chip] = {
    "v4": Chip(275e12, 32 * 2**30, 1228e9, 300e9, True),
    "v5e": Chip(197e12, 16 * 2**30, 819e9, 200e9, True),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 600e9, True),
    "v6e": Chip(918e12, 32 * 2**30, 1638e9, 400e9, True),
    "a100": Chip(312e12, 80e9, 2039e9, 300e9),
    "h100": Chip(989e12, 80e9, 3350e9, 450e9),
    "h200": Chip(989e12, 141e9, 4800e9, 450e9),
}


class Topology(NamedTuple):
    name: str  # as given by the user
    chip: str
    shape: tuple[int, ...]  # chips along each axis

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def peak(self) -> Chip:
        return CHIPS[self.chip]


def topology(text: str) -> Topology:
    """Parses `v5e:16x16` -> 256 chips. Raises UserError for an unknown chip or an invalid shape."""
    name, colon, shape = text.partition(":")
    if name not in CHIPS:
        raise unknown("chip", name, CHIPS, "--topology=CHIP:SHAPE")
    if not colon or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
        raise UserError(f"--topology={text!r} has no valid shape. Write CHIP:SHAPE, such as v5e:16x16, v5p:4x4x4 or h100:8.")
    return Topology(text, name, tuple(int(size) for size in shape.split("x")))
