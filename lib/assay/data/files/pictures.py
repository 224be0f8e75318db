"""Pictures as arrays of one size: `load(located(table, "picture"), (64, 64), 3)`.

A picture is turned as its EXIF data says, laid over white where it is transparent, scaled with antialiasing until it fits, and centred, so
no part is cut off. What is left at two sides has the median colour of its border. 16 bits are scaled by 65,535. Whatever cannot be decoded
is counted, by reason, and so is a picture with so many pixels that it may be an attack.
"""

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps

from assay.core.errors import UserError
from assay.data.files.table import Dropped, dropped

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")  # others, such as PostScript, would start programs
SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N", "I")
LEAST = 2  # times the wanted size that a JPEG keeps while it is decoded
TINTED = 8  # levels by which the channels of a grey picture may differ, since JPEG rounds colours
SAMPLED = 200  # pictures that are decoded for a description
THREADS = min(8, os.cpu_count() or 1)

Picture = bytes | str | Path | None


class Loaded(NamedTuple):
    pixels: np.ndarray  # [kept, height, width, channels]: uint8, or float32 in [0, 1]
    kept: np.ndarray  # bool [n]: which of the pictures given are in `pixels`, in their order
    dropped: tuple[Dropped, ...] = ()  # names are paths, or numbers from 1


class Described(NamedTuple):
    readable: int  # pictures whose size could be read
    height: tuple[int, float, int]  # least, median, greatest; pixels
    width: tuple[int, float, int]
    grey: float  # share without colours, of a sample
    deep: float  # share of more than 8 bits, of the same sample


class _Unusable(Exception):
    """Raised with the reason why a picture that can be decoded is not used."""


def load(pictures: Sequence[Picture], size: tuple[int, int], channels: int = 3, dtype: type = np.uint8) -> Loaded:
    """Decodes pictures, given as bytes or paths, to `size` (height, width) and 1 (grey) or 3 channels.

    Raises UserError if none of them can be decoded.
    """
    if channels not in (1, 3) or min(size) < 1 or dtype not in (np.uint8, np.float32):
        raise ValueError(f"channels are 1 or 3, sizes positive, and dtype uint8 or float32: got {channels}, {size} and {dtype}")
    pixels = np.empty((len(pictures), *size, channels), dtype)

    def one(place: int) -> str:
        try:
            values = _fitted(_decoded(pictures[place], size, channels), size)
        except Exception as error:  # decoders of damaged data raise nearly anything
            return _reason(error)
        pixels[place] = values if dtype is np.float32 else np.rint(values * 255)
        return ""

    with _strict(), ThreadPoolExecutor(THREADS) as pool:
        reasons = list(pool.map(one, range(len(pictures))))
    kept = np.array([not reason for reason in reasons], bool)
    left = tuple(
        dropped(reason, [_name(pictures[i], i) for i, each in enumerate(reasons) if each == reason])
        for reason in sorted(set(reasons) - {""})
    )
    if len(pictures) and not kept.any():
        raise UserError(f"none of {len(pictures):,} pictures can be decoded, such as {left[0].lines[0]} ({left[0].reason}).")
    return Loaded(pixels if kept.all() else pixels[kept], kept, left)


def describe(pictures: Sequence[Picture]) -> Described:
    """Returns sizes, and the share without colours, from which a size and a number of channels can be chosen. Raises UserError."""
    sizes, grey, deep = list[tuple[int, int]](), list[bool](), list[bool]()
    step = max(1, len(pictures) // SAMPLED)
    with _strict():
        for i, picture in enumerate(pictures):
            try:
                with _opened(picture) as image:
                    sizes.append(_extent(image))
                    if i % step == 0:
                        sixteen = image.mode in SIXTEEN or image.mode == "F"
                        grey.append(sixteen or _is_grey(image))
                        deep.append(sixteen)
            except Exception:  # counted when it is loaded
                continue
    if not sizes:
        raise UserError(f"none of {len(pictures):,} pictures can be opened. Pictures are PNG, JPEG, BMP, GIF, WebP and TIFF files.")
    heights, widths = (np.array(side) for side in zip(*sizes, strict=True))
    return Described(len(sizes), _range(heights), _range(widths), float(np.mean(grey or [False])), float(np.mean(deep or [False])))


def sizes_of(pictures: Sequence[Picture]) -> np.ndarray:
    """Returns heights and widths in pixels, int64 [n, 2], from the headers of the files; 0 where they cannot be read."""

    def one(picture: Picture) -> tuple[int, int]:
        try:
            with _opened(picture) as image:
                return _extent(image)
        except Exception:  # decoders of damaged data raise nearly anything
            return 0, 0

    with _strict():
        return np.array([one(picture) for picture in pictures], np.int64).reshape(-1, 2)


# -- private --------------------------------------------------------------------------------------------------------------


@contextmanager
def _strict() -> Iterator[None]:
    """Turns Pillow's warning about huge pictures into an error, and silences its others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _opened(picture: Picture) -> Iterator[ImageFile.ImageFile]:
    if picture is None:
        raise _Unusable("no picture in this cell")
    if not isinstance(picture, bytes) and not os.path.isfile(picture):
        raise _Unusable("no such file")
    with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture, formats=FORMATS) as image:
        yield image


def _extent(image: Image.Image) -> tuple[int, int]:
    """Returns height and width after the picture is turned as its EXIF data says."""
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return image.size if turned else image.size[::-1]


def _decoded(picture: Picture, size: tuple[int, int], channels: int) -> list[Image.Image]:
    """Returns the channels of a picture, each as an image of floats."""
    with _opened(picture) as image:
        image.draft(None, (LEAST * max(size), LEAST * max(size)))  # a JPEG is decoded at a half, quarter or eighth of its size
        image.load()
        turned = ImageOps.exif_transpose(image)
        if turned.mode in SIXTEEN or turned.mode == "F":
            return [_deep(turned)] * channels
        flat = _over_white(turned).convert("L" if channels == 1 else "RGB")
        return [band.convert("F") for band in flat.split()]


def _deep(image: Image.Image) -> Image.Image:
    """Returns grey values of 16 bits, or floats in [0, 1], as floats in [0, 255]."""
    values = np.asarray(image).astype(np.float32)
    if image.mode == "F":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise _Unusable("floating-point values outside 0 to 1")
        return Image.fromarray(values * 255)
    if values.min() < 0 or values.max() > 65_535:
        raise _Unusable("more than 16 bits per value")
    return Image.fromarray(values * np.float32(255 / 65_535))


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image


def _fitted(bands: list[Image.Image], size: tuple[int, int]) -> np.ndarray:
    """Returns float32 [height, width, channels] in [0, 1]."""
    height, width = size
    scale = min(height / bands[0].height, width / bands[0].width)
    inner = (max(1, min(width, round(bands[0].width * scale))), max(1, min(height, round(bands[0].height * scale))))
    whole = np.empty((*size, len(bands)), np.float32)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    for i, band in enumerate(bands):
        values = np.asarray(band.resize(inner, Image.Resampling.BILINEAR))
        whole[..., i] = np.median(np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]))
        whole[top : top + inner[1], left : left + inner[0], i] = values
    return np.clip(whole / 255, 0, 1)


def _is_grey(image: Image.Image) -> bool:
    image.draft("RGB", (64, 64))
    if image.mode in ("1", "L", "LA"):
        return True
    image.thumbnail((64, 64))
    colours = np.asarray(_over_white(image).convert("RGB")).astype(np.int64)
    return bool((colours.max(-1) - colours.min(-1) <= TINTED).all())


def _range(sides: np.ndarray) -> tuple[int, float, int]:
    return int(sides.min()), float(np.median(sides)), int(sides.max())


def _reason(error: Exception) -> str:
    if isinstance(error, _Unusable):
        return str(error)
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)):
        return f"a picture of more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels"
    if isinstance(error, Image.UnidentifiedImageError):
        return "no PNG, JPEG, BMP, GIF, WebP or TIFF picture"
    return "a damaged picture"


def _name(picture: Picture, place: int) -> int | str:
    return str(picture) if isinstance(picture, (str, Path)) else place + 1
