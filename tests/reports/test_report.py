"""The report: text is escaped, the page needs nothing but itself, and what it prints are the rows' own numbers."""

import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from assay.core.errors import UserError
from assay.diagnostics.attention import Attention
from assay.reports.drawings import plots
from assay.reports.fragment import rows_fragment
from assay.reports.run import RunView, look_curves, render, summarise
from assay.reports.table import format_seed, format_value, signed
from assay.reports.terminal.run import DASH, arrange, print_table
from assay.reports.view import read_run

HOSTILE = "<script>alert('x')</script>\"onload=x&[bold]$\\frac$"
SOURCE = "Deletang et al., ICLR 2023, arXiv 2207.02098, Table 2"


def make_row(split="iid", metric="answer_accuracy", value=0.84375, seed=0, **changes):
    """A results row of a parity run; a change to None takes the key away."""
    low, high = {"iid": (1, 40), "41-500": (41, 500)}.get(split, (1, 10))
    row = {
        "experiment": "reason/parity",
        "task": "chomsky/parity_check",
        "model": "lstm",
        "treatment": "none",
        "split": split,
        "metric": metric,
        "value": value,
        "unit": "fraction",
        "n": 8 * (high - low + 1),
        "seed": seed,
        "steps": 600,
        "interval": [value - 0.0125, value + 0.01],
        "interval_method": "Wilson",
        "by_length": {str(length): value for length in range(low, high + 1)},
        "published": [],
        "baselines": {"chance": 0.5, "majority": 0.5125},
    }
    return {key: changed for key, changed in (row | changes).items() if changed is not None or key in ("value", "interval", "steps")}


def make_run(label="lstm", rows=None, metrics=True, **changes):
    lines = [{"step": step, "loss": 1 / step, "examples_per_second": 5000.0, "elapsed_seconds": 0.02 * step} for step in range(10, 601, 10)]
    rows = [make_row("iid"), make_row("41-500", value=0.50271)] if rows is None else rows
    config = {"seed": 0, "task": {"name": "chomsky/parity_check"}, "model": {"width": 64}, "treatments": []}
    environment = {"versions": {"jax": "0.0.1"}, "devices": ["cpu:0"], "commit": "3f9a2c1"}
    return RunView(label, config, rows, lines if metrics else [], environment)._replace(**changes)


class Page(HTMLParser):
    """What a browser would see: elements, attributes, text, and the cells of the results table by (label, split, metric, seed)."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.attributes, self.text, self.cells, self.label = [], [], "", {}, None
        self._row, self._cell = [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        classes = (dict(attributes).get("class") or "").split()
        if tag == "tr":
            self._row = []
        elif tag in ("td", "th"):
            self._cell = ""
        elif tag in ("sup", "b") and self._cell is not None:
            self._cell += "^" if tag == "sup" else ""
        self._is_results = (tag == "table" and "results" in classes) or (tag != "table" and getattr(self, "_is_results", False))

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._cell is not None:
            self._row.append(self._cell.strip())
            self._cell = None
        elif tag == "b" and self._cell is not None:
            self.label = self._cell
        elif tag == "tr" and self._is_results and len(self._row) == 8 and self._row[0] != "split":
            key = (self.label, self._row[0], self._row[1].partition("^")[0], self._row[2])
            assert key not in self.cells, f"{key} is printed twice"
            self.cells[key] = self._row[3:]
        elif tag == "table":
            self._is_results = False

    def handle_data(self, data):
        self.text += data
        if self._cell is not None:
            self._cell += data.replace("\xa0", " ")


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without drawings, for tests that look at the rest: drawing takes a quarter of a second a figure."""
    for name in ("accuracy_by_length", "loss_by_step"):
        monkeypatch.setattr(plots, name, lambda *arguments: "<svg></svg>")


def as_text(runs, width=100):
    stream = io.StringIO()
    print_table(runs, Console(file=stream, width=width))
    return stream.getvalue()


def hostile_run():
    cell = {"value": 0.52, "spread": None, "statistic": "max", "source": f"source {HOSTILE}", "tag": "V"}
    row = make_row(note=f"note {HOSTILE}", task=f"task {HOSTILE}", model=f"model {HOSTILE}", published=[cell])
    attention = Attention(np.tril(np.ones((1, 2, 3, 3))), ["a", HOSTILE, "]]>"], f"caption {HOSTILE}")
    return make_run(HOSTILE, [row], config={f"key {HOSTILE}": HOSTILE}, environment={"commit": f"commit {HOSTILE}"}, attention=attention)


def test_hostile_text_is_text():
    html = render([hostile_run()._replace(metrics=[])], title=f"title {HOSTILE}", command=f"command {HOSTILE}", notes=[f"remark {HOSTILE}"])
    page = Page(html)
    assert "script" not in page.elements
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    for place in ("title", "command", "remark", "source", "note", "task", "model", "caption", "key", "commit"):
        assert f"{place} {HOSTILE}" in page.text, place
    svg = plots.accuracy_by_length([plots.Curve(HOSTILE[:30], [1, 2], [0.5, 1])])
    assert HOSTILE[:30] in Page(svg).text
    assert "script" not in Page(svg).elements


def test_page_is_self_contained_and_ids_are_unique():
    html = render([make_run(), hostile_run()._replace(metrics=[])], "title")
    page = Page(html)
    links = [value for _, name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "action", "data")]
    assert links
    assert [link for link in links if not link.startswith(("#", "data:image/png;base64,"))] == []
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.elements)
    assert "://" not in html
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) == {"#"}
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", html)) <= set(ids)


def test_same_input_gives_same_bytes_in_another_process():
    program = """
import sys
from assay.reports import run as report
assert not {"matplotlib", "jax"} & set(sys.modules), "importing the report is slow"
sys.stdout.reconfigure(encoding="utf-8")
sys.stdout.write(report.render([report.RunView(*run) for run in eval(sys.stdin.read())], "t"))
"""
    runs = [make_run(), make_run("other", [make_row("41-500")])]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    given = repr([tuple(run) for run in runs])
    done = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == render(runs, "t")


def test_numbers_on_the_page_are_the_rows(undrawn):
    rng = np.random.default_rng(0)
    runs = []
    for label in ("lstm", "transformer", "scratchpad"):
        places = [(split, metric) for split in ("iid", "41-500") for metric in ("answer_accuracy", "token_accuracy", "exact_match")]
        runs.append(make_run(label, [make_row(split, metric, float(rng.uniform(0.2, 0.9))) for split, metric in places]))
    cells = Page(render(runs, "title")).cells
    assert len(cells) == 18
    for run in runs:
        for row in run.rows:
            ours, interval, n, baselines, published = cells[run.label, row["split"], row["metric"], "0"]
            assert ours == f"{100 * row['value']:.2f} %"
            assert interval == f"{100 * row['interval'][0]:.2f}{DASH}{100 * row['interval'][1]:.2f} %"
            assert n == f"{row['n']:,}"
            assert baselines == "chance 50.00 %, majority 51.25 %"
            assert published == ""


def test_a_notebook_shows_the_rows_as_a_table():
    cell = {"value": 0.52, "spread": None, "range": None, "statistic": "max", "source": SOURCE, "tag": "V", "protocol": ""}
    rows = [make_row("iid"), make_row("41-500", value=0.50271, published=[cell], note=HOSTILE)]
    html = rows_fragment(rows, "lstm")
    assert "<script>" not in html and html.count("<tr>") == 4 and html == rows_fragment(rows, "lstm")
    cells = ("<td>84.38 %</td>", "<td>83.12\u201385.38 %</td>", "<td>50.27 %</td>", "52.0 % best run [V, ")
    for said in ("experiment reason/parity", SOURCE, *cells):
        assert said in html, said
    assert "<table>" in rows_fragment([])


def test_published_cells_keep_their_provenance(undrawn):
    quoted = {"value": 0.52, "spread": None, "statistic": "max", "source": f"{SOURCE}, quoted in X", "tag": "V2"}
    spread = {"value": 0.81, "spread": 0.012, "statistic": "mean", "source": SOURCE, "tag": "V"}
    counted = {"value": 0.0008, "spread": None, "statistic": "max", "runs": 150, "source": SOURCE, "tag": "V"}
    memory = {"value": 0.123, "spread": None, "statistic": "max", "source": "from memory", "tag": "MEM"}
    bound = {"value": 0.9, "spread": None, "statistic": "max", "source": "solved means at least nine tenths", "tag": "bound"}
    run = make_run(rows=[make_row(published=[quoted, spread, counted, memory, bound])])
    published = [(cell.text, cell.tag) for cell in arrange([run]).blocks[0].lines[0].published]
    assert published == [("52.0 % best run", "V2"), ("81.0 ± 1.2 % mean", "V"), ("0.08 % best of 150 runs", "V"), ("a range", "bound")]
    for text in (Page(render([run], "title")).text, as_text([run])):
        assert "from memory" not in text
        assert "12.3 %" not in text
        assert "quoted in X" in text
        assert text.count(SOURCE) == 2  # a footnote each for the paper and for the paper as quoted
    assert arrange([run]).footnotes == {f"{SOURCE}, quoted in X": "a", SOURCE: "b", "solved means at least nine tenths": "c"}


@pytest.mark.parametrize(
    "value, unit, metric, expected",
    [
        (1.0, "fraction", "", "100.00 %"),
        (0.99996, "fraction", "", "> 99.99 %"),
        (0.99994, "fraction", "", "99.99 %"),
        (0.00004, "fraction", "", "< 0.01 %"),
        (0.0, "fraction", "", "0.00 %"),
        (0.5, "", "exact_match", "50.00 %"),
        (12.34567, "s", "step_seconds", "12.35 s"),
        (None, "fraction", "", DASH),
    ],
)
def test_values_print_with_unit_and_never_round_to_perfect(value, unit, metric, expected):
    assert format_value(value, unit, metric) == expected


def test_table_prints_each_run_once_within_100_columns():
    cell = {"value": 1.0, "spread": None, "statistic": "max", "source": SOURCE * 3, "tag": "V2"}
    rows = [make_row("iid", note="short run", seen_in_training=0.1934), make_row("41-500", value=0.50271, published=[cell])]
    text = as_text([make_run("first", rows), make_run("second", rows), make_run("[red]x[/red]\x1b[31m", rows)])
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in text
    assert "\x1b" not in text
    for label in ("first", "second", "[red]x[/red]�[31m"):
        assert len([line for line in lines if line.startswith(label)]) == 1, label
    wanted = re.compile(rf"41-500 .* 50\.27 %  49\.02{DASH}51\.27 %  3,680  100\.0 % best run \[V2\] c")
    assert len([line for line in lines if wanted.search(line)]) == 3
    assert text.count("short run") == 1
    assert "19.34 % of the inputs" in text
    assert "chance 50.00 %, majority 51.25 %" in text


def test_table_in_a_pipe_is_whole(capsys):
    cell = {"value": 1.0, "spread": 0.01, "statistic": "mean", "source": SOURCE, "tag": "V"}
    print_table([make_run(rows=[make_row("a_split_with_a_long_name", "a_metric_with_a_name_as_long_as_this", published=[cell])])])
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert re.search(r"a_split_with_a_long_name +a_metric_with_a_name_as_long_as_this .*100\.0 ± 1\.0 % mean \[V\] a", text)


def test_seeds_stand_together_and_their_mean_last():
    cell = {"value": 0.52, "spread": None, "statistic": "max", "source": SOURCE, "tag": "V"}
    single = [make_row("41-500", value=0.5 + seed / 100, seed=seed, published=[cell]) for seed in (2, 0, 1)]
    mean = make_row("41-500", value=0.51, seed=[0, 1, 2], published=[cell], interval_method="t over seeds", by_length=None)
    runs = [make_run(rows=[row]) for row in single] + [make_run(rows=[mean], config={}, environment={}, metrics=False)]
    table = arrange([*runs, runs[0]])  # the same run twice is printed once
    expected = [("0", "50.00 %"), ("1", "51.00 %"), ("2", "52.00 %"), (f"mean 0{DASH}2", "51.00 %")]
    assert [(line.seed, line.ours) for line in table.blocks[0].lines] == expected
    assert [len(line.published) for line in table.blocks[0].lines] == [0, 0, 0, 1]
    assert "95 % intervals: Wilson (single seeds); t over seeds (means over seeds)." in table.remarks
    assert summarise(runs).endswith(f"lstm 51.00 % (means of seeds 0{DASH}2; chance 50.00 %).")
    assert format_seed([5, 0, 2]) == "mean 0, 2, 5"


def test_summary_is_the_unseen_lengths():
    expected = f"Answer accuracy on chomsky/parity_check, lengths 41{DASH}500: lstm 50.27 %, other 100.00 % (chance 50.00 %)."
    assert summarise([make_run(), make_run("other", [make_row("41-500", value=1.0), make_row("iid", "exact_match", 0.1)])]) == expected
    assert summarise([make_run(rows=[])]) == "There are no results yet."
    seeds = [make_row("41-500", value=0.51), make_row("41-500", value=0.53, seed=1)]
    lost = {**seeds[0], "value": None, "interval": None, "by_length": {}, "seed": 2}
    assert "lstm 51.00 % to 53.00 % (1 of 3 seeds has no value)" in summarise([make_run(rows=[lost, *seeds])])
    assert "lstm 51.00 % (1 of 2 seeds has no value)" in summarise([make_run(rows=[seeds[0], lost])])
    assert f"lstm {DASH} (2 of 2 seeds have no value)" in summarise([make_run(rows=[lost, lost])])
    many = [make_run(f"run{index:02d}", [make_row("41-500", value=index / 20)]) for index in range(15)]
    assert "from run00 0.00 % to run14 70.00 %, 15 runs" in summarise(many)


def drawn_curves(monkeypatch, runs):
    """The arguments of the accuracy plots that a page draws for wide screens."""
    calls = []
    monkeypatch.setattr(plots, "loss_by_step", lambda *arguments: "<svg></svg>")
    monkeypatch.setattr(plots, "accuracy_by_length", lambda *arguments: calls.append(arguments) or "<svg></svg>")
    render(runs, "title")
    return calls[::2]


def test_accuracy_plot_joins_the_splits(monkeypatch):
    rows = [make_row("41-500", value=0.25), make_row("iid", value=0.75), make_row("iid", "exact_match"), make_row("valid")]
    [(curves, metric, chance, trained, *_)] = drawn_curves(monkeypatch, [make_run(rows=rows)])
    assert (metric, chance, trained) == ("answer_accuracy", 0.5, (1, 40))
    assert list(curves[0].x) == list(range(1, 501))
    assert list(curves[0].y) == [0.75] * 40 + [0.25] * 460
    smooth = plots.smooth(curves[0], window=21)
    np.testing.assert_array_equal(smooth, curves[0].y)  # the border between the splits is not smeared


def test_a_mean_over_seeds_is_drawn_only_where_its_seeds_are_not(monkeypatch):
    rows = [make_row("41-500", value=value, seed=seed) for value, seed in ((0.2, 0), (0.4, 1), (0.3, [0, 1]))]
    [(curves, *_)] = drawn_curves(monkeypatch, [make_run("all", rows), make_run("mean only", rows[2:])])
    assert [(curve.label, curve.y[0]) for curve in curves] == [("all", 0.2), ("all", 0.4), ("mean only", 0.3)]


def test_tasks_with_many_outputs_draw_each_metric(monkeypatch):
    rows = [make_row(split, metric) for split in ("iid", "41-500") for metric in ("token_accuracy", "exact_match")]
    calls = drawn_curves(monkeypatch, [make_run(rows=rows), make_run("without lengths", [make_row(by_length=None)])])
    assert [(call[1], [curve.label for curve in call[0]]) for call in calls] == [("token_accuracy", ["lstm"]), ("exact_match", ["lstm"])]


def test_seeds_share_one_label_in_the_legend():
    seeds = [plots.Curve("lstm", [1, 2, 3], [0.1 * seed] * 3) for seed in range(4)]
    svg = plots.accuracy_by_length([*seeds, plots.Curve("_other", [1, 2, 3], [1, 1, 1])])
    assert re.findall(r">(lstm|_other)<", svg) == ["lstm", "_other"]
    paths = re.findall(r"<path[^>]*/>", svg, flags=re.DOTALL)
    assert len([path for path in paths if plots.COLOURS[0].lower() in path]) == 4 + 2  # seeds, their mean, its key in the legend


@pytest.mark.parametrize("window", [1, 3, 7, 21])
def test_moving_average_is_the_mean_of_neighbours(window):
    values = np.random.default_rng(0).normal(size=12)
    expected = [np.mean([values[other] for other in range(12) if abs(other - middle) <= window // 2]) for middle in range(12)]
    np.testing.assert_allclose(plots.moving_average(values, window), expected, rtol=1e-12)


def test_moving_average_refuses_an_even_window():
    with pytest.raises(ValueError, match="window is 4"):
        plots.moving_average([1.0], 4)


def test_geometric_average_keeps_an_exponential_decay():
    curve = plots.Curve("loss", list(range(40)), list(0.5 ** np.arange(40.0)))
    np.testing.assert_allclose(plots.smooth(curve, 9, geometric=True)[4:-4], curve.y[4:-4], rtol=1e-12)


def test_attention_is_checked_and_hides_only_what_is_masked():
    with pytest.raises(ValueError, match=r"2 tokens need \[layers, heads, 2, 2\]"):
        plots.attention_picture(np.ones((1, 1, 3, 3)), ["a", "b"])
    causal, full = np.tril(np.full((1, 1, 2, 2), 0.5)), np.full((1, 1, 2, 2), 0.5)
    assert plots.attention_picture(causal, ["a", "b"]) != plots.attention_picture(full, ["a", "b"])
    tint = plots._tint(causal[0, 0], np.tril(np.ones((2, 2), bool)))
    assert tint[0, 1, 3] == 0 < tint[0, 0, 3] < 1
    long = plots.attention_picture(np.full((1, 4, 99, 99), 0.01), [f"t{index}" for index in range(99)])
    assert 5 < len(set(re.findall(r">(t\d+)<", long))) < 50  # labels are thinned out where they would run into each other
    svg = plots.attention_picture(np.full((2, 3, 2, 2), 0.5), ["q0", "k1"])
    assert re.findall(r"layer \d, head \d", svg) == [f"layer {layer}, head {head}" for layer in range(2) for head in range(3)]


@pytest.mark.parametrize("low, high, ticks", [(0.68, 0.7, ["0.5", "1"]), (0.03, 0.9, ["0.02", "0.05", "0.1", "0.2", "0.5", "1"])])
def test_a_loss_that_hardly_moves_has_labelled_ticks(low, high, ticks):
    svg = plots.loss_by_step([plots.Curve("lstm", [10, 20, 30, 40], [high, low, float("nan"), 0.0])])
    assert [text for text in re.findall(r"text-anchor: end[^>]*>([^<]*)<", svg)] == ticks


@pytest.mark.parametrize(
    "runs, absent, present",
    [
        ([make_run(metrics=False)], ["loss"], ["results", "accuracy", "runs"]),
        (
            [make_run(rows=[make_row(by_length=None, published=None, baselines=None, interval=None)])],
            ["accuracy", "scores"],  # one run has no picture of its own
            ["results", "loss"],
        ),
        ([make_run(rows=[])], ["accuracy", "scores"], ["results", "loss"]),
        ([make_run(config={}, environment={}, metrics=False)], ["runs", "loss"], ["results"]),
    ],
)
def test_sections_without_content_are_left_out(runs, absent, present, undrawn):
    page = Page(render(runs, "title"))
    ids = {value for _, name, value in page.attributes if name == "id"}
    links = {value for tag, name, value in page.attributes if (tag, name) == ("a", "href")}
    assert not set(absent) & ids
    assert set(present) <= ids
    assert links == {f"#{name}" for name in ids if name in {"results", "accuracy", "scores", "loss", "attention", "runs", "reproduce"}}
    as_text(runs)


def test_fifteen_runs_are_all_named():
    runs = [make_run(f"variant {index:02d}", [make_row("41-500", value=index / 20)], metrics=False) for index in range(15)]
    html = render(runs, "title")
    assert len(Page(html).cells) == 15
    for run in runs:
        assert html.count(f">{run.label}</text>") == 2  # the legend for wide pages and that for phones


def test_training_time_and_configuration_are_told(undrawn):
    page = Page(render([make_run()], "title", command="assay train --config=x.py"))
    assert "trained for 12.0 s" in page.text
    assert "median 5,000 examples per second" in page.text
    assert "commit 3f9a2c1" in page.text
    assert re.search(r"model\.width\s*64", page.text)
    assert "assay train --config=x.py" in page.text
    assert "details" in page.elements
    assert "open" not in [name for tag, name, _ in page.attributes if tag == "details"]


def work_directory(path, metrics='{"step": 10, "loss": 0.5}\n{"step": 20, "lo'):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"seed": 3}))
    (path / "results.json").write_text(json.dumps({"schema": 1, "rows": [make_row(seed=3)], "environment": {"commit": "abc"}}))
    if metrics:
        (path / "metrics.jsonl").write_text(metrics)
    return path


def test_read_run_reads_a_work_directory(tmp_path):
    run = read_run(work_directory(tmp_path / "lstm" / "seed_3"))
    assert run == RunView("lstm", {"seed": 3}, [make_row(seed=3)], [{"step": 10, "loss": 0.5}], {"commit": "abc"})
    assert read_run(work_directory(tmp_path / "other", metrics=None), label="mine")[:4] == ("mine", {"seed": 3}, [make_row(seed=3)], [])


def test_read_run_names_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"{tmp_path} has no results.json")):
        read_run(tmp_path)
    broken = work_directory(tmp_path / "broken", metrics='{"step": \n{"step": 20}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl, line 1 is not JSON"):
        read_run(broken)
    (broken / "results.json").write_text('{"schema": 2}')
    with pytest.raises(UserError, match="schema 2; known: 1"):
        read_run(broken)


def test_what_a_run_saw_of_valid_is_drawn_beside_its_batches():
    run = make_run()
    lines = [{**line, "answer_accuracy": 0.9} for line in run.metrics] + [
        {"step": step, "valid_answer_accuracy": 0.5} for step in (100, 500)
    ]
    page = render([run._replace(metrics=lines)], "t")
    assert "Training progress" in page and "lstm, training batches" in page and "lstm, valid" in page and "mathdefault" not in page
    assert "Training progress" not in render([run], "t"), "a run that did not look"
    one = [*run.metrics, {"step": 100, "valid_answer_accuracy": 0.5}]
    assert "Training progress" not in render([run._replace(metrics=one)], "t"), "one look is no line"


def test_values_that_are_not_finite_are_a_dash_and_no_point():
    """A page of nothing but such values, and of an interval with one end."""
    none = make_row("test", "accuracy") | {"value": None, "interval": None, "by_length": {"3": None, "4": None}}
    html = render([make_run(rows=[none], metrics=False)], "parity")
    assert DASH in html and "<figure" not in html
    open_ended = make_row("test", "accuracy") | {"interval": [None, 0.9], "by_length": {}}
    assert "<figure" in render([make_run(rows=[open_ended], metrics=False), make_run("other", rows=[open_ended], metrics=False)], "parity")


def test_a_difference_that_rounds_to_zero_has_no_sign():
    assert [signed(value, ".2f") for value in (0.001, -0.004, -0.0, 0.006, -0.0151)] == ["0.00", "0.00", "0.00", "+0.01", "-0.02"]
    assert signed(-0.0, ".3g") == "0" and signed(-1e-9, ".3g") == "-1e-09"


def test_a_validation_without_a_value_is_no_point_of_the_curve():
    lines = [{"step": step, "valid_accuracy": value} for step, value in ((1, 0.5), (2, None), (3, 0.7), (4, 0.8))]
    ((curve,), metric) = look_curves([make_run()._replace(metrics=lines)])
    assert (metric, tuple(curve.x), tuple(curve.y)) == ("accuracy", (1, 3, 4), (0.5, 0.7, 0.8))
