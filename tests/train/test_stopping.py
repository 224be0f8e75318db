"""Early stopping as a pure record."""

import json
import math

import pytest

from assay.train.stopping import Stopping, begin, look


def follow(values, patience, **kwargs):
    stopping = begin(patience)
    for step, value in enumerate(values, start=1):
        stopping = look(stopping, value, step, patience, **kwargs)
    return stopping


@pytest.mark.parametrize(
    ("values", "kwargs", "expected"),
    [
        ([0.5, 0.6, 0.6, 0.55], {}, Stopping(0.6, 2, 0)),  # equal is not better
        ([0.5, 0.6, 0.55, 0.7], {}, Stopping(0.7, 4, 2)),  # patience is whole again
        ([0.5, 0.4, 0.3, 0.9], {}, Stopping(0.5, 1, 0)),  # what comes after the end changes nothing
        ([0.5, 0.4, 0.3], {"higher": False}, Stopping(0.3, 3, 2)),
        ([0.5, 0.55, 0.59], {"smallest": 0.1}, Stopping(0.5, 1, 0)),
        ([0.50, 0.52, 0.61], {"smallest": 0.1}, Stopping(0.61, 3, 2)),
        ([math.nan, 0.1, math.nan], {}, Stopping(0.1, 2, 1)),
        ([math.nan, math.nan], {}, Stopping(None, 0, 0)),
        ([math.inf, math.inf, 1.0], {"higher": False}, Stopping(1.0, 3, 2)),
    ],
)
def test_patience(values, kwargs, expected):
    assert follow(values, 2, **kwargs) == expected


def test_it_goes_on_from_json():
    half = follow([0.5, 0.4], 3)
    again = Stopping(**json.loads(json.dumps(half._asdict())))
    assert look(again, 0.45, 3, 3) == follow([0.5, 0.4, 0.45], 3)
