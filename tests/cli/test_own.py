"""Runs of a model made elsewhere: training from its own parameters, exact resume, treatments with their control, and what is refused."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import assay
from assay.cli.python import own, treated
from assay.config.schema import to_dict
from assay.core.errors import UserError
from assay.core.tree import paths
from assay.diagnostics.measurement import Measurement
from assay.diagnostics.table import DIAGNOSTICS
from assay.evals.evaluate import evaluate
from assay.models.brought import own as models
from assay.models.families import FAMILIES
from assay.models.model import STATE
from assay.tasks import own as tasks
from assay.tasks.table import TASKS
from assay.train.experiment import assemble
from assay.train.workdir import WorkDir
from assay.treatments.pipeline.load import Loaded
from assay.verdicts.matrix import tried

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(64, 4)).astype(np.float32)
LABELS = INPUTS[:, :3].argmax(axis=1)
DATA = {"train": (INPUTS[:40], LABELS[:40]), "test": (INPUTS[40:], LABELS[40:])}
OTHER = {**DATA, "train": (INPUTS[:40] + 1, LABELS[:40])}
FEW = {"train.steps": 6, "train.batch_size": 8, "checkpoint.every": 2}


class Net(nn.Module):
    """BatchNorm and dropout, as people write them."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(8)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x)))


def net(data=DATA, seed=0, **options):
    return assay.from_linen(Net(), Net().init(jax.random.key(seed), INPUTS, False), data, seconds=0.1, **options)


def linear(data, shape, **options):
    return assay.from_function(lambda params, x: x @ params["w"] + params["b"], weights(shape), data, seconds=0.1, **options)


def weights(shape):
    return {"w": np.zeros(shape, np.float32), "b": np.zeros((1, shape[1]), np.float32)}


@pytest.fixture(scope="module", autouse=True)
def _as_before():
    """No name stays in the tables that other tests list."""
    with jax.numpy_rank_promotion("allow"):
        yield
    for table in (FAMILIES, TASKS, models._known, tasks._known):
        for name in [name for name in table if name.startswith("mine/")]:
            del table[name]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "mine"
    subject = net()
    return subject, folder, assay.fit(subject, folder, FEW)


def values(tree):
    return dict(zip(paths(tree), map(np.asarray, jax.tree.leaves(tree)), strict=True))


def test_a_run_starts_from_the_given_parameters_and_moves_statistics(trained):
    subject, folder, rows = trained
    assert {row["split"] for row in rows} == {"valid", "test"} and rows.workdir == folder
    assert all((folder / name).exists() for name in ("config.json", "checkpoints", "metrics.jsonl", "results.json", "report.html"))
    given, begun, ended = (values(tree) for tree in (subject.params, assay.load(folder, step=0).params, assay.load(folder).params))
    assert given.keys() == begun.keys() == ended.keys()
    for path, value in given.items():
        np.testing.assert_array_equal(begun[path], value, err_msg=path)
    moved = {path for path, value in given.items() if not np.array_equal(ended[path], value)}
    assert {"Dense_0/kernel", f"{STATE}/batch_stats/BatchNorm_0/mean"} <= moved


def test_a_stopped_run_resumes_to_the_same_bits(trained, tmp_path):
    subject, folder, rows = trained
    validated = []

    def stopping(*arguments, **options):
        validated.append(1)
        if len(validated) == 4:
            raise KeyboardInterrupt
        return evaluate(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.train.watch.evaluate", stopping)
        with pytest.raises(KeyboardInterrupt):
            assay.fit(subject, tmp_path / "part", FEW)
    assert not (tmp_path / "part" / "results.json").exists()
    assert [path.name for path in (tmp_path / "part" / "checkpoints").iterdir() if path.name.isdecimal()] == ["2"]
    assert assay.fit(subject, tmp_path / "part", FEW) == rows
    one, other = (values(assay.load(path).params) for path in (folder, tmp_path / "part"))
    for path, value in one.items():
        np.testing.assert_array_equal(other[path], value, err_msg=path)


def test_a_new_process_needs_the_subject_and_one_message_says_so(trained, monkeypatch):
    subject, folder, _ = trained
    before = assay.load(folder).predict(INPUTS[40:43])
    for module in (models, tasks):
        monkeypatch.setattr(module, "_known", {})
    for call in (assay.load, assay.diagnose, lambda path: assay.treat(path, "l2", folder.parent / "no")):
        with pytest.raises(UserError, match=r"its model 'mine/yours' is code.*assay.load\('.*', subject=subject\)"):
            call(folder)
    for subject_, said in ((linear(DATA, (4, 3)), "its model 'mine/yours' has other parameters"), (net(OTHER), "its data 'mine/yours'")):
        for module in (models, tasks):
            monkeypatch.setattr(module, "_known", {})
        own.register(subject_)
        with pytest.raises(UserError, match=said):
            assay.load(folder)
    with pytest.raises(UserError, match=r"run of a model with other parameters: .* in 8 arrays.* in the run, 15 in 2 arrays.* now"):
        assay.load(folder, subject=linear(DATA, (4, 3)))
    with pytest.raises(UserError, match="run of other data: 40 to train"):
        assay.load(folder, subject=net(OTHER))
    loaded = assay.load(folder, subject=net(seed=1))  # the values are the run's, whatever the module holds now
    assert loaded.predict(INPUTS[40:43]) == before
    with pytest.raises(UserError, match="the run started from other parameters"):
        assay.load(folder, step=0)
    with pytest.raises(UserError, match="holds a run of a model that began with other values"):
        assay.fit(net(seed=1), folder, FEW)
    assert assay.load(folder, step=0, subject=subject).predict(INPUTS[40:43]) != before


def test_two_models_of_one_name_and_shape_are_told_apart(tmp_path):
    """The later one does not answer for the earlier one's run."""
    runs = {}
    for name, act in (("relu", jax.nn.relu), ("tanh", jnp.tanh)):
        params = {"a": np.eye(4, dtype=np.float32), "b": np.ones((4, 3), np.float32)}
        subject = assay.from_function(lambda params, x, act=act: act(x @ params["a"]) @ params["b"], params, DATA)
        assay.fit(subject, tmp_path / name, {"train.steps": 0})
        runs[name] = (act(INPUTS[:2]) @ params["b"]), tmp_path / name
    for expected, folder in runs.values():
        model, params, _ = assay.load(folder)
        np.testing.assert_allclose(model.apply(params, {"inputs": INPUTS[:2]}).logits, expected, rtol=1e-5, atol=1e-6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models._known, "mine/yours", [one for one in models._known["mine/yours"] if one.model is subject.model])
        with pytest.raises(UserError, match="'mine/yours' computes otherwise than the one given here"):
            assay.load(tmp_path / "relu")


def test_valid_is_a_tenth_of_each_class_and_never_of_test():
    y = np.arange(200) % 4
    x = np.arange(200, dtype=np.float32)[:, None]
    x[1:200:40] = x[1]  # five equal inputs of one class
    subject = linear({"train": (x, y), "test": (x + 1000, y)}, (1, 4))
    task = tasks.with_valid(subject.task)
    assert task.splits == ("train", "valid", "test")
    train, valid, test = (task.source(split) for split in task.splits)
    assert train.size + valid.size == 200 and test.size == 200
    inputs = {split: set(task.source(split).fetch(np.arange(task.source(split).size)).input[:, 0]) for split in ("train", "valid")}
    assert not inputs["train"] & inputs["valid"] and max(inputs["valid"]) < 1000
    assert np.bincount(valid.labels(), minlength=4).min() >= 2 and np.bincount(valid.labels()).max() <= 8
    again = tasks.with_valid(linear({"train": (x, y)}, (1, 4)).task)
    assert set(again.source("valid").fetch(np.arange(again.source("valid").size)).input[:, 0]) == inputs["valid"]
    own_valid = linear({"train": (x, y), "valid": (x, y)}, (1, 4)).task
    assert tasks.with_valid(own_valid) is own_valid


def test_a_treated_subject_has_its_control_and_a_card(tmp_path, quiet):
    subject = net(name="treated")
    rows = assay.treat(subject, "l2:weight=0.1,steps=4", tmp_path / "treated", {"train.batch_size": 8}, seconds=0.1)
    assert [row["name"] for row in rows] == ["untreated", "1_l2"] and rows[1]["control"]["n"] == 24 and rows[1]["updates"] == 4
    assert "effect against the control" in rows._repr_html_() and "l2:weight=0.1,steps=4" in rows._repr_html_()
    base = WorkDir(tmp_path / "treated" / "stages" / "0_given")
    given, kept = values(subject.params), values(assay.load(base.path).params)
    assert all(np.array_equal(kept[path], value) for path, value in given.items())
    assert treated.given_of(tmp_path / "treated", subject) == str(base.path), "a card compares with the run that the treatment began from"
    assert not treated.given_of(tmp_path / "treated", net(seed=1, name="treated")), "and not with that of other parameters"
    losses = [json.loads(line) for line in (tmp_path / "treated" / "metrics.jsonl").read_text().splitlines()]
    kernels = [leaf for path, leaf in given.items() if path.endswith("kernel")]
    expected = 0.1 / 2 * sum(float((kernel**2).sum()) for kernel in kernels)
    assert losses[0]["l2"] == pytest.approx(expected, rel=0.02), "the stage begins at the given parameters"


def test_subjects_are_compared_as_they_are(tmp_path, quiet, monkeypatch):
    """Two models by their answers; and a model with the run that trained it further, which answers the same test examples."""
    for module in ("assay.cli.diagnose", "assay.diagnostics.table"):
        monkeypatch.setattr(f"{module}.DIAGNOSTICS", {"held_out": DIAGNOSTICS["held_out"]})
    right = assay.from_function(lambda params, x: x[:, :3] * params["w"], {"w": np.full(3, 9.0, np.float32)}, DATA, seconds=0.1)
    wrong = assay.from_function(lambda params, x: -x[:, :3] * params["w"], {"w": np.full(3, 9.0, np.float32)}, DATA, seconds=0.1)
    card = assay.compare(wrong, right, seconds=0.2)
    (score,) = [row for row in card["rows"] if row["name"] == "score"]
    assert score["before"]["value"] == 0 and score["after"]["after"]["difference"] == 1 and score["after"]["after"]["verdict"] == "better"
    assay.fit(wrong, tmp_path / "run", {"train.steps": 0})
    card = assay.compare(right, tmp_path / "run", seconds=0.2)
    (score,) = [row for row in card["rows"] if row["name"] == "score"]
    assert score["after"]["run"]["difference"] == -1 and score["after"]["run"]["n"] == 24
    assert "assay.diagnose(" in (tmp_path / "run" / "diagnosis.html").read_text()
    assert "assay.fit(subject, " in (tmp_path / "run" / "report.html").read_text()
    with pytest.raises(UserError, match="pass models and diagnoses by name"):
        assay.compare(right, [wrong])


def test_what_is_refused_leaves_nothing(tmp_path):
    answers = assay.from_predict(lambda x: np.full((len(x), 3), 1 / 3), DATA)
    for call in (lambda: assay.fit(answers, tmp_path / "a"), lambda: assay.treat(answers, "l2", tmp_path / "a")):
        with pytest.raises(UserError, match="does not apply: from_predict gives answers, no gradients"):
            call()
    assert assay.suggest(answers) == []
    for data, said in (({"test": DATA["test"]}, "no 'train' to train on, only test"), ({"train": (INPUTS[:1], LABELS[:1])}, "too few")):
        with pytest.raises(UserError, match=said):
            assay.fit(linear(data, (4, 3)), tmp_path / "a")
    subject = linear(DATA, (4, 3))
    for options, said in (
        ({"start": "fresh"}, "start='fresh' is not possible"),
        ({"start": "new"}, "unknown start 'new'"),
        ({"overrides": {"model.code": "x"}}, "model.code cannot be overridden"),
        ({"overrides": {"treatments": "dropout"}}, "has no dropout"),
        ({"overrides": {"treatments": "ensemble:members=2"}}, "use start='fresh'"),
        ({"overrides": {"precision.compute": "bfloat16"}}, "in the types that its code says"),
    ):
        with pytest.raises(UserError, match=said):
            assay.fit(subject, tmp_path / "a", **options)
    with pytest.raises(UserError, match="unknown treatment 'l3'"):
        assay.treat(subject, "l3", tmp_path / "a")
    with pytest.raises(UserError, match=r"does not apply: .* as those of a model made elsewhere"):
        assay.treat(subject, "prune:units=0.5", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    for option in ({"target": "label"}, {"budget": 5}, {"issues": False}, {"group": ["sex"]}):
        with pytest.raises(UserError, match=f"{next(iter(option))} is an option of data in files"):
            assay.fit(subject, tmp_path / "a", **option)


def test_fresh_parameters_are_drawn_by_the_seed():
    subject, drawn = net(), []
    for seed in (0, 1):
        made = assemble({**to_dict(own.config_of(subject, start="fresh")), "seed": seed}, [])
        assert not made.started(), "nothing takes the place of what init draws"
        drawn.append(values(made.untreated.init(made.key, made.first_batch()))["Dense_0/kernel"])
    assert not np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], subject.params["Dense_0"]["kernel"])


def test_trained_parameters_get_the_lower_rate():
    good = assay.from_function(lambda params, x: 9 * x[:, :3] * params["w"], {"w": np.ones(3, np.float32)}, DATA)
    blank = assay.from_function(lambda params, x: x[:, :3] * params["w"], {"w": np.zeros(3, np.float32)}, DATA)
    assert own.config_of(good).optimizer.learning_rate == own.FURTHER < own.config_of(blank).optimizer.learning_rate == own.NEW


@pytest.mark.parametrize("kind", ["numbers", "labels", "tokens", "dict", "tuple"])
def test_every_kind_of_example_trains_and_answers(kind, tmp_path):
    """Answers to new inputs have the form of the targets, before and after a step of training."""
    ids, rows = RANDOM.integers(0, 5, (32, 6)), INPUTS[:32]
    table = {"table": np.zeros((5, 3), np.float32)}
    if kind == "numbers":
        subject, new, form = linear({"train": (rows, rows[:, :2])}, (4, 2)), rows, float
    elif kind == "labels":
        subject, new, form = linear({"train": (rows, (rows[:, :2] > 0).astype(int))}, (4, 2), target="labels"), rows, int
    elif kind == "tokens":
        subject = assay.from_function(lambda params, x: params["table"][x], table, {"train": (ids, ids % 3)})
        new, form = ids, int
    else:
        inputs = {"input_ids": ids, "extra": rows[:, :3]} if kind == "dict" else (ids, rows[:, :3])

        def apply(params, inputs):
            tokens, extra = inputs.values() if kind == "dict" else inputs
            return params["table"][tokens].mean(axis=1) + extra

        subject, new, form = assay.from_function(apply, table, {"train": (inputs, LABELS[:32])}), inputs, str
    loaded = Loaded(subject.model, subject.params, subject.task)
    if kind in ("tokens", "dict"):
        assay.fit(subject, tmp_path / "run", {"train.steps": 2, "train.batch_size": 8})
        loaded = assay.load(tmp_path / "run")
    answers = loaded.predict(new, batch_size=20)
    assert [one["id"] for one in answers] == list(range(32))
    found = answers[0]["label"] if form is str else answers[0]["prediction"]
    assert isinstance(found if form is str else found[0], form) and (kind != "tokens" or len(found) == 6)
    if kind in ("dict", "tuple"):
        logits = np.asarray(apply(loaded.params, inputs))
        assert [one["label"] for one in answers] == [str(one) for one in logits.argmax(axis=1)]
    with pytest.raises(UserError, match=r"the new inputs are .*, but the model takes"):
        loaded.predict(np.zeros((3, 2, 2), np.float32))


def test_integers_stay_as_they_are_and_a_loss_of_ones_own_is_minimized(tmp_path):
    params = {"w": np.zeros((4, 3), np.float32), "order": np.arange(4)[::-1].copy()}

    def brought(**options):
        return assay.from_function(lambda params, x: x[:, params["order"]] @ params["w"], params, DATA, **options)

    subject = brought(loss=lambda logits, batch: ((logits - 1.0) ** 2).sum(axis=1) + 7.0)
    assay.fit(subject, tmp_path / "run", {"train.steps": 2})
    ended = values(assay.load(tmp_path / "run").params)
    assert np.array_equal(ended["state/order"], params["order"]) and np.abs(ended["w"]).max() > 0
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(10.0) and first["nll"] == pytest.approx(np.log(3), rel=1e-5)
    with pytest.raises(UserError, match="holds a run of another loss"):
        assay.fit(brought(), tmp_path / "run", {"train.steps": 2})


APPLIED = {
    "distill": "",
    "distill:hidden=TAP": "",
    "lora:rank=2 + merge": "",
    "quantize:int8": "",
    "calibrate": "",
    "average": "",
    "prune:units=0.5": "made elsewhere",
    "quantize:int8,activations=dynamic": "dense layers of this library",
    "dropout:rate=0.5": "no dropout",
    "scratchpad": "not a state",
}


def test_a_treatment_applies_or_says_why_not():
    """State and a training step are traced on a model with batch statistics and taps; nothing fails in another way."""
    subject = net(name="matrix", taps={"block_0/hidden": "Dense_0"})
    config = to_dict(own.config_of(subject, overrides={"train.steps": "20"}))
    plain = assemble(config, [])
    for spec, expected in APPLIED.items():
        told = tried(config, plain, spec)
        assert expected in told if expected else not told, (spec, told)
    rows = [
        Measurement("generalisation", "train_test_gap", 0.4, "fraction", interval=(0.3, 0.5)),
        Measurement("calibration", "calibration_error", 0.3, "fraction", interval=(0.2, 0.4)),
    ]
    found = [one["treatment"] for one in own.suggested(subject, rows)]
    assert "l2:weight=1e-3" in found and "smooth:share=0.1" in found, "both apply as they are printed"
    assert not any(one.startswith(("couple", "recombine", "augment")) for one in found)
