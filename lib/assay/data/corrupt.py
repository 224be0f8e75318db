"""Corruptions by severity, 1 (mild) to 5, for measuring robustness (Hendrycks and Dietterich 2019); severity 0 is the clean example.

They are pure functions of (example, name, severity, seed, index) on the host, so an example's corruption does not depend on the model or
the batch. All severities of an example share their draws: noise only grows in scale, and the mean squared change rises with severity.

Severities follow the authors' code: ImageNet-C for noise, contrast and brightness (here added to every channel), and CIFAR-10-C for blur
(in pixels, for images of about 32). Ours are rotate, shift, occlusion, pixelate (whose levels also differ at 8 x 8), colour and all text
corruptions.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from assay.core.errors import UserError, unknown
from assay.core.rng import example_keys, integers
from assay.data.augment_text import Alphabet, delete, is_text, replace, swap

Images = Float[np.ndarray, "n height width channels"]
Tokens = Integer[np.ndarray, "n seq"]


class Corruption(NamedTuple):
    function: Callable  # (images, keys, strength) -> images; (tokens, length, keys, strength, alphabet) -> (tokens, length)
    strengths: tuple[float, ...]  # for severities 1 to 5
    unit: str


def corrupt_images(
    images: Images, indices: Integer[np.ndarray, "n"], name: str, severity: int, seed: int = 0, config_key: str = "the corruption's name"
) -> Images:
    """Corrupts images in [0, 1] and clips the result to [0, 1], as float32. `indices` are the examples' indices in their split.

    Raises ValueError for images outside [0, 1], and UserError for an unknown name or severity.
    """
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"images must be on the scale [0, 1], before normalisation; got [{images.min()}, {images.max()}]")
    strength = _strength(name, severity, IMAGE, config_key)
    if strength is None:
        return images.astype(np.float32)
    found = IMAGE[name].function(images.astype(np.float64), example_keys(f"corrupt/{name}", seed, indices), strength)
    return np.clip(found, 0.0, 1.0).astype(np.float32)


def corrupt_tokens(
    tokens: Tokens,
    length: Integer[np.ndarray, "n"],
    indices: Integer[np.ndarray, "n"],
    name: str,
    severity: int,
    alphabet: Alphabet,
    seed: int = 0,
    config_key: str = "the corruption's name",
) -> tuple[Tokens, Integer[np.ndarray, "n"]]:
    """Returns the corrupted (tokens, length), int32.

    Padding and ids outside the alphabet are preserved: with an alphabet of letters, bytes keep their marks and spaces. Raises UserError for
    an unknown name or severity.
    """
    strength = _strength(name, severity, TEXT, config_key)
    if strength is None:
        return tokens.astype(np.int32), length.astype(np.int32)
    keys = example_keys(f"corrupt/{name}", seed, indices)
    given = jnp.asarray(tokens, jnp.int32), jnp.asarray(length, jnp.int32)
    found = TEXT[name].function(*given, keys, strength, alphabet)
    return np.asarray(found[0]), np.asarray(found[1])


# -- images: the table ---------------------------------------------------------------------------------------------------


def _gaussian_noise(images: np.ndarray, keys: np.ndarray, deviation: float) -> np.ndarray:
    from scipy.special import ndtri  # slow to import, as are the other parts of scipy below

    return images + deviation * ndtri(_uniform(keys, "noise", images))


def _shot_noise(images: np.ndarray, keys: np.ndarray, photons: float) -> np.ndarray:
    """Draws Poisson counts of `photons` at full brightness by inversion: the count is the number of k with P(X <= k) below the draw."""
    mean, draw = images * photons, _uniform(keys, "noise", images)
    term = np.exp(-mean)
    cumulative, count = term.copy(), np.zeros_like(mean)
    for k in range(1, int(photons + 12 * np.sqrt(photons) + 30)):
        below = cumulative < draw
        if not below.any():
            break
        count += below
        term *= mean / k
        cumulative += term
    return count / photons


def _impulse_noise(images: np.ndarray, keys: np.ndarray, share: float) -> np.ndarray:
    salt = _uniform(keys, "salt", images) < 0.5
    return np.where(_uniform(keys, "where", images) < share, salt.astype(np.float64), images)


def _blur(images: np.ndarray, keys: np.ndarray, deviation: float) -> np.ndarray:
    del keys
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, (0, deviation, deviation, 0), mode="nearest")


def _contrast(images: np.ndarray, keys: np.ndarray, factor: float) -> np.ndarray:
    del keys
    mean = images.mean(axis=(1, 2), keepdims=True)
    return (images - mean) * factor + mean


def _brightness(images: np.ndarray, keys: np.ndarray, added: float) -> np.ndarray:
    del keys
    return images + added


def _pixelate(images: np.ndarray, keys: np.ndarray, share: float) -> np.ndarray:
    """Averages each axis down to a fraction of its pixels and repeats them to the original size."""
    del keys
    down, across = (_coarse(size, max(1, round(share * size))) for size in images.shape[1:3])
    return np.moveaxis(down @ np.moveaxis(images, 3, 1) @ across.T, 1, 3)  # one product per image: independent of the batch to the last bit


def _rotate(images: np.ndarray, keys: np.ndarray, degrees: float) -> np.ndarray:
    from scipy.ndimage import rotate

    left = integers(keys, "side", 1, 2)[:, 0] == 0
    turned = [rotate(images, angle, axes=(1, 2), reshape=False, order=1, mode="constant") for angle in (degrees, -degrees)]
    return np.where(left[:, None, None, None], *turned)


def _occlusion(images: np.ndarray, keys: np.ndarray, share: float) -> np.ndarray:
    """Draws a grey square inside the image; the square of a higher severity covers it."""
    side = max(1, round(share * min(images.shape[1:3])))
    height, width = images.shape[1:3]
    corner = [integers(keys, slot, 1, size - side + 1)[:, 0] for slot, size in (("row", height), ("column", width))]
    rows, columns = (np.arange(size)[None, :] - at[:, None] for size, at in zip((height, width), corner, strict=True))
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return np.where(inside[..., None], 0.5, images)


def _shift(images: np.ndarray, keys: np.ndarray, share: float) -> np.ndarray:
    """Shifts in any direction, including fractions of a pixel; values from outside are black."""
    from scipy.ndimage import shift

    angles = 2 * np.pi * _uniform(keys, "direction", images[:, 0, 0, :1])[:, 0]
    moves = share * min(images.shape[1:3]) * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return np.stack([shift(image, (*move, 0), order=1, mode="constant") for image, move in zip(images, moves, strict=True)])


def _colour(images: np.ndarray, keys: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates the hue in either direction around the HSV circle, keeping value and saturation; grey pixels are unchanged."""
    if images.shape[3] != 3:
        return images
    sides = np.where(integers(keys, "side", 1, 2)[:, 0] == 0, degrees, -degrees)
    value, chroma, sextant = _hue(images)
    turned = sextant + (sides / 60)[:, None, None]
    ramps = np.stack([(place + turned) % 6 for place in (5, 3, 1)], axis=-1)
    return value[..., None] - chroma[..., None] * np.clip(np.minimum(ramps, 4 - ramps), 0, 1)


IMAGE: Mapping[str, Corruption] = {
    "gaussian_noise": Corruption(_gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38), "standard deviation"),
    "shot_noise": Corruption(_shot_noise, (60, 25, 12, 5, 3), "photons at full brightness"),
    "impulse_noise": Corruption(_impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27), "share of values set to 0 or 1"),
    "blur": Corruption(_blur, (0.4, 0.6, 0.7, 0.8, 1.0), "standard deviation in pixels"),
    "contrast": Corruption(_contrast, (0.4, 0.3, 0.2, 0.1, 0.05), "share of the contrast that remains"),
    "brightness": Corruption(_brightness, (0.1, 0.2, 0.3, 0.4, 0.5), "added"),
    "pixelate": Corruption(_pixelate, (0.75, 0.6, 0.5, 0.375, 0.25), "share of the pixels of each axis that remains"),
    "rotate": Corruption(_rotate, (5, 10, 20, 30, 45), "degrees, to either side"),
    "shift": Corruption(_shift, (0.04, 0.08, 0.12, 0.16, 0.24), "share of the image's side, in any direction"),
    "colour": Corruption(_colour, (20, 45, 90, 135, 180), "degrees of hue, to either side"),
    "occlusion": Corruption(_occlusion, (0.125, 0.25, 0.375, 0.5, 0.625), "side of a grey square as a share of the image's"),
}


# -- text: the table -----------------------------------------------------------------------------------------------------


def _swaps(tokens, length, keys, rate: float, alphabet: Alphabet):
    text = is_text(tokens, length, alphabet)
    return swap(tokens, text & jnp.asarray(_uniform(keys, "where", tokens) < rate), text), length


def _drops(tokens, length, keys, rate: float, alphabet: Alphabet):
    return delete(tokens, length, is_text(tokens, length, alphabet) & jnp.asarray(_uniform(keys, "where", tokens) < rate), alphabet)


def _replacements(tokens, length, keys, rate: float, alphabet: Alphabet):
    """Replaces a token by any other id of the alphabet, regardless of keyboard distance."""
    chosen = is_text(tokens, length, alphabet) & jnp.asarray(_uniform(keys, "where", tokens) < rate)
    steps = integers(keys, "replacement", tokens.shape[1], max(alphabet.size - 1, 1))
    return replace(tokens, chosen, jnp.asarray(steps, jnp.int32), alphabet), length


RATES = (0.02, 0.05, 0.1, 0.2, 0.3)
TEXT: Mapping[str, Corruption] = {
    "swap": Corruption(_swaps, RATES, "share of tokens swapped with the next"),
    "drop": Corruption(_drops, RATES, "share of tokens"),
    "replace": Corruption(_replacements, RATES, "share of tokens"),
}


# -- private --------------------------------------------------------------------------------------------------------------


def _strength(name: str, severity: int, table: Mapping[str, Corruption], config_key: str) -> float | None:
    """Returns the strength of a severity, or None at severity 0."""
    if name not in table:
        raise unknown("corruption", name, table, config_key)
    if not 0 <= severity <= 5:
        raise UserError(f"severity {severity} of {name} is not possible: it must be 0 (clean) to 5.")
    return table[name].strengths[severity - 1] if severity else None


def _uniform(keys: np.ndarray, slot: str, like) -> np.ndarray:
    """Draws in (0, 1), one for each value of an example, independent of the batch."""
    draws = integers(keys, slot, int(np.prod(like.shape[1:])), 2**32)
    return ((draws + 0.5) / 2**32).reshape(like.shape)


def _hue(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns value, chroma and hue in sixths of the circle (0 is red, 2 green, 4 blue), each [n, height, width]; grey is red without
    chroma.
    """
    red, green, blue = np.moveaxis(images, 3, 0)
    value = images.max(axis=3)
    chroma = value - images.min(axis=3)
    safe = np.where(chroma > 0, chroma, 1.0)
    sextant = np.where(
        value == red, ((green - blue) / safe) % 6, np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4)
    )
    return value, chroma, sextant


def _coarse(size: int, cells: int) -> np.ndarray:
    """Builds the [size, size] matrix that replaces each pixel by the mean over its cell; a pixel cut by a border mixes both cells by its
    parts.

    (Choosing one of the two cells instead would make 6 cells on 8 pixels worse than 5.)
    """
    ends, pixel = np.linspace(0, size, cells + 1), np.arange(size)
    part = np.clip(np.minimum(ends[1:, None], pixel[None, :] + 1) - np.maximum(ends[:-1, None], pixel[None, :]), 0, 1)
    return part.T @ (part / part.sum(axis=1, keepdims=True))
