"""Optimisers by name: the first steps against formulas in NumPy, and what all of them owe the chain around them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from assay.core.errors import UserError
from assay.core.tree import map_with_path
from assay.train.optim import OPTIMIZERS, OptimizerConfig, make_optimizer, make_schedule

SPEC = OptimizerConfig("sgd", 0.1, "constant", 0, 0, 0.0, "kernel$", 0.0)
TARGET = {
    "up": {"kernel": (3, 5), "bias": (5,)},
    "embed": {"embedding": (4, 3)},
    "head": {"kernel": (5, 2)},
    "conv": {"kernel": (2, 2, 3, 5)},
}


def params_of(seed: int):
    random = np.random.default_rng(seed)
    return {
        "model": jax.tree.map(lambda shape: random.standard_normal(shape).astype(np.float32), TARGET, is_leaf=lambda x: type(x) is tuple)
    }


def walk(spec: OptimizerConfig, steps: int):
    """Parameters after each step on the quadratic |params - target|^2 / 2, whose gradient is params - target; the gradients beside them."""
    optimizer = make_optimizer(spec, make_schedule(spec, steps))
    params, target = params_of(0), params_of(1)
    state, seen = optimizer.init(params), []
    for _ in range(steps):
        grads = jax.tree.map(np.subtract, params, target)
        updates, state = jax.jit(optimizer.update)(grads, state, params)
        seen.append((params, grads, jax.tree.map(np.asarray, updates)))
        params = jax.tree.map(np.asarray, optax.apply_updates(params, updates))
    return seen


def root_mean_square(values: np.ndarray) -> np.floating:
    return np.sqrt(np.square(values).mean())


def sgd(weights, grads):
    return grads[-1]


def momentum(weights, grads):
    return sum(0.9 ** (len(grads) - 1 - i) * grad for i, grad in enumerate(grads))


def adam(weights, grads, b1=0.9, b2=0.999):
    t = len(grads)
    first = (1 - b1) * sum(b1 ** (t - 1 - i) * g for i, g in enumerate(grads)) / (1 - b1**t)
    second = (1 - b2) * sum(b2 ** (t - 1 - i) * g**2 for i, g in enumerate(grads)) / (1 - b2**t)
    return first / (np.sqrt(second) + 1e-8)


def adagrad(weights, grads):
    return grads[-1] / np.sqrt(0.1 + sum(g**2 for g in grads) + 1e-7)


def adafactor(weights, grads):
    second = np.zeros_like(grads[0])
    for t, grad in enumerate(grads, start=1):  # small arrays are not factored; the decay is 1 - t^-0.8
        second += t**-0.8 * (grad**2 + 1e-30 - second)
    direction = grads[-1] / np.sqrt(second)
    return direction / max(1.0, root_mean_square(direction)) * max(root_mean_square(weights), 1e-3)


def lion(weights, grads):
    average = np.zeros_like(grads[0])
    for grad in grads[:-1]:
        average = 0.99 * average + 0.01 * grad
    return np.sign(0.9 * average + 0.1 * grads[-1])


FORMULAS = {"sgd": sgd, "momentum": momentum, "adam": adam, "adamw": lambda w, g: adam(w, g, b2=0.95), "adagrad": adagrad}
FORMULAS |= {"adafactor": adafactor, "lion": lion}


@pytest.mark.parametrize("name", FORMULAS)
def test_three_steps_follow_the_formula(name):
    seen = walk(replace(SPEC, name=name), 3)
    for step in range(3):
        params, _, updates = seen[step]
        history = [grads for _, grads, _ in seen[: step + 1]]
        wanted = jax.tree.map(lambda weights, *grads: -0.1 * FORMULAS[name](weights, list(grads)), params, *history)
        jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-6), updates, wanted)


def test_every_optimizer_has_its_check():
    assert {*FORMULAS, "muon"} == {*OPTIMIZERS}


def test_muon_moves_hidden_matrices_by_orthogonal_steps_of_adams_size():
    _, grads, updates = walk(replace(SPEC, name="muon"), 1)[0]
    step = -updates["model"]["up"]["kernel"] / 0.1
    values = np.linalg.svd(step, compute_uv=False) / (0.2 * np.sqrt(5))  # the rule's size for a 3 x 5 matrix
    assert (values > 0.6).all() and (values < 1.3).all(), "Newton-Schulz leaves singular values near one"
    left, _, right = np.linalg.svd(grads["model"]["up"]["kernel"], full_matrices=False)
    np.testing.assert_allclose(np.sum(step * (left @ right)), 0.2 * np.sqrt(5) * 3, rtol=0.2)  # along the gradient's polar factor
    for path in ("embed/embedding", "head/kernel", "conv/kernel", "up/bias"):  # Adam's first step is the gradient's sign
        group, leaf = path.split("/")
        np.testing.assert_allclose(updates["model"][group][leaf], -0.1 * np.sign(grads["model"][group][leaf]), rtol=1e-3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_learning_rate_is_applied_once_and_decay_is_decoupled(name):
    spec = replace(SPEC, name=name)
    params, _, plain = walk(spec, 1)[0]
    _, _, doubled = walk(replace(spec, learning_rate=0.2), 1)[0]
    jax.tree.map(lambda one, two: np.testing.assert_allclose(2 * one, two, rtol=1e-5, atol=1e-7), plain, doubled)
    assert all((leaf * grad <= 1e-6).any() for leaf, grad in zip(jax.tree.leaves(plain), jax.tree.leaves(walk(spec, 1)[0][1]), strict=True))
    _, _, decayed = walk(replace(spec, weight_decay=0.5), 1)[0]
    more = map_with_path(lambda path, leaf: -0.1 * 0.5 * leaf if path.endswith("kernel") else 0 * leaf, params)
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(a + b, c, rtol=1e-4, atol=1e-6), plain, more, decayed)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_is_made_from_shapes_and_the_loss_falls(name):
    spec = replace(SPEC, name=name, clip_norm=1.0, weight_decay=1e-3, warmup_steps=2, schedule="cosine")
    optimizer, params = make_optimizer(spec, make_schedule(spec, 8)), params_of(0)
    shapes = jax.eval_shape(optimizer.init, params)
    made = optimizer.init(params)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), made)
    seen = walk(spec, 8)
    losses = [sum(float(np.square(leaf).sum()) for leaf in jax.tree.leaves(grads)) for _, grads, _ in seen]
    assert losses[-1] < losses[0] and all(not np.any(leaf) for leaf in jax.tree.leaves(seen[0][2])), "the first step of a warm-up is 0"
    after, _ = jax.jit(optimizer.update)(jax.tree.map(jnp.zeros_like, params), made, params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after)), "a zero gradient"


def test_an_unknown_optimizer_lists_the_known():
    with pytest.raises(UserError, match=r"adafactor.*lion.*muon.*--config\.optimizer\.name"):
        replace(SPEC, name="mion")
