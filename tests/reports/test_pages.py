"""The pages of a diagnosis and of a card: self-contained, escaped, the same bytes twice, and every link leads somewhere."""

import re
from html.parser import HTMLParser
from typing import Any, NamedTuple

import pytest

from assay.diagnostics.measurement import Measurement, Plot, inapplicable
from assay.reports.card import card_page
from assay.reports.diagnosis import diagnosis_page, summarise
from assay.reports.fragment import card_fragment, diagnosis_fragment
from assay.reports.page import label, pairs

HOSTILE = "<script>alert('x')</script>\"onload=x& \u4f60\u597d " + "x" * 90
VOID = {"meta", "br", "wbr", "link", "img", "input"}
ABOUT = {
    "schema": 1,
    "task": "digits",
    "experiment": "demo/digits:cnn",
    "model": "convnet",
    "treatments": [],
    "split": "test",
    "quick": False,
    "checkpoint": "600-3f9a2c1b",
    "vocabulary": [0, 10],
    "environment": {"versions": {"jax": "0.10"}, "devices": "1 x cpu"},
}
SCORE = Measurement(
    "generalisation", "score", 0.9, "fraction", 600, (0.87, 0.92), "accuracy on 600", "90 % are right.", better="higher", margin=0.01
)
CURVE = Plot("line", [0, 1, 2], {"score": [90.0, 60.0, 40.0]}, "severity", "score (%)")


class Diagnosis(NamedTuple):
    about: dict[str, Any]
    rows: list[Measurement]
    sets: dict[str, Any]
    suggestions: list[dict[str, Any]]


class Page(HTMLParser):
    """What a browser would see: ids, links, the text, and the text outside verdicts, scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.ids, self.links, self.tags, self.text, self.outside, self.stack = [], [], [], "", "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[key] for key in ("href", "src", "action", "data", "srcset") if key in given]
        if tag not in VOID:
            self.stack.append((tag, given.get("class") or ""))
        for key in ("title", "aria-label"):
            self.outside += " " + given.get(key, "")

    def handle_endtag(self, tag):
        if tag not in VOID:
            while self.stack and self.stack.pop()[0] != tag:
                pass

    def handle_data(self, data):
        if any(tag in ("script", "style") for tag, _ in self.stack):
            return
        self.text += data
        if not any("verdict" in name.split() for _, name in self.stack):
            self.outside += data


def check(html):
    page = Page(html)
    assert page.stack == [] and len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not re.search(r"@import|url\(", html)
    assert not page.tags.count("link") and not page.tags.count("img") and not page.tags.count("iframe")
    assert "alert('x')" not in html.replace("&#39;", "?")  # nowhere unescaped
    return page


def diagnosis(rows=None, suggestions=(), **about):
    rows = rows or [
        SCORE,
        Measurement("generalisation", "train_test_gap", 0.08, "fraction", 600, (0.05, 0.1), better="lower", margin=0.01),
        Measurement("generalisation", "corruption: shift", 0.4, "fraction", 600, (0.36, 0.44), plot=CURVE),
        inapplicable("reasoning", "in_distribution", "does not apply: no steps."),
        inapplicable("reasoning", "half_length", "does not apply: no steps."),
        Measurement("cost", "parameters", 50432.0, n=1),
        Measurement("speed", "latency_p50", 0.00123, "seconds", timing=True),
        Measurement("optimisation health", "dead_units", None, applies=False, reason="crashed: ValueError: no", crashed=True),
    ]
    return Diagnosis({**ABOUT, **about}, rows, {}, list(suggestions))


SUGGESTION = {
    "number": 1,
    "treatment": "augment:images=shift:1",
    "rule": "The gap is wide.",
    "row": "generalisation/train_test_gap",
    "expects": "lower",
    "effect": 0.02,
    "unit": "fraction",
}
COMMAND = "assay diagnose --workdir=runs/digits"


def test_a_diagnosis_shows_each_row_with_its_unit_and_what_to_try():
    page = check(diagnosis_page(diagnosis(suggestions=[SUGGESTION]), COMMAND))
    for text in (
        "90.0 %",
        "95 %: 87.0 to 92.0 % \u00b7 n 600",
        "50,432",
        "1.23 ms",
        "In distribution, Half length: does not apply: no steps.",
    ):
        assert text.replace("\u00a0", " ") in page.text.replace("\u00a0", " "), text
    assert "assay treat --from=runs/digits --apply=1 --workdir=runs/digits_1" in page.text
    assert "Expected effect: Train\u2013test gap lower by 2.0 points." in page.text
    assert "\u26a0 crashed" in page.text and "crashed: ValueError: no" in page.text and "1 of the rows crashed" in page.text
    assert page.tags.count("svg") == 3 and "Quick" not in page.text
    assert "Quick diagnosis" in check(diagnosis_page(diagnosis(quick=True), COMMAND)).text


@pytest.mark.parametrize("command", ["x --workdir='runs/my run' --quick", 'x --workdir "runs/my run"'])
def test_commands_are_quoted_for_a_shell(command):
    page = check(diagnosis_page(diagnosis(suggestions=[SUGGESTION]), command))
    assert "--from='runs/my run' --apply=1 --workdir='runs/my run_1'" in page.text


def test_the_summary_tells_of_the_largest_bottlenecks_first():
    text = summarise(diagnosis().rows, [SUGGESTION])
    assert text.startswith(
        "90.0 % of the held-out answers are right (95 % interval 87.0 to 92.0 %, n 600). "
        "Largest bottlenecks: accuracy drops from 90.0 % to 40.0 %"
    )
    assert text.index("under the shift corruption") < text.index("8.0 points higher") and text.endswith(
        "One treatment is suggested, most promising first."
    )
    assert "no large" not in text and "No row shows a large bottleneck." in summarise([SCORE], [])
    assert summarise([inapplicable("cost", "flops", "no")], []) == "No row applies to this run."


@pytest.mark.parametrize(
    ("group", "name", "value", "interval", "sure"),
    [
        ("generalisation", "train_test_gap", 0.092, (-0.054, 0.246), False),
        ("generalisation", "train_test_gap", 0.092, (0.011, 0.176), True),
        ("calibration", "calibration_error", 0.04, (0.0, 0.07), False),
        ("optimisation health", "dead_units", 0.3, (0.1, 0.5), True),
        ("generalisation", "corruption: blur", 0.87, (0.84, 0.89), False),
        ("generalisation", "corruption: blur", 0.8, (0.76, 0.84), True),
    ],
)
def test_the_summary_names_no_bottleneck_that_may_be_chance(group, name, value, interval, sure):
    row = Measurement(group, name, value, "fraction", 64, interval)
    told = summarise([SCORE, row], [])
    assert ("Largest bottlenecks" in told) == sure and ("No bottleneck is certain" in told) != sure
    exact = summarise([SCORE, row._replace(interval=None, exact=True)], [])
    assert "Largest bottlenecks" in exact
    few = summarise([SCORE, row._replace(n=3, interval=None, caution="too few examples for an interval: 3")], [])
    assert "No bottleneck is certain" in few and "Largest" not in few


def hostile_rows():
    plot = CURVE._replace(lines={HOSTILE: [1.0, 2.0, 3.0]}, x_label=HOSTILE, y_label=HOSTILE)
    return [
        Measurement(HOSTILE, HOSTILE, 1.0, HOSTILE, 3, (0.0, 2.0), HOSTILE, HOSTILE, plot=plot),
        Measurement(HOSTILE, "crash", None, applies=False, reason=HOSTILE, crashed=True),
        inapplicable(HOSTILE, "other", HOSTILE),
    ]


def test_hostile_text_stays_text_in_a_diagnosis():
    about = {key: HOSTILE for key in ("task", "experiment", "model", "split", "checkpoint")}
    found = diagnosis(hostile_rows(), [{**SUGGESTION, "treatment": HOSTILE, "rule": HOSTILE, "row": HOSTILE, "unit": HOSTILE}], **about)
    found.about.update(treatments=[HOSTILE], environment={HOSTILE: [HOSTILE]})
    html = diagnosis_page(found, f"x --workdir={HOSTILE}")
    page = check(html)
    assert page.tags.count("script") == 0 and page.text.count("<script>") > 8
    assert html == diagnosis_page(found, f"x --workdir={HOSTILE}")


def fragment(html):
    """Checks that an element may stand in a notebook: it is closed, needs nothing, styles only itself, and returns its text."""
    page = check(html)
    style = html.partition("<style>")[2].partition("</style>")[0]
    selectors = [one.strip() for line in style.strip().splitlines() for one in line.partition("{")[0].split(",")]
    assert selectors and all(one.startswith(".assay-fragment ") for one in selectors)
    assert page.tags.count("script") == 0 and len(html) < 20_000 and html.startswith('<div class="assay-fragment">')
    return page.text.replace("\u00a0", " ")


def test_a_notebook_shows_the_rows_that_apply_and_what_to_try():
    found = diagnosis(suggestions=[SUGGESTION])
    html = diagnosis_fragment(found)
    text = fragment(html)
    values = ("90.0 %", "87.0 to 92.0 %", "600", "90 % are right.", "50,432", "1.23 ms")
    for said in ("demo/digits:cnn \u00b7 split test", "Generalisation", *values):
        assert said in text, said
    assert "1. augment:images=shift:1: The gap is wide." in text and "Rows that do not apply: 2" in text and "half_length" not in text
    assert html.count("<tr>") == 1 + 4 + 6 and "crashed: ValueError: no" in text  # the header, a heading a group, six rows
    hostile = diagnosis(hostile_rows(), [{**SUGGESTION, "treatment": HOSTILE, "rule": HOSTILE}], experiment=HOSTILE, split=HOSTILE)
    assert fragment(diagnosis_fragment(hostile)).count("<script>") > 5


def test_a_diagnosis_without_anything_is_still_a_page():
    page = check(diagnosis_page(Diagnosis(ABOUT, [], {}, []), ""))
    assert "No row applies to this run." in page.text and "No rule found a bottleneck" in page.text


def after(verdict, difference=0.05, interval=(0.02, 0.08), **changes):
    found = {
        "value": 0.95,
        "value_interval": [0.93, 0.97],
        "difference": difference,
        "interval": interval,
        "relative": False,
        "n": 600,
        "p_value": 0.004,
        "adjusted": 0.02,
        "agreement": 0.91,
        "verdict": verdict,
        "why": "p < 0.05 after Holm's correction",
        "applies": True,
        "reason": "",
        "crashed": False,
        "meaning": "",
    }
    return {**found, **changes}


def row(group, name, entries, unit="fraction", plots=None, **changes):
    found = {
        "group": group,
        "name": name,
        "unit": unit,
        "better": "higher",
        "margin": 0.01,
        "relative": False,
        "timing": False,
        "how": "accuracy on 600",
        "meaning": "",
        "before": {"value": 0.9, "interval": [0.87, 0.92], "n": 600, "applies": True, "reason": "", "crashed": False, "meaning": ""},
        "after": entries,
        **({} if plots is None else {"plots": plots}),
    }
    return {**found, **changes}


def card(names=("small",), rows=None, **changes):
    none = after(
        "", None, None, p_value=None, adjusted=None, agreement=None, value=None, value_interval=None, n=0, applies=False, why="no domains"
    )
    plots = {key: CURVE._asdict() for key in ("before", *names)}
    rows = rows or [
        row("generalisation", "score", {name: after("better") for name in names}, plots=plots),
        row("generalisation", "corruption: shift", {name: after("worse", -0.2, (-0.25, -0.15)) for name in names}),
        row("generalisation", "domain_shift", {name: none for name in names}),
        row("calibration", "nll", {name: after("no difference", 0.001, (-0.003, 0.004)) for name in names}, "nats"),
        row(
            "cost",
            "bytes_on_disk",
            {name: after("better", -141210.0, None, p_value=0.0, adjusted=0.0, agreement=None) for name in names},
            "bytes",
        ),
        row("speed", "latency_p50", {name: after("inconclusive", 0.18, (-0.05, 0.4), relative=True) for name in names}, "seconds"),
        row("speed", "roofline", {name: after("inconclusive", None, None, p_value=None, adjusted=None) for name in names}),
    ]
    about = {key: value for key, value in ABOUT.items() if key != "schema"}
    prediction = {
        "after": names[0],
        "from": "runs/digits",
        "number": 1,
        "treatment": "augment:images=shift:1",
        "rule": "wide",
        "row": "generalisation/score",
        "expects": "higher",
        "effect": 0.02,
        "unit": "fraction",
        "difference": 0.05,
        "interval": [0.02, 0.08],
        "relative": False,
        "verdict": "better",
        "outcome": "held",
        "why": "",
    }
    found = {
        "schema": 1,
        "task": "digits",
        "split": "test",
        "quick": False,
        "level": 0.05,
        "before": about,
        "after": {name: {**about, "treatments": [name]} for name in names},
        "rows": rows,
        "predictions": [prediction],
        "counts": {},
        "environment": ABOUT["environment"],
    }
    return {**found, **changes}


@pytest.mark.parametrize("names", [("small",), ("small", "int8", HOSTILE)])
def test_a_card_says_better_and_worse_only_as_verdicts(names):
    html = card_page(card(names))
    page = check(html)
    assert not re.search(r"better|worse", page.outside, re.IGNORECASE)
    assert page.text.count("better") > 2 * len(names) and html == card_page(card(names))
    assert page.tags.count("script") == 1 and page.tags.count("details") >= 6 * len(names)


def test_a_card_shows_the_evidence_of_each_row():
    page = check(card_page(card()))
    text = page.text.replace("\u00a0", " ")
    for said in (
        "+5.0 points",
        "+2.0 to +8.0 points",
        "0.004, 0.02 corrected",
        "91.0 % of the examples have the same score",
        "\u22121.0 to +1.0 points",
        "\u2212141 kB",
        "not applicable (deterministic quantity)",
        "+18.0 %",
        "\u22125.0 to +40.0 %",
        "Domain shift: no domains",
        "was expected to make Score higher by 2.0 points; it changed by +5.0 points (95 %: +2.0 to +8.0 points)",
        "held",
    ):
        assert said in text, said
    assert "matrix" not in page.ids and "6 rows" in text


def test_several_models_after_have_a_matrix_whose_cells_lead_to_their_evidence():
    html = card_page(card(("small", "int8")))
    page = check(html)
    assert "matrix" in page.ids
    cells = re.findall(r'<td class="cell (\w+)"[^>]*data-order="([^"]*)"><a href="#([^"]+)"', html)
    assert len(cells) == 12 and len({place for _, _, place in cells}) == 12
    order = {tone: float(value) for tone, value, _ in cells}
    assert order["good"] > 1 > order["same"] > order["open"] - 1 and order["bad"] < -1


def test_hostile_text_stays_text_in_a_card():
    names = (HOSTILE, "other")
    plots = {"before": CURVE._replace(lines={HOSTILE: [1.0, None, 3.0]}, y_label=HOSTILE)._asdict(), HOSTILE: None, "other": None}
    entries = {name: after("better", why=HOSTILE, reason=HOSTILE) for name in names}
    crashed = {name: after("", None, None, crashed=True, reason=HOSTILE, why=HOSTILE) for name in names}
    rows = [row(HOSTILE, HOSTILE, entries, HOSTILE, plots, how=HOSTILE), row(HOSTILE, "b", crashed)]
    about = {**ABOUT, "experiment": HOSTILE, "model": HOSTILE, "treatments": [HOSTILE], "checkpoint": HOSTILE}
    found = card(names, rows, before=about, task=HOSTILE, environment={HOSTILE: HOSTILE})
    found["predictions"][0].update(treatment=HOSTILE, row=HOSTILE, why=HOSTILE, outcome=HOSTILE)
    page = check(card_page(found))
    assert page.tags.count("script") == 1 and page.text.count("<script>") > 10


def test_a_card_needs_no_plots_and_no_ends():
    entry = after("inconclusive", None, [None, None], p_value=None, adjusted=None)
    bare = {key: value for key, value in card(rows=[row("cost", "flops", {"small": entry}, "operations")]).items() if key != "predictions"}
    assert "FLOPs, counted" in check(card_page(bare)).text


def test_a_notebook_shows_a_card_with_its_evidence_or_as_a_matrix():
    text = fragment(card_fragment(card(counts={"small": {"better": 2, "worse": 1, "no difference": 0, "inconclusive": 2}})))
    values = ("+5.0 points", "+2.0 to +8.0 points", "0.0200", "\u2713 better", "\u2212141 kB", "+18.0 %")
    for said in ("digits \u00b7 split test", "after: small", *values):
        assert said in text, said
    assert "Domain shift" not in text and "small: 2 better, 1 worse, 2 inconclusive" in text
    names = ("small", "int8", HOSTILE)
    matrix = card_fragment(card(names, counts={}))
    assert fragment(matrix).count("+5.0 points \u2713") == 3 and matrix.count("<th>") == 5 and "better" not in matrix
    entry = after("inconclusive", None, [None, None], p_value=None, adjusted=None)
    bare = card(rows=[row("cost", "flops", {"small": entry}, "operations")])
    assert "? inconclusive" in fragment(card_fragment(bare))


def test_names_and_trees_are_written_out():
    assert label("effective_context") == "Effective context" and label("train_test_gap") == "Train\u2013test gap"
    tree = {"a": {"b": 1, "c": [1, 2]}, "d": "", "e": [{"f": None}]}
    assert list(pairs(tree)) == [("a.b", "1"), ("a.c", "1, 2"), ("d", "\u2013"), ("e.0.f", "\u2013")]
