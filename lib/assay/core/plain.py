"""JSON that any reader takes: numbers that are not finite are null, since JSON has no NaN."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def json_text(value: Any, **more: Any) -> str:
    """Returns JSON text; `more` is passed to json.dumps."""
    return json.dumps(finite(value), allow_nan=False, **more)


def finite(value: Any) -> Any:
    """Returns plain data with None in place of numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [finite(one) for one in value]
    return value


def number_of(value: float | None) -> float:
    """Returns a number that was read from JSON: NaN for null."""
    return math.nan if value is None else float(value)
