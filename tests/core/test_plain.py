"""JSON text that any reader takes."""

import json
import math

import numpy as np
import pytest

from assay.core.plain import finite, json_text, number_of


def test_numbers_that_are_not_finite_are_null():
    value = {"a": math.nan, "b": [1.0, -math.inf, {"c": (np.float64("inf"), 2)}], "d": "NaN", "e": None, "f": True}
    text = json_text(value)
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [1.0, None, {"c": [None, 2]}], "d": "NaN", "e": None, "f": True}
    assert json_text({"a": 1}, indent=1) == '{\n "a": 1\n}'
    assert finite(3.5) == 3.5 and math.isnan(number_of(None)) and number_of(2) == 2.0
