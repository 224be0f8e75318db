"""Pictures of every kind become arrays of one size with the right values; what cannot be decoded is counted, and nothing crashes."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from assay.core.errors import UserError
from assay.data.files.content import keys_of, located
from assay.data.files.pictures import describe, load
from assay.data.files.reader import read, read_parts
from assay.data.files.roles import roles


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def halves(left, right, mode="RGB", size=(16, 16)):
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, size[0], size[1]))
    return image


def one(content, size=(16, 16), channels=3, dtype=np.float32):
    (pixels,) = load([content], size, channels, dtype).pixels
    return pixels


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_every_format(form):
    pixels = one(encoded(halves((255, 0, 0), (0, 0, 255)), form))
    assert pixels.shape == (16, 16, 3) and pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[8, 2], [1, 0, 0], atol=0.05)
    np.testing.assert_allclose(pixels[8, 13], [0, 0, 1], atol=0.05)


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("L", (4, 4), 51), (0.2, 0.2, 0.2)),
        (Image.new("1", (4, 4), 1), (1, 1, 1)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 0)), (1, 1, 1)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 51)), (1, 0.8, 0.8)),
        (Image.new("LA", (4, 4), (0, 0)), (1, 1, 1)),
        (Image.new("RGB", (4, 4), (0, 255, 0)).quantize(4), (0, 1, 0)),
    ],
)
def test_modes(image, colour):
    np.testing.assert_allclose(one(encoded(image), (4, 4))[1, 1], colour, atol=0.01)


def test_printing_colours_and_transparent_palettes():
    np.testing.assert_allclose(one(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))[1, 1], [1, 0, 0], atol=0.02)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0] * 256)
    assert one(encoded(palette, transparency=0), (4, 4)).min() == 1


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(form):
    values = np.linspace(0, 65_535, 16).astype(np.uint16)
    content = encoded(Image.fromarray(np.tile(values, (16, 1))), form)
    np.testing.assert_allclose(one(content, channels=1)[3, :, 0], np.linspace(0, 1, 16), atol=1e-4)
    assert one(content, channels=3, dtype=np.uint8)[3, :, 1].tolist() == list(range(0, 256, 17))


def test_floats():
    inside, outside = (encoded(Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF") for value in (0.25, 300.0))
    assert one(inside, (4, 4)).max() == one(inside, (4, 4)).min() == 0.25
    assert load([inside, outside], (4, 4)).dropped[0].reason == "floating-point values outside 0 to 1"


def test_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter clockwise for the viewer
    content = encoded(halves(0, 255, "L", (32, 16)), "JPEG", exif=exif)
    pixels = one(content, (32, 16), 1)
    assert pixels[:12].max() < 0.1 and pixels[20:].min() > 0.9
    assert describe([content]).height == (32, 32.0, 32) and describe([content]).width == (16, 16.0, 16)


def test_the_shape_is_kept_and_the_rest_has_the_colour_of_the_border():
    image = Image.new("L", (40, 20), 102)
    image.paste(255, (15, 5, 25, 15))
    pixels = one(encoded(image), (20, 20), 1)[..., 0]
    assert np.ptp(pixels[:5]) == 0 and abs(pixels[0, 0] - 0.4) < 0.01 and abs(pixels[-1, -1] - 0.4) < 0.01
    rows, columns = np.nonzero(pixels > 0.7)
    assert (np.ptp(rows), np.ptp(columns)) == (3, 3), "a square stays one"
    assert one(encoded(Image.new("L", (500, 1), 9)), (8, 8), 1).shape == (8, 8, 1)


def test_large_pictures_are_averaged():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (256, 128)))
    assert abs(one(encoded(stripes), (16, 16), 1)[4:12, 4:12] - 0.5).max() < 0.02


def test_broken_pictures_are_counted_with_their_names(tmp_path):
    whole = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("this is a text")
    (tmp_path / "good.jpg").write_bytes(whole)
    paths = [tmp_path / name for name in ("cut.jpg", "good.jpg", "text.png", "gone.png")]
    found = load([*paths, None, b""], (8, 8))
    assert (
        found.pixels.shape == (1, 8, 8, 3)
        and found.pixels.dtype == np.uint8
        and found.kept.tolist() == [False, True, False, False, False, False]
    )
    assert [(each.reason, each.lines) for each in found.dropped] == [
        ("a damaged picture", (str(paths[0]),)),
        ("no PNG, JPEG, BMP, GIF, WebP or TIFF picture", (str(paths[2]), 6)),
        ("no picture in this cell", (5,)),
        ("no such file", (str(paths[3]),)),
    ]
    for function in (lambda: load(paths[:1], (8, 8)), lambda: describe(paths[2:])):
        with pytest.raises(UserError, match="none of"):
            function()


def test_a_bomb_is_dropped(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    small, large, huge = (encoded(Image.new("L", (side, side))) for side in (20, 40, 60))  # of the last two, Pillow warns and raises
    found = load([small, large, huge], (8, 8), 1)
    assert found.kept.tolist() == [True, False, False] and found.dropped[0].reason == "a picture of more than 1,000 pixels"
    assert describe([small, large, huge]).readable == 1


def test_other_formats_are_not_opened():
    postscript = encoded(Image.new("RGB", (4, 4)), "EPS")
    assert load([encoded(Image.new("L", (4, 4))), postscript], (4, 4)).kept.tolist() == [True, False]


def test_the_description():
    grey = [
        encoded(Image.new("L", (10, 20))),
        encoded(Image.new("RGB", (30, 20), (80, 80, 80))),
        encoded(Image.fromarray(np.zeros((8, 8), np.uint16))),
    ]
    found = describe([*grey, encoded(halves((255, 0, 0), (0, 0, 0))), b"junk"])
    assert found.readable == 4 and found.width == (8, 13.0, 30) and found.height == (8, 18.0, 20)
    assert found.grey == 0.75 and found.deep == 0.25


def test_no_warning_is_lost():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        load([encoded(Image.new("L", (4, 4)))], (4, 4))
        assert warnings.filters == before


def save(path, level=0, form="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(Image.new("L", (4, 4), level), form))


def test_folders_of_classes(tmp_path):
    for i, name in enumerate(("cat/a.png", "cat/deep/b.PNG", "dog/c.png", "dog/.hidden.png", "__MACOSX/dog/d.png", "loose.png")):
        save(tmp_path / "set" / name, i)
    for name in ("dog/notes.txt", "Thumbs.db", "cat/.DS_Store"):
        (tmp_path / "set" / name).write_text("x")
    table = read(tmp_path / "set")
    assert table.columns["picture"].tolist() == ["cat/a.png", "cat/deep/b.PNG", "dog/c.png"]
    assert table.columns["label"].tolist() == ["cat", "cat", "dog"]
    assert [(each.reason, each.count, each.lines) for each in table.dropped] == [
        ("files that are no pictures", 1, ("dog/notes.txt",)),
        ("pictures in no folder of a class", 1, ("loose.png",)),
    ]
    assert load(located(table, "picture"), (4, 4), 1).pixels[:, 0, 0, 0].tolist() == [0, 1, 2]
    found = roles(table)
    assert (found.target, found.pictures) == ("label", ("picture",))


def test_folders_with_parts(tmp_path):
    for part, name in (("train", "a/1.png"), ("train", "b/2.png"), ("val", "a/3.png"), ("test", "b/4.png"), ("test", "b/5.png")):
        save(tmp_path / "set" / part / name)
    assert {name: len(table.lines) for name, table in read_parts(tmp_path / "set").items()} == {"train": 2, "valid": 1, "test": 2}
    save(tmp_path / "unlabelled" / "train" / "a" / "1.png")
    save(tmp_path / "unlabelled" / "test" / "2.png")
    parts = read_parts(tmp_path / "unlabelled")
    assert list(parts) == ["train"] and "is not used" in parts["train"].notes[0]
    save(tmp_path / "classes" / "test" / "1.png")
    save(tmp_path / "classes" / "control" / "2.png")
    assert set(read(tmp_path / "classes").columns["label"]) == {"test", "control"}
    save(tmp_path / "flat" / "1.png")
    with pytest.raises(UserError, match="1 pictures that are in no folder of a class"):
        read(tmp_path / "flat")


def test_equal_files_are_equal_contents(tmp_path):
    for name, level in (("a/1.png", 0), ("a/2.png", 0), ("b/3.png", 9)):
        save(tmp_path / name, level)
    table = read(tmp_path)
    first, second, third = keys_of(table, roles(table))
    assert first == second != third
