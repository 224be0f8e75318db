"""Images and their classes: the documented split of the digits, subsets of labels, folds."""

import colorsys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from assay.core.errors import UserError
from assay.tasks.table import TASKS, build

DIGITS = load_digits()


def digits(**changes):
    return build({"name": "digits", **TASKS["digits"].defaults, **changes}, 0)


def pixels(task, split: str) -> np.ndarray:
    source = task.source(split)
    return source.fetch(np.arange(source.size)).input[..., 0]


def labels(task, split: str) -> np.ndarray:
    source = task.source(split)
    return source.fetch(np.arange(source.size)).target[:, 0]


def texts(images: np.ndarray) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_the_documented_split():
    task = digits()
    assert list(task.splits) == ["train", "valid", "test"]
    for split, rows in {"train": slice(0, 718), "valid": slice(718, 898), "test": slice(898, 1797)}.items():
        assert np.array_equal(pixels(task, split), DIGITS.images[rows]), split
        assert np.array_equal(labels(task, split), DIGITS.target[rows]), split
    assert task.source("test").size == 899 and task.classes == tuple(range(10))


def test_what_a_model_reads():
    task = digits()
    source = task.source("test")
    examples = source.fetch(np.array([3, 0, 898, 3 + 899]))
    batch = task.encode(examples, task.width(1))
    assert batch["inputs"].shape == (4, 8, 8, 1) and batch["inputs"].dtype == np.float32
    np.testing.assert_allclose(batch["inputs"][..., 0], DIGITS.images[[901, 898, 1796, 901]] / 8 - 1)
    assert batch["targets"].tolist() == DIGITS.target[[901, 898, 1796, 901]].tolist() and (batch["weight"] == 1).all()
    assert pixels(task, "train").min() == 0 and pixels(task, "train").max() == 16, "so that inputs lie in [-1, 1]"
    shown = source.describe(examples, 1)
    assert shown == {"input": DIGITS.images[898].astype(int).tolist(), "target": int(DIGITS.target[898])}
    assert task.read(np.array(7), {}) == 7


def hue_numbers(images: np.ndarray) -> np.ndarray:
    """Which of ten hues each image is painted in, by the brightest pixel."""
    brightest = images.sum(axis=3).reshape(len(images), -1).argmax(axis=1)
    pixels = images.reshape(len(images), -1, 3)[np.arange(len(images)), brightest] / 16
    return np.array([round(10 * colorsys.rgb_to_hsv(*pixel)[0]) % 10 for pixel in pixels])


@pytest.mark.parametrize("changes", [{}, {"labels": 50}, {"folds": 5, "fold": 2}])
@pytest.mark.parametrize("probability", [1.0, 0.8])
def test_a_spurious_colour(probability, changes):
    """The class's in train and valid as often as it is said, any hue in test; shapes and labels are those of the grey digits."""
    grey, task = digits(**changes), digits(colour=probability, **changes)
    for split in ("train", "valid", "test"):
        source = task.source(split)
        images = source.fetch(np.arange(source.size)).input
        assert images.shape[1:] == (8, 8, 3) and images.dtype == np.uint8
        assert np.array_equal(images.max(axis=3), pixels(grey, split)), "the brightest channel is the digit"
        assert np.array_equal(labels(task, split), labels(grey, split))
        same = hue_numbers(images) == labels(grey, split)
        expected = 0.1 if split == "test" else probability + (1 - probability) / 10
        assert same.mean() == pytest.approx(expected, abs=3 * np.sqrt(expected * (1 - expected) / len(same)) + 1e-9), split
    counts = np.bincount(hue_numbers(images), minlength=10)
    assert counts.min() > 60, "all hues are in test"
    again = build({"name": "digits", **TASKS["digits"].defaults, "colour": probability, **changes}, 7)
    source = again.source("train")
    assert np.array_equal(source.fetch(np.arange(source.size)).input, task.source("train").fetch(np.arange(source.size)).input)
    batch = task.encode(task.source("test").fetch(np.arange(4)), 1)
    assert batch["inputs"].shape == (4, 8, 8, 3) and batch["inputs"].min() == -1 and batch["inputs"].max() == 1
    assert np.array(task.source("test").describe(task.source("test").fetch(np.arange(1)), 0)["input"]).shape == (8, 8, 3)


@pytest.mark.parametrize("changes", [{}, {"folds": 5, "fold": 2}])
def test_fewer_labels_are_nested_and_choose_by_the_same_examples(changes):
    every = digits(**changes)
    before: set[bytes] = set()
    for count in (10, 50, 100, 400):
        task = digits(labels=count, **changes)
        chosen = texts(pixels(task, "train"))
        assert len(chosen) == count and before < set(chosen) <= set(texts(pixels(every, "train")))
        assert np.bincount(labels(task, "train"), minlength=10).min() >= count // 10 - count // 20, "stratified"
        for split in ("valid", "test"):
            assert np.array_equal(pixels(task, split), pixels(every, split))
        before = set(chosen)


def test_folds_partition_what_is_not_test():
    pool = sorted(texts(DIGITS.images[:898].astype(np.uint8)))
    held = []
    for fold in range(4):
        task = digits(folds=4, fold=fold)
        train, valid = (texts(pixels(task, split)) for split in ("train", "valid"))
        assert sorted(train + valid) == pool
        assert abs(len(valid) - 898 / 4) < 10 and np.bincount(labels(task, "valid")).min() > 15
        assert np.array_equal(pixels(task, "test"), DIGITS.images[898:])
        held += valid
    assert sorted(held) == pool, "each example is held out once"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": 719}, r"719.*718.*config\.task\.labels"),
        ({"labels": -1}, r"config\.task\.labels=-1"),
        ({"colour": 1.5}, r"config\.task\.colour=1.5"),
        ({"folds": 1}, r"config\.task\.folds=1"),
        ({"folds": 3, "fold": 3}, r"config\.task\.fold=3.*0 to 2"),
        ({"fold": 1}, r"config\.task\.fold=1"),
        ({"folds": 899}, r"899.*config\.task\.labels or config\.task\.folds"),
    ],
)
def test_what_is_not_possible_is_told(changes, words):
    with pytest.raises(UserError, match=words):
        digits(**changes).source("train")


def test_splits_that_are_not_there():
    with pytest.raises(UserError, match=r"split 'tests'.*Known: test, train, valid"):
        digits().source("tests")
    with pytest.raises(UserError, match=r"no splits by length.*train, valid, test"):
        digits().source("1-8")


def test_new_pictures_are_answered_like_those_of_the_data(tmp_path):
    """Arrays as in the data, and files, which are scaled to its size and grey levels."""
    task = digits()
    found = task.source("test").fetch(np.arange(3))
    wanted = task.encode(found, 1)["inputs"]
    np.testing.assert_array_equal(task.encode(task.examples([*found.input]), 1)["inputs"], wanted)
    np.testing.assert_array_equal(task.encode(task.examples([*found.input[..., 0]]), 1)["inputs"], wanted)
    files = []
    for i, image in enumerate(found.input):
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(np.round(image[..., 0] * (255.0 / 16)).astype(np.uint8)).save(files[-1])
    np.testing.assert_allclose(task.encode(task.examples(files), 1)["inputs"], wanted, atol=0.01)
    with pytest.raises(UserError, match=r"picture 2 has the shape \[4, 4\], and those of the data \[8, 8, 1\]"):
        task.examples([found.input[0], np.zeros((4, 4))])
