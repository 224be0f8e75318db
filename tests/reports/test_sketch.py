"""Small pictures: what is drawn is where the numbers say, what cannot be drawn is left out, and text stays text."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from assay.diagnostics.measurement import Plot
from assay.reports.drawings.axis import Scale, ends_of, tick
from assay.reports.drawings.sketch import interval, overlay, sketch, track

NAN = math.nan
HOSTILE = "<script>alert('x')</script>\"&\u4f60\u597d\x00"


def parse(drawn):
    return ElementTree.fromstring(drawn)


def line(values, x=None, **changes):
    plot = Plot("line", range(len(values)) if x is None else x, {"score": values}, "length", "right (%)")
    return plot._replace(**changes)


def corners(drawn):
    """The points of the first line of the drawing, pixels."""
    path = next(path.get("d") for path in parse(drawn).iter("path") if path.get("stroke-linejoin"))
    return [tuple(map(float, point.split())) for point in path[1:].split("L")]


def texts(drawn):
    return ["".join(text.itertext()) for text in parse(drawn).iter("text")]


def test_a_line_goes_through_its_points():
    points = corners(sketch(line([0.0, 50.0, 100.0], x=[0, 10, 20])))
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1) and y0 - y1 == pytest.approx(y1 - y2) and y0 > y2  # up is more
    assert "100 %" in texts(sketch(line([0.0, 50.0, 100.0]))) and "0 %" in texts(sketch(line([20.0, 50.0])))


def test_points_come_in_the_order_of_x():
    assert corners(sketch(line([1.0, 2.0, 3.0], x=[5, 1, 3]))) == corners(sketch(line([2.0, 3.0, 1.0], x=[1, 3, 5])))


def test_what_is_no_number_is_left_out():
    assert len(corners(sketch(line([10.0, NAN, None, math.inf, 40.0])))) == 2
    drawn = sketch(Plot("bar", [0, 1, 2], {"norm": [1.0, NAN, 3.0]}, "block", "norm", ["a", "b", "c"]))
    assert len(list(parse(drawn).iter("rect"))) == 2 and "b" in texts(drawn)  # the place of the missing bar stays


def test_a_logarithmic_axis_spaces_powers_of_ten_evenly():
    points = corners(sketch(line([1.0, 10.0, 100.0, 0.0, -1.0], y_label="loss (log)")))
    assert len(points) == 3 and points[0][1] - points[1][1] == pytest.approx(points[1][1] - points[2][1], abs=0.02)


@pytest.mark.parametrize("kind", ["line", "bar", "reliability"])
@pytest.mark.parametrize("label", ["right (%)", "norm", "norm (log)", ""])
@pytest.mark.parametrize(
    ("x", "values"),
    [
        ([], []),
        ([3], [0.4]),
        ([1, 2, 3], [0.4] * 3),
        ([1, 2], [NAN, None]),
        ([1, 2], [0.0, 0.0]),
        ([1, 2], [-5.0, 5.0]),
        ([1, 2], [1e-320, 1e308]),
    ],
)
def test_poor_plots_do_not_crash(kind, label, x, values):
    plot = Plot(kind, x, {"a": values}, "", label)
    for drawn in (sketch(plot), overlay(plot, plot), overlay(None, plot), overlay(plot, None)):
        root = parse(drawn)
        assert root.get("role") == "img" and root.get("aria-label") is not None
        assert not re.search(r"\b(nan|inf)\b", drawn)
    assert overlay(None, None) == ""
    parse(sketch(plot._replace(lines={})))


def test_bars_are_as_long_as_their_values_and_lie_where_labels_are_long():
    heights = [float(bar.get("height")) for bar in parse(sketch(Plot("bar", [0, 1], {"n": [1.0, 2.0]}, "", "n", ["a", "b"]))).iter("rect")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.02)
    names = [f"encoder/block_{index}/attention/query/kernel" for index in range(6)]
    lying = sketch(Plot("bar", range(6), {"n": [1.0, 2, 3, 4, 5, 6]}, "", "n", names))
    widths = [float(bar.get("width")) for bar in parse(lying).iter("rect")]
    assert widths[5] == pytest.approx(6 * widths[0], abs=0.05)
    assert sum(name in text for text in texts(lying) for name in names) == 6  # whole names, in tooltips
    many = sketch(Plot("bar", range(200), {"n": range(200)}, "unit", "n", [f"unit {index}" for index in range(200)]))
    assert len(many) < 40_000 and "unit 199" in texts(many)


def test_reliability_lies_on_the_diagonal_where_confidence_is_right():
    drawn = sketch(Plot("reliability", [20.0, 80.0], {"score": [20.0, 80.0]}, "confidence (%)", "right (%)"))
    diagonal = next(path.get("d") for path in parse(drawn).iter("path") if path.get("stroke-dasharray"))
    x0, y0, x1, y1 = map(float, re.findall(r"[\d.]+", diagonal))
    for dot in parse(drawn).iter("circle"):
        share = (float(dot.get("cx")) - x0) / (x1 - x0)
        assert (float(dot.get("cy")) - y0) / (y1 - y0) == pytest.approx(share, abs=0.001)


def test_lines_are_told_apart_without_colour_and_text_is_escaped():
    lines = {f"{HOSTILE}{index}": [float(index), 2.0, 3.0] for index in range(3)}
    plot = Plot("line", [0, 1, 2], lines, HOSTILE, HOSTILE)
    drawn = sketch(plot)
    assert "<script" not in drawn and "\x00" not in drawn and HOSTILE[:-1] in " ".join(texts(drawn))
    shapes = {shape for shape in ("circle", "rect", "polygon") if list(parse(drawn).iter(shape))}
    assert shapes == {"circle", "rect", "polygon"}
    assert " id=" not in drawn and "http" not in drawn and drawn == sketch(plot)


def test_an_overlay_has_one_axis_and_two_dashes():
    before, after = line([0.0, 10.0], y_label="norm"), line([20.0, 40.0], y_label="norm", lines={"another name": [20.0, 40.0]})
    drawn = overlay(before, after)
    assert texts(drawn)[:3] == ["norm", "before", "after"] and "another name" not in drawn
    assert {"0", "40"} <= set(texts(drawn))
    dashes = [path.get("stroke-dasharray") for path in parse(drawn).iter("path") if path.get("stroke-linejoin")]
    assert len(dashes) == 2 and len(set(dashes)) == 2
    labelled = [Plot("bar", range(2), {"n": [1.0, 2.0]}, "", "n", names) for names in (["a", "b"], ["b", "c"])]
    assert [text for text in texts(overlay(*labelled)) if len(text) == 1 and text in "abc"] == ["a", "b", "c"]
    assert overlay(before, before._replace(kind="bar")) == overlay(None, before._replace(kind="bar"))


def test_a_change_stands_right_of_zero_where_it_is_more():
    drawn = interval(0.5, (0.25, 0.75), 0.1, -1, 1, "change +0.5")
    dot = next(parse(drawn).iter("circle"))
    assert float(dot.get("cx")) == pytest.approx(80 + 0.5 * 73)
    assert float(next(parse(interval(-0.5, None, 0.0, -1, 1, "")).iter("circle")).get("cx")) == pytest.approx(80 - 0.5 * 73)
    beyond = parse(interval(5.0, (-9.0, 9.0), 0.1, -1, 1, "", 'red"><script>'))
    assert all(0 <= float(dot.get("cx")) <= 160 for dot in beyond.iter("circle"))
    parse(interval(0.0, (0.0, 0.0), 0.0, 0.0, 0.0, ""))
    assert float(next(parse(track(0.5, (0.4, 0.6), "a share")).iter("circle")).get("cx")) == pytest.approx(158)


def test_ends_of_an_axis_are_round_and_hold_all_values():
    assert ends_of([0.12, 0.87], log=False) == pytest.approx((0.1, 0.9))
    assert ends_of([3.0, 7.0], log=False, zero=True) == pytest.approx((0, 7))
    assert ends_of([0.3, 40.0], log=True) == pytest.approx((0.1, 100))
    for values in ([1e-9, 3e9], [-2.2, -1.1], [5.0, 5.0], [99.99, 100.01]):
        low, high = ends_of(values, log=False)
        assert low <= min(values) and max(values) <= high and low < high
    assert Scale(0, 10, 100, 200)(5) == 150 and Scale(1, 100, 0, 10, log=True)(10) == pytest.approx(5)
    assert [tick(value) for value in (0, 0.25, 1234, 2e6, 1e-7)] == ["0", "0.25", "1,234", "2 M", "10\u207b\u2077"]
