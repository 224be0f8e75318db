"""Blocks as one loop, and blocks that are computed again: the same numbers, the same parameters, the same taps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_transformer import batch_of, logits_of, make, near, start

from assay.core.errors import UserError

STACKS = {"plain": {}, "mixed": {"mixers": ("attention", "lstm")}, "looped": {"loops": 2}, "relative": {"positions": "transformer_xl"}}


def loss_of(model, batch):
    return lambda params: jnp.mean(jnp.square(model.apply(params, batch, train=True, key=jax.random.key(0)).logits))


@pytest.mark.parametrize(
    ("family", "stack", "way"),
    [
        ("decoder", "plain", {"scan": True}),
        ("decoder", "mixed", {"remat": "full"}),
        ("decoder", "mixed", {"scan": True, "remat": "dots"}),
        ("decoder", "relative", {"scan": True}),
        ("encoder", "looped", {"scan": True, "remat": "full"}),
        ("encoder_decoder", "plain", {"scan": True}),
        ("encoder_decoder", "plain", {"remat": "dots"}),
    ],
)
def test_the_same_numbers_as_block_by_block(family, stack, way):
    plain = make(family, depth=4, **STACKS[stack])
    other, batch = make(family, depth=4, **STACKS[stack], **way), batch_of()
    params = start(plain)
    assert jax.tree.structure(params) == jax.tree.structure(jax.eval_shape(other.init, jax.random.key(0), batch))
    near(logits_of(plain, params, batch), logits_of(other, params, batch))
    expected, found = (jax.jit(jax.value_and_grad(loss_of(model, batch)))(params) for model in (plain, other))
    jax.tree.map(near, expected, found)


@pytest.mark.parametrize("train", [False, True])
def test_taps_are_those_of_each_block(train):
    plain, scanned, batch = make("decoder", depth=3), make("decoder", depth=3, scan=True), batch_of()
    params = start(plain)
    expected, found = (model.apply(params, batch, train=train, key=jax.random.key(0)).taps for model in (plain, scanned))
    assert expected.keys() == found.keys() and "block_2/attention/weights" in found
    jax.tree.map(near, dict(expected), dict(found))


def test_an_edit_reaches_its_block():
    plain, scanned, batch = make("decoder", depth=3), make("decoder", depth=3, scan=True), batch_of()
    params, edits = start(plain), {"block_1/residual": jax.tree_util.Partial(jnp.multiply, 2.0)}
    changed = logits_of(scanned, params, batch, edits=edits)
    near(changed, logits_of(plain, params, batch, edits=edits))
    assert np.abs(changed - logits_of(plain, params, batch)).max() > 1e-3


def test_blocks_are_one_loop():
    def products(model):
        jaxpr = str(jax.make_jaxpr(loss_of(model, batch_of()))(start(model)))
        return jaxpr.count("dot_general")

    shallow, deep = (products(make("decoder", depth=depth, scan=True)) for depth in (2, 6))
    assert shallow == deep < products(make("decoder", depth=6))


def test_dropout_draws_other_features_for_each_block_and_key():
    model, batch = make("decoder", depth=2, scan=True, dropout=0.5), batch_of()
    params = start(model)
    first, again, other = (model.apply(params, batch, train=True, key=jax.random.key(seed)).logits for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.asarray(first) - np.asarray(other)).max() > 1e-3


@pytest.mark.parametrize("remat", ["dots", "full"])
@pytest.mark.parametrize("scan", [False, True])
def test_less_is_kept_for_the_backward_pass(scan, remat):
    def kept(**way) -> int:
        model, batch = make("decoder", depth=8, **way), batch_of(20, rows=64)
        residuals = jax.eval_shape(lambda params: jax.vjp(loss_of(model, batch), params)[1], start(model))
        return sum(leaf.size for leaf in jax.tree.leaves(residuals))

    assert kept(scan=scan, remat=remat) < 0.7 * kept(scan=scan)


def test_mixers_take_whole_turns():
    with pytest.raises(UserError, match=r"model\.scan.*mixers, 2,.*model\.depth=3"):
        make("decoder", depth=3, mixers=("attention", "lstm"), scan=True)
