"""Regression: the split, the scales, the score against its formula and scikit-learn, and a linear model against least squares."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from assay.config.files import load
from assay.config.overrides import override
from assay.config.schema import to_dict
from assay.core.errors import UserError
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.evaluate import EvaluateConfig, evaluate, make_answer
from assay.evals.rows import LOWER_IS_BETTER, rows
from assay.evals.summary import SUMMARIES
from assay.models.families import build as build_model
from assay.models.model import Output, Vocabulary
from assay.models.precision import PrecisionConfig
from assay.tasks.datasets.regression import Scale, score_numbers, split, standard
from assay.tasks.table import build
from assay.train.experiment import assemble
from assay.train.loop import run
from assay.treatments.pipeline.load import treatments
from assay.treatments.training.ensemble import ensemble
from assay.treatments.training.smooth import smooth

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
KEY = jax.random.key(0)
FLOAT32 = PrecisionConfig("float32", "float32", "float32")
EVALUATE = EvaluateConfig(("test",), 1, 64, 1)
LABELS = {"experiment": "e", "model": "mlp", "treatment": "none", "seed": 0, "steps": 1}


def task():
    return build({"name": "diabetes"}, 0)


def batch_of(name):
    source = task().source(name)
    examples = source.fetch(np.arange(source.size))
    return examples, task().encode(examples, 1)


def test_the_split_is_fixed_and_disjoint():
    parts = split("diabetes", 442)
    assert {name: len(part) for name, part in parts.items()} == {"train": 264, "valid": 67, "test": 111}
    assert np.array_equal(np.sort(np.concatenate([*parts.values()])), np.arange(442))
    assert parts["test"][:5].tolist() == [1, 5, 6, 7, 8], "a figure that was measured on another split does not compare"
    assert len(set(map(tuple, np.concatenate([batch_of(name)[1]["inputs"] for name in parts])))) == 442


def test_numbers_are_standardised_by_the_training_split():
    _, batch = batch_of("train")
    for name in ("inputs", "targets"):
        assert batch[name].dtype == np.float32
        assert batch[name].mean(axis=0) == pytest.approx(0, abs=1e-5) and batch[name].std(axis=0) == pytest.approx(1, abs=1e-4)
    assert abs(batch_of("test")[1]["inputs"].mean(axis=0)).max() > 0.02, "the test split keeps its own mean"
    scale = standard(np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert scale.deviation.tolist() == [1.0, 1.0] and scale.back(scale.to(np.array([[7.0, 6.0]]))).tolist() == [[7.0, 6.0]]
    assert isinstance(scale, Scale)


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_score_is_the_formula(outputs):
    random = np.random.default_rng(0)
    logits, targets = (random.standard_normal((8, outputs)).astype(np.float32) for _ in range(2))
    scale, weight = np.arange(1, outputs + 1, dtype=np.float32), np.r_[np.ones(7), 0].astype(np.float32)
    loss, weights, metrics = score_numbers(Output(jnp.asarray(logits), {}), {"targets": targets, "weight": weight}, scale)
    assert np.array_equal(weights, weight)
    for i in range(8):
        assert loss[i] == pytest.approx(mean_squared_error(targets[i], logits[i]), rel=1e-5)
        assert metrics["mse"][i] == pytest.approx(mean_squared_error(targets[i] * scale, logits[i] * scale), rel=1e-5)
        assert metrics["mae"][i] == pytest.approx(mean_absolute_error(targets[i] * scale, logits[i] * scale), rel=1e-5)
    value, columns = SUMMARIES["r2"].value, [{"prediction": p, "target": t} for p, t in zip(logits.tolist(), targets.tolist(), strict=True)]
    assert value(*SUMMARIES["r2"].columns(columns)) == pytest.approx(r2_score(targets, logits), abs=1e-6)


def test_a_constant_column_is_only_centred():
    """Equal numbers that floats hold only approximately have a standard deviation of about 1e-17."""
    scale = standard(np.column_stack([np.full(100, 0.1), np.full(100, 1 / 3), np.arange(100.0)]))
    assert scale.deviation[:2].tolist() == [1, 1] and scale.deviation[2] > 1
    assert np.abs(scale.to(np.array([[0.2, 0.3, 50.0]]))).max() < 0.2


@pytest.mark.parametrize("value", [0.1, 0.3, 1e5 + 0.1])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 100])
def test_r2_of_targets_that_equal_their_mean_but_for_rounding(value, n):
    assert SUMMARIES["r2"].value(np.full(n, value + 1e-3), np.full(n, value)) == 0
    assert SUMMARIES["r2"].value(np.full(n, value), np.full(n, value)) == 1


def test_r2_of_targets_that_are_all_alike():
    value = SUMMARIES["r2"].value
    assert value(np.ones(3), np.ones(3)) == 1.0 == r2_score(np.ones(3), np.ones(3))
    assert value(np.arange(3.0), np.ones(3)) == 0.0 == r2_score(np.ones(3), np.arange(3.0))


def test_least_squares_through_the_model_and_the_evaluation():
    """A model without hidden layers, given scikit-learn's coefficients, has scikit-learn's figures, in the data's own units."""
    made = task()
    model = build_model({"name": "mlp", "depth": 0, "width": 4, "activation": "relu", "dropout": 0.0}, made.vocabulary, FLOAT32)
    (examples, batch), (tested, read) = batch_of("train"), batch_of("test")
    fitted = LinearRegression().fit(batch["inputs"], batch["targets"])
    params = {"head": {"kernel": jnp.asarray(fitted.coef_.T), "bias": jnp.asarray(fitted.intercept_)}}
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, model.init(KEY, batch))
    records = evaluate(jax.jit(make_answer(model, made)), params, made, "test", EVALUATE, make_mesh(MeshConfig(-1, 1, 1)))
    expected = LinearRegression().fit(examples.input, examples.target).predict(tested.input)[:, 0]
    assert [record["prediction"] for record in records] == pytest.approx(expected.tolist(), rel=1e-3)
    assert [record["target"] for record in records] == tested.target[:, 0].tolist() and len(read["inputs"]) == 111
    found = {row["metric"]: row for row in rows(records, made, "test", LABELS, by_length=False)}
    truth = tested.target[:, 0]
    assert found["r2"]["value"] == pytest.approx(r2_score(truth, expected), abs=1e-3) and found["r2"]["unit"] == ""
    assert found["mse"]["value"] == pytest.approx(mean_squared_error(truth, expected), rel=1e-3)
    assert found["mae"]["value"] == pytest.approx(mean_absolute_error(truth, expected), rel=1e-3)
    assert found["mse"]["baselines"] == {"constant": pytest.approx(truth.var(), rel=1e-5)}
    assert found["mae"]["baselines"] == {"constant": pytest.approx(np.abs(truth - np.median(truth)).mean(), rel=1e-5)}
    low, high = found["r2"]["interval"]
    assert low < found["r2"]["value"] < high
    assert {"mse", "mae"} <= set(LOWER_IS_BETTER) and "r2" not in LOWER_IS_BETTER


# -- the model ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "matrices"), [("relu", 1), ("swiglu", 2)])
def test_the_mlp_has_as_many_parameters_as_its_formula(activation, matrices):
    model = build_model({"name": "mlp", "depth": 2, "width": 8, "activation": activation, "dropout": 0.5}, Vocabulary(0, 3, True), FLOAT32)
    batch = {"inputs": np.ones((4, 2, 5), np.float32), "weight": np.ones(4, np.float32)}
    params = model.init(KEY, batch)
    count = matrices * ((10 * 8 + 8) + (8 * 8 + 8)) + 8 * 3 + 3
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    output = model.apply(params, batch)
    assert output.logits.shape == (4, 3) and set(output.taps) == {"block_0/hidden", "block_1/hidden"}
    assert (model.apply(params, batch, key=KEY, train=True).logits != output.logits).any(), "dropout"


def test_wrong_pairs_of_model_and_task_are_told():
    with pytest.raises(UserError, match=r"mlp reads numbers.*--config\.model\.name"):
        build_model({"name": "mlp", "depth": 1, "width": 8, "activation": "relu", "dropout": 0.0}, Vocabulary(9, 9), FLOAT32)
    cnn = {"name": "cnn", "filters": (4,), "kernel": 3, "pools": 0, "padding": "same", "dense": 0, "dropout": 0.0}
    with pytest.raises(UserError, match=r"cnn reads images.*\[4, 10\].*--config\.model\.name=mlp"):
        build_model(cnn, Vocabulary(0, 1, True), FLOAT32).init(
            KEY, {"inputs": np.ones((4, 10), np.float32), "weight": np.ones(4, np.float32)}
        )
    for key in ("activation", "depth", "dropout"):
        settings = {"depth": 1, "width": 8, "activation": "relu", "dropout": 0.0, key: {"activation": "tanh"}.get(key, -1)}
        with pytest.raises(UserError, match=rf"config\.model\.{key}"):
            build_model({"name": "mlp", **settings}, Vocabulary(0, 1, True), FLOAT32)


@pytest.mark.parametrize(("made", "word"), [(ensemble(2), "combine=outputs"), (smooth(0.1), "smooth")])
def test_treatments_of_classes_refuse_numbers(made, word):
    config = to_dict(load(f"{EXPERIMENTS}/generalise/regression.py:mlp,tiny"))
    experiment = assemble(config, [made])
    loss = experiment.objective.loss
    with pytest.raises(UserError, match=word):
        jax.eval_shape(lambda key: loss(experiment.model, {"model": _params(experiment)}, experiment.first_batch(), key, jnp.int32(0)), KEY)


def _params(experiment):
    return experiment.treatment.init(experiment.untreated.init)(KEY, experiment.first_batch())


@pytest.mark.parametrize("specs", [[], ["ensemble:members=2,combine=outputs"]])
def test_a_run_learns(specs, tmp_path):
    config = load(f"{EXPERIMENTS}/generalise/regression.py:mlp,tiny")
    config = override(config, {"model.depth": "0", "optimizer.learning_rate": "1e-2", "train.steps": "60", "evaluate.splits": "train,test"})
    results = run(config, str(tmp_path), treatments(specs), quiet=True)
    value = {(row["split"], row["metric"]): row["value"] for row in results["rows"]}
    assert value["train", "r2"] > 0.4 and value["test", "r2"] > 0.4
    lines = (tmp_path / "metrics.jsonl").read_text()
    assert "valid_r2" in lines and '"mse"' in lines
