"""Gradients stay alive in deep Transformers: the norm of the first block's gradient over that of the last, at the start of training.

Measured here at width 32: pre-norm with scaled initial values 1.2 to 2.2 from 2 to 64 blocks; post-norm with plain ones, in a decoder that
attends to a source, 0.07 at 8 blocks. BAND states what is accepted. Models run without jit, so that no deep program is compiled.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from assay.core.tree import paths
from assay.models.families import build
from assay.models.model import Model, Vocabulary
from assay.models.precision import PrecisionConfig

BAND = (0.5, 4.0)
WRITERS = ("out/kernel", "down/kernel")
IDS, SEQ = 16, 6
CONFIG = {"width": 32, "heads": 2, "kv_heads": 2, "window": 0, "mlp": 64, "positions": "sinusoidal", "randomised": 0, "norm": "layernorm"}
CONFIG |= {"gate": False, "activation": "relu", "tied": False, "attention": "plain", "dropout": 0.0, "max_length": SEQ}
CONFIG |= {"mixers": ("attention",), "attention_weights": "softmax", "test_loops": 0, "stack_cell": 8, "stack_depth": 0}
CONFIG |= {"local_window": 2, "local_positions": "rotary"}


def make(family: str, depth: int, **options) -> Model:
    values = {"name": family, "depth": depth, "loops": 1, **CONFIG, "norm_place": "pre", "residual_init": "scaled", **options}
    return build(values, Vocabulary(IDS, IDS), PrecisionConfig("float32", "float32", "float32"))


def batch_of(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    tokens = {name: random.integers(0, IDS, (2, SEQ)).astype(np.int32) for name in ("inputs", "decoder_inputs", "targets")}
    return {**tokens, "length": np.full(2, SEQ, np.int32), "weight": np.ones(2, np.float32)}


def measure(family: str, depth: int, **options) -> tuple[dict[str, float], float]:
    """For each stack: gradient norm at the first block over that at the last; and the root mean square of the last residual stream."""
    model, batch = make(family, depth, **options), batch_of()
    params = model.init(jax.random.key(0), batch)

    def loss(params):
        output = model.apply(params, batch)
        losses = optax.softmax_cross_entropy_with_integer_labels(output.logits, batch["targets"])
        residual = [value for path, value in output.taps.items() if path.endswith(f"block_{depth - 1}/residual")]
        return losses.mean(), jnp.sqrt((residual[-1] ** 2).mean())

    gradient, size = jax.grad(loss, has_aux=True)(params)
    halves = gradient if family == "encoder_decoder" else {"": gradient}
    norm = optax.tree.norm
    return {side: float(norm(half["block_0"]) / norm(half[f"block_{depth - 1}"])) for side, half in halves.items()}, float(size)


DEPTHS = [("decoder", 2), ("decoder", 8), ("decoder", 64), ("encoder", 2), ("encoder", 32), ("encoder_decoder", 2), ("encoder_decoder", 8)]


@pytest.mark.parametrize(("family", "depth"), DEPTHS)
def test_the_gradient_reaches_the_first_block(family, depth):
    ratios, size = measure(family, depth)
    assert len(ratios) == (2 if family == "encoder_decoder" else 1)
    assert all(BAND[0] < ratio < BAND[1] for ratio in ratios.values()), ratios
    assert size < 2.0, "the sum of all residual terms stays as large as one of them"


def test_plain_initial_values_let_the_residual_stream_grow():
    """What the bound on its size above is worth."""
    assert measure("decoder", 12, residual_init="plain")[1] > 2.0


def test_post_norm_needs_scaled_initial_values():
    """With plain ones, gradients vanish in a decoder that attends to a source: the measure can fail."""
    plain, scaled = (measure("encoder_decoder", 6, norm_place="post", residual_init=name)[0]["decoder"] for name in ("plain", "scaled"))
    assert plain < 0.25 < BAND[0] < scaled < BAND[1]


@pytest.mark.parametrize(("family", "terms"), [("decoder", 2), ("encoder_decoder", 3)])
def test_scaled_initial_values_have_the_stated_variance(family, terms):
    """The matrices that write into the residual stream, and no others, have 1 / (terms of the sum) of the variance."""
    models = (make(family, 1, loops=12, residual_init=name) for name in ("plain", "scaled"))
    plain, scaled = (model.init(jax.random.key(0), batch_of()) for model in models)
    if family == "encoder_decoder":
        plain, scaled = plain["decoder"], scaled["decoder"]
    names = paths(plain)
    assert sum(path.endswith(WRITERS) for path in names) == terms
    for path, first, second in zip(names, jax.tree.leaves(plain), jax.tree.leaves(scaled), strict=True):
        expected = first / np.sqrt(terms * 12) if path.endswith(WRITERS) else first
        np.testing.assert_allclose(second, expected, rtol=1e-4, err_msg=path)
