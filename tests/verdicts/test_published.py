"""The verdict of a run for a published cell, rule by rule, with the value at each border."""

import pytest

from assay.tasks.published import PLAIN, TRANSFORMERS, Protocol, Published, value_text
from assay.verdicts.published import VERDICTS, Ours, beside, compared, differences, judged, mismatches, runs_of

PROTOCOL = Protocol("LSTM", "1-40", "5 runs", stated={"model.width": (256,), "train.steps": (1_000_000,)})
CONFIG = {"model": {"name": "lstm", "width": 64, "depth": 1}, "train": {"batch_size": 128, "steps": 1000}, "task": {"lengths": "1:40"}}
DECODER = {**CONFIG, "model": {"name": "decoder", "mixers": ["attention"], "window": 0, "loops": 1, "gate": False}}


def cell(value=0.9, statistic="mean", models=("lstm",), split="41-500", **more):
    given = {"protocol": PROTOCOL, "needs": {"task.lengths": ("1:40",)}, **more}
    return Published(models, split, "answer_accuracy", value, None, statistic, "a paper", "V", **given)


def row(value, seed=0, split="41-500", width=0.01, treatment="none", **more):
    made = {
        "experiment": "e",
        "task": "t",
        "model": "lstm",
        "treatment": treatment,
        "split": split,
        "metric": "answer_accuracy",
        "steps": 10,
    }
    made |= {"value": value, "unit": "fraction", "n": 400, "seed": seed, "published": [], "baselines": {"chance": 0.5}}
    return made | {"interval": [max(value - width, 0.0), min(value + width, 1.0)], "interval_method": "Wilson"} | more


def ours(values=(0.9, 0.9, 0.9), config=CONFIG, trained=1.0, file="", chosen="", split="41-500", **more):
    rows = [row(value, seed, split, **more) for seed, value in enumerate(values)]
    rows += [row(trained, seed, "iid", treatment=more.get("treatment", "none")) for seed in range(len(values)) if trained is not None]
    configs = {} if config is None else {"e": config}
    return next(run for run in runs_of(rows, configs, file, {"e": chosen} if chosen else {}) if run.split == split)


def name(cell, run):
    found = judged(cell, run)
    assert found.name in VERDICTS
    return found.name


def test_a_cell_in_our_interval_with_three_fitted_seeds_is_reproduced():
    assert judged(cell(), ours())[:2] == ("reproduced", "")
    assert name(cell(), None) == "not run"


@pytest.mark.parametrize(
    ("changes", "verdict", "why"),
    [
        ({"values": (0.9, 0.9)}, "near", "2 seeds"),
        ({"values": (0.9,)}, "near", "1 seed"),
        ({"trained": 0.89}, "near", "not fitted on the trained lengths, 89.0 %"),
        ({"trained": None}, "near", "fit on the trained lengths not recorded"),
        ({"chosen": "train.steps"}, "near", "a setting was chosen on test"),
        ({"values": (0.87,) * 3}, "near", "3.0 points below the cell; the cell lies outside our interval"),
        ({"values": (0.85,) * 3}, "near", "5.0 points below"),
        ({"values": (0.849,) * 3}, "missed", "5.1 points below"),
        ({"values": (0.96,) * 3}, "missed", "6.0 points above"),
        ({"values": (0.9,) * 3, "interval": None}, "near", "interval not recorded"),
    ],
)
def test_what_a_reproduction_lacks_makes_it_near_or_missed(changes, verdict, why):
    found = judged(cell(), ours(**changes))
    assert found.name == verdict and why in found.why


def test_valid_shows_the_fit_where_a_task_has_no_other_split_of_the_trained_lengths():
    rows = [row(0.9, seed) for seed in range(3)]
    for split, value, found in (("valid", 0.95, "reproduced"), ("valid", 0.5, "near"), ("train", 1.0, "near")):
        (run,) = [
            one
            for one in runs_of([*rows, *(row(value, seed, split) for seed in range(3))], {rows[0]["experiment"]: CONFIG})
            if one.split == "41-500"
        ]
        assert judged(cell(0.9), run).name == found, split


def test_the_trained_lengths_themselves_need_no_fit():
    assert name(cell(0.6, split="iid"), ours((0.6, 0.6, 0.6), split="iid", trained=None)) == "reproduced"


def test_a_maximum_is_compared_with_the_best_of_three_seeds_and_a_mean_with_the_mean():
    run = ours((0.7, 0.9, 0.8))
    assert compared(cell(statistic="max"), run)["value"] == 0.9 and compared(cell(), run)["value"] == pytest.approx(0.8)
    assert name(cell(statistic="max"), run) == "reproduced"
    wide = judged(cell(), run)
    assert wide.name == "missed" and "because the seeds differ as much" in wide.why, "the interval is the range of the seeds' own"
    few = judged(cell(statistic="max"), ours((0.9, 0.9)))
    assert few.name == "not comparable" and "a maximum beside 2 seeds; 3 are needed" in few.why


@pytest.mark.parametrize(
    ("published", "value", "verdict"), [(0.52, 0.5, "at chance"), (0.9, 0.55, "at chance"), (0.55, 0.9, "at chance"), (0.9, 0.56, "missed")]
)
def test_what_is_within_five_points_of_chance_counts_as_nothing(published, value, verdict):
    assert name(cell(published), ours((value,) * 3)) == verdict


def test_a_constant_answer_counts_as_nothing():
    assert name(cell(0.9), ours((0.9,) * 3, constant=0.999)) == "at chance"
    assert name(cell(0.9), ours((0.9,) * 3, baselines={"chance": 0.1, "majority": 0.86})) == "at chance"
    assert name(cell(0.0008), ours((0.0,) * 3, baselines={})) == "at chance", "no answer is rarer than never right"


def test_a_remedy_improves_where_its_whole_interval_lies_beyond_the_cell():
    assert name(cell(0.7), ours(treatment="scratchpad")) == "improved"
    assert name(cell(0.52), ours(treatment="scratchpad")) == "improved", "the untreated model may be at chance"
    assert name(cell(0.895), ours(treatment="scratchpad")) == "not comparable", "the interval holds the cell"
    assert name(cell(0.52), ours((0.54,) * 3, treatment="scratchpad")) == "at chance"
    assert name(cell(0.7), ours()) == "missed", "without a remedy"
    assert "scratchpad" in judged(cell(0.9), ours(treatment="scratchpad")).why


def test_a_curriculum_is_a_difference_and_not_a_remedy():
    found = judged(cell(), ours(treatment="curriculum:examples=9"))
    assert found.name == "reproduced" and "curriculum:examples=9, which the source does not have" in found.differences


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"window": 80}, "attention to the last 80 tokens instead of all"),
        ({"mixers": ["attention", "lstm"]}, "a hybrid of attention, lstm"),
        ({"loops": 6}, "loops 6"),
        ({"gate": True}, "gate yes"),
        ({"name": "encoder_decoder"}, "model encoder_decoder"),
    ],
)
def test_another_model_is_not_compared(changes, why):
    plain = cell(models=TRANSFORMERS, needs=PLAIN)
    assert name(plain, ours(config=DECODER)) == "reproduced"
    found = judged(plain, ours(config={**DECODER, "model": {**DECODER["model"], **changes}}))
    assert found.name == "not comparable" and why in found.why


def test_other_data_and_test_inputs_in_training_are_not_compared():
    assert mismatches(cell(), ours(config={**CONFIG, "task": {"lengths": "1:20"}})) == ["lengths 1:20"]
    found = judged(cell(), ours(seen_in_training=0.4346))
    assert found.name == "not comparable" and "43.5 % of the test inputs occurred in training" in found.why
    assert name(cell(), ours(seen_in_training=0.0)) == "reproduced"
    assert name(cell(split="iid"), ours(split="iid", trained=None, seen_in_training=0.2)) == "reproduced", "by necessity"
    found = judged(cell(0.7), ours(treatment="recombine:of=phrases"))
    assert found.name == "not comparable" and "not recorded" in found.why


def test_a_config_that_is_not_recorded_counts_against_a_run():
    found = judged(cell(), ours(config=None))
    assert found.name == "not comparable" and "not recorded" in found.why and found.differences == ("settings not recorded",)


def test_every_difference_of_protocol_is_printed():
    config = {**CONFIG, "optimizer": {"schedule": "cosine"}}
    chosen = PROTOCOL._replace(chosen="best validation accuracy", data="another split")
    assert differences(cell(protocol=chosen), ours(config=config, chosen="model.width")) == (
        "layers 1 (not stated)",
        "width 64 (published 256)",
        "updates 10 (published 1,000,000)",
        "batch 128 (not stated)",
        "schedule cosine (not stated)",
        "mean of 3 seeds (published mean of 5 runs, each the best validation accuracy)",
        "the value at the last update",
        "published: another split",
        "chosen on test: model.width",
    )
    same = Protocol(stated={"model.width": (64,), "model.depth": (1, 2), "train.steps": (10,), "train.batch_size": (128,)})
    assert differences(cell(protocol=same), ours()) == ("mean of 3 seeds (published mean, runs not stated)",)


def test_a_range_holds_our_whole_interval():
    least = cell(None, "max", range=(0.9, 1.0))
    assert name(least, ours((0.95,) * 3)) == "reproduced" and name(least, ours((0.9,) * 3)) == "near"
    assert name(least, ours((0.7,) * 3)) == "missed"
    assert value_text(None, range=(0.9, 1.0)) == "at least 90 %" and value_text(None, range=(0.0, 0.9)) == "below 90 %"
    assert value_text(0.244, 0.005) == "24.4 ± 0.5 %" and value_text(0.0008) == "0.08 %"


def test_a_run_stands_beside_the_cells_that_it_fits_or_the_nearest():
    cells = [
        cell(models=TRANSFORMERS, needs=PLAIN),
        cell(models=TRANSFORMERS, needs={**PLAIN, "model.loops": (6,)}),
        cell(),
        cell(split="40-256"),
    ]
    plain, hybrid = ours(config=DECODER), ours(config={**DECODER, "model": {**DECODER["model"], "mixers": ["lstm"]}})
    lstm, nearer = ours(), ours(split="40-256")
    assert beside(cells, [plain, hybrid, lstm, nearer]) == [[plain, hybrid], [], [lstm], [nearer]], "a split has its own cells"


def test_the_seeds_of_runs_with_other_overrides_are_not_joined():
    rows = [row(0.6, seed) for seed in range(3)] + [row(0.8, seed, overrides={"model.dropout": "0.2"}) for seed in range(2)]
    found = runs_of(rows, {"e": CONFIG})
    assert all(isinstance(run, Ours) for run in found) and [len(run.rows) for run in found] == [3, 2]
