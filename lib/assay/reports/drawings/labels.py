"""Placement of the labels of a plot's points: each next to its point, clear of the others and of other drawings.

A label tries positions around its point, nearest first, and takes the one with the least overlap and distance. Labels are then placed
again, given the others. Equal input gives equal positions. Lengths are CSS pixels, and up is positive.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

DISTANCES = (9.0, 14.0, 22.0, 34.0, 50.0, 70.0, 100.0)  # from a point to the nearest edge of its label
DIRECTIONS = 16
ROUNDS = 3


class Box(NamedTuple):
    left: float
    low: float
    right: float
    high: float

    def overlap(self, other: "Box") -> float:
        """Returns the area that two boxes share."""
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.high, other.high) - max(self.low, other.low)
        return across * up if across > 0 and up > 0 else 0.0

    def nearest(self, point: tuple[float, float]) -> tuple[float, float]:
        """Returns the offset from a point to the nearest position in the box."""
        across = min(max(point[0], self.left), self.right) - point[0]
        return across, min(max(point[1], self.low), self.high) - point[1]


def place_labels(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], taken: Sequence[Box], frame: Box
) -> list[Box]:
    """Returns a box of each size (width, height) next to its point. `taken`: boxes of drawings; `frame`: the area for labels."""
    places: list[Box | None] = [None] * len(points)
    for _ in range(ROUNDS):
        for i, (point, size) in enumerate(zip(points, sizes, strict=True)):
            others = [box for j, box in enumerate(places) if box is not None and j != i]
            places[i] = min(_candidates(point, size), key=partial(_cost, point=point, others=others, taken=taken, frame=frame))
    return [box for box in places if box is not None]


# -- private --------------------------------------------------------------------------------------------------------------


def _candidates(point: tuple[float, float], size: tuple[float, float]) -> Iterator[Box]:
    width, height = size
    for distance in DISTANCES:
        for k in range(DIRECTIONS):
            angle = 2 * math.pi * k / DIRECTIONS
            across = point[0] + math.cos(angle) * (distance + width / 2)
            up = point[1] + math.sin(angle) * (distance + height / 2)
            yield Box(across - width / 2, up - height / 2, across + width / 2, up + height / 2)


def _cost(box: Box, point: tuple[float, float], others: Sequence[Box], taken: Sequence[Box], frame: Box) -> float:
    """Returns the cost of a label position.

    Overlapping labels cost most, then leaving the frame, then distance and overlap with drawings. A thin bar under a label is easier to
    read than a label far from its point; a label on a point is not.
    """
    outside = (box.right - box.left) * (box.high - box.low) - box.overlap(frame)
    wide = Box(box.left - 2, box.low - 1, box.right + 2, box.high + 1)
    covered = sum(wide.overlap(other) for other in others)
    drawn = sum(wide.overlap(other) + 12.0 for other in taken if wide.overlap(other))
    return 50 * covered + 40 * outside + drawn + math.hypot(*box.nearest(point))
