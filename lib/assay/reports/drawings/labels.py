"""Where the labels of a picture's points go: each beside its point, off the others and off what is drawn.

A label tries places around its point, near ones first, and takes that which covers least and lies nearest; then each tries again, now
that the others are there. The same input gives the same places. Lengths are CSS pixels, and up is positive.
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
        """The area that two boxes share."""
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.high, other.high) - max(self.low, other.low)
        return across * up if across > 0 and up > 0 else 0.0

    def nearest(self, point: tuple[float, float]) -> tuple[float, float]:
        """From a point to the nearest place in the box."""
        across = min(max(point[0], self.left), self.right) - point[0]
        return across, min(max(point[1], self.low), self.high) - point[1]


def place_labels(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], taken: Sequence[Box], frame: Box
) -> list[Box]:
    """A box of each size (width, height) beside its point. `taken`: what is drawn; `frame`: where labels may lie."""
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
    """A label on a label is worst, then one that leaves the frame; then distance and what is drawn count: a thin bar under a label is read
    more easily than a label far from its point, and a label on a point is not."""
    outside = (box.right - box.left) * (box.high - box.low) - box.overlap(frame)
    wide = Box(box.left - 2, box.low - 1, box.right + 2, box.high + 1)
    covered = sum(wide.overlap(other) for other in others)
    drawn = sum(wide.overlap(other) + 12.0 for other in taken if wide.overlap(other))
    return 50 * covered + 40 * outside + drawn + math.hypot(*box.nearest(point))
