"""Numbers with their units: each kind of unit against what a person would write, and the ends of each kind's range."""

import math

import pytest

from assay.core.number import apart, change, from_to, limits, number


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9333, "fraction", "93.3 %"),
        (1, "fraction", "100 %"),
        (0.9996, "fraction", "99.96 %"),  # not all of them
        (0.0004, "fraction", "0.04 %"),  # not none of them
        (0.0, "fraction", "0 %"),
        (-0.021, "fraction", "\u22122.1 %"),
        (0.012, "fraction per doubling", "1.2 % per doubling"),
        (10_600, "bytes", "10.6 kB"),
        (999, "bytes", "999 B"),
        (999_999, "bytes", "1.00 MB"),
        (1_234_000_000, "bytes", "1.23 GB"),
        (0.0123, "seconds", "12.3 ms"),
        (0.000042, "seconds", "42 \u00b5s"),
        (3.214, "seconds", "3.21 s"),
        (4321.0, "seconds", "4,321 s"),
        (0, "seconds", "0 s"),
        (10_600_000, "operations", "10.6 M"),
        (2.5e9, "operations", "2.50 G"),
        (812, "operations", "812"),
        (12345.6, "examples/s", "12,346 examples/s"),
        (1, "tokens", "1 token"),
        (38.44, "tokens", "38.4 tokens"),
        (0.31234, "nats", "0.312 nats"),
        (1, "nats", "1 nats"),
        (0.0032, "joules", "3.20 mJ"),
        (50_432, "", "50,432"),
        (12_000_000, "", "12 M"),
        (0.5, "", "0.500"),
        (0.00043, "", "4.3 \u00d7 10\u207b\u2074"),
        (999.7, "", "1,000"),
        (math.inf, "nats", "\u221e nats"),
        (math.nan, "nats", "\u2013"),
        (None, "fraction", "\u2013"),
    ],
)
def test_a_value_has_its_unit(value, unit, text):
    assert number(value, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "relative", "text"),
    [
        (0.012, "fraction", False, "+1.2 points"),
        (-0.0004, "fraction", False, "\u22120.04 points"),
        (0.0, "fraction", False, "0 points"),
        (-10_600, "bytes", False, "\u221210.6 kB"),
        (0.002, "seconds", False, "+2 ms"),
        (0.12, "seconds", True, "+12.0 %"),
        (-0.5, "bytes", True, "\u221250.0 %"),
        (0.0, "bytes", True, "0 %"),
        (25.0, "examples/s", True, "+2,500 %"),
        (-0.2, "nats", False, "\u22120.200 nats"),
        (None, "nats", False, "\u2013"),
        (math.inf, "fraction", False, "+\u221e points"),
    ],
)
def test_a_change_has_its_sign(value, unit, relative, text):
    assert change(value, unit, relative) == text


def test_an_interval_names_its_unit_once_where_both_ends_share_it():
    assert limits((0.912, 0.95), "fraction") == "91.2 to 95.0 %"
    assert limits([-0.01, 0.02], "fraction", signed=True) == "\u22121.0 to +2.0 points"
    assert limits((900, 2000), "bytes") == "900 B to 2 kB"
    assert limits((-0.1, 0.2), "seconds", relative=True) == "\u221210.0 to +20.0 %"
    assert limits((0.25, 0.5), "") == "0.250 to 0.500"
    assert limits(None, "bytes") == "\u2013"


def test_words_follow_the_numbers_as_printed():
    assert (
        from_to(0.533, 0.583, "fraction") == "rises from 53.3 % to 58.3 %"
        and from_to(0.5, 0.4, "fraction") == "drops from 50.0 % to 40.0 %"
    )
    assert from_to(0.53301, 0.53299, "fraction") == "stays at 53.3 %"
    assert apart(0.032, "fraction") == "3.2 points above" and apart(-0.3, "fraction", less="lower than") == "30.0 points lower than"
    assert apart(0.0, "fraction", same="neither") == "neither" and apart(-0.02, "nats") == "0.0200 nats below"
