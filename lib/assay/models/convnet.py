"""Convolutional networks for images: a plain CNN, and ResNet (He et al. 2016a) with GroupNorm (Wu and He 2018).

    cnn      {convolution, relu, max pooling 2 x 2} for each of `filters`, then a dense head
    resnet   stem; stages of residual blocks that halve the image size and double the channels; global average pooling; linear head

No batch statistics are kept: a model has parameters only. GroupNorm has the same scale and bias as BatchNorm, so parameter counts match the
published ones. The last scale of each block is initialized to zero, so that a block starts as its shortcut (Goyal et al. 2017).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from assay.config.schema import require
from assay.core.errors import UserError, unknown
from assay.core.tree import widened
from assay.dist.shard import constrain
from assay.models.model import Model, Vocabulary, from_linen
from assay.nn.conv import CONVOLUTIONS, max_pool_2x2, trained_conv
from assay.nn.normalisation import GroupNorm
from assay.nn.product import Dense
from assay.nn.tap import tap

HE = nn.initializers.he_normal()  # preserves the second moment through a relu (He et al. 2015)
PADDINGS = {"same": "SAME", "valid": "VALID"}
STEMS = ("small", "large")


class Layout(NamedTuple):
    stages: Mapping[int, tuple[int, ...]]  # depth -> number of blocks in each stage
    bottleneck: int  # networks of at least this depth use bottleneck blocks
    projected: bool  # True: the shortcut is a projection where the shape changes; False: it is subsampled and zero-padded
    depths: str  # allowed depths, for error messages


def _cifar_stages() -> dict[int, tuple[int, ...]]:
    return {6 * n + 2: (n, n, n) for n in range(1, 201)}


LAYOUTS: Mapping[str, Layout] = {
    "cifar": Layout(_cifar_stages(), 10_000, False, "6 n + 2, such as 8, 14, 20, 56, 110"),
    "imagenet": Layout({18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}, 50, True, "18, 34, 50"),
}


@dataclass(frozen=True)
class CNNConfig:
    filters: tuple[int, ...]  # channels of each convolution: (32, 64) for MNIST, (32, 64, 64) for CIFAR
    kernel: int  # pixels along a side of each filter
    pools: int  # number of leading convolutions that are followed by 2 x 2 max pooling
    padding: str  # same; or valid, which removes kernel - 1 pixels, as in the tutorials
    dense: int  # features of the hidden layer in the head; 0: no hidden layer
    dropout: float  # dropout rate before each layer of the head
    convolution: str = "xla"  # a name in nn.conv.CONVOLUTIONS

    def __post_init__(self):
        require(
            bool(self.filters) and min(self.filters) >= 1, "model.filters", self.filters, "at least one number of channels, each at least 1"
        )
        require(self.kernel >= 1, "model.kernel", self.kernel, "it must be at least 1")
        require(0 <= self.pools <= len(self.filters), "model.pools", self.pools, f"at most one for each of the filters {self.filters}")
        require(self.dense >= 0, "model.dense", self.dense, "a number of features, or 0 for none")
        require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "a fraction in [0, 1)")
        if self.padding not in PADDINGS:
            raise unknown("padding", self.padding, PADDINGS, "--config.model.padding")
        if self.convolution not in CONVOLUTIONS:
            raise unknown("convolution", self.convolution, CONVOLUTIONS, "--config.model.convolution")


@dataclass(frozen=True)
class ResNetConfig:
    layout: str  # cifar: three stages; imagenet: four
    depth: int  # layers with weights: 6 n + 2 for cifar; 18, 34 (basic blocks) or 50 (bottlenecks) for imagenet
    width: int  # channels of the first stage: 16 for cifar, 64 for imagenet in the paper; each later stage doubles them
    groups: int  # groups of GroupNorm; must divide the width
    stem: str  # small: 3 x 3 convolution, for images under about 64 pixels; large: 7 x 7 and pooling, which divide each side by 4
    dropout: float  # dropout rate before the output layer
    inner: int = 0  # channel groups inside a block, of the same size as those outside; 0: as many as `groups`
    convolution: str = "xla"  # a name in nn.conv.CONVOLUTIONS

    def __post_init__(self):
        if self.convolution not in CONVOLUTIONS:
            raise unknown("convolution", self.convolution, CONVOLUTIONS, "--config.model.convolution")
        if self.layout not in LAYOUTS:
            raise unknown("layout", self.layout, LAYOUTS, "--config.model.layout")
        layout = LAYOUTS[self.layout]
        require(self.depth in layout.stages, "model.depth", self.depth, f"the layout {self.layout!r} has {layout.depths}")
        require(self.width >= 1, "model.width", self.width, "it must be at least 1")
        require(
            self.groups >= 1 and self.width % self.groups == 0, "model.groups", self.groups, f"groups must divide the width, {self.width}"
        )
        require(0 <= self.inner <= self.groups, "model.inner", self.inner, f"at most model.groups={self.groups}, or 0 for as many")
        require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "a fraction in [0, 1)")
        if self.stem not in STEMS:
            raise unknown("stem", self.stem, STEMS, "--config.model.stem")


class ConvBlock(nn.Module):
    """Convolution, relu, and optional max pooling."""

    filters: int
    config: CNNConfig
    pool: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        side, config = (self.config.kernel, self.config.kernel), self.config
        short = min(x.shape[1:3]) - (config.kernel - 1 if config.padding == "valid" else 0)
        if short < (2 if self.pool else 1):
            raise UserError(
                f"the feature map is empty after {self.name} of the cnn: its input has {x.shape[1]} x {x.shape[2]} pixels. "
                "Set --config.model.padding=same, or lower --config.model.pools or --config.model.kernel."
            )
        place: dict[str, Any] = {"padding": PADDINGS[config.padding], "conv_general_dilated": CONVOLUTIONS[config.convolution]}
        x = nn.Conv(self.filters, side, dtype=self.dtype, kernel_init=HE, name="conv", **place)(x)
        x = jax.nn.relu(x)
        return tap(self, "features", constrain(max_pool_2x2(x) if self.pool else x), "b y x w")


class CNN(nn.Module):
    """Maps images `batch["inputs"]` [batch, height, width, channels] to logits [batch, outputs]."""

    config: CNNConfig
    vocabulary: Vocabulary
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> jax.Array:
        config, x = self.config, pictures("cnn", batch["inputs"]).astype(self.dtype)
        for i, filters in enumerate(config.filters):
            x = ConvBlock(filters, config, i < config.pools, self.dtype, name=f"block_{i}")(x)
        x = x.reshape(len(x), -1)
        if config.dense:
            x = nn.Dropout(config.dropout, deterministic=not train)(x)
            x = tap(self, "dense", jax.nn.relu(Dense(config.dense, dtype=self.dtype, kernel_init=HE, name="hidden")(x)), "b w")
        x = nn.Dropout(config.dropout, deterministic=not train)(x)
        return widened(Dense(self.vocabulary.outputs, dtype=self.dtype, name="head")(x))


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + F(x)), where F is two 3 x 3 convolutions or a bottleneck.

    A bottleneck is 1 x 1, 3 x 3, 1 x 1 with a quarter of the channels inside. `inner` reduces the channels inside; the group size stays the
    same.
    """

    width: int  # channels inside the block
    stride: int
    groups: int
    bottleneck: bool
    projected: bool
    dtype: jnp.dtype
    train: bool = False
    inner: int = 0  # groups inside the block; 0: as many as `groups`
    convolution: str = "xla"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        out, groups = self.width * (4 if self.bottleneck else 1), self.inner or self.groups
        inside = self.width // self.groups * groups
        shapes: tuple[tuple[int, int, int], ...] = ((inside, 3, self.stride), (out, 3, 1))  # channels, side, stride
        if self.bottleneck:
            shapes = ((inside, 1, 1), (inside, 3, self.stride), (out, 1, 1))
        y = x
        for i, (channels, side, stride) in enumerate(shapes):
            last = i == len(shapes) - 1
            y = _conv(channels, side, stride, self.dtype, self.train, self.convolution, f"conv_{i}")(y)
            scale = nn.initializers.zeros_init() if last else nn.initializers.ones_init()
            y = GroupNorm(self.groups if last else groups, self.dtype, scale, name=f"norm_{i}")(y)
            y = y if last else jax.nn.relu(y)
        if x.shape != y.shape:
            x = self._project(x, out) if self.projected else _cut_and_pad(x, self.stride, out)
        return tap(self, "residual", constrain(jax.nn.relu(x + y)), "b y x w")

    def _project(self, x: jax.Array, out: int) -> jax.Array:
        x = _conv(out, 1, self.stride, self.dtype, self.train, self.convolution, "shortcut")(x)
        return GroupNorm(self.groups, self.dtype, name="norm_shortcut")(x)


class ResNet(nn.Module):
    """Maps images `batch["inputs"]` [batch, height, width, channels] to logits [batch, outputs]."""

    config: ResNetConfig
    vocabulary: Vocabulary
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Mapping[str, jax.Array], train: bool = False) -> jax.Array:
        config, layout = self.config, LAYOUTS[self.config.layout]
        large = config.stem == "large"
        x = pictures("resnet", batch["inputs"]).astype(self.dtype)
        x = _conv(config.width, 7 if large else 3, 2 if large else 1, self.dtype, train, config.convolution, "stem")(x)
        x = jax.nn.relu(GroupNorm(config.groups, self.dtype, name="norm_stem")(x))
        if large:
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        x, number = tap(self, "embedded", x, "b y x w"), 0
        bottleneck = config.depth >= layout.bottleneck
        for stage, blocks in enumerate(layout.stages[config.depth]):
            for i in range(blocks):
                stride = 2 if stage and not i else 1
                shape = (config.width * 2**stage, stride, config.groups, bottleneck, layout.projected)
                x = ResidualBlock(*shape, self.dtype, train, config.inner, config.convolution, name=f"block_{number}")(x)
                number += 1
        x = tap(self, "pooled", x.mean(axis=(1, 2)), "b w")
        x = nn.Dropout(config.dropout, deterministic=not train)(x)
        return widened(Dense(self.vocabulary.outputs, dtype=self.dtype, name="head")(x))


def cnn(config: CNNConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """Builds the plain CNN. The tutorials use kernel 3, 2 pools and valid padding, with filters (32, 64), or (32, 64, 64) and dense 64."""
    check_images("cnn", vocabulary)
    return from_linen(CNN(config, vocabulary, dtype), convolves=config.convolution == "xla")


def resnet(config: ResNetConfig, vocabulary: Vocabulary, dtype: jnp.dtype) -> Model:
    """Builds a ResNet v1.5: a bottleneck block applies its stride in the 3 x 3 convolution."""
    check_images("resnet", vocabulary)
    return from_linen(ResNet(config, vocabulary, dtype), convolves=config.convolution == "xla")


def check_images(name: str, vocabulary: Vocabulary) -> None:
    """Raises UserError if the task has token inputs or one answer per token."""
    if vocabulary.inputs or not vocabulary.pooled:
        raise UserError(f"{name} reads images and gives one answer, but this task has tokens. Choose another --config.model.name.")


def pictures(name: str, inputs: jax.Array) -> jax.Array:
    """Returns the inputs if they are images. Raises UserError if they are rows of numbers."""
    if inputs.ndim != 4:
        shape = list(inputs.shape)
        raise UserError(f"{name} reads images [batch, height, width, channels], but inputs are {shape}. Set --config.model.name=mlp.")
    return inputs


# -- private --------------------------------------------------------------------------------------------------------------


def _conv(channels: int, side: int, stride: int, dtype: jnp.dtype, train: bool, convolution: str, name: str) -> nn.Conv:
    """Builds a convolution without bias, because the norm after it would cancel a bias. Padding is symmetric for every stride."""
    edge = (side // 2, side // 2)
    place: dict[str, Any] = {"strides": (stride, stride), "padding": (edge, edge), "dtype": dtype, "name": name}
    computed = CONVOLUTIONS[convolution] or (trained_conv if train else None)
    return nn.Conv(channels, (side, side), use_bias=False, kernel_init=HE, conv_general_dilated=computed, **place)


def _cut_and_pad(x: jax.Array, stride: int, channels: int) -> jax.Array:
    """Returns the parameter-free shortcut (option A of the paper): every stride-th pixel, with zeros for the new channels."""
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))
