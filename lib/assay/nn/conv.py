"""A convolution whose kernel gradient is fast on XLA:CPU, and max pooling whose gradient is.

XLA's own kernel gradient makes a transposed copy of the images and took a third of a ResNet's step. XLA still computes the forward pass and
the image gradient.

The gradient of a 3 x 3 kernel is, at each of its nine positions, a product of shifted images and output gradients. Three shifts along image
rows and three along gradient columns are concatenated. One product per image then computes all nine, and larger matrices are faster.
Measured for 16 channels of 32 x 32: 5.7 ms in place of 14.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from assay.dist.shard import on_one_cpu

PLAIN: dict[str, Any] = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
WIDEST = 32  # maximum number of channels; at 64, XLA's own gradient is faster


def trained_conv(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **keywords: Any) -> jax.Array:
    """`jax.lax.conv_general_dilated` of NHWC images, for `nn.Conv(conv_general_dilated=trained_conv)`.

    It has no forward-mode derivative, so use it in training only.
    """
    quick = on_one_cpu() and kernel.shape[:2] == (3, 3) and max(kernel.shape[2:]) <= WIDEST
    if quick and tuple(strides) == (1, 1) and [tuple(edge) for edge in padding] == [(1, 1), (1, 1)] and x.ndim == 4:
        return conv3x3(x, kernel)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **keywords)


def conv_as_product(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **keywords: Any) -> jax.Array:
    """Computes `jax.lax.conv_general_dilated` of NHWC images as one product of patches, with the same parameters.

    XLA:CPU computes a convolution inside a loop (an attack's steps, a client's updates) 3 to 20 times slower than outside; a product is as
    fast in both. The patches take kernel height x width times the memory of the images. For `nn.Conv(conv_general_dilated=...)`.
    """
    if keywords.get("feature_group_count", 1) != 1:
        raise ValueError("a convolution as a product has no groups of features")
    if keywords.get("rhs_dilation") not in (None, (1, 1)) or keywords.get("lhs_dilation") not in (None, (1, 1)):
        raise ValueError("a convolution as a product has no dilation")
    (height, width, channels, out), (down, across) = kernel.shape, tuple(strides)
    edges = padding if not isinstance(padding, str) else jax.lax.padtype_to_pads(x.shape[1:3], (height, width), (down, across), padding)
    x = jnp.pad(x, ((0, 0), *(tuple(edge) for edge in edges), (0, 0)))
    rows, columns = (x.shape[1] - height) // down + 1, (x.shape[2] - width) // across + 1
    patches = [
        x[:, i : i + down * (rows - 1) + 1 : down, j : j + across * (columns - 1) + 1 : across] for i in range(height) for j in range(width)
    ]
    product = jnp.concatenate(patches, axis=-1).reshape(-1, height * width * channels) @ kernel.reshape(-1, out)
    return product.reshape(len(x), rows, columns, out)


CONVOLUTIONS: Mapping[str, Callable[..., jax.Array] | None] = {"xla": None, "product": conv_as_product}  # None: Linen's own


@jax.custom_vjp
def conv3x3(
    x: Float[Array, "batch height width channels"], kernel: Float[Array, "3 3 channels out"]
) -> Float[Array, "batch height width out"]:
    """3 x 3 convolution with stride 1 and same padding."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), **PLAIN)


def max_pool_2x2(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height//2 width//2 channels"]:
    """Max pooling of 2 x 2 pixels with stride 2; an odd last row or column is left out, as by `nn.max_pool(x, (2, 2), (2, 2))`.

    The values are the same. The gradient needs no search for the window of each pixel, which took half of a small CNN's step on a CPU
    (40 ms for 32 channels of 28 x 28, now 2). Equal maxima share it.
    """
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


def kernel_gradient(
    x: Float[Array, "batch height width channels"], grads: Float[Array, "batch height width out"]
) -> Float[Array, "3 3 channels out"]:
    """Returns the sum over images and pixels of x[h + i - 1, w + j - 1, c] grads[h, w, o], for i and j in 0 ... 2."""
    batch, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = jnp.concatenate([padded[:, :, j : j + width] for j in range(3)], axis=-1)  # rows h = -1 ... height
    below = jnp.pad(grads, ((0, 0), (2, 2), (0, 0), (0, 0)))
    moved = jnp.concatenate([below[:, 2 - i : 4 - i + height] for i in range(3)], axis=-1)
    pixels = (batch, (height + 2) * width, -1)
    each = jnp.einsum("bpc,bpo->bco", shifted.reshape(pixels), moved.reshape(pixels))  # [batch, (j, channels), (i, out)]
    return each.sum(axis=0).reshape(3, channels, 3, -1).transpose(2, 0, 1, 3)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return conv3x3(x, kernel), (x, kernel)


def _backward(kept: tuple[jax.Array, jax.Array], grads: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    return conv3x3(grads, flipped), kernel_gradient(x, grads)


conv3x3.defvjp(_forward, _backward)
