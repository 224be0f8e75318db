"""Masks: how many weights are zero and which, that they stay so whatever the optimizer does, and what a ticket is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import UserError
from assay.core.tree import count
from assay.models.model import Model, Output
from assay.train.experiment import assemble
from assay.train.objective import supervised
from assay.train.state import final_params, init_state
from assay.train.step import make_step
from assay.train.treatment import compose
from assay.treatments.compression.mask import EVERY, Pruning, grouped, keeping, pruned, ranked, sparsity_after
from assay.treatments.pipeline.load import treatments

KEY = jax.random.key(0)
SHAPES = {"block_0": (6, 20), "block_1": (20, 12), "head": (12, 5)}


@functools.cache
def network() -> Model:
    """Three layers with biases; the second's weights are ten times as large."""

    def init(key, batch):
        keys = jax.random.split(key, len(SHAPES))
        scale = {"block_0": 1.0, "block_1": 10.0, "head": 1.0}
        return {
            name: {"kernel": scale[name] * jax.random.normal(one, shape), "bias": jnp.zeros(shape[1])}
            for one, (name, shape) in zip(keys, SHAPES.items(), strict=True)
        }

    def apply(params, batch, *, key=None, train=False, edits=None):
        x = batch["inputs"]
        for name in SHAPES:
            x = x @ params[name]["kernel"] + params[name]["bias"][None]
            x = x if name == "head" else jnp.tanh(x)
        return Output(x, {})

    return Model(init, apply)


def score(output, batch):
    nll = -jnp.take_along_axis(jax.nn.log_softmax(output.logits), batch["targets"][:, None], axis=-1)[:, 0]
    return nll, batch["weight"], {"nll": nll}


def batch_of(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((16, 6)).astype(np.float32)
    return {"inputs": inputs, "targets": random.integers(0, 5, 16), "weight": np.ones(16, np.float32)}


def trained(specs, steps: int = 0, optimizer=None, look=None):
    """The parameters to answer with, after some steps of Adam with decay; `look(state)` after each."""
    treatment = compose(treatments(specs))
    objective, optimizer = treatment.objective(supervised(score)), treatment.optimizer(optimizer or optax.adamw(0.05, weight_decay=0.1))
    state = jax.jit(lambda: init_state(KEY, {}, network(), objective, optimizer, treatment, batch_of()))()
    step = jax.jit(make_step(network(), objective, treatment.gradient, optimizer))
    for i in range(steps):
        state, _ = step(state, batch_of(i))
        if look:
            look(state)
    return final_params(state, treatment)["model"]


def zeros(params) -> dict[str, float]:
    """The share of each kernel that is zero."""
    return {name: float((np.asarray(layer["kernel"]) == 0).mean()) for name, layer in params.items()}


def total(params) -> int:
    return sum(int((np.asarray(layer["kernel"]) == 0).sum()) for layer in params.values())


WEIGHTS = sum(a * b for a, b in SHAPES.values())


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("how", ["", ",scope=layer", ",score=random", ",score=random,scope=layer"])
def test_just_the_share_that_was_asked_for_is_zero(how, steps):
    params = trained([f"prune:sparsity=0.8{how}"], steps)
    if "layer" in how:
        for name, share in zeros(params).items():
            assert abs(share - 0.8) <= 0.5 / np.prod(SHAPES[name]) + 1e-9, (name, share)
    else:
        assert total(params) == round(0.8 * WEIGHTS)
    assert (np.asarray(params["head"]["bias"]) != 0).all() or steps == 0


def test_magnitude_ranks_over_all_layers_or_in_each():
    together, apart = zeros(trained(["prune:sparsity=0.5"])), zeros(trained(["prune:sparsity=0.5,scope=layer"]))
    assert together["block_1"] < 0.2 < 0.8 < together["block_0"], "the layer whose weights are larger keeps them"
    assert all(abs(share - 0.5) < 0.02 for share in apart.values())
    params, plain = trained(["prune:sparsity=0.5"]), trained([])
    kept = np.concatenate([np.abs(plain[name]["kernel"])[np.asarray(params[name]["kernel"]) != 0] for name in SHAPES])
    gone = np.concatenate([np.abs(plain[name]["kernel"])[np.asarray(params[name]["kernel"]) == 0] for name in SHAPES])
    assert kept.min() >= gone.max()


def test_zeros_stay_whatever_momentum_and_decay_do():
    masks = []
    trained(["prune:sparsity=0.7"], 8, look=lambda state: masks.append(jax.tree.map(lambda leaf: np.asarray(leaf) == 0, state.params)))
    for mask in masks:
        for name in SHAPES:
            assert (mask["model"][name]["kernel"] == masks[0]["model"][name]["kernel"]).all()
    first = trained(["prune:sparsity=0.7"], 1)
    later = trained(["prune:sparsity=0.7"], 8)
    assert (np.asarray(first["block_1"]["kernel"]) != np.asarray(later["block_1"]["kernel"])).any(), "what stays is trained"


@pytest.mark.parametrize("how", ["magnitude", "random", "2:4"])
def test_a_weight_that_is_zero_is_not_pruned_for_that(how):
    """A layer that starts from zeros (a bias, a last layer) would never learn if zeros were taken for pruned weights."""
    pattern = how == "2:4"
    how = Pruning(0.5, "magnitude" if pattern else how, False, 2 * pattern, 4 * pattern, 0, ".")
    model = {"a": {"kernel": jnp.arange(1.0, 17).reshape(8, 2)}, "b": {"kernel": jnp.zeros((8, 2)), "bias": jnp.zeros(8)}}
    params = {"model": pruned(network(), model, how)[1]}
    optimizer = keeping(optax.sgd(1.0), how)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    moved = jax.tree.map(lambda leaf, update: float((leaf + update != 0).mean()), params, updates)
    assert moved["model"]["a"]["kernel"] >= 0.4 and moved["model"]["b"]["kernel"] == 0.5, moved


def test_an_average_over_steps_is_as_sparse():
    for specs in (["average:decay=0.9", "prune:sparsity=0.8"], ["average:decay=0.9", "prune:sparsity=0.8,ramp=12"]):
        assert total(trained(specs, 20)) == round(0.8 * WEIGHTS), specs
    both = trained(["prune:sparsity=0.6,paths=block", "prune:sparsity=0.5,paths=head/kernel", "average:decay=0.9"], 3)
    assert zeros(both)["head"] == 0.5


def test_sparsity_grows_as_the_formula_says_and_never_shrinks():
    how = Pruning(0.9, "magnitude", True, 0, 0, 40, "kernel$")
    seen: list[int] = []
    before: list[np.ndarray] = []

    def look(state):
        kernel = np.asarray(state.params["model"]["block_0"]["kernel"]) == 0
        assert not before or (kernel | ~before[-1]).all(), "a pruned weight came back"
        before.append(kernel)
        seen.append(total(state.params["model"]))

    params = trained(["prune:sparsity=0.9,ramp=40"], 45, look=look)
    for step, zero in enumerate(seen, 1):
        at = step - step % EVERY if step < 40 else 40
        assert zero == int(np.round(np.float32(sparsity_after(jnp.int32(at), how)) * WEIGHTS)), step
    np.testing.assert_allclose(float(sparsity_after(jnp.int32(10), how)), 0.9 * (1 - 0.75**3), rtol=1e-6)
    assert total(params) == round(0.9 * WEIGHTS)


def test_snip_keeps_what_the_first_gradient_says():
    def loss(params):
        values, _, _ = score(network().apply(params, batch_of(0)), batch_of(0))
        return values.mean()

    start = trained([])
    slopes = jax.grad(loss)(start)
    saliency = {name: np.abs(np.asarray(start[name]["kernel"] * slopes[name]["kernel"])) for name in SHAPES}
    params = trained(["prune:sparsity=0.6,score=snip"], 3)
    assert total(params) == round(0.6 * WEIGHTS)
    kept = np.concatenate([saliency[name][np.asarray(params[name]["kernel"]) != 0] for name in SHAPES])
    gone = np.concatenate([saliency[name][np.asarray(params[name]["kernel"]) == 0] for name in SHAPES])
    assert kept.min() >= gone.max() * (1 - 1e-4)


def test_movement_keeps_what_moves_away_from_zero():
    """Of two weights alike in size, the one that the gradient makes larger stays."""
    params = trained(["prune:sparsity=0.5,score=movement,ramp=20,scope=layer"], 25)
    assert all(abs(share - 0.5) < 0.02 for share in zeros(params).values())
    by_size = trained(["prune:sparsity=0.5,ramp=20,scope=layer"], 25)
    different = np.mean((np.asarray(params["block_1"]["kernel"]) == 0) != (np.asarray(by_size["block_1"]["kernel"]) == 0))
    assert different > 0.05


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.floats(0, 0.99), st.integers(0, 9))
def test_ranks_are_exact_even_among_equals(size, sparsity, seed):
    values = np.random.default_rng(seed).integers(0, 3, size).astype(np.float32)
    keep = np.asarray(ranked(jnp.asarray(values), jnp.float32(sparsity)))
    assert (~keep).sum() == int(np.round(np.float32(sparsity) * np.float32(size)))
    if keep.any() and not keep.all():
        assert values[keep].min() >= values[~keep].max()


@pytest.mark.parametrize(("shape", "kept", "group"), [((8, 3), 2, 4), ((10, 3), 2, 4), ((3, 3, 2, 5), 1, 4), ((7, 2), 1, 2)])
def test_n_of_m_in_a_row_along_the_inputs(shape, kept, group):
    score = jax.random.normal(KEY, shape)
    keep, flat = np.asarray(grouped(score, kept, group)), np.asarray(score).reshape(-1, shape[-1])
    keep = keep.reshape(flat.shape)
    for start in range(0, len(flat), group):
        part, mask = flat[start : start + group], keep[start : start + group]
        assert (mask.sum(axis=0) == min(kept, len(part))).all()
        for column in range(shape[-1]):
            assert set(np.argsort(-part[:, column])[: mask[:, column].sum()]) == set(np.flatnonzero(mask[:, column]))


def test_a_ticket_has_the_mask_of_the_trained_and_the_values_of_the_start(tmp_path):
    from assay.config.files import load
    from assay.config.overrides import override
    from assay.config.schema import to_dict
    from assay.train import loop
    from assay.treatments.pipeline.load import early
    from assay.treatments.pipeline.load import load as open_run

    config = to_dict(override(load("experiments/reason/parity.py:lstm,tiny"), {"evaluate.splits": "iid", "train.steps": "12"}))
    loop.run(config, str(tmp_path / "dense"), [])
    specs = [f"inherit:from={tmp_path / 'dense'}", f"prune:sparsity=0.5,rewind=0,from={tmp_path / 'dense'}"]
    made = {**config, "train": {**config["train"], "steps": 0}, "treatments": specs}
    loop.run(made, str(tmp_path / "ticket"), treatments(specs))
    dense, ticket = open_run(tmp_path / "dense")[1], open_run(tmp_path / "ticket")[1]
    start = early(tmp_path / "dense", 0)
    kernels = {path: leaf for path, leaf in _leaves(ticket).items() if path.endswith(("kernel", "recurrent"))}
    everything = sum(leaf.size for leaf in kernels.values())
    assert sum(int((leaf == 0).sum()) for leaf in kernels.values()) == round(0.5 * everything)
    smallest = np.sort(np.concatenate([np.abs(_leaves(dense)[path]).ravel() for path in kernels]))[round(0.5 * everything)]
    for path, leaf in kernels.items():
        np.testing.assert_array_equal(leaf, np.where(np.abs(_leaves(dense)[path]) >= smallest, _leaves(start)[path], 0))
    with pytest.raises(UserError, match="no checkpoint of step 5"):
        early(tmp_path / "dense", 5)
    assert count(start) == count(ticket)


def _leaves(params) -> dict[str, np.ndarray]:
    from assay.core.tree import paths

    return {path: np.asarray(leaf) for path, leaf in zip(paths(params), jax.tree.leaves(params), strict=True)}


def test_mistakes_are_told(tiny):
    for spec, words in {
        "prune": ["sparsity", "heads"],
        "prune:sparsity=1": ["sparsity=1", "[0, 1)"],
        "prune:sparsity=-0.1": ["sparsity=-0.1"],
        "prune:heads=1.5": ["heads=1.5"],
        "prune:sparsity=0.5,heads=0.5": ["sparsity=0.5"],
        "prune:sparsity=0.5,score=best": ["score=best", "magnitude, movement, snip, random"],
        "prune:heads=0.5,score=snip": ["score=snip", "taylor"],
        "prune:nm=4:2": ["nm=4:2", "2:4"],
        "prune:nm=2": ["nm=2"],
        "prune:sparsity=0.5,score=movement": ["ramp=0", "movement"],
        "prune:sparsity=0.5,paths=(": ["paths=(", "regular expression"],
    }.items():
        with pytest.raises(UserError) as told:
            treatments([spec])
        assert all(word in str(told.value) for word in ["'prune'", *words]), (spec, str(told.value))
    with pytest.raises(UserError, match=r"paths=nowhere.*Some paths: model/block_0.*kernel"):
        assemble(tiny("lstm", {"treatments": "prune:sparsity=0.5,paths=nowhere"}), treatments(["prune:sparsity=0.5,paths=nowhere"]))
    for spec, steps in (("prune:sparsity=0.5,score=snip", "0"), ("prune:sparsity=0.5,ramp=40", "39")):
        with pytest.raises(UserError, match=r"steps to complete.*config.train.steps"):
            assemble(tiny("lstm", {"treatments": spec, "train.steps": steps}), treatments([spec]))
