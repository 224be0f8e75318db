"""Comparison of runs: paired by example and seed, corrected for how many are made, and refused where examples differ."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.core.errors import UserError
from assay.core.seeds import two_levels
from assay.core.stats import discordant, holm, mcnemar
from assay.reports.drawings.differences import differences
from assay.reports.terminal.comparison import print_comparison
from assay.verdicts.comparison import as_json, compare, difference_over, runs_of

ROOT = Path(__file__).resolve().parents[2]
N = 60
RANDOM = np.random.default_rng(0)
BASE = (RANDOM.random((3, N)) < 0.5).astype(float)  # [seeds, examples]
BETTER = np.maximum(BASE, (RANDOM.random((3, N)) < 0.6).astype(float))


def write_run(folder, seed, scores, split="test", metric="accuracy", ids=None, groups=None):
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    config = {"seed": seed, "experiment": "e", "composition": {}, "task": {}, "model": {}, "treatments": []}
    (folder / "config.json").write_text(json.dumps(config))
    lines = []
    for i, score in zip(range(len(scores)) if ids is None else ids, scores, strict=True):
        group = {} if groups is None else {"group": groups[i]}
        lines.append(json.dumps({"id": int(i), "length": 1, "target": int(i) % 3, **group, "scores": {"nll": 1 - score, metric: score}}))
    (folder / "predictions" / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def study(tmp_path):
    for seed in range(3):
        write_run(tmp_path / "none" / f"seed_{seed}", seed, BASE[seed])
        write_run(tmp_path / "l2" / f"seed_{seed}", seed, BETTER[seed][::-1], ids=range(N)[::-1])  # the order of lines does not matter
        write_run(tmp_path / "same" / f"seed_{seed}", seed, BASE[seed])
    return tmp_path


def test_differences_are_those_of_the_same_example_and_seed(study):
    l2, same = compare(runs_of([study]), "none", "test")
    assert (l2.name, same.name, l2.metric, l2.seeds, l2.n) == ("l2", "same", "accuracy", [0, 1, 2], N)
    assert l2.value == pytest.approx(BETTER.mean()) and l2.baseline_value == pytest.approx(BASE.mean())
    assert l2.difference == two_levels(BETTER - BASE, largest=1.0) and l2.of == "recipe"
    assert l2.each == pytest.approx((BETTER - BASE).mean(axis=1).tolist())
    assert [l2.adjusted, same.adjusted] == holm([l2.difference.p_value, same.difference.p_value]).tolist()
    assert (l2.verdict, same.verdict) == ("better", "inconclusive")
    assert (same.difference.value, same.difference.p_value) == (0, 1) and same.difference.low < 0 < same.difference.high
    assert l2.gap is None and json.loads(json.dumps(as_json(l2)))["difference"]["value"] == pytest.approx(l2.difference.value)


def test_a_remedy_that_changes_what_is_asked_answers_the_same_examples(tmp_path):
    """A scratchpad's target is all states: the input says which example it is."""
    for name, target, scores in (("direct", [1], [0.0, 0.0, 1.0, 0.0]), ("scratchpad", [0, 1, 1], [1.0, 1.0, 1.0, 1.0])):
        write_run(tmp_path / name / "seed_0", 0, scores)
        path = tmp_path / name / "seed_0" / "predictions" / "test.jsonl"
        records = [json.loads(line) | {"input": [i, 1, 0], "target": target} for i, line in enumerate(path.read_text().splitlines())]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    (found,) = compare(runs_of([tmp_path]), "direct", "test")
    assert found.difference.value == pytest.approx(0.75)


def test_lower_is_better_where_the_metric_says_so(study):
    assert {one.name: one.verdict for one in compare(runs_of([study]), "none", "test", "nll")} == {"l2": "better", "same": "inconclusive"}
    assert {one.name: one.verdict for one in compare(runs_of([study]), "l2", "test", "nll")} == {"none": "worse", "same": "worse"}


def test_only_seeds_that_both_have_are_paired(study):
    write_run(study / "none" / "seed_7", 7, np.zeros(N))
    write_run(study / "other" / "seed_9", 9, np.zeros(N))
    with pytest.raises(UserError, match="'other' and 'none' have no seed in common"):
        compare(runs_of([study]), "none", "test")
    write_run(study / "other" / "seed_7", 7, np.ones(N))
    other = compare(runs_of([study]), "none", "test")[1]
    assert (other.name, other.seeds, other.difference.value, other.of) == ("other", [7], 1.0, "weights")


@pytest.mark.parametrize("groups", [None, list("abcdefgh") * 5])
def test_equal_answers_give_no_interval_of_zero_width_with_tokens_or_without(groups):
    scores, tokens = np.full((1, 40), 2.0), np.arange(1.0, 41.0)
    for weights in (None, tokens):
        found = difference_over(scores, scores, groups, right=False, weights=weights)
        assert (found.value, found.p_value) == (0, 1) and np.isnan([found.low, found.high]).all()
    moved = difference_over(scores + 0.1 * (tokens > 20), scores, None, right=False, weights=tokens)
    assert moved.low < moved.value < moved.high


def test_folds_in_several_folders_are_one(study, tmp_path):
    folds = [(RANDOM.random(N) < 0.5).astype(float) for _ in range(2)]
    for i, scores in enumerate(folds):
        write_run(tmp_path / f"fold_{i}" / "kfold" / "seed_0", 0, scores)
        write_run(tmp_path / f"fold_{i}" / "kfold" / "seed_0", 0, [i], split="train", ids=[50 + i])  # each trains on others
    found = compare(runs_of([study, tmp_path / "fold_0", tmp_path / "fold_1"]), "none", "test")[-1]
    assert found.difference.value == pytest.approx(np.mean(folds) - BASE[0].mean()) and found.seeds == [0]
    assert found.gap == pytest.approx(0.5 - np.mean(folds)) and found.baseline_gap is None


def test_whole_groups_are_resampled(study):
    for name, scores in (("none", BASE), ("l2", BETTER)):
        for seed in range(3):
            write_run(study / name / f"seed_{seed}", seed, scores[seed], groups=[f"file {i // 20}" for i in range(N)])
    found = compare({name: runs_of([study])[name] for name in ("none", "l2")}, "none", "test")[0]
    assert found.difference == two_levels(BETTER - BASE, [i // 20 for i in range(N)], largest=1.0)


@pytest.mark.parametrize(("n", "exact"), [(1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625)])
def test_few_examples_prove_nothing_however_alike_they_are(tmp_path, n, exact):
    """All better on n examples, for one seed and for three."""
    for seed in range(3):
        write_run(tmp_path / "none" / f"seed_{seed}", seed, np.zeros(n))
        write_run(tmp_path / "l2" / f"seed_{seed}", seed, np.ones(n))
    runs = runs_of([tmp_path])
    single = {name: {0: seeds[0]} for name, seeds in runs.items()}
    for given in (runs, single):
        (found,) = compare(given, "none", "test")
        assert (found.difference.value, found.verdict) == (1, "inconclusive")
        assert found.difference.p_value == exact
    assert json.loads(json.dumps(as_json(found), allow_nan=False))["of"] == "weights"


def test_one_seed_has_mcnemars_test(study):
    runs = {name: {0: seeds[0]} for name, seeds in runs_of([study]).items()}
    l2 = compare(runs, "none", "test")[0]
    assert l2.difference.p_value == mcnemar(*discordant(BETTER[0], BASE[0])) and l2.of == "weights"


def test_the_gap_is_train_less_the_split(study):
    for seed in range(3):
        write_run(study / "l2" / f"seed_{seed}", seed, np.ones(10), split="train")
        write_run(study / "none" / f"seed_{seed}", seed, np.full(10, 0.5), split="train")
    l2, same = compare(runs_of([study]), "none", "test")
    assert l2.gap == pytest.approx(1 - BETTER.mean()) and l2.baseline_gap == pytest.approx(0.5 - BASE.mean())
    assert same.gap is None


def test_what_does_not_compare_is_told(study, tmp_path):
    runs = runs_of([study])
    for arguments, word in [
        (("nobody", "test"), "'nobody'.*l2, none, same.*--baseline"),
        (("none", "valid"), "no predictions of 'valid' .it has test"),
        (("none", "test", "f1"), "'f1'.*accuracy, nll.*--metric"),
    ]:
        with pytest.raises(UserError, match=word):
            compare(runs, *arguments)
    with pytest.raises(UserError, match="only variant"):
        compare({"none": runs["none"]}, "none", "test")
    with pytest.raises(UserError, match="no run in"):
        runs_of([tmp_path / "nowhere"])
    write_run(study / "same" / "seed_2", 2, BASE[2][:-1])
    with pytest.raises(UserError, match=r"'same' and 'none' .seed 2. were not evaluated on the same examples"):
        compare(runs, "none", "test")


def test_the_verb_prints_a_line_each(study, capsys):
    print_comparison(compare(runs_of([study]), "none", "test"))
    text = capsys.readouterr().out
    assert "minus none" in text and "better" in text and "Holm" in text and "3 of 3" in text and "over seeds and examples" in text
    print_comparison(compare({name: {0: seeds[0]} for name, seeds in runs_of([study]).items()}, "none", "test"))
    assert "a verdict on one seed is one on its weights, not on the recipe" in " ".join(capsys.readouterr().out.split())
    command = [sys.executable, "-m", "experiments.compare", f"--workdir={study}", "--baseline=none", "--format=jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": f"{ROOT / 'lib'}:{ROOT}", "PATH": ""})
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["better", "inconclusive"]


def test_the_picture_shows_every_variant_with_its_verdict(study, tmp_path):
    found = compare(runs_of([study]), "none", "test")
    drawn = differences(found)
    assert drawn == differences(found) and drawn.index("l2") < drawn.index("same")
    shift = 100 * (BETTER.mean() - BASE.mean())
    assert f"{shift:+.3g}, better" in drawn and "inconclusive" in drawn and "percentage points" in drawn
    worse = differences(compare(runs_of([study]), "none", "test", "nll"))
    assert f"{-shift / 100:+.3g}, better" in worse and "points" not in worse, "lower is better, in its own unit"
    command = [sys.executable, "-m", "experiments.compare", f"--workdir={study}", "--baseline=none", f"--plot={tmp_path / 'd.svg'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": f"{ROOT / 'lib'}:{ROOT}", "PATH": ""})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "d.svg").read_text().startswith("<svg xmlns=")
