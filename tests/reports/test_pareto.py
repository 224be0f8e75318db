"""The Pareto picture: who is on the front, how work directories are joined, what is refused, and labels that do not lie on each other."""

import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from assay.core.errors import UserError
from assay.diagnostics.cost.cost import Cost
from assay.diagnostics.cost.speed import Speed
from assay.reports.drawings.labels import Box, place_labels
from assay.reports.drawings.pareto import BYTES, SECONDS, fronts, pareto, quantity
from assay.reports.terminal.stages import print_fronts
from assay.verdicts.pareto import as_json, front, stages_of

ROOT = Path(__file__).resolve().parents[2]
STAGES = {  # score, bytes, seconds, times faster
    "untreated": (0.94, 4_000_000, 2e-3, 1.0),
    "distil": (0.93, 1_000_000, 1e-3, 2.0),
    "distil + int8": (0.92, 250_000, 1.5e-3, 1.4),
    "int8": (0.94, 1_000_000, 2.5e-3, 0.8),
}


def row(name: str, score: float, size: int, latency: float, faster: float) -> dict:
    cost = Cost(10, 9, size, size, 8, 8.0, 100, 0.1)
    speed = Speed(latency, 1.2 * latency, 1 / latency, 10 / latency, 0.1, faster, (0.9 * faster, 1.1 * faster), 1.0, None, "faster", 9, 10)
    told = {"interval": [score - 0.01, score + 0.01], "difference": None, "difference_interval": None, "p_value": None, "n": 100}
    return {"name": name, "workdir": "w", "score": score, **told, "cost": cost._asdict(), "speed": speed._asdict()}


def write(folder: Path, shift: float = 0.0, stages=STAGES, **changes) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [{**row(name, score + shift, *rest), "workdir": f"{folder}/{name}"} for name, (score, *rest) in stages.items()]
    (folder / "stages.json").write_text(json.dumps({"schema": 1, "metric": "accuracy", "split": "test", "rows": rows, **changes}))
    return folder


# -- the front --------------------------------------------------------------------------------------------------------------


def test_the_front_holds_what_nothing_else_beats():
    assert front([(1, 1), (2, 2), (3, 3)]) == [True, True, True]
    assert front([(1, 3), (2, 2), (3, 1)]) == [True, False, False]
    assert front([(3, 3), (1, 1), (2, 0.5), (2, 2.5)]) == [True, True, False, True]


def test_ties_duplicates_and_single_points():
    assert front([(1, 1)]) == [True] and front([]) == []
    assert front([(1, 1), (1, 1)]) == [True, True], "equal models are both on it"
    assert front([(1, 1), (1, 2)]) == [False, True], "of one cost the better"
    assert front([(1, 1), (2, 1)]) == [True, False], "of one score the cheaper"
    assert front([(1, 1), (1, 1), (1, 2)]) == [False, False, True]


def test_the_front_by_its_definition():
    random = np.random.default_rng(0)
    points = [tuple(point) for point in random.integers(0, 6, (40, 2)).tolist()]
    on = front(points)
    for point, is_on in zip(points, on, strict=True):
        beaten = [p for p in points if p[0] <= point[0] and p[1] >= point[1] and (p[0] < point[0] or p[1] > point[1])]
        assert is_on == (not beaten)
    assert any(on) and not all(on)


# -- stages -----------------------------------------------------------------------------------------------------------------


def test_stages_of_one_name_are_told_apart_by_what_was_done(tmp_path):
    """Seeds of one treatment are joined; another treatment of the same place in another pipeline is not."""
    for i, spec in enumerate(("quantize:int8", "quantize:int8", "quantize:int4")):
        folder = write(tmp_path / f"w{i}", stages={"untreated": STAGES["untreated"], "1_quantize": STAGES["int8"]})
        told = json.loads((folder / "stages.json").read_text())
        for row_, said in zip(told["rows"], ("", spec), strict=True):
            row_["spec"] = said
        (folder / "stages.json").write_text(json.dumps(told))
    found = stages_of([tmp_path / f"w{i}" for i in range(3)])
    assert [(one.name, one.runs) for one in found.stages] == [("untreated", 3), ("quantize:int8", 2), ("quantize:int4", 1)]
    assert [one.name for one in stages_of([tmp_path / "w0", tmp_path / "w1"]).stages] == ["untreated", "1_quantize"]


def test_one_work_directory_is_shown_as_it_is(tmp_path):
    found = stages_of([write(tmp_path / "a")])
    assert [one.name for one in found.stages] == list(STAGES) and (found.metric, found.split) == ("accuracy", "test")
    distil = found.stages[1]
    assert (distil.score, distil.size, distil.latency, distil.faster, distil.runs) == (0.93, 1_000_000, 1e-3, 2.0, 1)
    assert distil.interval == (0.92, pytest.approx(0.94))
    assert fronts(found) == ([False, False, True, True], [True, True, False, False])


def test_seeds_are_joined_by_their_mean(tmp_path):
    fewer = {name: STAGES[name] for name in ("untreated", "distil")}
    found = stages_of([write(tmp_path / "a"), write(tmp_path / "b", 0.02), write(tmp_path / "c", 0.04, fewer)])
    by_name = {one.name: one for one in found.stages}
    assert by_name["distil"].score == pytest.approx(0.95) and by_name["distil"].interval == (0.93, pytest.approx(0.97))
    assert (by_name["distil"].runs, by_name["int8"].runs) == (3, 2) and by_name["int8"].score == pytest.approx(0.95)


def test_a_lower_score_is_better_where_it_is(tmp_path):
    found = stages_of([write(tmp_path / "a", metric="nll")])
    assert fronts(found) == ([False, False, True, False], [False, True, True, False]), "the smallest has the lowest loss here"
    assert "better is lower" in pareto(found)


def test_the_table_says_who_is_slower(tmp_path):
    found = stages_of([write(tmp_path / "a")])
    console = Console(width=160, record=True)
    print_fronts(found, console)
    lines = {line.split("  ")[0]: line for line in console.export_text().splitlines()}
    assert re.search(r"0\.9400 .* 1 MB +4\.00 +2\.5 ms +0\.80 \(slower\) +size", lines["int8"])
    assert "16.00" in lines["distil + int8"] and "slower" not in lines["distil"] and lines["distil"].rstrip().endswith("latency")
    assert [one["front_of_size"] for one in json.loads(json.dumps(as_json(found)))] == [False, False, True, True]


def test_disturbed_latencies_are_shown_but_not_compared(tmp_path):
    quiet, loud = write(tmp_path / "quiet"), write(tmp_path / "loud")
    told = json.loads((loud / "stages.json").read_text())
    for one in told["rows"]:
        timing = {"disturbed": "disturbed: other processes used 0.8 cores"}
        one["speed"] |= {
            "latency_ratio": None,
            "throughput_ratio": None,
            "verdict": "disturbed",
            "latency_p50_seconds": 9.0,
            "timing": timing,
        }
    (loud / "stages.json").write_text(json.dumps(told))
    found = stages_of([loud])
    assert [one.faster for one in found.stages] == [None] * 4 and found.stages[0].latency == 9.0
    assert fronts(found) == ([False, False, True, True], [False] * 4) and "log scale, disturbed" in pareto(found)
    console = Console(width=160, record=True)
    print_fronts(found, console)
    assert len(re.findall(r"9 s +disturbed", console.export_text())) == 4
    both = stages_of([quiet, loud]).stages
    assert [(one.latency, one.faster, one.runs) for one in both] == [(*stage[2:], 2) for stage in STAGES.values()], "by the quiet one"
    told["rows"][1]["speed"]["timing"]["disturbed"] = ""
    (loud / "stages.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="damaged"):
        stages_of([loud])


def test_bad_input_is_told(tmp_path):
    good = write(tmp_path / "good")
    with pytest.raises(UserError, match=r"has no stages.json.*--workdir"):
        stages_of([tmp_path])
    for name, message, changes in (
        ("schema", "does not have schema 1", {"schema": 2}),
        ("empty", "damaged", {"rows": []}),
        ("rows", "damaged", {"rows": [{"name": "untreated"}]}),
        ("zero", "damaged", {"rows": [row("untreated", 0.9, 0, 1e-3, 1.0)]}),
        ("nan", "damaged", {"rows": [row("untreated", float("nan"), 10, 1e-3, 1.0)]}),
        ("twice", "duplicate row names", {"rows": [row("same", 0.9, 10, 1e-3, 1.0)] * 2}),
    ):
        with pytest.raises(UserError, match=message):
            stages_of([write(tmp_path / name, **changes)])
    with pytest.raises(UserError, match=r"metric of .*'nll'.*'accuracy'.*--workdir"):
        stages_of([good, write(tmp_path / "nll", metric="nll")])
    with pytest.raises(UserError, match=r"split of .*'valid'.*'test'"):
        stages_of([good, write(tmp_path / "valid", split="valid")])
    with pytest.raises(UserError, match=r"task of .*'digits'.*None"):
        stages_of([good, write(tmp_path / "task", task="digits")])
    (good / "stages.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        stages_of([good])


# -- the picture ------------------------------------------------------------------------------------------------------------


def test_the_picture_names_every_model_in_both_panels_and_escapes_them(tmp_path):
    stages = {**STAGES, "a < b & c $x$": (0.9, 3_000_000, 1.8e-3, 1.1)}
    drawn = pareto(stages_of([write(tmp_path / "a", stages=stages)]))
    for name in ("untreated", "distil + int8", "a &lt; b &amp; c $x$"):
        assert len(re.findall(f">{re.escape(name)}<", drawn)) == 2
    assert "size on disk" in drawn and "accuracy on test (%)" in drawn and "<script" not in drawn
    assert drawn == pareto(stages_of([tmp_path / "a"])), "the same input gives the same bytes"


def test_one_model_alone_is_drawn(tmp_path):
    drawn = pareto(stages_of([write(tmp_path / "a", stages={"untreated": STAGES["untreated"]})]))
    assert drawn.count(">untreated<") == 2


def test_quantities_are_read_at_a_glance():
    assert [quantity(value, BYTES) for value in (999, 1000, 172_400, 4_800_000, 2.5e9)] == ["999 B", "1 kB", "172 kB", "4.8 MB", "2.5 GB"]
    assert [quantity(value, SECONDS) for value in (1.5e-6, 9.999e-4, 0.0123, 2.0)] == ["1.5 µs", "1 ms", "12.3 ms", "2 s"]


def test_labels_do_not_lie_on_each_other():
    random = np.random.default_rng(0)
    frame = Box(0, 0, 440, 350)
    for _ in range(10):
        points = [tuple(point) for point in (random.random((9, 2)) * [340, 300] + [50, 25]).tolist()]
        points[1] = (points[0][0] + 3, points[0][1] + 2)  # two that nearly coincide
        sizes = [(float(width), 13.0) for width in random.integers(20, 120, len(points))]
        taken = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
        places = place_labels(points, sizes, taken, frame)
        assert [(round(box.right - box.left, 6), round(box.high - box.low, 6)) for box in places] == sizes
        assert all(one.overlap(other) == 0 for one, other in combinations(places, 2))
        assert all(box.overlap(point) == 0 for box in places for point in taken)
        assert all(frame.overlap(box) == pytest.approx(width * height) for box, (width, height) in zip(places, sizes, strict=True))


# -- the verb ---------------------------------------------------------------------------------------------------------------


def compare(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "experiments.compare", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_verb_writes_the_picture_and_refuses_in_a_sentence(tmp_path):
    folder = write(tmp_path / "a")
    done = compare("--pareto", f"--workdir={folder}")
    assert done.returncode == 0, done.stderr
    assert "distil + int8" in done.stdout and (folder / "pareto.svg").read_text().startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    done = compare(
        "--pareto", f"--workdir={folder}", f"--workdir={write(tmp_path / 'b')}", f"--plot={tmp_path / 'p.svg'}", "--format=jsonl"
    )
    assert [json.loads(line)["runs"] for line in done.stdout.splitlines()] == [2, 2, 2, 2] and (tmp_path / "p.svg").exists()
    for arguments, message in (
        (["--pareto", f"--workdir={tmp_path}"], "has no stages.json"),
        (["--pareto", f"--workdir={folder}", "--baseline=none"], "--pareto takes neither"),
        ([f"--workdir={folder}"], "missing --baseline"),
    ):
        done = compare(*arguments)
        assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: ") and message in done.stderr
        assert "Traceback" not in done.stderr
