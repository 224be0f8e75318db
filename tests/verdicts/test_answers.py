"""Files of predictions from any program: paired by id, compared by the same tests as runs, and refused where they cannot be paired."""

import io
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from assay.cli import compare as comparing
from assay.core.errors import UserError
from assay.core.means import difference_interval, units_of
from assay.core.paired import agresti_min, difference_of, mean
from assay.core.stats import discordant, holm, mcnemar, wilson
from assay.reports.terminal.answers import print_answers
from assay.verdicts.answers import COMPUTED, compare

RANDOM = np.random.default_rng(0)
N = 200
FIRST = (RANDOM.random(N) < 0.6).astype(float)
SECOND = np.maximum(FIRST, (RANDOM.random(N) < 0.3).astype(float))
OLDER = Path(__file__).parents[1] / "older" / "run" / "predictions" / "iid.jsonl"


def write(path: Path, records) -> str:
    """Writes JSON Lines; a record that is text is written as it is."""
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records))
    return str(path)


def scored(path: Path, values, key="correct", ids=None, groups=None) -> str:
    ids = range(len(values)) if ids is None else ids
    more = [{}] * len(values) if groups is None else [{"document": one} for one in groups]
    return write(path, [{"id": one, key: value, **other} for one, value, other in zip(ids, values, more, strict=True)])


def test_right_and_wrong_answers_are_compared_by_mcnemar(tmp_path):
    a = scored(tmp_path / "a.jsonl", [bool(value) for value in FIRST])
    order = RANDOM.permutation(N)
    ids = [str(i) if i % 2 else float(i) for i in order]  # "1", 1 and 1.0 are one id
    b = scored(tmp_path / "b.jsonl", [bool(SECOND[i]) for i in order], ids=ids)
    card = compare([a, b])
    one, other = card["files"]
    counts = discordant(SECOND, FIRST)
    assert (card["n"], card["score"], card["unit"], card["test"]) == (N, "correct", "fraction", "exact McNemar test")
    assert one["mean"] == pytest.approx(FIRST.mean()) and one["interval"] == pytest.approx(wilson(FIRST.mean(), N))
    assert (one["difference"], one["verdict"]) == (None, "")
    assert other["difference"] == pytest.approx(SECOND.mean() - FIRST.mean()) and other["verdict"] == "better"
    assert other["p_value"] == pytest.approx(mcnemar(*counts)) and other["difference_interval"] == pytest.approx(agresti_min(*counts, N))


def test_scores_are_compared_by_sign_flips_and_lower_may_be_better(tmp_path):
    losses = RANDOM.gamma(2.0, size=N)
    less = losses - RANDOM.random(N)
    a, b = scored(tmp_path / "a.jsonl", losses.tolist(), "loss"), scored(tmp_path / "b.jsonl", less.tolist(), "loss")
    found = {lower: compare([a, b], score="loss", lower_is_better=lower) for lower in (True, False)}
    delta = less - losses
    wanted = difference_of(mean, {"/score": less}, {"/score": losses})
    assert [card["files"][1]["verdict"] for card in found.values()] == ["better", "worse"]
    card = found[True]
    assert (card["test"], card["relative"], card["margin"]) == ("sign flips of examples", True, 0.05)
    assert card["files"][1]["p_value"] == pytest.approx(wanted.p_value)
    assert card["files"][1]["difference_interval"] == pytest.approx(difference_interval(units_of(delta), float(np.abs(delta).max())))
    nll = compare([scored(tmp_path / f"{i}.jsonl", values.tolist(), "nll") for i, values in enumerate((losses, less))], score="nll")
    assert (nll["better"], nll["files"][1]["verdict"]) == ("lower", "better")


def test_a_small_loss_is_no_share_of_right_answers(tmp_path):
    """Losses of 0, or below 1, were taken for fractions: a single one above 1 changed unit, test and margin."""
    for values in (np.zeros(40), np.linspace(0, 0.9, 40), np.linspace(0, 1.3, 40)):
        card = compare([scored(tmp_path / name, values.tolist(), "nll") for name in ("a.jsonl", "b.jsonl")], score="nll")
        assert (card["unit"], card["relative"], card["test"]) == ("", True, "sign flips of examples")
    zeros = compare([scored(tmp_path / name, [0.0] * 40, "error") for name in ("a.jsonl", "b.jsonl")], score="error", lower_is_better=True)
    assert zeros["files"][0]["interval"] is None and zeros["unit"] == ""


def test_holm_corrects_over_the_files_and_a_narrow_interval_is_no_difference(tmp_path):
    many = 5000
    base = (RANDOM.random(many) < 0.5).astype(float)
    same = base.copy()
    same[:2] = 1 - same[:2]
    little = base.copy()
    little[np.flatnonzero(base == 0)[:6]] = 1.0  # p = 0.031 alone, and a difference of 0.12 points
    worse = base * (RANDOM.random(many) < 0.9)
    every = (base, same, little, worse)
    paths = [scored(tmp_path / f"{i}.jsonl", values.astype(int).tolist()) for i, values in enumerate(every)]
    card = compare(paths)
    p_values = [one["p_value"] for one in card["files"][1:]]
    assert p_values[1] == pytest.approx(mcnemar(6, 0)) and p_values[1] < 0.05
    assert [one["verdict"] for one in card["files"]] == ["", "no difference", "no difference", "worse"]
    short = [base[:60], *(np.maximum(base[:60], RANDOM.random(60) < share) for share in (0.12, 0.15, 0.2))]
    few = [scored(tmp_path / f"few_{i}.jsonl", values.astype(int).tolist()) for i, values in enumerate(short)]
    found = compare(few)["files"][1:]
    assert [one["adjusted"] for one in found] == pytest.approx(holm([one["p_value"] for one in found]).tolist())
    assert any(one["adjusted"] > one["p_value"] for one in found)


def test_examples_of_a_group_are_resampled_together(tmp_path):
    groups = [i // 10 for i in range(N)]
    a, b = (scored(tmp_path / f"{i}.jsonl", values.astype(int).tolist(), groups=groups) for i, values in enumerate((FIRST, SECOND)))
    card = compare([a, b], group="document")
    wanted = difference_of(mean, {"/score": SECOND}, {"/score": FIRST}, {"": [str(one) for one in groups]}, right=("score",))
    assert (card["groups"], card["test"]) == (N // 10, "sign flips of groups")
    assert card["files"][1]["p_value"] == wanted.p_value
    assert card["files"][1]["difference_interval"] == pytest.approx([wanted.low, wanted.high])


def test_a_score_is_computed_from_prediction_and_target_and_said(tmp_path):
    a = write(tmp_path / "a.jsonl", [{"id": i, "prediction": [i % 2], "target": [0]} for i in range(40)])
    b = tmp_path / "b.csv"
    b.write_text("id,label,answer\r\n" + "".join(f'{i},"{ {0: "x, y", 1: "z"}[int(i % 4 == 0)] }","x, y"\r\n' for i in range(40)))
    c = write(tmp_path / "c.jsonl", [{"id": i, "label": "x, y", "answer": "x, y"} for i in range(40)])
    card = compare([a, str(b), c])
    assert card["score"] == COMPUTED and [one["mean"] for one in card["files"]] == [0.5, 0.75, 1.0]
    assert any("'prediction' equals 'target' and 'label' equals 'answer'" in note for note in card["notes"])
    assert any("40 examples with different targets" in note for note in card["notes"])


def test_csv_holds_numbers_and_truth_values_as_text(tmp_path):
    for name, texts in (("a.csv", ["true", "False", " 1 ", "0"] * 10), ("b.csv", ["0.5", "1e-1", "1", "0"] * 10)):
        (tmp_path / name).write_text("\ufeffid,score\n" + "".join(f"{i},{text}\n" for i, text in enumerate(texts)), encoding="utf-8")
    card = compare([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
    assert [one["mean"] for one in card["files"]] == pytest.approx([0.5, 0.4]) and card["score"] == "score"


def test_the_predictions_of_runs_work_with_their_headline_and_by_dotted_name(tmp_path):
    records = [json.loads(line) for line in OLDER.read_text().splitlines()] * 20
    records = [{**record, "id": i} for i, record in enumerate(records)]
    a = write(tmp_path / "a.jsonl", records)
    b = write(tmp_path / "b.jsonl", [{**one, "scores": {name: 1.0 for name in one["scores"]}} for one in records])
    card, named = compare([a, b]), compare([a, b], score="scores.token_accuracy")
    own = lambda name: np.mean([record["scores"][name] for record in records])  # noqa: E731
    assert card["score"] == "scores.answer_accuracy" and card["files"][0]["mean"] == pytest.approx(own("answer_accuracy"))
    assert named["files"][0]["mean"] == pytest.approx(own("token_accuracy")) and named["files"][1]["mean"] == 1.0


def test_scores_of_passages_are_weighed_by_their_tokens(tmp_path):
    tokens = [1.0, 3.0] * 20
    paths = []
    for name, values in (("a", [1.0, 2.0] * 20), ("b", [1.0, 1.0] * 20)):
        each = enumerate(zip(values, tokens, strict=True))
        records = [{"id": i, "scores": {"nll": nll, "tokens": many}, "group": f"file {i // 2}"} for i, (nll, many) in each]
        paths.append(write(tmp_path / f"{name}.jsonl", records))
    card = compare(paths, score="scores.nll")
    assert [one["mean"] for one in card["files"]] == [1.75, 1.0] and card["files"][1]["difference"] == pytest.approx(-0.75)
    assert (card["groups"], card["better"]) == (20, "lower")  # the file of each passage, as `compare --workdir` takes it


def test_ids_that_are_not_in_every_file_are_left_out_and_told(tmp_path):
    a, b = scored(tmp_path / "a.jsonl", [1] * 30 + [0] * 10), scored(tmp_path / "b.jsonl", [1] * 30)
    card = compare([a, b])
    assert card["n"] == 30 and [one["mean"] for one in card["files"]] == [1.0, 1.0] and [one["lines"] for one in card["files"]] == [40, 30]
    assert any(note.startswith(f"10 of 40 ids of {a} are not in every file") for note in card["notes"])
    c = scored(tmp_path / "c.jsonl", [1] * 19)
    with pytest.raises(UserError, match="only 19 of up to 40 ids are in all files, fewer than half"):
        compare([a, c])


def test_missing_scores_of_all_files_are_left_out_and_those_of_one_refused(tmp_path):
    values = FIRST.tolist()
    a = write(tmp_path / "a.jsonl", ['{"id": 0, "score": NaN}', *({"id": i, "score": values[i]} for i in range(1, N))])
    b = write(tmp_path / "b.jsonl", [{"id": i, "score": None if i == 0 else values[i]} for i in range(N)])
    card = compare([a, b])
    assert card["n"] == N - 1 and any("1 example without a finite score in any file" in note for note in card["notes"])
    c = write(tmp_path / "c.jsonl", [{"id": i, "score": None if i in (0, 7, 8) else values[i]} for i in range(N)])
    with pytest.raises(UserError, match=rf"2 examples with a score in one file and none.*first is at {re.escape(c)}, line 8"):
        compare([a, c])


def test_without_ids_lines_are_paired_if_there_are_as_many(tmp_path):
    a = write(tmp_path / "a.jsonl", [{"score": value} for value in FIRST])
    b = write(tmp_path / "b.jsonl", [{"score": value} for value in SECOND] + ["", "  "])
    card = compare([a, b])
    assert card["n"] == N and "The files have no id, so examples are paired by the number of their line." in card["notes"]
    with pytest.raises(UserError, match="200 and 60 lines and no 'id'"):
        compare([a, write(tmp_path / "c.jsonl", [{"score": value} for value in SECOND[:60]])])


GOOD = [{"id": i, "score": i % 2} for i in range(20)]
REFUSED = {
    "one file": (None, {}, "alone cannot be compared"),
    "no common id": ([{"id": f"x{i}", "score": 1} for i in range(20)], {}, "no id in common; the first is '0' in"),
    "ids twice": ([*GOOD, GOOD[3], GOOD[3], GOOD[5]], {}, "2 ids more than once, the first '3' in lines 4 and 21"),
    "no id in a line": ([*GOOD[:4], {"id": None, "score": 1}, *GOOD[5:]], {}, "line 5 has no 'id'"),
    "an unknown id": (GOOD, {"id": "key"}, "unknown field 'key'.*Known: id, score.*--id"),
    "text as a score": (
        [*GOOD[:6], {"id": 6, "score": "good"}, *GOOD[7:]],
        {},
        "line 7: the score 'score' is 'good', neither a number nor",
    ),
    "a list as a score": ([*GOOD[:6], {"id": 6, "score": [1]}, *GOOD[7:]], {}, r"line 7: the score 'score' is '\[1\]', neither"),
    "a line without a score": ([*GOOD[:6], {"id": 6}, *GOOD[7:]], {"score": "score"}, "line 7 has no 'score'"),
    "an unknown score": (GOOD, {"score": "scor"}, "unknown field of .*'scor'. Did you mean 'score'.*--score"),
    "no score at all": ([{"id": i, "text": "x"} for i in range(20)], {}, "no score in common .*b.jsonl has id, text.*--score"),
    "an unknown group": (GOOD, {"group": "file"}, "'file'.*--group"),
    "empty": ([], {}, "b.jsonl is empty"),
    "not JSON": ([GOOD[0], GOOD[1], "id,score"], {}, "line 3 is not JSON"),
    "not an object": ([GOOD[0], "[1, 2]"], {}, "line 2 is not an object but a list"),
}


@pytest.mark.parametrize(("records", "options", "told"), REFUSED.values(), ids=REFUSED)
def test_files_that_cannot_be_compared_are_one_message(tmp_path, records, options, told):
    a = write(tmp_path / "a.jsonl", GOOD)
    paths = [a] if records is None else [a, write(tmp_path / "b.jsonl", records)]
    with pytest.raises(UserError, match=told):
        compare(paths, **options)


def test_paths_that_are_no_files_are_one_message(tmp_path):
    a = write(tmp_path / "a.jsonl", GOOD)
    (tmp_path / "link.jsonl").symlink_to(a)
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe{}")
    (tmp_path / "twice.csv").write_text("id,score,id\n1,1,1\n")
    for other, told in (
        (tmp_path, "is a folder, not a file. Compare runs with --before"),
        (tmp_path / "none.jsonl", "no file"),
        (tmp_path / "link.jsonl", "is given twice"),
        (tmp_path / "bytes.jsonl", "is not UTF-8 text"),
        (tmp_path / "twice.csv", "line 1: the header names the column 'id' 2 times"),
    ):
        with pytest.raises(UserError, match=told):
            compare([a, str(other)])
    groups = [write(tmp_path / f"{name}.jsonl", [{**one, "file": name if one["id"] == 4 else "x"} for one in GOOD]) for name in "cd"]
    with pytest.raises(UserError, match=r"the example '4' is in the group 'c' of .* and in 'd'"):
        compare(groups, group="file")


def verb(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    """Runs `assay compare` in this process. Returns its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", ["compare", *words])
    with pytest.raises(SystemExit) as end:
        comparing.start()
    return end.value.code or 0, *capsys.readouterr()


def test_the_verb_takes_files_and_flags_in_any_order(tmp_path, monkeypatch, capsys):
    a, b = (scored(tmp_path / f"{i}.jsonl", values.tolist(), "f1") for i, values in enumerate((FIRST, SECOND)))
    out = tmp_path / "new" / "card.json"
    code, said, _ = verb(monkeypatch, capsys, a, "--score=f1", b, f"--out={out}")
    assert code == 0 and "better" in said and json.loads(out.read_text()) == compare([a, b], score="f1")
    code, said, _ = verb(monkeypatch, capsys, "--format=jsonl", "--lower_is_better", "--id=id", "--score=f1", a, b)
    assert code == 0 and [json.loads(line)["verdict"] for line in said.splitlines()] == ["", "worse"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert verb(monkeypatch, capsys, "~/0.jsonl", "~/1.jsonl", "--score=f1")[0] == 0
    for words, told in (
        ((a, b, "--workdir=x"), "excludes --workdir"),
        ((a, "--before=x", "--after=y"), "excludes --before and --after"),
        (("--workdir=x", "--score=f1"), "--score needs files of predictions"),
        ((a,), "alone cannot be compared"),
        ((a, b, "--config.seed=1"), "no --config overrides"),
        ((a, b, "--score=f1", f"--out={tmp_path}"), "it is a folder"),
    ):
        code, _, said = verb(monkeypatch, capsys, *words)
        assert code == 2 and said.count("error:") == 1 and told in said, said


def test_the_table_names_each_file_with_its_verdict(tmp_path):
    a, b = scored(tmp_path / "a.jsonl", FIRST.astype(int).tolist()), scored(tmp_path / "b\x1b[31m.jsonl", SECOND.astype(int).tolist())
    card = compare([a, b])
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    print_answers(card, Console(width=400, file=file))
    file.seek(0)
    text = file.read()
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["file", "n", "correct"] and f"minus {a}" in lines[0]
    assert f"{100 * SECOND.mean():.1f} %" in lines[2] and lines[2].rstrip().endswith("better") and "< 0.0001" in lines[2]
    assert "\x1b[31m" not in text and "exact McNemar test" in text and "within ±1.0 points" in text
    assert math.isclose(json.loads(json.dumps(card))["files"][1]["mean"], SECOND.mean())
