"""What a treatment claims about a run, and what the run then does: private examples stop nothing and are marked where they leave it."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from carrying import config_of, fed_avg
from test_laws import KEY, bits, linear, score, toy_batch

from assay.config.older import completed
from assay.core.errors import UserError
from assay.core.tree import all_finite
from assay.dist.mesh import make_mesh
from assay.reports.run import render
from assay.reports.view import read_run
from assay.train import loop
from assay.train.experiment import assemble
from assay.train.log import logging
from assay.train.measure import labels_of, measure
from assay.train.objective import Aux, supervised
from assay.train.state import init_state
from assay.train.step import make_step
from assay.train.treatment import Treatment, compose
from assay.train.workdir import WorkDir

NORM = 0.5


def clipped_rows(gradient):
    """The gradient of DP-SGD (Abadi et al. 2016) without its noise: each example's, at most NORM long, over a number that is fixed."""

    def private(params, batch, key, step, carried):
        def one(row):
            grads, aux, _ = gradient(params, {name: array[None] for name, array in row.items()}, key, step, carried)
            scale = jnp.minimum(1.0, NORM / jnp.maximum(optax.tree.norm(grads), 1e-9))
            return jax.tree.map(lambda leaf: leaf * scale, grads), aux._replace(output=None)

        grads, aux = jax.vmap(one)(dict(batch))
        rows = len(batch["weight"])
        total = jax.tree.map(lambda leaf: leaf.sum(axis=0), (grads, aux))
        return jax.tree.map(lambda leaf: leaf / rows, total[0]), total[1], carried

    return private


DP = Treatment(gradient=clipped_rows, per_example=True, private=True, name="dp")


def step_of(treatment, batch):
    """The state and metrics after a step of the linear model, without its noise."""
    model = replace(linear(5), apply=lambda params, batch, **_: linear(5).apply(params, batch))
    composed, optimizer = compose([treatment]), optax.sgd(1.0)
    state = init_state(KEY, {}, model, supervised(score), optimizer, composed, batch)
    return jax.jit(make_step(model, supervised(score), composed.gradient, optimizer))(state, batch)


# -- examples that are not finite -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "bad"), [("loss", np.nan), ("gradient", np.inf)])
def test_an_example_that_is_not_finite_is_zero_under_a_private_treatment(what, bad):
    batch = toy_batch()
    batch["inputs"][3, 0] = bad  # tanh of an infinite sum is 1: the loss is finite, and the gradient is 0 times infinity
    losses, _, _ = score(linear(5).apply(linear(5).init(KEY, batch), batch), batch)
    assert np.isfinite(losses[3]) == (what == "gradient")
    found, metrics = step_of(DP, batch)
    without = {**toy_batch(), "weight": np.where(np.arange(8) == 3, 0.0, 1.0).astype(np.float32)}
    expected, _ = step_of(DP, without)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), found.params, expected.params)
    assert np.isfinite(float(metrics["loss"]))
    plain, _ = step_of(Treatment(gradient=clipped_rows, per_example=True), batch)
    assert not bool(all_finite(plain.params)), "without the claim it reaches the parameters, and the run stops"


@pytest.mark.parametrize(("loss", "slope"), [(np.inf, 1.0), (1.0, np.nan), (1.0, 1.0)])
def test_a_loss_or_a_gradient_that_is_not_finite_is_zero_below_the_treatment(loss, slope):
    def plain(*given):
        del given
        one = jnp.ones(())
        return {"w": jnp.array([1.0, slope])}, Aux(one, {"loss": (one * loss, one), "accuracy": (one, one)}), {}

    grads, aux, _ = compose([Treatment(private=True)]).gradient(plain)({}, {}, KEY, jnp.int32(0), {})
    kept = float(np.isfinite([loss, slope]).all())
    assert grads["w"].tolist() == [kept, kept] and aux.sums == {"loss": (kept, kept), "accuracy": (kept, kept)}


def test_finite_examples_and_treatments_without_the_claim_change_no_bit():
    ends = [bits(step_of(DP._replace(private=claim), toy_batch())[0]) for claim in (True, False)]
    assert ends[0] == ends[1]
    nested = step_of(compose([compose([DP])]), toy_batch())[0]
    assert bits(nested) == ends[0] and compose([DP]).private and compose([]).gradient is Treatment().gradient


def diverging(task):
    """The task with one image in four that holds no numbers."""

    def encode(examples, width):
        batch = task.encode(examples, width)
        inputs = np.where(examples.id[:, None, None, None] % 4 == 0, np.float32(np.nan), batch["inputs"])
        return {**batch, "inputs": inputs}

    return replace(task, encode=encode)


@pytest.fixture(scope="module")
def private_run(tmp_path_factory):
    """A private run over training examples some of which are not finite, validated twice."""
    folder = tmp_path_factory.mktemp("private") / "run"
    config = config_of(train__steps=4, train__batch_size=8, train__validate_every=2, evaluate__splits="train,test")
    config["task"]["labels"] = 40
    loop.run(config, str(folder), [Treatment(task=diverging, name="broken"), DP], quiet=True)
    return folder


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_private_run_does_not_stop_at_an_example_and_marks_what_leaves_it(private_run):
    lines = lines_of(private_run)
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert all(line["private"] is False for line in lines) and len(lines) == 6
    assert b"private_no/loss" in b"".join(path.read_bytes() for path in (private_run / "tensorboard").iterdir())
    rows = json.loads((private_run / "results.json").read_text())["rows"]
    assert {(row["split"], row.get("private")) for row in rows} == {("train", False), ("test", None)}
    page = render([read_run(private_run)], "private")
    assert page.count("private: no") >= 2, "below the table and below the curves"


def test_a_private_run_stops_at_its_own_gradient_and_not_at_a_loss(tmp_path):
    """Losses that are finite may have a sum that is not; the gradient has noise on it, and stopping there reveals nothing more."""
    metrics = {name: np.array([value]) for name, value in (("loss", np.inf), ("grad_norm", 1.0), ("parameter_norm", 1.0))}
    for private in (True, False):
        folder = WorkDir(tmp_path / str(private))
        folder.path.mkdir()
        with logging(folder, "run", 8, 1, 0, 1, True, private) as log:
            if private:
                log.add(0, 1, metrics, 1)
                with pytest.raises(FloatingPointError, match="step 2: grad_norm is nan"):
                    log.add(1, 1, {**metrics, "grad_norm": np.array([np.nan])}, 2)
                continue
            with pytest.raises(FloatingPointError, match="loss is inf"):
                log.add(0, 1, metrics, 1)
    assert lines_of(tmp_path / "True")[0]["loss"] is None and not lines_of(tmp_path / "False")


def test_rows_of_a_private_run_hold_no_statistic_of_the_training_examples(tmp_path, tiny):
    """Neither the share of inputs that training has seen, nor a baseline that was counted on training examples."""
    plain = assemble(tiny("lstm", {"evaluate.splits": "iid", "evaluate.per_length": "1"}), [])
    params = jax.jit(plain.untreated.init)(plain.key, plain.first_batch())
    held = {}
    for made in (plain, plain._replace(treatment=compose([DP]))):
        folder = WorkDir(tmp_path / made.treatment.name)
        folder.path.mkdir()
        (row, *_) = measure(made, folder, params, make_mesh(made.settings.mesh), labels_of(made, ""), quiet=True)
        held[made.treatment.name] = ("seen_in_training" in row, "bigram" in row["baselines"], row["value"])
    assert held["none"][:2] == (True, True) and held["dp"] == (False, False, held["none"][2])


def test_a_plain_run_marks_nothing(tmp_path):
    loop.run(config_of(train__steps=1, train__validate_every=1), str(tmp_path / "run"), [], quiet=True)
    assert not [line for line in lines_of(tmp_path / "run") if "private" in line]
    assert "private: no" not in render([read_run(tmp_path / "run")], "plain")


# -- settings that a claim excludes -----------------------------------------------------------------------------------------------


def test_early_stopping_by_private_examples_is_refused(tmp_path):
    early = {"train__validate_every": 1, "train__patience": 1}
    with pytest.raises(UserError, match=r"'dp' claims differential privacy, but train\.patience=1 .*valid_is_public=True"):
        loop.run(config_of(**early), str(tmp_path / "run"), [DP], quiet=True)
    assert not (tmp_path / "run").exists()
    public = assemble(config_of(**early, train__valid_is_public=True), [DP])
    assert public.releases("train") and not public.releases("valid") and not public.releases("test")
    assert assemble(config_of(), [DP]).releases("valid") and not assemble(config_of(**early), []).releases("train")


def test_configs_without_the_key_declare_nothing_public():
    config = config_of()
    del config["train"]["valid_is_public"]
    assert completed(config) == config_of()


def test_a_pseudo_gradient_is_not_clipped_by_default():
    rounds = fed_avg(count=4, chosen=2, local=2, rows=3)
    assert rounds.unclipped
    with pytest.raises(
        UserError, match=r"'fed_avg' returns a pseudo-gradient, which optimizer\.clip_norm=1 .*--config\.optimizer\.clip_norm=0"
    ):
        assemble(config_of(optimizer__clip_norm=1.0), [rounds])
    assemble(config_of(), [rounds])


@pytest.mark.parametrize("name", [name for name, kind in Treatment.__annotations__.items() if kind is bool])
def test_a_composition_claims_what_its_members_claim(name):
    assert getattr(compose([Treatment(), Treatment(**{name: True})]), name) is True and getattr(compose([Treatment()]), name) is False
