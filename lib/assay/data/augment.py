"""Augmentations by name: a spec such as "crop:4,flip,cutout:2" lists entries of a table, in the order of application.

An entry without a number uses its table's default. The tables are IMAGE (augment_image.py) and TEXT (augment_text.py).
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from assay.core.errors import UserError, unknown


class Entry(NamedTuple):
    function: Callable  # takes the arguments that its table defines
    strength: float  # default
    highest: float  # the largest meaningful strength; 0 is always the identity
    unit: str  # meaning of the number, for messages and documentation
    whole: bool = False  # whether the number must be an integer


def parse(spec: str, table: Mapping[str, Entry], config_key: str) -> tuple[tuple[str, float], ...]:
    """Parses names and strengths, in order; "" is none. Raises UserError for an unknown name or an invalid strength."""
    parts = []
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, colon, number = (text.strip() for text in part.partition(":"))
        if name not in table:
            raise unknown("augmentation", name, table, config_key)
        entry = table[name]
        try:
            strength = float(number) if colon else entry.strength
        except ValueError:
            strength = math.nan
        if not (math.isfinite(strength) and 0 <= strength <= entry.highest) or (entry.whole and strength % 1):
            kind = "a whole number" if entry.whole else "a number"
            most = f" and at most {entry.highest:g}" if math.isfinite(entry.highest) else ""
            raise UserError(f"{part!r} is not possible: {name} takes {kind} ({entry.unit}), at least 0{most}. Change it with {config_key}.")
        parts.append((name, strength))
    return tuple(parts)
