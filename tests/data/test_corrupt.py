"""Corruptions: a function of the example alone, worse with each severity, on the right scale, and of the size that their tables say."""

import colorsys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import poisson
from sklearn.datasets import load_digits

from assay.core.errors import UserError
from assay.data.augment_text import Alphabet
from assay.data.corrupt import IMAGE, TEXT, corrupt_images, corrupt_tokens

DIGITS = (load_digits().images[:200, :, :, None] / 16).astype(np.float32)
CLOUDS = gaussian_filter(np.random.default_rng(0).random((40, 28, 28, 3)), (0, 1.5, 1.5, 0)).astype(np.float32)  # smooth, in colour
CLOUDS = (CLOUDS - CLOUDS.min()) / np.ptp(CLOUDS)
LETTERS = Alphabet(mask=30, first=2, size=26, padding=0)
SEQ = 60
LENGTH = np.random.default_rng(1).integers(20, SEQ + 1, 150).astype(np.int32)
TOKENS = np.where(np.arange(SEQ)[None, :] < LENGTH[:, None], np.random.default_rng(2).integers(2, 28, (150, SEQ)), 0).astype(np.int32)
TOKENS[:, 0] = 1  # a mark


def changed(tokens, length):
    """How many tokens an example lost, or how many places differ."""
    return (LENGTH - length).sum() or (tokens != TOKENS).sum()


@pytest.mark.parametrize("name", IMAGE)
@pytest.mark.parametrize("images", [DIGITS, CLOUDS], ids=["digits", "clouds"])
def test_images_get_worse_with_severity(name, images):
    found = [corrupt_images(images, np.arange(len(images)), name, severity) for severity in range(6)]
    assert (found[0] == images).all()
    if name == "colour" and images is DIGITS:
        assert all((corrupted == images).all() for corrupted in found), "grey has no hue"
        return
    change = [float(((corrupted - images) ** 2).mean()) for corrupted in found]
    assert change[0] == 0 and (np.diff(change) > 0).all(), change
    for corrupted in found:
        assert corrupted.dtype == np.float32 and corrupted.shape == images.shape
        assert corrupted.min() >= 0 and corrupted.max() <= 1


@pytest.mark.parametrize("name", TEXT)
def test_text_gets_worse_with_severity_and_by_its_rate(name):
    found = [corrupt_tokens(TOKENS, LENGTH, np.arange(150), name, severity, LETTERS) for severity in range(6)]
    change = [changed(*corrupted) for corrupted in found]
    assert change[0] == 0 and (np.diff(change) > 0).all(), change
    letters = (LENGTH - 1).sum()
    per_edit = {"swap": 2 * 25 / 26}.get(name, 1)  # a swap changes two places, unless both hold one letter
    for severity, rate in enumerate(TEXT[name].strengths[:3], 1):
        spread = 4 * per_edit * np.sqrt(rate * letters)
        assert change[severity] == pytest.approx(rate * letters * per_edit, abs=spread + 0.5 * rate * rate * letters * per_edit)
    for tokens, length in found:
        assert (tokens[:, 0] == 1).all()
        inside = np.arange(SEQ)[None, :] < length[:, None]
        assert (tokens[~inside] == 0).all()
        assert ((tokens[:, 1:] >= 2) & (tokens[:, 1:] < 28))[inside[:, 1:]].all()


@pytest.mark.parametrize("name", [*IMAGE, *TEXT])
def test_an_example_is_corrupted_alike_in_every_batch(name):
    chosen = np.array([17, 3, 99, *range(20, 50)])
    for severity in (1, 5):
        if name in IMAGE:
            pictures = np.tile(CLOUDS, (5, 1, 1, 1)) if name == "colour" else DIGITS
            together, alone, other = (
                corrupt_images(pictures[rows], rows, name, severity, seed) for rows, seed in ((np.arange(200), 0), (chosen, 0), (chosen, 1))
            )
            assert (together[chosen] == alone).all()
        else:
            together, alone, other = (
                corrupt_tokens(TOKENS[rows], LENGTH[rows], rows, name, severity, LETTERS, seed)[0]
                for rows, seed in ((np.arange(150), 0), (chosen, 0), (chosen, 1))
            )
            assert (together[chosen] == alone).all()
        drawn = name not in ("blur", "contrast", "brightness", "pixelate")
        drawn = drawn and (name, severity) != ("colour", 5)  # half the circle is the same to both sides
        assert drawn == (not np.allclose(alone, other, atol=1e-6)), "the seed matters where something is drawn"


def test_noise_has_the_size_that_it_says():
    grey = np.full((60, 20, 20, 1), 0.5, np.float32)
    index = np.arange(60)
    found = corrupt_images(grey, index, "gaussian_noise", 1)
    assert found.mean() == pytest.approx(0.5, abs=0.003) and found.std() == pytest.approx(0.08, rel=0.03)
    for severity, photons in ((1, 60), (3, 12)):
        counts = corrupt_images(grey, index, "shot_noise", severity).astype(np.float64) * photons
        assert counts == pytest.approx(np.round(counts), abs=1e-4)
        expected = np.array([poisson.cdf(k, photons / 2) for k in range(photons)])
        assert [(counts < k + 0.5).mean() for k in range(photons)] == pytest.approx(expected, abs=0.015)
    hit = corrupt_images(grey, index, "impulse_noise", 5)
    assert (hit != 0.5).mean() == pytest.approx(0.27, abs=0.01) and (hit == 1).mean() == pytest.approx((hit == 0).mean(), abs=0.015)
    black = corrupt_images(np.zeros_like(grey), index, "shot_noise", 5)
    assert (black == 0).all(), "no light, no shots"


def test_contrast_brightness_and_occlusion_by_hand():
    images = np.array([0.2, 0.4], np.float32).reshape(1, 1, 2, 1)
    assert corrupt_images(images, np.arange(1), "contrast", 3).ravel() == pytest.approx([0.28, 0.32])
    assert corrupt_images(images, np.arange(1), "brightness", 2).ravel() == pytest.approx([0.4, 0.6])
    square = corrupt_images(np.zeros((400, 8, 8, 1), np.float32), np.arange(400), "occlusion", 3) == 0.5
    assert (square.sum(axis=(1, 2, 3)) == 9).all()
    larger = corrupt_images(np.zeros((400, 8, 8, 1), np.float32), np.arange(400), "occlusion", 4) == 0.5
    assert (larger | ~square).all(), "the larger square covers the smaller"
    assert square.any(axis=0).all()


def test_pixelate_averages_and_keeps_the_mean():
    found = corrupt_images(DIGITS, np.arange(200), "pixelate", 3)
    blocks = DIGITS.reshape(200, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    assert found == pytest.approx(blocks.repeat(2, axis=1).repeat(2, axis=2), abs=1e-6)
    assert corrupt_images(DIGITS * 0 + 0.3, np.arange(200), "pixelate", 1) == pytest.approx(0.3 + DIGITS * 0, abs=1e-6)


def test_rotation_goes_to_both_sides():
    found = corrupt_images(np.broadcast_to(DIGITS[:1], DIGITS.shape).copy(), np.arange(200), "rotate", 5)
    both, share = np.unique(found.reshape(200, -1), axis=0, return_counts=True)
    assert len(both) == 2 and share.min() > 70


def test_hues_turn_and_grey_stays():
    """Against the standard library's HSV, and by hand: red is turned to cyan by half the circle."""
    images = np.random.default_rng(3).random((30, 4, 5, 3)).astype(np.float32)
    images[:, 0] = images[:, 0, :, :1]
    for severity, degrees in enumerate(IMAGE["colour"].strengths, 1):
        found = corrupt_images(images, np.arange(30), "colour", severity)
        assert (found[:, 0] == images[:, 0]).all(), "grey"
        sides = set()
        for before, after in zip(images[:, 1:].reshape(30, -1, 3), found[:, 1:].reshape(30, -1, 3), strict=True):
            both = []
            for turn in (degrees / 360, -degrees / 360):
                hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in before.astype(float)]
                both.append([colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value) for hue, saturation, value in hsv])
            (side,) = [i for i in range(2) if np.allclose(after, both[i], atol=1e-5)][:1]
            sides.add(side)
        assert sides == ({0} if degrees == 180 else {0, 1})
    red = np.zeros((1, 1, 1, 3), np.float32)
    red[..., 0] = 1
    assert corrupt_images(red, np.arange(1), "colour", 5).ravel() == pytest.approx([0, 1, 1])


def test_shifts_go_as_far_as_they_say_in_all_directions():
    images = np.zeros((200, 25, 25, 1), np.float32)
    images[:, 12, 12] = 1
    for severity, share in enumerate(IMAGE["shift"].strengths, 1):
        found = corrupt_images(images, np.arange(200), "shift", severity)[..., 0]
        assert found.sum(axis=(1, 2)) == pytest.approx(np.ones(200), abs=1e-5), "nothing is lost inside"
        place = np.arange(25) - 12.0
        moves = np.stack([(found * place[:, None]).sum(axis=(1, 2)), (found * place[None, :]).sum(axis=(1, 2))], axis=1)
        assert np.hypot(*moves.T) == pytest.approx(np.full(200, 25 * share), abs=1e-4)  # the centre of mass, exact for bilinear weights
        assert (np.histogram(np.arctan2(*moves.T), bins=4)[0] > 30).all()


def test_wrong_input_is_named():
    with pytest.raises(UserError, match=r"Did you mean 'blur'.*--config.evaluate.corruption"):
        corrupt_images(DIGITS, np.arange(200), "blurr", 1, config_key="--config.evaluate.corruption")
    with pytest.raises(UserError, match="Known: drop, replace, swap"):
        corrupt_tokens(TOKENS, LENGTH, np.arange(150), "typo", 1, LETTERS)
    with pytest.raises(UserError, match="severity 6"):
        corrupt_images(DIGITS, np.arange(200), "blur", 6)
    with pytest.raises(ValueError, match=r"scale \[0, 1\]"):
        corrupt_images(DIGITS * 16, np.arange(200), "blur", 1)
