"""Image augmentation: pure functions of a key under jit, on images [batch, height, width, channels] of any float or integer type.

    augment = make_augment("crop:4,flip,cutout:2", "--config.task.augment")
    images, targets = augment(key, images, targets)           # only mixup changes the targets

Each function draws separately for each image, preserves shape and type, and is the identity at strength 0. Values from outside the image
are 0. Use flip, which mirrors left and right, only where the mirror image has the same label: not for digits or letters.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num, Shaped

from assay.core import rng
from assay.data.augment import Entry, parse

Images = Num[Array, "batch height width channels"]
MIXING = 3.0  # concentration of a mixed channel on one source channel; 0: the mean of all, grey
DIMMEST = 0.3  # smallest factor on a channel's light
Augment = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def make_augment(spec: str, config_key: str) -> Augment:
    """Builds `(key, images, targets) -> (images, targets)`. Only mixup reads the targets, which must be soft: [batch, classes]."""
    parts = parse(spec, IMAGE, config_key)

    def augment(key: jax.Array, images: Images, targets: Shaped[Array, "batch ..."]) -> tuple[Images, Shaped[Array, "batch ..."]]:
        for place, (name, strength) in enumerate(parts):
            images, targets = IMAGE[name].function(rng.stream(key, f"augment/{name}", place), images, targets, strength)
        return images, targets

    return augment


def crop(key: jax.Array, images: Images, padding: int) -> Images:
    """Crops a window of the image's own size at a random position of the image padded by `padding` zeros on each side."""
    if padding == 0:
        return images
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * padding + 1)
    return jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:]))(padded, corners)


def flip(key: jax.Array, images: Images, probability: float) -> Images:
    """Mirrors left and right with the given probability."""
    flipped = jax.random.uniform(key, (len(images),)) < probability
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def shift(key: jax.Array, images: Images, pixels: float) -> Images:
    """Shifts by up to `pixels` along both axes, including fractions of a pixel (bilinear)."""
    moves = jax.random.uniform(key, (len(images), 2), minval=-pixels, maxval=pixels)

    def one(image: jax.Array, move: jax.Array) -> jax.Array:
        rows, columns = _grid(image)
        return _bilinear(image, rows - move[0], columns - move[1])

    return _as(jax.vmap(one)(images, moves), images)


def rotate(key: jax.Array, images: Images, degrees: float) -> Images:
    """Rotates about the centre by up to `degrees` in either direction (bilinear)."""
    angles = jnp.deg2rad(jax.random.uniform(key, (len(images),), minval=-degrees, maxval=degrees))

    def one(image: jax.Array, angle: jax.Array) -> jax.Array:
        rows, columns = _grid(image)
        middle = ((image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2)
        down, right = rows - middle[0], columns - middle[1]
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        return _bilinear(image, middle[0] + down * cosine - right * sine, middle[1] + down * sine + right * cosine)

    return _as(jax.vmap(one)(images, angles), images)


def cutout(key: jax.Array, images: Images, size: int) -> Images:
    """Zeroes a square of `size` pixels a side, centred anywhere in the image, so part may lie outside (DeVries and Taylor 2017)."""
    _, height, width, _ = images.shape
    centre = jax.random.randint(key, (len(images), 2), 0, jnp.array([[height, width]]))
    corner = centre - size // 2
    rows, columns = (jnp.arange(n)[None, :] - corner[:, axis, None] for axis, n in enumerate((height, width)))
    inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :]
    return jnp.where(inside[..., None], jnp.zeros((), images.dtype), images)


def colour(key: jax.Array, images: Images, strength: float) -> Images:
    """Replaces each channel by a random mixture of the channels, mostly one of them, dimmed towards the image's darkest value.

    Which channel is bright is no longer informative, while shapes are preserved. `strength` is the weight of the result; images with one
    channel are unchanged.

    A mixture of channels is the same operation on any scale of grey levels. It targets what colour jitter leaves: a hue that reveals the
    class (Arjovsky et al. 2019, arXiv 1907.02893).
    """
    channels = images.shape[3]
    if channels == 1:
        return images
    shares = jax.nn.softmax(MIXING * jax.random.normal(rng.stream(key, "shares"), (len(images), channels, channels)), axis=-1)
    light = jax.random.uniform(rng.stream(key, "light"), (len(images), 1, 1, channels), minval=DIMMEST, maxval=1.0)
    full = images.astype(jnp.float32)
    darkest = full.min(axis=(1, 2, 3), keepdims=True)
    other = darkest + light * (jnp.einsum("nhwc,ndc->nhwd", full, shares) - darkest)
    return _as((1 - strength) * full + strength * other, images)


def noise(key: jax.Array, images: Images, deviation: float) -> Images:
    """Adds Gaussian noise with a standard deviation of up to `deviation`, as a fraction of the image's range of values."""
    most = deviation * jax.random.uniform(rng.stream(key, "deviation"), (len(images), 1, 1, 1))
    full = images.astype(jnp.float32)
    drawn = jax.random.normal(rng.stream(key, "noise"), images.shape)
    return _as(full + most * jnp.ptp(full, axis=(1, 2, 3), keepdims=True) * drawn, images)


def blur(key: jax.Array, images: Images, share: float) -> Images:
    """Moves each pixel towards the mean of its 3 x 3 neighbourhood, by up to `share` of the way."""
    full = images.astype(jnp.float32)
    height, width = images.shape[1:3]
    padded = jnp.pad(full, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    mean = sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9
    return _as(full + share * jax.random.uniform(key, (len(images), 1, 1, 1)) * (mean - full), images)


def contrast(key: jax.Array, images: Images, share: float) -> Images:
    """Moves each channel towards its mean, by up to `share` of the way."""
    full = images.astype(jnp.float32)
    mean = full.mean(axis=(1, 2), keepdims=True)
    return _as(full + share * jax.random.uniform(key, (len(images), 1, 1, 1)) * (mean - full), images)


def mixup(key: jax.Array, images: Images, targets: Shaped[Array, "batch ..."], alpha: float) -> tuple[Images, Shaped[Array, "batch ..."]]:
    """Returns share x image + (1 - share) x another image of the batch, and their targets [batch, classes] likewise (Zhang et al. 2018).

    The share is drawn from Beta(alpha, alpha). Any row may be mixed into any other, so every row of the batch must be a real example.
    """
    if targets.ndim != 2:
        raise ValueError(f"mixup needs soft targets [batch, classes], got shape {targets.shape}; make them with jax.nn.one_hot")
    if alpha == 0:
        return images, targets
    other = jax.random.permutation(rng.stream(key, "partner"), len(images))
    share = jax.random.beta(rng.stream(key, "share"), alpha, alpha, (len(images),))

    def mix(values: jax.Array) -> jax.Array:
        weight = share.reshape(-1, *(1,) * (values.ndim - 1))
        full = values.astype(jnp.float32)
        return _as(weight * full + (1 - weight) * full[other], values)

    return mix(images), mix(targets)


def _images_alone(function: Callable, kind: type = float) -> Callable:
    def apply(key: jax.Array, images: jax.Array, targets: jax.Array, strength: float) -> tuple[jax.Array, jax.Array]:
        return function(key, images, kind(strength)), targets

    return apply


IMAGE: Mapping[str, Entry] = {
    "crop": Entry(_images_alone(crop, int), 4, float("inf"), "pixels of padding on each side", whole=True),
    "flip": Entry(_images_alone(flip), 0.5, 1, "probability"),
    "shift": Entry(_images_alone(shift), 1, float("inf"), "pixels either way"),
    "rotate": Entry(_images_alone(rotate), 15, 180, "degrees either way"),
    "cutout": Entry(_images_alone(cutout, int), 8, float("inf"), "pixels a side", whole=True),
    "colour": Entry(_images_alone(colour), 1, 1, "share of a random exchange of channels"),
    "noise": Entry(_images_alone(noise), 0.2, float("inf"), "highest standard deviation as a share of the image's range"),
    "blur": Entry(_images_alone(blur), 1, 1, "share of the way to the mean of 3 x 3"),
    "contrast": Entry(_images_alone(contrast), 0.9, 1, "share of the contrast that may be lost"),
    "mixup": Entry(mixup, 0.2, float("inf"), "alpha of the Beta distribution of the share"),
}


# -- private --------------------------------------------------------------------------------------------------------------


def _grid(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows, columns = jnp.meshgrid(
        jnp.arange(image.shape[0], dtype=jnp.float32), jnp.arange(image.shape[1], dtype=jnp.float32), indexing="ij"
    )
    return rows, columns


def _bilinear(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Samples the image [height, width, channels] at fractional positions [height, width] in float32; values outside are 0."""
    height, width, _ = image.shape
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]

    def at(row: jax.Array, column: jax.Array) -> jax.Array:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        read = image[jnp.clip(row, 0, height - 1).astype(jnp.int32), jnp.clip(column, 0, width - 1).astype(jnp.int32)]
        return jnp.where(inside[..., None], read.astype(jnp.float32), 0.0)

    above = at(top, left) * (1 - right) + at(top, left + 1) * right
    below = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return above * (1 - down) + below * down


def _as(values: jax.Array, like: jax.Array) -> jax.Array:
    return (values if jnp.issubdtype(like.dtype, jnp.floating) else jnp.round(values)).astype(like.dtype)
