"""Drawings without axes to share: what is drawn is what the data say, nothing crashes, and text stays text."""

import math
import re
import struct
import xml.etree.ElementTree as ElementTree
import zlib

import numpy as np
import pytest

from assay.diagnostics.measurement import Plot, plain
from assay.reports.drawings.heat import MOST, reduced
from assay.reports.drawings.picture import png
from assay.reports.drawings.sketch import as_plot, overlay, sketch

HOSTILE = "<script>alert('x')</script>\"&\u4f60\u597d\x00"
MATRIX = Plot("heat", values=[[1.0, -0.5], [None, 0.0]], rows=["first", "second"], labels=["a", "b"], x_label="key", y_label="query")
TEXT = Plot("tokens", labels=["the", " cat", "\n"], values=[[0.5, -1.0, 0.0]], y_label="evidence")
IMAGE = Plot("picture", image=[[0.0, 1.0], [0.5, 0.25]], values=[[1.0, -1.0]], y_label="gradients")
PARITY = Plot(
    "graph",
    labels=["even", "odd"],
    rows=["start accept", ""],
    edges=[(0, 0, "0", None), (1, 1, "0", None), (0, 1, "1", None), (1, 0, "1", None)],
)
POINTS = Plot("scatter", x=[0.0, 1.0, 2.0], lines={"one": [0.0, None, 2.0], "other": [None, 1.0, None]}, x_label="x", y_label="y")
EACH = [MATRIX, TEXT, IMAGE, PARITY, POINTS]


def parse(drawn):
    return ElementTree.fromstring(drawn)


def texts(drawn):
    return ["".join(text.itertext()) for text in parse(drawn).iter("text")]


def colours(drawn):
    """(colour, opacity, width) of the rectangles in coloured groups."""
    found = []
    for group in parse(drawn).iter("g"):
        if "line" in (group.get("style") or ""):
            index = int(re.search(r"line-(\d)", group.get("style"))[1])
            found += [(index, float(one.get("fill-opacity") or 1), float(one.get("width"))) for one in group.iter("rect")]
    return found


@pytest.mark.parametrize("plot", EACH, ids=lambda plot: plot.kind)
def test_each_kind_is_drawn_escaped_and_the_same_bytes_twice(plot):
    names = {"labels": [HOSTILE] * len(plot.labels), "x_label": HOSTILE, "y_label": HOSTILE}
    if plot.kind == "heat":
        names["rows"] = [HOSTILE] * 2
    if plot.kind == "graph":
        names["edges"] = [(start, end, HOSTILE, weight) for start, end, _, weight in plot.edges]
    if plot.kind == "scatter":
        names |= {"lines": {f"{HOSTILE}{name}": values for name, values in plot.lines.items()}, "labels": [HOSTILE] * 3}
    hostile = plot._replace(**names)
    drawn = sketch(hostile)
    root = parse(drawn)
    assert root.get("role") == "img" and float(root.get("viewBox").split()[2]) == 320
    assert drawn == sketch(hostile) and "<script" not in drawn and "\x00" not in drawn and " id=" not in drawn and "http" not in drawn
    assert "alert" in "".join(root.itertext()) + root.get("aria-label")
    assert sketch(as_plot(plain(plot))) == sketch(plot), "JSON holds all that is drawn"
    assert "nothing to draw" not in sketch(plot) and "currentColor" in sketch(plot)


@pytest.mark.parametrize("kind", ["heat", "tokens", "picture", "graph", "scatter"])
@pytest.mark.parametrize(
    "data",
    [
        {},
        {"values": [[]], "labels": [], "image": [[]], "rows": []},
        {"values": [[math.nan, None], [math.inf, 1e308]], "labels": ["a"], "image": [[math.nan]], "x": [1.0], "lines": {"a": [math.nan]}},
        {
            "values": [[0.0]],
            "labels": ["a", "b", "c"],
            "image": [[2.0, -1.0]],
            "edges": [(0, 0, "", math.nan), (0, 7, "", 1.0)],
            "x": [0.0],
        },
        {"values": [[1.0], [1.0, 2.0]], "labels": ["x" * 90] * 30, "edges": [(k, (k * 7 + 1) % 30, "x" * 90, -1.0) for k in range(60)]},
        {"values": [[-1e-320]], "labels": ["a"], "image": [[[0.1, 0.2, 0.3]]], "x": [1.0], "lines": {"a": [1e-320]}},
    ],
)
def test_poor_data_do_not_crash(kind, data):
    plot = Plot(kind, **data)
    for drawn in (sketch(plot), overlay(plot, plot), overlay(None, plot), overlay(plot, None)):
        for root in parse(f"<p>{drawn}</p>"):
            assert root.get("role") == "img" and root.get("aria-label") is not None
        assert not re.search(r"\b(nan|inf)\b", drawn)


def test_a_heat_is_as_strong_as_its_values():
    drawn = sketch(MATRIX)
    cells = [one for one in colours(drawn) if one[2] > 20]
    assert [index for index, *_ in cells] == [0, 0, 1], "blue above 0, orange below, and nothing for what is missing"
    (strong, zero), (weak,) = ([opacity for index, opacity, _ in cells if index == colour] for colour in (0, 1))
    assert weak == pytest.approx(strong / 2, abs=0.01) and zero == 0
    assert {"first", "second", "a", "b", "key", "query", "1", "\u22120.5"} <= set(texts(drawn))
    assert "\u22121" not in texts(sketch(MATRIX._replace(values=[[1.0, 0.5]]))), "from 0 up, without a negative value"
    assert "\u22121" in texts(sketch(MATRIX._replace(values=[[1.0, 0.5]], scale="diverging")))
    assert [title.text for title in parse(drawn).iter("title")][:2] == ["first, a: 1", "second, b: 0"]


def test_a_large_matrix_is_drawn_as_means_and_stays_small():
    values = np.random.default_rng(0).normal(size=(30, 500)).tolist()
    found, rows, columns = reduced(values)
    assert (len(found), len(found[0]), rows, columns) == (30, 84, 1, 6) and len(found[0]) <= MOST
    assert found[3][1] == pytest.approx(np.mean(values[3][6:12]))
    drawn = sketch(Plot("heat", values=values, labels=[str(k) for k in range(500)]))
    assert "means over 1 x 6 cells" in texts(drawn) and len(drawn) < 100_000
    labels = [text for text in texts(drawn) if text.isdecimal() and text != "0"]
    assert len(labels) < 40, "as many labels as have room"


def test_tokens_say_their_sign_without_colour():
    drawn = sketch(TEXT)
    assert {"the", "cat", "\u21b5", "evidence"} <= set(texts(drawn))
    assert [title.text for title in parse(drawn).iter("title")] == ["the: 0.5", "cat: \u22121", "\u21b5: 0"]
    boxes = [one for one in parse(drawn).iter("rect") if float(one.get("height")) == 17]
    ruled = [one for one in parse(drawn).iter("rect") if float(one.get("height")) == 2]
    assert len(boxes) == len(ruled) == 2
    assert float(ruled[0].get("y")) < float(boxes[0].get("y")), "for: a rule above"
    assert float(ruled[1].get("y")) > float(boxes[1].get("y")), "against: a rule below"
    assert float(boxes[1].get("fill-opacity")) == pytest.approx(2 * float(boxes[0].get("fill-opacity")), abs=0.01)
    long = sketch(Plot("tokens", labels=["word"] * 500, values=[[1.0] * 500]))
    assert "and 100 more tokens" in texts(long)
    assert max(float(box.get("x")) + float(box.get("width")) for box in parse(long).iter("rect")) <= 320


def test_a_picture_holds_the_pixels():
    packed = png([[0.0, 1.0], [0.5, 2.0]])
    assert packed.startswith(b"\x89PNG") and struct.unpack(">II", packed[16:24]) == (2, 2)
    start = packed.index(b"IDAT") + 4
    assert zlib.decompressobj().decompress(packed[start:]) == bytes([0, 0, 255, 0, 128, 255])
    colour = png([[[1.0, 0.0, 0.5]]])
    assert zlib.decompressobj().decompress(colour[colour.index(b"IDAT") + 4 :]) == bytes([0, 255, 0, 128])
    images = list(parse(sketch(IMAGE)).iter("image"))
    assert len(images) == 2 and images[0].get("href") == images[1].get("href") and float(images[1].get("opacity")) < 1
    assert images[0].get("width") == images[0].get("height"), "pixels are squares"


def test_an_automaton():
    drawn = sketch(PARITY)
    assert len(list(parse(drawn).iter("circle"))) == 3, "an accepting state has a second ring"
    assert len(list(parse(drawn).iter("polygon"))) == 5, "four steps and the arrow into the start"
    assert sorted(texts(drawn)) == ["0", "0", "1", "1", "even", "odd"]
    merged = sketch(PARITY._replace(edges=[(0, 1, "a", None), (0, 1, "b", None)]))
    assert "a, b" in texts(merged) and len(list(parse(merged).iter("polygon"))) == 2


def test_a_circuit_runs_from_left_to_right():
    circuit = Plot(
        "graph", labels=["in", "head", "mlp", "out"], edges=[(0, 1, "", 2.0), (1, 2, "", -1.0), (2, 3, "", 0.5), (0, 3, "", 0.1)]
    )
    drawn = sketch(circuit)
    xs = [float(one.get("cx")) for one in parse(drawn).iter("circle")]
    assert xs == sorted(xs) and len(set(xs)) == 4
    widths = [float(one.get("stroke-width")) for one in parse(drawn).iter("path")]
    assert max(widths) == pytest.approx(0.9 + 2.2) and min(widths) < 1.1
    dashed = [one for one in parse(drawn).iter("path") if one.get("stroke-dasharray")]
    assert len(dashed) == 1, "a negative weight is dashed"
    top = min(float(y) for path in parse(drawn).iter("path") for y in re.findall(r"Q\S+ (\S+) ", path.get("d")))
    assert top < -20, "past the nodes between, and not through them"


def test_points_keep_their_places():
    drawn = sketch(POINTS)
    circles = [(float(one.get("cx")), float(one.get("cy"))) for one in parse(drawn).iter("circle")][-2:]
    squares = [one for one in parse(drawn).iter("rect")]
    assert circles[0][0] < float(squares[-1].get("x")) < circles[1][0] and circles[0][1] > circles[1][1]
    assert "near" in texts(sketch(POINTS._replace(labels=["near", "", ""]))), "few points have their labels"


def test_two_pictures_have_one_scale():
    weak = MATRIX._replace(values=[[0.25, -0.125], [None, 0.0]])
    drawn = overlay(weak, MATRIX)
    before, after = (ElementTree.tostring(root, encoding="unicode") for root in parse(f"<p>{drawn}</p>"))
    strongest = [max(opacity for _, opacity, wide in colours(one) if wide > 20) for one in (before, after)]
    assert strongest[0] == pytest.approx(strongest[1] / 4, abs=0.01)
    assert "before" in texts(before) and "after" in texts(after) and "1" in texts(before)
