"""What a study publishes, and the tables of it on a page."""

import json
import shlex

import pytest

from assay.cli.publish import placeless, publish, render
from assay.core.errors import UserError
from assay.reports.results import EACH, FITTED, MARKS, NOT_RUN, key_of, lines, seen, tables
from assay.reports.table import DASH

CELL = {"value": 0.52, "spread": None, "statistic": "max", "source": "a paper", "tag": "V2"}


def row(split="41-500", metric="answer_accuracy", value=0.5, seed=0, **changes):
    made = {"experiment": "reason/parity:lstm", "task": "chomsky/parity_check", "model": "lstm", "treatment": "none", "split": split}
    made |= {"metric": metric, "value": value, "unit": "fraction", "n": 3680, "seed": seed, "steps": 1000, "published": []}
    return made | {"interval": [value - 0.01, value + 0.01], "interval_method": "Wilson", "baselines": {"chance": 0.5}} | changes


def study(folder, rows):
    folder.mkdir(exist_ok=True)
    environment = {"commit": "0123456789abcdef", "devices": "1 x cpu"}
    (folder / "results.json").write_text(json.dumps({"command": "python -m x", "environment": environment, "rows": rows}))
    return folder


def test_a_study_as_a_file(tmp_path):
    rows = [row("iid", value=1.0, by_length={"1": 1.0}), row(value=0.5, by_length={"41": 0.5}, published=[CELL])]
    table = publish(study(tmp_path / "study", rows), "parity", tmp_path / "out")
    assert "52.0 % (best; a paper) [V2]" in table
    kept = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert kept["command"] == "python -m x" and kept["environment"]["devices"] == "1 x cpu"
    assert kept["rows"] == [{key: value for key, value in made.items() if key != "by_length"} for made in rows]
    assert (tmp_path / "out" / "parity.svg").read_text().startswith("<svg"), "figures by length are drawn"


@pytest.mark.parametrize("metric", ["answer_accuracy", "token_accuracy", "exact_match"])
def test_what_is_measured_by_length_is_drawn(metric, tmp_path):
    rows = [row(metric=metric, by_length={"41": 0.5, "60": 0.7, "80": 0.9}), row(metric="exact_match", by_length={"41": 0.1, "60": 0.0})]
    publish(study(tmp_path / "study", rows), "parity", tmp_path / "out")
    drawn = (tmp_path / "out" / "parity.svg").read_text()
    assert ">lstm<" in drawn, "the curve has its run's name"


def test_what_a_run_saw_of_valid_as_it_learnt_is_kept_and_drawn(tmp_path):
    folder = study(tmp_path / "study", [row("test")])
    run = folder / "lstm" / "seed_0"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "results.json").write_text(json.dumps({"schema": 1, "environment": {}, "rows": [row("test")]}))
    looks = [{"step": step, "valid_answer_accuracy": value} for step, value in ((100, 0.1), (200, 0.9))]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [{"step": 100, "answer_accuracy": 1.0}, *looks]))
    publish(folder, "late", tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "late.json").read_text())
    assert kept["looks"] == [{"run": "lstm, valid", "step": [100, 200], "answer_accuracy": [0.1, 0.9]}] and len(kept["rows"]) == 1
    drawn = (tmp_path / "out" / "late_steps.svg").read_text()
    assert ">lstm, valid<" in drawn and ">lstm, training batches<" in drawn
    publish(study(tmp_path / "other", [row("test")]), "plain", tmp_path / "out")
    assert not (tmp_path / "out" / "plain_steps.svg").exists() and "looks" not in json.loads((tmp_path / "out" / "plain.json").read_text())


def test_a_file_holds_the_config_of_each_experiment_and_the_command_of_a_single_run(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    config = {"experiment": "reason/parity:lstm", "composition": {}, "seed": 3, "overrides": {"model.width": "8"}, "model": {"width": 8}}
    (run / "config.json").write_text(json.dumps(config))
    (run / "results.json").write_text(json.dumps({"schema": 1, "environment": {}, "rows": [row("test", overrides={"model.width": "8"})]}))
    publish(run, "single", tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "single.json").read_text())
    assert kept["configs"] == {"reason/parity:lstm": {"model": {"width": 8}}}, "without what differs between seeds"
    assert kept["command"] == "assay train --config=experiments/reason/parity.py:lstm --config.model.width=8 --config.seed=3 --workdir=W"
    assert kept["rows"][0]["overrides"] == {"model.width": "8"}


def test_a_published_command_has_no_folder_of_a_machine():
    assert placeless("assay study --config=a:b --workdir=/home/me/runs/cells/x") == "assay study --config=a:b --workdir=runs/x"
    kept = "assay study --config=a:b --workdir=runs/demo"
    assert placeless(kept) == kept
    odd = "assay train --config='my file.py:a,b' --config.task.x=\"it's\" --workdir='/home/me/my runs/x y/'  # with a remark, it's"
    said, mark, remark = placeless(odd).partition("  # ")
    assert shlex.split(said) == ["assay", "train", "--config=my file.py:a,b", "--config.task.x=it's", "--workdir=runs/x y"]
    assert (mark, remark) == ("  # ", "with a remark, it's")
    assert placeless("assay 'train --workdir=/x") == "assay 'train --workdir=/x"


def test_one_line_a_task_run_and_metric():
    mean = row(value=0.75, seed=[0, 1], best=0.9, published=[CELL])
    single = [row("iid", value=1.0), row(value=0.6), row(value=0.9, seed=1), row(metric="nll", unit="nats", seed=1)]
    rows = [*single, row("iid", value=0.99, seed=[0, 1]), mean, row("501-1000", value=0.55, seed=[0, 1])]
    cited = {key_of(mean): "52.0 % best [V2]: missed", key_of(row("iid")): "60.0 % mean [V]: near"}
    ((area, line),) = lines([*rows, row(metric="nll", value=0.3, unit="nats", seed=[0, 1])], cited)
    cells = line.split(" | ")
    assert area == "reason" and cells[:3] == ["chomsky/parity_check", "parity:lstm", "answer_accuracy"]
    assert cells[3] == "99.00 %", "the mean over seeds on the trained lengths"
    first, second = cells[4].split("<br>")
    assert first == f"41-500: **75.00 %** (74.00 % {DASH} 76.00 %; each 60.00, 90.00; 3,680 x 2 seeds)" and second.startswith(
        "501-1000: **55.00 %**"
    )
    assert cells[6] == "1,000" and cells[7] == "trained lengths: 60.0 % mean [V]: near<br>41-500: 52.0 % best [V2]: missed"


def test_a_treatment_stands_beside_its_run():
    rows = [row(), row(treatment="curriculum"), row(treatment="curriculum", split="501-1000")]
    assert [line.split(" | ")[1] for _, line in lines(rows)] == ["parity:lstm", "parity:lstm<br>+ curriculum"]


def test_runs_of_one_config_are_told_apart_by_their_overrides():
    kept = {"task.name": "scan/turn_left", "evaluate.per_length": "4"}
    rows = [row(overrides=kept), row(overrides={**kept, "model.dropout": "0.2"})]
    runs = [line.split(" | ")[1] for _, line in lines(rows, chosen={"reason/parity:lstm": "model.dropout"})]
    assert runs == ["parity:lstm<br>chosen on test: model.dropout", "parity:lstm<br>model.dropout=0.2<br>chosen on test: model.dropout"]


@pytest.mark.parametrize(
    ("value", "share", "told"),
    [
        (0.9614, 0.4346, "43.5 % of the inputs occurred in training, at least 93.2 % right of the others"),
        (0.6182, 0.9321, "93.2 % of the inputs occurred in training"),
        (0.9, 0.0, ""),
        (0.9, None, ""),
    ],
)
def test_the_share_of_test_inputs_in_training_stands_in_a_row(value, share, told):
    assert seen(row("test", "exact_match", value, seen_in_training=share)) == told
    assert seen(row("iid", value=value, seen_in_training=share)) == "", "short inputs of the trained lengths inevitably collide"


def test_many_seeds_are_told_by_the_best():
    singles = [row(value=0.5 + seed / 100, seed=seed) for seed in range(EACH + 1)]
    ((_, line),) = lines([*singles, row(value=0.55, seed=list(range(EACH + 1)), best=0.6)])
    assert "best 60.00 %" in line and "each" not in line


@pytest.mark.parametrize("value, marked", [(FITTED, False), (FITTED - 0.01, True)])
def test_a_model_that_has_not_learnt_its_own_lengths_is_marked(value, marked):
    ((_, line),) = lines([row("iid", value=value), row()])
    assert ("not fitted in 1,000 updates" in line) == marked


def test_what_was_planned_and_has_no_file_is_marked(tmp_path):
    publish(study(tmp_path / "study", [row()]), "parity", tmp_path / "out")
    planned = [("chomsky/parity_check", "reason/parity:lstm"), ("recall/p_hop", "reason/recall:looped")]
    last = tables(tmp_path / "out", planned).splitlines()[-1].split(" | ")
    assert last[:2] == ["| recall/p_hop", "recall:looped"] and last[4] == NOT_RUN
    assert tables(tmp_path / "out", planned).count(NOT_RUN) == 1, "what has run is not marked"


def test_what_is_cited_is_shown_and_exact_match_always():
    rows = [row(metric="token_accuracy"), row(), row(metric="exact_match")]
    shown = [line.split(" | ")[2] for _, line in lines(rows, {key_of(rows[0]): "52.0 % best [V2]: missed"})]
    assert shown == ["token_accuracy", "exact_match"]
    assert not list(lines([row("train"), row("valid")])), "no test, no line"
    ((_, line),) = lines([row("iid"), row("train")])
    assert "iid: **50.00 %**" in line, "new examples of the trained lengths, where nothing else was asked"
    two = [line.split(" | ")[0] for _, line in lines([row(), row(task="chomsky/even_pairs")])]
    assert two == ["chomsky/parity_check", "chomsky/even_pairs"], "runs of one name on two tasks"


@pytest.mark.parametrize(
    ("page", "link"), [("README.md", "out/parity.json"), ("out/README.md", "parity.json"), ("docs/a.md", "../out/parity.json")]
)
def test_links_lead_from_the_page_to_the_files(page, link, tmp_path):
    publish(study(tmp_path / "study", [row()]), "parity", tmp_path / "out")
    readme = tmp_path / page
    readme.parent.mkdir(exist_ok=True)
    readme.write_text("\n".join(MARKS))
    render(readme, tmp_path / "out")
    assert f"[parity]({link})" in readme.read_text() and (readme.parent / link).is_file()


def test_the_readme_is_written_between_its_marks(tmp_path):
    publish(study(tmp_path / "study", [row()]), "parity", tmp_path / "out")
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{MARKS[0]}\nold\n{MARKS[1]}\nbelow\n")
    render(readme, tmp_path / "out")
    told = readme.read_text()
    assert told.startswith(f"above\n{MARKS[0]}\n### Reasoning") and told.endswith(f"{MARKS[1]}\nbelow\n") and "old" not in told
    assert "`0123456`" in told
    render(readme, tmp_path / "out")
    assert readme.read_text() == told, "writing twice changes nothing"
    readme.write_text("no marks")
    with pytest.raises(UserError, match="results"):
        render(readme, tmp_path / "out")
    with pytest.raises(UserError, match="--readme"):
        render(tmp_path / "absent.md", tmp_path / "out")
