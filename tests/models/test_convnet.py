"""Convolutional families: published parameter counts, the residual form by hand, and gradients through depth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.core.errors import UserError
from assay.core.tree import count, merge
from assay.models.convnet import ResidualBlock
from assay.models.families import build
from assay.models.model import Model, Vocabulary
from assay.models.precision import PrecisionConfig

TUTORIAL = {"filters": (32, 64), "kernel": 3, "pools": 2, "padding": "valid", "dense": 0, "dropout": 0.0}
SMALL = TUTORIAL | {"filters": (4, 6), "padding": "same", "dense": 8}
RESNET = {"layout": "cifar", "depth": 8, "width": 16, "groups": 8, "stem": "small", "dropout": 0.0}
TINY = RESNET | {"width": 4, "groups": 2}
IMAGENET = {"layout": "imagenet", "depth": 18, "width": 64, "groups": 32, "stem": "large", "dropout": 0.0}


def make(name: str, outputs: int = 10, compute: str = "float32", **settings) -> Model:
    return build({"name": name, **settings}, Vocabulary(0, outputs, pooled=True), PrecisionConfig("float32", compute, "float32"))


def images(side: int = 8, channels: int = 1, rows: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    pixels = np.random.default_rng(seed).standard_normal((rows, side, side, channels)).astype(np.float32)
    return {"inputs": pixels, "weight": np.ones(rows, np.float32)}


def shapes_of(model: Model, batch):
    return jax.eval_shape(model.init, jax.random.key(0), batch)


def start(model: Model, batch, seed: int = 0):
    """Parameters without the zeros that would hide a mistake."""
    random = np.random.default_rng(seed)
    draw = lambda leaf: jnp.asarray(random.standard_normal(leaf.shape) / np.sqrt(max(np.prod(leaf.shape[:-1]), 1)), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, shapes_of(model, batch))


def near(first, second, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(first), np.asarray(second), rtol=tolerance, atol=tolerance)


# -- sizes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "channels", "changes", "expected"),
    [
        (28, 1, {}, 320 + 18_496 + (5 * 5 * 64 + 1) * 10),  # the Keras tutorial on MNIST prints 34,826
        (32, 3, {"filters": (32, 64, 64), "dense": 64}, 896 + 18_496 + 36_928 + (4 * 4 * 64 + 1) * 64 + 65 * 10),  # that on CIFAR: 122,570
        (8, 1, {"padding": "same"}, 320 + 18_496 + (2 * 2 * 64 + 1) * 10),
    ],
)
def test_the_parameters_of_a_cnn_are_counted(side, channels, changes, expected):
    assert count(shapes_of(make("cnn", **TUTORIAL | changes), images(side, channels))) == expected


@pytest.mark.parametrize(
    ("settings", "side", "outputs", "published", "exact"),
    [
        (RESNET | {"depth": 20}, 32, 10, 0.27e6, 269_722),
        (RESNET | {"depth": 56}, 32, 10, 0.85e6, 853_018),
        (IMAGENET, 64, 1000, 11.7e6, 11_689_512),
        (IMAGENET | {"depth": 34}, 64, 1000, 21.8e6, 21_797_672),
        (IMAGENET | {"depth": 50}, 64, 1000, 25.6e6, 25_557_032),
    ],
)
def test_the_parameters_of_a_resnet_are_as_published(settings, side, outputs, published, exact):
    """GroupNorm has the scale and the bias of BatchNorm, so the counts are the same; He et al. 2016, Table 6, give those of CIFAR."""
    found = count(shapes_of(make("resnet", outputs, **settings), images(side, 3)))
    assert found == exact
    assert found == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("depth", [8, 14])
def test_the_parameters_of_a_cifar_resnet_follow_the_formula(depth):
    n, expected = (depth - 2) // 6, 9 * 1 * 16 + 2 * 16
    for stage, width in enumerate((16, 32, 64)):
        entering = width if stage == 0 else width // 2
        expected += 9 * entering * width + (2 * n - 1) * 9 * width * width + 2 * n * 2 * width
    assert count(shapes_of(make("resnet", **RESNET | {"depth": depth}), images())) == expected + 65 * 10


# -- shapes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "side", "channels", "taps"),
    [
        ("cnn", SMALL, 8, 1, {"block_0/features": (2, 4, 4, 4), "block_1/features": (2, 2, 2, 6), "dense": (2, 8)}),
        ("cnn", TUTORIAL, 28, 1, {"block_0/features": (2, 13, 13, 32), "block_1/features": (2, 5, 5, 64)}),
        ("resnet", RESNET, 8, 1, {"block_0/residual": (2, 8, 8, 16), "block_2/residual": (2, 2, 2, 64), "pooled": (2, 64)}),
        ("resnet", RESNET, 7, 3, {"block_1/residual": (2, 4, 4, 32), "block_2/residual": (2, 2, 2, 64)}),
        ("resnet", IMAGENET, 224, 3, {"embedded": (2, 56, 56, 64), "block_7/residual": (2, 7, 7, 512)}),
        ("resnet", IMAGENET | {"stem": "small"}, 32, 3, {"embedded": (2, 32, 32, 64), "block_7/residual": (2, 4, 4, 512)}),
        ("resnet", IMAGENET | {"depth": 50}, 224, 3, {"block_0/residual": (2, 56, 56, 256), "block_15/residual": (2, 7, 7, 2048)}),
    ],
)
def test_shapes(name, settings, side, channels, taps):
    model, batch = make(name, **settings), images(side, channels)
    output = jax.eval_shape(model.apply, shapes_of(model, batch), batch)
    assert output.logits.shape == (2, 10) and output.logits.dtype == jnp.float32
    assert {path: output.taps[path].shape for path in taps} == taps
    assert model.decode is None


@pytest.mark.parametrize(("name", "settings"), [("cnn", SMALL), ("resnet", TINY)])
def test_jit_bfloat16_and_neighbours(name, settings):
    """jit changes nothing, bfloat16 little; an image's answer does not depend on the other images of its batch."""
    batch, model = images(), make(name, **settings)
    params = start(model, batch)
    plain = np.asarray(model.apply(params, batch).logits)
    near(jax.jit(model.apply)(params, batch).logits, plain)
    alone = {name: array[:1] for name, array in batch.items()}
    near(jax.jit(model.apply)(params, alone).logits, plain[:1])
    rough = jax.jit(make(name, compute="bfloat16", **settings).apply)(params, batch).logits
    assert rough.dtype == jnp.float32 and 0 < np.abs(np.asarray(rough) - plain).max() < 0.2


@pytest.mark.parametrize(("name", "settings"), [("cnn", SMALL), ("resnet", TINY)])
def test_dropout_is_of_training(name, settings):
    batch, model = images(), make(name, **settings | {"dropout": 0.5})
    params = start(model, batch)
    quiet, noisy = (np.asarray(model.apply(params, batch, key=jax.random.key(0), train=train).logits) for train in (False, True))
    assert (quiet != noisy).any()
    near(make(name, **settings).apply(params, batch).logits, quiet)


# -- the formulas -----------------------------------------------------------------------------------------------------------


def convolve(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Cross-correlation with centred zero padding, by loops."""
    side, edge = kernel.shape[0], kernel.shape[0] // 2
    padded = np.pad(x, ((edge, edge), (edge, edge), (0, 0)))
    rows = range(0, x.shape[0], stride)
    return np.array([[np.einsum("ijc,ijco->o", padded[i : i + side, j : j + side], kernel) for j in rows] for i in rows])


def group_norm(x: np.ndarray, groups: int, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    parts = x.reshape(*x.shape[:2], groups, -1)
    mean, variance = parts.mean(axis=(0, 1, 3), keepdims=True), parts.var(axis=(0, 1, 3), keepdims=True)
    return ((parts - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape) * scale + bias


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("projected", [False, True])
def test_a_block_equals_its_formula(bottleneck, projected):
    random, out = np.random.default_rng(0), 16 if bottleneck else 4
    block, x = ResidualBlock(4, 2, 2, bottleneck, projected, jnp.float32), random.standard_normal((1, 6, 6, 2))
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), jnp.asarray(x, jnp.float32)))["params"]
    params = jax.tree.map(lambda leaf: random.standard_normal(leaf.shape), shapes)
    strides = (1, 2, 1) if bottleneck else (2, 1)
    y = x[0]
    for i, stride in enumerate(strides):
        y = group_norm(convolve(y, params[f"conv_{i}"]["kernel"], stride), 2, **params[f"norm_{i}"])
        y = y if i == len(strides) - 1 else np.maximum(y, 0)
    if projected:
        shortcut = group_norm(convolve(x[0], params["shortcut"]["kernel"], 2), 2, **params["norm_shortcut"])
    else:
        shortcut = np.concatenate([x[0, ::2, ::2], np.zeros((3, 3, out - 2))], axis=-1)
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    near(block.apply({"params": single}, jnp.asarray(x, jnp.float32))[0], np.maximum(shortcut + y, 0), 1e-4)


def test_a_block_starts_as_its_shortcut():
    model, batch = make("resnet", **TINY), images()
    taps = model.apply(model.init(jax.random.key(0), batch), batch).taps
    near(taps["block_0/residual"], taps["embedded"])
    near(taps["block_1/residual"][..., :4], taps["embedded"][:, ::2, ::2])


# -- gradients through depth --------------------------------------------------------------------------------------------------


def test_gradients_live_through_depth():
    """The norm of the gradient of the last of 2 to 64 blocks, along a random unit direction, with respect to what enters the first.

    At the start it is that of one relu, whatever the depth. With last scales of 1 it would grow with the depth.
    """
    block = ResidualBlock(4, 1, 2, False, False, jnp.float32)
    x, direction = jax.random.normal(jax.random.key(0), (2, 2, 4, 4, 4))
    direction /= jnp.linalg.norm(direction)
    params = jax.jit(jax.vmap(lambda key: block.init(key, x)["params"]))(jax.random.split(jax.random.key(2), 64))
    ones = merge(params, {"norm_1": {"scale": jnp.ones((64, 4))}})

    @jax.jit
    def norm(params) -> jax.Array:
        def answer(x: jax.Array) -> jax.Array:
            return (jax.lax.scan(lambda x, one: (block.apply({"params": one}, x), None), x, params)[0] * direction).sum()

        return jnp.linalg.norm(jax.grad(answer)(x))

    def through(params, depth: int) -> float:
        return float(norm(jax.tree.map(lambda leaf: leaf[:depth], params)))

    start, unscaled = ([through(tree, depth) for depth in (2, 64)] for tree in (params, ones))
    print(start, unscaled)
    assert 0.5 < start[0] < 1.0 and start[1] == pytest.approx(start[0], rel=1e-5)
    assert unscaled[1] > 3 * unscaled[0], "the zero scales are what keeps it"


# -- mistakes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("cnn", "filters", ()),
        ("cnn", "pools", 3),
        ("cnn", "padding", "full"),
        ("resnet", "depth", 21),
        ("resnet", "layout", "mnist"),
        ("resnet", "groups", 3),
        ("resnet", "stem", "none"),
    ],
)
def test_a_wrong_key_names_itself(name, key, value):
    with pytest.raises(UserError, match=rf"config\.model\.{key}"):
        make(name, **{**(SMALL if name == "cnn" else RESNET), key: value})


def test_what_does_not_fit_is_told():
    with pytest.raises(UserError, match=r"block_1 of the cnn.*padding=same"):
        shapes_of(make("cnn", **TUTORIAL | {"filters": (4, 4)}), images(side=6))
    for name, settings in (("cnn", SMALL), ("resnet", RESNET)):
        with pytest.raises(UserError, match="reads images"):
            build({"name": name, **settings}, Vocabulary(256, 256), PrecisionConfig("float32", "float32", "float32"))
