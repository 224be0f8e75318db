"""Augmentation: deterministic in the key, shape and type left alone, the identity at strength 0, and each does what its name says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from assay.core.errors import UserError
from assay.data import augment_image, augment_text
from assay.data.augment import parse
from assay.data.augment_image import IMAGE, _bilinear, blur, colour, contrast, crop, cutout, flip, mixup, noise, rotate, shift
from assay.data.augment_text import TEXT, Alphabet, character_noise, delete, neighbour_swap, replace, span_masking, swap, token_deletion

KEY = jax.random.key(7)
KEYS = jax.random.split(KEY, 8)  # most tests share one shape, because compiling is what takes the time
BATCH, SEQ = 64, 40
LETTERS = Alphabet(mask=30, first=2, size=26, padding=0)  # 1 is a mark
PICTURES = jnp.asarray(np.random.default_rng(0).random((BATCH, 13, 12, 2)).astype(np.float32) + 0.1)
ONE_HOT = jnp.asarray(np.eye(4, dtype=np.float32)[np.arange(BATCH) % 4])


def text(seed=0):
    """Marks, then letters, then padding that holds a letter's id, which nobody may take for text."""
    random = np.random.default_rng(seed)
    length = random.integers(0, SEQ + 1, BATCH).astype(np.int32)
    length[:2] = 0, SEQ
    tokens = random.integers(2, 28, (BATCH, SEQ)).astype(np.int32)
    tokens[:, 0] = 1
    return jnp.asarray(np.where(np.arange(SEQ)[None, :] < length[:, None], tokens, 9)), jnp.asarray(length)


def image_augment(spec):
    return augment_image.make_augment(spec, "--config.task.augment")


def text_augment(spec):
    return augment_text.make_augment(spec, LETTERS, "--config.task.augment")


# -- what all promise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.uint8])
@pytest.mark.parametrize("name", IMAGE)
def test_image_entries_keep_shape_and_type_and_are_the_identity_at_zero(name, dtype):
    images = (PICTURES * 100).astype(dtype)
    given, soft = image_augment(name)(KEY, images, ONE_HOT)
    assert (given.shape, given.dtype, soft.shape, soft.dtype) == (images.shape, images.dtype, ONE_HOT.shape, ONE_HOT.dtype)
    assert (np.asarray(given) != np.asarray(images)).any()
    still, same = image_augment(f"{name}:0")(KEY, images, ONE_HOT)
    assert np.array_equal(still, images) and np.array_equal(same, ONE_HOT)


@pytest.mark.parametrize("name", TEXT)
def test_text_entries_leave_padding_and_marks_and_are_the_identity_at_zero(name):
    tokens, length = text()
    for rate in (0.3, 1):
        found, left = text_augment(f"{name}:{rate}")(KEY, tokens, length)
        assert found.dtype == tokens.dtype and left.dtype == length.dtype
        assert (found != tokens).any()
        beyond = np.arange(SEQ)[None, :] >= length[:, None]
        assert (np.where(beyond, found, 0) == np.where(beyond, tokens, 0)).all(), "padding"
        assert (np.asarray(found)[length > 0, 0] == 1).all(), "marks"
        assert (left <= length).all() and (np.asarray(left) >= np.minimum(length, 1)).all()
        freed = (np.arange(SEQ)[None, :] >= np.asarray(left)[:, None]) & ~beyond
        assert (np.asarray(found)[freed] == 0).all(), "what deletions free is padding"
    still, same = text_augment(f"{name}:0")(KEY, tokens, length)
    assert np.array_equal(still, tokens) and np.array_equal(same, length)


def test_the_key_decides_and_jit_changes_nothing():
    augment = image_augment("crop:2,flip,rotate:20,cutout:3")  # the others take long to compile
    once, again, other = (augment(key, PICTURES, ONE_HOT) for key in (KEY, KEY, jax.random.key(8)))
    jitted = jax.jit(augment)(KEY, PICTURES, ONE_HOT)
    assert np.array_equal(once[0], again[0]) and not np.array_equal(once[0], other[0])
    assert np.asarray(once[0]) == pytest.approx(np.asarray(jitted[0]), abs=1e-5)
    tokens, length = text()
    augment = text_augment("dropout,delete,span,swap")
    once, again, other = (augment(key, tokens, length) for key in (KEY, KEY, jax.random.key(8)))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True)) and not np.array_equal(once[0], other[0])
    assert all(np.array_equal(a, b) for a, b in zip(once, jax.jit(augment)(KEY, tokens, length), strict=True))


def test_the_same_name_twice_draws_twice():
    first, _ = image_augment("crop:1")(KEY, PICTURES, ONE_HOT)
    second, _ = image_augment("crop:1,crop:1")(KEY, PICTURES, ONE_HOT)
    assert not np.array_equal(second, image_augment("crop:1")(KEY, first, ONE_HOT)[0])


def test_integers_are_rounded():
    grey = jnp.full(PICTURES.shape, 101, jnp.uint8)
    assert set(np.unique(image_augment("mixup:1")(KEY, grey, ONE_HOT)[0])) == {101}
    assert set(np.unique(image_augment("rotate")(KEY, grey, ONE_HOT)[0][:, 5:8, 5:8])) == {101}


def test_augmentation_differs_between_images():
    same = jnp.broadcast_to(PICTURES[:1], PICTURES.shape)
    for name in ("crop", "flip", "shift", "rotate", "cutout", "colour", "noise", "blur", "contrast"):
        found = np.asarray(image_augment(name)(KEY, same, ONE_HOT)[0])
        assert len(np.unique(found.reshape(BATCH, -1), axis=0)) > 1, name


def test_specs():
    assert parse("crop:4, flip,cutout:2", IMAGE, "K") == (("crop", 4), ("flip", 0.5), ("cutout", 2))
    assert parse("", IMAGE, "K") == ()
    assert np.array_equal(image_augment("")(KEY, PICTURES, ONE_HOT)[0], PICTURES)
    for spec, found in {
        "crp:4": "Did you mean 'crop'.*Set it with K",
        "crop:1.5": "whole number",
        "crop:-1": "at least 0",
        "crop:inf": "'crop:inf' is not possible",
        "flip:2": "at most 1",
        "flip:": "'flip:' is not possible",
        "rotate:x": "degrees.*Change it with K",
    }.items():
        with pytest.raises(UserError, match=found):
            parse(spec, IMAGE, "K")


# -- images ----------------------------------------------------------------------------------------------------------------


def test_crop_is_a_window_of_the_padded_image():
    found = np.asarray(crop(KEY, PICTURES, 3))
    for image, window in zip(PICTURES, found, strict=True):
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)))
        assert any(np.array_equal(window, padded[i : i + 13, j : j + 12]) for i in range(7) for j in range(7))
    moved = [np.asarray(crop(key, jnp.zeros(PICTURES.shape).at[:, 6, 6].set(1.0), 3))[..., 0] for key in KEYS]
    for axis in (1, 2):
        share = np.mean([image.any(axis=3 - axis) for image in moved], axis=(0, 1))
        assert share[3:10] == pytest.approx(np.full(7, 1 / 7), abs=0.06), "each place is as likely"


def test_flip_mirrors_columns_as_often_as_told():
    assert np.array_equal(flip(KEY, PICTURES, 1.0), PICTURES[:, :, ::-1])
    flipped = [(np.asarray(flip(key, PICTURES, 0.25)) != PICTURES).any(axis=(1, 2, 3)) for key in KEYS]
    assert np.mean(flipped) == pytest.approx(0.25, abs=0.08)


def test_bilinear_reading_agrees_with_scipy():
    rows, columns = np.random.default_rng(1).uniform(-2, 11, (2, 5, 7)).astype(np.float32)
    found = _bilinear(jnp.asarray(PICTURES[0]), jnp.asarray(rows), jnp.asarray(columns))
    for channel in (0, 1):
        padded = np.pad(PICTURES[0, :, :, channel], 3)  # scipy cuts off at the last pixel's centre where ours fades to 0
        expected = ndimage.map_coordinates(padded, [rows + 3, columns + 3], order=1, mode="constant")
        assert np.asarray(found[..., channel]) == pytest.approx(expected, abs=1e-5)


def test_rotation_turns_about_the_centre(monkeypatch):
    images, square = np.asarray(PICTURES), PICTURES[:, :12]
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, minval, maxval: jnp.full(shape, maxval))
    assert np.asarray(rotate(KEY, square, 90.0)) == pytest.approx(np.rot90(np.asarray(square), -1, axes=(1, 2)), abs=1e-4)
    assert np.asarray(rotate(KEY, PICTURES, 180.0)) == pytest.approx(images[:, ::-1, ::-1], abs=1e-4)
    padded = np.pad(images, ((0, 0), (1, 0), (1, 0), (0, 0)))
    assert np.asarray(shift(KEY, PICTURES, 1.0)) == pytest.approx(padded[:, :-1, :-1], abs=1e-6)
    half = (padded[:, :-1] + padded[:, 1:]) / 2
    assert np.asarray(shift(KEY, PICTURES, 0.5)) == pytest.approx((half[:, :, :-1] + half[:, :, 1:]) / 2, abs=1e-6)


def test_rotation_and_shift_stay_below_their_strength():
    """A point's centre of mass moves by no more than told, and to both sides."""
    point = np.zeros(PICTURES.shape, np.float32)
    point[:, 6, 9] = 1
    at = np.arange(13)
    for found, reach in ((rotate(KEY, jnp.asarray(point), 30.0), 3.5 / 2), (shift(KEY, jnp.asarray(point), 2.0), 2)):
        mass = np.asarray(found)[..., 0].sum(axis=2)
        rows = (mass * at[None, :]).sum(axis=1) / mass.sum(axis=1) - 6
        columns = (np.asarray(found)[..., 0].sum(axis=1) * np.arange(12)[None, :]).sum(axis=1) / mass.sum(axis=1) - 9
        assert np.abs(np.corrcoef(rows, columns)[0, 1]) < 0.5, "each axis has a draw of its own"
        assert np.abs(rows).max() <= reach + 0.15 and rows.min() < -0.8 * reach and rows.max() > 0.8 * reach


@pytest.mark.parametrize("size", [1, 2, 3])
def test_cutout_takes_a_square(size):
    found = np.concatenate([np.asarray(cutout(key, PICTURES, size)) for key in (*KEYS, *jax.random.split(KEYS[0], 24))])
    gone = (found == 0)[..., 0]
    assert gone.sum(axis=(1, 2)).max() == size**2 and gone.sum(axis=(1, 2)).min() >= 1
    assert gone.any(axis=0).all(), "every pixel can be reached"
    if size % 2:
        assert gone[:, 0].mean() == pytest.approx(gone[:, -1].mean(), rel=0.25), "the centre, not a corner, is uniform"
    assert max(gone.any(axis=2).sum(axis=1).max(), gone.any(axis=1).sum(axis=1).max()) == size


def test_colour_exchanges_channels_and_keeps_shapes():
    """Which channel is brightest says nothing any more; each channel is a picture of the same shape; and the scale is any."""
    shapes = np.asarray(PICTURES[:, :, :, :1]) - 0.1
    red = jnp.asarray(shapes * np.array([1.0, 0.2, 0.2], np.float32)).at[:, 0, 0].set(0.0)
    found = np.concatenate([np.asarray(colour(key, red, 1.0)) for key in KEYS])
    lights = found.max(axis=(1, 2))
    assert np.bincount(lights.argmax(axis=1), minlength=3) / len(found) == pytest.approx(np.full(3, 1 / 3), abs=0.08)
    assert (found >= 0).all() and (lights <= red.max() + 1e-6).all() and (lights.max(axis=1) > 0.3 * 0.2).all()
    for picture, shape in zip(found[:BATCH], np.asarray(red)[..., 0], strict=True):
        for channel in range(3):
            assert picture[..., channel] * shape.max() == pytest.approx(shape * picture[..., channel].max(), abs=1e-5)
    once, scaled = colour(KEY, red, 1.0), colour(KEY, 8 * red - 1, 1.0)
    assert np.asarray(scaled) == pytest.approx(8 * np.asarray(once) - 1, abs=1e-5)
    half = np.asarray(colour(KEY, red, 0.5))
    assert half == pytest.approx((np.asarray(red) + np.asarray(once)) / 2, abs=1e-6)
    assert np.array_equal(colour(KEY, red[..., :1], 1.0), red[..., :1]), "grey images stay"


def test_noise_blur_and_contrast_by_their_formulas():
    full = np.asarray(PICTURES)
    change = np.concatenate([np.asarray(noise(key, PICTURES, 0.2)) - full for key in KEYS])
    spread = change.std(axis=(1, 2, 3)) / np.ptp(full, axis=(1, 2, 3)).mean()
    assert 0 < spread.min() < 0.02 and 0.18 < spread.max() < 0.22 and spread.mean() == pytest.approx(0.1, abs=0.01)
    towards = np.stack([ndimage.uniform_filter(image, (3, 3, 1), mode="nearest") for image in full])
    means = np.broadcast_to(full.mean(axis=(1, 2), keepdims=True), full.shape)
    for change, goal in ((blur, towards), (contrast, means)):
        moved, way = np.asarray(change(KEY, PICTURES, 0.8)) - full, goal - full
        shares = (moved * way).sum(axis=(1, 2, 3)) / (way**2).sum(axis=(1, 2, 3))
        assert moved == pytest.approx(shares[:, None, None, None] * way, abs=1e-5)
        assert 0 <= shares.min() < 0.1 and 0.7 < shares.max() <= 0.8


def test_mixup_mixes_images_and_targets_alike():
    """Each image holds its own row number: the mixed number is the mixed target's mean, and the targets stay distributions."""
    numbers = jnp.broadcast_to(jnp.arange(BATCH, dtype=jnp.float32)[:, None, None, None], PICTURES.shape)
    images, soft = mixup(KEY, numbers, jnp.eye(BATCH), 1.0)
    assert np.asarray(soft).sum(axis=1) == pytest.approx(np.ones(BATCH), abs=1e-6)
    assert np.asarray(images)[:, 0, 0, 0] == pytest.approx(np.asarray(soft) @ np.arange(BATCH), abs=1e-4)
    assert ((np.asarray(soft) > 0).sum(axis=1) == 2).any()
    with pytest.raises(ValueError, match="one_hot"):
        image_augment("mixup")(KEY, PICTURES, jnp.arange(BATCH))


# -- text ------------------------------------------------------------------------------------------------------------------


def full_text(letter=None):
    """Letters and nothing else."""
    letters = np.random.default_rng(0).integers(2, 28, (BATCH, SEQ)) if letter is None else np.full((BATCH, SEQ), letter)
    return jnp.asarray(letters.astype(np.int32)), jnp.full(BATCH, SEQ, jnp.int32)


def test_rates_are_shares_of_the_text():
    tokens, length = full_text()
    for name in ("dropout", "span"):
        for rate in (0.05, 0.15, 0.6):
            found = [np.asarray(text_augment(f"{name}:{rate}")(key, tokens, length)[0]) == LETTERS.mask for key in KEYS]
            assert np.mean(found) == pytest.approx(rate, abs=0.02), name
    left = [np.asarray(token_deletion(key, tokens, length, 0.2, LETTERS)[1]) for key in KEYS]
    assert np.mean(left) / SEQ == pytest.approx(0.8, abs=0.02)
    left = [np.asarray(character_noise(key, tokens, length, 0.3, LETTERS)[1]) for key in KEYS]
    assert np.mean(left) / SEQ == pytest.approx(0.9, abs=0.01)


def test_spans_are_spans():
    tokens, length = full_text(5)
    found = np.concatenate([np.asarray(span_masking(key, tokens, length, 0.05, LETTERS)[0]) == LETTERS.mask for key in KEYS])
    inner = [len(run) for row in found for run in "".join(map(str, row.astype(int))).strip("1").split("0") if run]
    assert inner and min(inner) >= 3 and np.bincount(inner).argmax() == 3
    assert found[:, 0].mean() == pytest.approx(found.mean(), abs=0.03), "the first token is masked as often as the others"


def test_swaps_exchange_neighbours_and_no_token_twice():
    tokens = jnp.arange(2, 10)[None, :]
    everything = jnp.ones((1, 8), bool)
    assert np.asarray(swap(tokens, everything, everything)).tolist() == [[3, 2, 5, 4, 7, 6, 9, 8]]
    some = jnp.array([[0, 1, 1, 0, 0, 0, 0, 1]], bool)
    assert np.asarray(swap(tokens, some, everything)).tolist() == [[2, 4, 3, 5, 6, 7, 8, 9]]
    inside = jnp.array([[1, 1, 1, 0, 1, 1, 1, 1]], bool)
    assert np.asarray(swap(tokens, jnp.array([[0, 0, 1, 0, 1, 0, 0, 0]], bool), inside)).tolist() == [[2, 3, 4, 5, 7, 6, 8, 9]]
    rows, length = text()
    found = np.asarray(neighbour_swap(KEY, rows, length, 0.5, LETTERS)[0])
    assert (np.sort(found, axis=1) == np.sort(rows, axis=1)).all(), "only places change"


def test_deletions_close_up():
    tokens = jnp.array([[2, 3, 4, 5, 0, 0], [6, 7, 8, 0, 0, 0]], jnp.int32)
    found, left = delete(tokens, jnp.array([4, 3], jnp.int32), jnp.array([[0, 1, 0, 1, 0, 0], [1, 1, 1, 1, 1, 1]], bool), LETTERS)
    assert np.asarray(found).tolist() == [[2, 4, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0]]
    assert np.asarray(left).tolist() == [2, 1]


def test_replacements_are_other_letters():
    tokens = jnp.broadcast_to(jnp.arange(2, 28, dtype=jnp.int32)[:, None], (26, 25))
    found = np.asarray(replace(tokens, jnp.ones((26, 25), bool), jnp.broadcast_to(jnp.arange(25)[None, :], (26, 25)), LETTERS))
    assert [set(row) for row in found] == [set(range(2, 28)) - {i} for i in range(2, 28)]
