"""The card: rows of two diagnoses side by side, predictions, times in turns, what does not compare, and the terminal's table."""

import io
import itertools
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from verb_server import refused, verb  # noqa: F401 - fixtures

from assay.cli.compare import card_of, check_run, diagnosed, one_program, retime, short_names, write_card
from assay.cli.diagnose import write
from assay.core.errors import UserError
from assay.core.number import DASH, MINUS
from assay.core.paired import sign_test
from assay.diagnostics.bring import bring
from assay.diagnostics.cost.disturbance import judge
from assay.diagnostics.cost.energy import joules
from assay.diagnostics.cost.speeds import Timed, picture
from assay.diagnostics.measurement import HIGHER, LOWER, NATS, POINT, SHARE, Measurement, Plot, inapplicable, plain, sample
from assay.reports.card import card_page
from assay.reports.terminal.card import print_card
from assay.verdicts.card import BEFORE, build, crashed
from assay.verdicts.control import LEFT_OUT, Control
from assay.verdicts.diagnosis import Diagnosis, ExampleSet
from assay.verdicts.turns import times
from assay.verdicts.verdict import BETTER, OPEN, SAME, WORSE

N = 300
RANDOM = np.random.default_rng(0)
RIGHT = (RANDOM.random(N) < 0.8).astype(float)
LOSS = RANDOM.exponential(0.5, N)
IDS = RANDOM.integers(0, 2**63, N).astype(np.uint64)
LOST = np.where(np.arange(N) < 60, 0.0, RIGHT)


def diagnosis(right=RIGHT, loss=LOSS, size=1000.0, latency=0.01, ids=IDS, train=None, **about):
    """A diagnosis made by hand. `train`: its ids."""
    test = {"test": ExampleSet(ids, None)}
    sets = {**test, "train": ExampleSet(IDS[::-1] if train is None else train, None)}
    seconds = {"unit": "seconds", "better": LOWER, "margin": SHARE, "relative": True, "timing": True}
    size_margin = {"margin": SHARE, "relative": True}
    seen = {"train/score": np.ones(N), "test/score": right}
    rows = [
        inapplicable("reasoning", "half_length", "does not apply: one answer for a whole input."),
        sample(
            "generalisation",
            "score",
            "mean",
            {"test/score": right},
            right=("score",),
            unit="fraction",
            better=HIGHER,
            margin=POINT,
            how="accuracy on <300> examples",
            plot=Plot("line", [0, 1], {"score": [1.0, 2.0]}, "x", "y"),
        ),
        sample("generalisation", "train_test_gap", "gap", seen, unit="fraction", better=LOWER, margin=POINT),
        sample("calibration", "nll", "mean", {"test/loss": loss}, unit="nats", better=LOWER, margin=NATS),
        Measurement("cost", "bytes_on_disk", size, unit="bytes", better=LOWER, exact=True, **size_margin),
        Measurement("speed", "compile_seconds", 0.2, **seconds),
        Measurement("speed", "latency_p50", latency, **seconds),
    ]
    said = {
        "schema": 1,
        "task": "digits",
        "experiment": "experiments/vision/cnn_digits.py:cnn",
        "model": "cnn",
        "treatments": [],
        "split": "test",
        "quick": False,
        "checkpoint": "",
        "vocabulary": [0, 10, True],
        "environment": {"versions": {}},
    }
    return Diagnosis(said | about, rows, sets, [])


def found(card, name, after="b"):
    return next(row for row in card["rows"] if row["name"] == name)["after"][after]


def test_rows_side_by_side():
    card = build(diagnosis(), {"b": diagnosis(LOST, LOSS - 0.1, 500.0), "c": diagnosis()})
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert [row["name"] for row in card["rows"]] == [row.name for row in diagnosis().rows]
    score = card["rows"][1]
    assert score["before"]["value"] == pytest.approx(RIGHT.mean()) and score["before"]["interval"][0] < RIGHT.mean()
    assert (score["unit"], score["better"], score["margin"], score["how"]) == ("fraction", HIGHER, POINT, "accuracy on <300> examples")
    assert score["plots"] == {name: plain(diagnosis().rows[1].plot) for name in (BEFORE, "b", "c")}
    one = score["after"]["b"]
    assert one["difference"] == pytest.approx(LOST.mean() - RIGHT.mean()) and one["interval"][0] < one["difference"] < one["interval"][1]
    assert one["agreement"] == pytest.approx(np.mean(LOST == RIGHT)) and (one["n"], one["verdict"]) == (N, WORSE)
    words = {name: {row["name"]: row["after"][name]["verdict"] for row in card["rows"]} for name in ("b", "c")}
    assert words["b"] == {
        "half_length": "",
        "score": WORSE,
        "train_test_gap": WORSE,
        "nll": BETTER,
        "bytes_on_disk": BETTER,
        "compile_seconds": OPEN,
        "latency_p50": OPEN,
    }
    assert words["c"] == {**dict.fromkeys(words["b"], OPEN), "half_length": "", "score": SAME, "bytes_on_disk": SAME}
    assert card["counts"]["b"] == {BETTER: 2, WORSE: 2, SAME: 0, OPEN: 2}
    assert found(card, "nll")["adjusted"] >= found(card, "nll")["p_value"] and found(card, "bytes_on_disk")["p_value"] == 0


def test_verdicts_are_against_the_control():
    """More updates alone raise the score from 64 to 80 %; the treatment adds nothing, or it loses what they gained."""
    control = (Control("runs/b/stages/1_control", 120, ""), diagnosis(RIGHT, LOSS - 0.2, 800.0))
    same, lost = diagnosis(RIGHT, LOSS - 0.2, 500.0), diagnosis(LOST, LOSS, 500.0)
    card = build(diagnosis(LOST), {"b": same, "c": lost, "d": same}, controls={"b": control, "c": control})
    verdicts = {name: found(card, "score", name)["verdict"] for name in "bcd"}
    assert verdicts == {"b": SAME, "c": WORSE, "d": BETTER}
    row = found(card, "score")
    assert row["difference"] == 0 and row["control"]["value"] == pytest.approx(RIGHT.mean())
    gained = (RIGHT - LOST).mean()
    assert row["control"]["from_before"]["difference"] == pytest.approx(gained)
    low, high = row["control"]["from_before"]["interval"]
    assert low < gained < high
    assert found(card, "nll")["difference"] == 0 and found(card, "nll", "c")["difference"] == pytest.approx(0.2)
    size = found(card, "bytes_on_disk")
    assert (size["difference"], size["verdict"], size["control"]) == (-500, BETTER, None), "of the run before: more updates change no size"
    assert card["after"]["b"]["control"] == {"workdir": "runs/b/stages/1_control", "updates": 120, "why": ""}
    assert card["after"]["d"]["control"] is None and found(card, "score", "d")["control"] is None
    assert next(one for one in card["rows"] if one["name"] == "score")["before"]["value"] == pytest.approx(LOST.mean())
    alone = build(diagnosis(LOST), {"c": lost})
    assert found(alone, "nll", "c")["difference"] == 0, "without its control it changed nothing"
    with pytest.raises(UserError, match="the control of b"):
        build(diagnosis(LOST), {"b": same}, controls={"b": (control[0], diagnosis(ids=IDS[::-1]))})


def test_what_a_change_includes_is_said():
    before, after = diagnosis(LOST), diagnosis(RIGHT)
    beside = (Control("runs/b/stages/1_control", 120, ""), diagnosis(RIGHT))
    card = build(before, {"b": after}, controls={"b": beside})
    for shown in (text_of(card), card_page(card)):
        assert "relative to a control" in shown and "120 more updates" in shown and "control" in shown
    for why, told in ((LEFT_OUT, "include the effect of 120 more updates, since there is no control (--control=False)"), ("", "")):
        card = build(before, {"b": after}, controls={"b": (Control("", 120 if why else 0, why), None)})
        for shown in (text_of(card), card_page(card)):
            assert (told in " ".join(shown.split())) if told else "more updates" not in shown
        assert found(card, "score")["control"] is None


def test_each_run_after_has_its_own_correction():
    """Another column beside it changes no verdict."""
    alone = build(diagnosis(), {"b": diagnosis(LOST)})
    beside = build(diagnosis(), {"c": diagnosis(1 - RIGHT), "b": diagnosis(LOST)})
    assert [row["after"]["b"] for row in alone["rows"]] == [row["after"]["b"] for row in beside["rows"]]


def test_the_same_twice_is_the_same_card():
    assert build(diagnosis(), {"b": diagnosis(LOST)}) == build(diagnosis(), {"b": diagnosis(LOST)})


def test_what_does_not_compare_is_told():
    for after, word in (
        (diagnosis(task="mnist"), "different tasks: 'digits' before, and 'mnist' in b"),
        (diagnosis(vocabulary=[0, 11, True]), "different vocabularies.*11"),
        (diagnosis(split="valid"), "different splits"),
        (diagnosis(quick=True), "of b is quick.*than that of before.*--quick for both or for neither"),
        (diagnosis(ids=IDS[::-1]), "b was measured on other examples of 'test'"),
        (diagnosis(ids=IDS[1:]), "other examples of 'test'"),
    ):
        with pytest.raises(UserError, match=word):
            build(diagnosis(), {"b": after})


def test_two_models_need_not_have_learnt_from_the_same_examples():
    card = build(diagnosis(), {"b": diagnosis(LOST, train=IDS[1:], model="lstm")})
    assert found(card, "score")["verdict"] == WORSE
    gap = found(card, "train_test_gap")
    assert (gap["verdict"], gap["why"], gap["difference"]) == (OPEN, "measured on different examples than before", None)


def test_parts_that_are_only_numbered_may_be_more_or_fewer():
    both = [diagnosis(), diagnosis(LOST)]
    for one, parts in zip(both, (16, 8), strict=True):
        one.sets["batches"] = ExampleSet(np.arange(parts, dtype=np.uint64), None)
        one.rows.append(sample("optimisation health", "gradient_norm", "mean", {"batches/norm": np.arange(float(parts))}))
    card = build(both[0], {"b": both[1]})
    assert (found(card, "gradient_norm")["verdict"], found(card, "score")["verdict"]) == (OPEN, WORSE)


def test_rows_of_one_run_only_and_crashed_ones():
    before, after = diagnosis(), diagnosis()
    after.rows[1] = inapplicable("generalisation", "score", "ValueError: no", crashed=True)
    after.rows.append(Measurement("cost", "energy", 3.0, unit="joules"))
    card = build(before, {"b": after})
    crashed = found(card, "score")
    assert (crashed["verdict"], crashed["why"], crashed["crashed"]) == (OPEN, "only before: ValueError: no", True)
    assert found(card, "energy")["why"] == "only after: not in this diagnosis"
    assert [row["group"] for row in card["rows"]] == sorted((row["group"] for row in card["rows"]), key=lambda g: "rgcs".index(g[0]))


def test_predictions():
    def outcome(after, **suggestion):
        said = {"number": 1, "treatment": "l2", "rule": "r", "row": "generalisation/score", "expects": "lower", "effect": 0.02}
        card = build(
            diagnosis(), {"b": after}, applied={"b": {"from": "/runs/a", "suggestion": said | suggestion}}, workdirs={BEFORE: "/runs/a"}
        )
        (one,) = card["predictions"]
        return one["outcome"], one["why"]

    gap, higher = {"row": "calibration/nll", "effect": 0.05}, {"expects": "higher"}
    assert outcome(diagnosis(loss=LOSS - 0.1), **gap) == ("held", "")
    assert outcome(diagnosis(loss=LOSS - 0.1), **gap | {"effect": 0.2}) == (
        "did not hold",
        "in the expected direction, by less than predicted",
    )
    assert outcome(diagnosis(loss=LOSS + 0.1), **gap) == ("did not hold", "expected to be lower")
    assert outcome(diagnosis(), **gap)[0] == "not shown", "300 equal losses are too few for 0.01 nats"
    assert outcome(diagnosis(), expects="lower") == ("did not hold", "expected to be lower"), "300 equal answers are enough for a point"
    assert outcome(diagnosis(LOST), **higher) == ("did not hold", "expected to be higher")
    assert outcome(diagnosis(1 - LOST), **higher)[0] == "did not hold"
    few = np.where(np.arange(N) < 3, 0.0, RIGHT)
    assert outcome(diagnosis(few), **higher)[0] == "not shown"
    assert outcome(diagnosis(), row="reasoning/half_length")[0] == "not shown"
    assert outcome(diagnosis(), row="reasoning/none") == ("not shown", "these diagnoses have no row reasoning/none")
    other = {"from": "/runs/x", "suggestion": {"row": "calibration/nll", "expects": "lower", "effect": None}}
    (one,) = build(diagnosis(), {"b": diagnosis()}, applied={"b": other}, workdirs={BEFORE: "/runs/a"})["predictions"]
    assert "made for /runs/x" in one["why"]


def in_turns(faster, **more):
    """Of a model that is so many times as fast in each turn as one that takes 0.1 s."""
    faster = np.asarray(faster)
    turns = {"latency_p50": 0.1 / faster, "examples_per_second": 10 * faster, "compile_seconds": np.full(3, 0.2), **more}
    rows = {
        name: Measurement(
            "speed",
            name,
            float(np.median(values)),
            unit="seconds",
            n=len(values),
            how="a call; the median of turns",
            timing=True,
            margin=SHARE,
            relative=True,
            better=HIGHER if name == "examples_per_second" else LOWER,
            plot=picture(name, values, "seconds"),
        )
        for name, values in turns.items()
    }
    return Timed(turns, rows)


def test_times_are_those_of_the_turns():
    turns = 2.0 + 0.1 * np.sin(np.arange(25))
    told = times(in_turns([1.0] * 25), in_turns(turns, tokens_per_second=turns))
    assert "tokens_per_second" not in told.changes, "only one of them writes"
    latency = told.changes["latency_p50"]
    assert latency.value == pytest.approx(np.median(1 / turns) - 1) and latency.interval[0] < latency.value < latency.interval[1]
    assert latency.p_value == sign_test(turns) == pytest.approx(2 / 2**25) and latency.turns == 25
    assert told.changes["examples_per_second"].value == pytest.approx(np.median(turns) - 1)
    card = build(diagnosis(), {"b": diagnosis()}, times={"b": told})
    row = next(row for row in card["rows"] if row["name"] == "latency_p50")
    assert row["before"]["value"] == pytest.approx(0.1) and "in turns" in row["how"]
    assert row["after"]["b"]["value"] == pytest.approx(0.1 / np.median(turns)) and row["after"]["b"]["verdict"] == BETTER
    assert row["after"]["b"]["relative"] and row["after"]["b"]["difference"] == latency.value
    assert row["plots"]["b"]["lines"]["ms"] == pytest.approx(100 / turns, rel=1e-3), "turn by turn"
    compiled = found(card, "compile_seconds")
    assert (compiled["difference"], compiled["n"], compiled["verdict"]) == (0.0, 3, OPEN), "three turns show nothing"
    untimed = build(diagnosis(), {"b": diagnosis()})
    assert found(untimed, "compile_seconds")["why"] == "measured once for each model, not in turns"
    same = build(diagnosis(), {"b": diagnosis()}, times={"b": times(in_turns([1.0] * 25), in_turns(np.full(25, 0.99)))})
    assert found(same, "latency_p50")["verdict"] == SAME


def run_folder(path, step="1", seal="{}", **config):
    (path / "checkpoints" / step).mkdir(parents=True)
    (path / "checkpoints" / step / "seal.json").write_text(seal)
    whole = {"experiment": str(path), "composition": {}, "task": {}, "model": {}, "treatments": [], "seed": 0}
    (path / "config.json").write_text(json.dumps(whole | config))
    return str(path)


def test_a_run_and_its_copy_are_one_program(tmp_path):
    first = run_folder(tmp_path / "a")
    copy, other, again = run_folder(tmp_path / "b"), run_folder(tmp_path / "c", seal="[]"), run_folder(tmp_path / "d", seed=1)
    assert [one_program(first, path) for path in (first, copy, other, again, tmp_path)] == [True, True, False, False, False]
    told = retime(first, {"a": first, "none": str(tmp_path / "none")}, 1.0)
    assert told["a"].one_program and not told["none"].one_program
    assert told["none"].untimed == f"not measured in turns: no checkpoint in {tmp_path / 'none'}"
    card = build(diagnosis(), {"a": diagnosis(latency=0.02), "none": diagnosis()}, told)
    assert all(row["after"]["a"]["verdict"] == SAME for row in card["rows"] if row["before"]["applies"])
    assert found(card, "latency_p50", "none")["why"].startswith("not measured in turns")


def test_a_disturbed_timing_has_no_verdict():
    timing = judge({"before": [1.0], "b": [1.0]}, {"before": [1.0], "b": [1.1]}, 0.8)
    before, after = (in_turns(np.full(25, faster))._replace(timing=timing) for faster in (1.0, 3.0))
    card = build(diagnosis(), {"b": diagnosis()}, times={"b": times(before, after)})
    row = found(card, "latency_p50")
    assert (row["verdict"], row["why"], row["difference"]) == (OPEN, "disturbed: other processes used 0.8 cores", None)
    assert card["timings"]["b"] == {
        "alone_seconds": {"before": 1.0, "b": 1.0},
        "turn_seconds": {"before": 1.0, "b": 1.1},
        "others_cores": 0.8,
        "disturbed": "disturbed: other processes used 0.8 cores",
    }
    calm = judge({}, {}, 0.01)
    before, after = (one._replace(timing=calm) for one in (before, after))
    assert found(build(diagnosis(), {"b": diagnosis()}, times={"b": times(before, after)}), "latency_p50")["verdict"] == BETTER


def test_those_with_checkpoints_take_turns(tmp_path, monkeypatch, quiet):
    """A model of fifty layers after one of a single one."""

    def load(path):
        params = {str(i): np.full((256, 256), 0.01, np.float32) for i in range(50 if path.endswith("deep") else 1)}

        def apply(params, batch):
            x = batch["inputs"]
            for kernel in params.values():
                x = jnp.tanh(x @ kernel)
            return x

        subject = bring(apply, params, {"test": (np.ones((64, 256), np.float32), np.zeros(64, int))})
        return subject.model, subject.params, subject.task

    monkeypatch.setattr("assay.cli.compare.load", load)
    a, deep = (run_folder(tmp_path / name, seal=name) for name in ("a", "deep"))
    told = retime(a, {"deep": deep, "same": a}, 8.0)
    assert told["same"].one_program and not told["same"].changes
    slow = told["deep"]
    assert slow.after["latency_p50"].value > slow.before["latency_p50"].value > 0 and slow.changes["latency_p50"].value > 0.5
    assert {*slow.changes} == {
        "compile_seconds",
        "latency_p50",
        "latency_p90",
        "examples_per_second",
        "batched_examples_per_second",
        "roofline",
        *(("energy",) if joules() else ()),
    }
    assert slow.changes["batched_examples_per_second"].value < -0.5 and slow.changes["latency_p50"].turns >= 6
    card = build(diagnosis(), {"deep": diagnosis(), "same": diagnosis()}, told)
    assert (found(card, "latency_p50", "deep")["verdict"], found(card, "latency_p50", "same")["verdict"]) == (WORSE, SAME)


def test_a_model_that_cannot_be_timed_does_not_take_the_card_with_it(tmp_path, monkeypatch):
    def fails(runs, seconds):
        if "b" in runs:
            raise ZeroDivisionError("no\n time")
        return dict.fromkeys(runs, in_turns([1.0] * 25))

    monkeypatch.setattr("assay.cli.compare._in_turns", fails)
    a, b, c = (run_folder(tmp_path / name, seal=name) for name in ("a", "b", "c"))
    card = build(diagnosis(), {"b": diagnosis(), "c": diagnosis()}, retime(a, {"b": b, "c": c}, 1.0))
    assert found(card, "latency_p50")["why"] == "crashed: ZeroDivisionError: no time" and found(card, "latency_p50")["verdict"] == OPEN
    assert found(card, "score")["verdict"] == SAME and found(card, "latency_p50", "c")["verdict"] == SAME
    assert crashed(card) == ["compile_seconds", "latency_p50"] and crashed(build(diagnosis(), {"b": diagnosis()})) == []


def text_of(card, width=160, encoding="utf-8"):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    print_card(card, Console(file=file, width=width))
    return raw.getvalue().decode(encoding)


def test_the_terminal_says_better_and_worse_as_verdicts_only():
    said = {
        "number": 1,
        "treatment": "augment",
        "rule": "r",
        "row": "generalisation/score",
        "expects": "higher",
        "effect": 0.02,
        "unit": "fraction",
    }
    before, after = diagnosis(), diagnosis(LOST, LOSS - 0.1, 500.0, experiment="\x1b[31mred")
    card = build(before, {"b": after}, applied={"b": {"from": "a", "suggestion": said}})
    text = text_of(card)
    lines = [line.rstrip() for line in text.splitlines()]
    score = next(line for line in lines if line.strip().startswith("score"))
    assert re.search(rf"score +\d\d\.\d % +\d\d\.\d % +{MINUS}\d\d\.\d points +{MINUS}.* to {MINUS}.* points +< 0\.0001 +worse$", score)
    size = next(line for line in lines if line.strip().startswith("bytes on disk"))
    assert re.search(rf"bytes on disk +1 kB +500 B +{MINUS}500 B +{DASH} +< 0.0001 +better$", size)
    for line in lines:
        for word in re.findall("better|worse", line):
            counts = re.fullmatch(r"b: (\d+ (better|worse|no difference|inconclusive)(, )?)+", line)
            assert line.endswith(word) or counts or line.startswith("Both are sets of weights"), line
    assert "b: 2 better, 2 worse, 2 inconclusive" in text
    assert (
        "augment was expected to make generalisation/score higher by 2.0 points, observed " + MINUS in text
        and "the prediction did not hold" in text
    )
    assert "Not applicable (reasons are on the page): half length." in text
    assert "inconclusive, measured once for each model, not in turns: compile seconds, latency p50." in text
    assert "\x1b" not in text
    assert text_of(card, encoding="ascii").isascii()


def test_several_runs_are_a_matrix():
    card = build(diagnosis(), {"b": diagnosis(LOST), "c": diagnosis(size=500.0), "runs/d": diagnosis()})
    text = text_of(card)
    head, score = (next(line for line in text.splitlines() if line.strip().startswith(word)) for word in ("row", "score"))
    assert head.split() == ["row", "before", "b", "c", "runs/d"]
    assert re.search(rf"score +\d\d\.\d % +{MINUS}\d\d\.\d points ✕ +0 points = +0 points =$", score)
    assert "✓ better" in text and "half length" not in text.partition("✓ better")[0]
    assert text_of(card, encoding="ascii").isascii()


def test_a_verdict_is_never_cut_off():
    card = build(diagnosis(), {"b": diagnosis(LOST)})
    assert [line.split()[-1] for line in text_of(card, width=60).splitlines() if line.strip().startswith("score")] == ["worse"]


def test_names_tell_runs_apart():
    assert short_names(["runs/a", "runs/b/"]) == ["a", "b"]
    assert short_names(["runs/x/small", "runs/y/small"]) == ["x/small", "y/small"]
    assert short_names(["s/a/seed_0", "s/b/seed_0"]) == ["a/seed_0", "b/seed_0"] and short_names(["s/a/seed_0"]) == ["a/seed_0"]
    assert short_names(["runs/before"]) == ["runs/before"]
    with pytest.raises(UserError, match=r"--after=runs/[.]{2}/runs/a is given twice"):
        short_names(["runs/a", "runs/../runs/a"])


@pytest.fixture
def folders(tmp_path):
    for name, one in (("a", diagnosis()), ("b", diagnosis(LOST)), ("other", diagnosis(task="mnist"))):
        (tmp_path / name).mkdir()
        write(one, tmp_path / name)
    return tmp_path


def test_a_diagnosis_of_another_checkpoint_is_made_anew(folders, monkeypatch, capsys):
    made = []

    def diagnose(workdir, quick):
        made.append((workdir, quick))
        write(diagnosis(vocabulary=(0, 10, True)), workdir)

    monkeypatch.setattr("assay.cli.compare.diagnose", diagnose)
    a = str(folders / "a")
    assert diagnosed(a, False).about["checkpoint"] == "" and not made, "without a checkpoint what is there is all there is"
    run_folder(folders / "a")
    diagnosed(a, True)
    run_folder(folders / "new")
    assert diagnosed(str(folders / "new"), False).about["vocabulary"] == [0, 10, True]
    assert made == [(a, True), (str(folders / "new"), False)] and "has changed since its diagnosis" in capsys.readouterr().err


def test_the_card_of_folders(folders):
    (folders / "b" / "applied.json").write_text(
        json.dumps({"from": str(folders / "a"), "suggestion": {"number": 1, "row": "generalisation/score", "expects": "higher"}})
    )
    card = card_of(str(folders / "a"), [str(folders / "b")], 1.0)
    assert card["before"]["workdir"] == str(folders / "a") and card["predictions"][0]["outcome"] == "did not hold"
    assert found(card, "latency_p50")["why"] == f"not measured in turns: no checkpoint in {folders / 'a'} and {folders / 'b'}"
    rows, page = write_card(card, folders / "out")
    assert json.loads(rows.read_text()) == json.loads(json.dumps(card)) and page.read_text().startswith("<!doctype html>")
    (folders / "b" / "applied.json").write_text("{")
    with pytest.raises(UserError, match=r"applied.json cannot be read.*apply the suggestion again"):
        card_of(str(folders / "a"), [str(folders / "b")], 1.0)


def test_the_card_of_a_treated_run_finds_its_control(folders, monkeypatch):
    """It is measured without times, and read where it has been diagnosed."""
    control = folders / "b" / "stages" / "1_control"
    control.mkdir(parents=True)
    (control / "results.json").write_text("{}")
    rows = [{"workdir": str(folders / "a")}, {"updates": 9, "control": {"workdir": "stages/1_control"}}]
    (folders / "b" / "stages.json").write_text(json.dumps({"rows": rows}))
    made = []

    def diagnose(workdir, quick, spared=()):
        made.append((workdir, spared))
        return diagnosis(LOST)

    monkeypatch.setattr("assay.cli.compare.diagnose", diagnose)
    card = card_of(str(folders / "a"), [str(folders / "b")], 1.0)
    assert made == [(str(control), ("cost", "speed"))] and card["after"]["b"]["control"]["updates"] == 9
    assert found(card, "score")["difference"] == 0 and found(card, "score")["control"]["value"] == pytest.approx(LOST.mean())
    write(diagnosis(LOST), control)
    assert card_of(str(folders / "a"), [str(folders / "b")], 1.0)["rows"] == card["rows"] and len(made) == 1


def test_other_tasks_are_told_before_a_diagnosis(tmp_path):
    a, b = (run_folder(tmp_path / name, task={"name": name}) for name in ("digits", "mnist"))
    with pytest.raises(UserError, match="different tasks: 'digits' before, and 'mnist' in mnist"):
        card_of(a, [b], 1.0)


def test_a_folder_of_runs_is_no_run(folders):
    for seed, depth in itertools.product(range(4), ("study/lstm", "study/rnn")):
        run_folder(folders / depth / f"seed_{seed}")
    with pytest.raises(UserError, match=r"study holds 8 runs, but --after takes one.*: lstm/seed_0, .*\.\.\.\.$"):
        check_run(str(folders / "study"), "--after")
    with pytest.raises(UserError, match="lstm holds 4 runs, but --before takes one"):
        check_run(str(folders / "study" / "lstm"), "--before")
    with pytest.raises(UserError, match=r"no run in .*nowhere"):
        check_run(str(folders / "nowhere"), "--before")


MISTAKES = {
    "no after": (["--before={a}"], "missing --after"),
    "no before": (["--after={a}"], "missing --before"),
    "nothing": ([], "missing --before and --after, or --workdir"),
    "two comparisons": (["--before={a}", "--after={b}", "--workdir={a}", "--split=test"], "--before and --after and --workdir and --split"),
    "an unknown run": (["--before={a}", "--after={a}x"], "no run in"),
    "other tasks": (["--before={a}", "--after={other}"], "different tasks: 'digits' before, and 'mnist' in other"),
    "no time": (["--before={a}", "--after={b}", "--seconds=0"], "--seconds=0.0 is not a duration"),
    "an older schema": (["--before={a}", "--after={old}"], "schema 0"),
    "a damaged one": (["--before={a}", "--after={bad}"], "cannot be read"),
}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_mistakes_end_the_verb_with_one_message(verb, folders, name):
    for folder, content in (("old", '{"schema": 0}'), ("bad", "{")):
        (folders / folder).mkdir()
        (folders / folder / "diagnosis.json").write_text(content)
    arguments, word = MISTAKES[name]
    places = {key: folders / key for key in ("a", "b", "other", "old", "bad")}
    refused(verb("compare", *(argument.format(**places) for argument in arguments)), word)
    assert not list(folders.rglob("card.*")), "nothing is half written"


def test_the_verb_writes_the_card_and_says_what_crashed(verb, folders):
    done = verb("compare", f"--before={folders / 'a'}", f"--after={folders / 'b'}")
    assert done.code == 0, done.err
    assert "b: 2 worse, 1 no difference, 3 inconclusive" in done.out and f"page: {folders / 'b' / 'card.html'}" in done.out
    crashed = diagnosis()
    crashed.rows[1] = inapplicable("generalisation", "score", "ValueError: no", crashed=True)
    write(crashed, folders / "b")
    done = verb("compare", f"--before={folders / 'a'}", f"--after={folders / 'b'}", f"--out={folders / 'out'}")
    assert done.code == 1 and "score could not be measured" in done.err and (folders / "out" / "card.html").exists()
