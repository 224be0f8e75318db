"""TFDS by name: prepared copies of the real data sets' form are read without TensorFlow, and each way to fail is one message."""

import importlib
import importlib.resources
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.core.errors import UserError
from assay.data import tfds as reading
from assay.data import tfds_prepare
from assay.data.tfds import features_of, library, load_split, open_split, split_sizes
from assay.tasks.table import TASKS, build

tfds = library()
COUNTS = {"train": 24, "test": 10}


@pytest.fixture(autouse=True)
def resources(monkeypatch):
    """TFDS looks for this backport of the standard library's module while it prepares."""
    try:
        importlib.import_module("importlib_resources")
    except ImportError:
        monkeypatch.setitem(sys.modules, "importlib_resources", importlib.resources)


def picture(i, shape):
    array = np.full(shape, i, np.uint8)
    return Image.fromarray(array[..., 0] if shape[-1] == 1 else array)


def fake(name, version, features, example, supervised, config=""):
    """A builder that writes what the real one of this name would, with few examples."""

    class Fake(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config, version=version)] if config else []
        code_path = None

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=supervised)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(count) for split, count in COUNTS.items()}

        def _generate_examples(self, count):
            yield from ((i, example(i)) for i in range(count))

    Fake.name = name
    return Fake


F = tfds.features
FAKES = {
    "mnist": fake(
        "mnist",
        "3.0.1",
        {"image": F.Image(shape=(28, 28, 1)), "label": F.ClassLabel(num_classes=10)},
        lambda i: {"image": picture(i, (28, 28, 1)), "label": i % 10},
        ("image", "label"),
    ),
    "cifar10": fake(
        "cifar10",
        "3.0.2",
        {"id": F.Text(), "image": F.Image(shape=(32, 32, 3)), "label": F.ClassLabel(names=[f"class{i}" for i in range(10)])},
        lambda i: {"id": f"n{i}", "image": picture(i, (32, 32, 3)), "label": i % 10},
        ("image", "label"),
    ),
    "imdb_reviews": fake(
        "imdb_reviews",
        "1.0.0",
        {"text": F.Text(), "label": F.ClassLabel(names=["neg", "pos"])},
        lambda i: {"text": f"文 {i}", "label": i % 2},
        ("text", "label"),
        config="plain_text",
    ),
    "glue/sst2": fake(
        "glue",
        "2.0.0",
        {"sentence": F.Text(), "label": F.ClassLabel(names=["negative", "positive"]), "idx": np.int32},
        lambda i: {"sentence": f"s {i}", "label": -1, "idx": i},
        None,
        config="sst2",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    for make in FAKES.values():
        tfds_prepare.prepared(make(data_dir=path, file_format="array_record"), make.name)
    return str(path)


def test_pixels_of_other_types_than_bytes_are_refused_as_what_they_are(tmp_path, monkeypatch):
    make = fake("deep", "1.0.0", {"image": F.Image(shape=(4, 4, 1), dtype=np.uint16)}, lambda i: {"image": picture(i, (4, 4, 1))}, None)
    monkeypatch.setattr(reading, "_builder", lambda name, data_dir: make(data_dir=data_dir, file_format="array_record"))
    with pytest.raises(UserError, match="pixels of type uint16, but only 8-bit pixels"):
        open_split("deep", "train", data_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_images_by_name(folder, name):
    split = open_split(f"tfds/{name}", "train", data_dir=folder, also=("id",) if name == "cifar10" else ())
    assert (split.kind, split.size, len(split.classes)) == ("image", 24, 10)
    columns = split.fetch(np.array([5, 0, 5, 23]))
    assert columns["image"].shape == (4, *split.shape) and columns["image"].dtype == np.uint8
    values = columns["image"][:, 0, 0, 0]
    assert (values % 10 == columns["label"]).all() and values[0] == values[2] != values[1]
    if name == "cifar10":
        assert split.classes[3] == "class3" and columns["id"] == [f"n{value}" for value in values]
    assert split_sizes(name, folder) == COUNTS


def test_text_by_name_and_slices(folder):
    split = open_split("imdb_reviews", "train", data_dir=folder)
    assert (split.kind, split.classes, split.shape) == ("text", ("neg", "pos"), ())
    columns = split.fetch(np.arange(split.size))
    assert sorted(columns["text"]) == sorted(f"文 {i}" for i in range(24))
    assert [int(text.split()[1]) % 2 for text in columns["text"]] == columns["label"].tolist()
    head, tail = (load_split("imdb_reviews", part, data_dir=folder)["text"] for part in ("train[:50%]", "train[50%:]"))
    assert head + tail == columns["text"]
    assert len(load_split("imdb_reviews", "train+test[:3]", data_dir=folder)["text"]) == 27
    assert set(load_split("imdb_reviews", "test", data_dir=folder, label="none")) == {"text"}


def test_what_is_held_in_memory_and_what_is_not_is_the_same(folder):
    indices = np.array([7, 7, 2, 19])
    columns = [open_split("mnist", "train", data_dir=folder, held=held).fetch(indices) for held in (0, 1 << 30)]
    for key in columns[0]:
        assert np.array_equal(columns[0][key], columns[1][key])


def test_a_small_split_is_decoded_once_until_its_file_changes(folder, tmp_path, monkeypatch):
    shutil.copytree(Path(folder) / "mnist", tmp_path / "mnist")
    decoded, plain = [], reading._columns
    monkeypatch.setattr(reading, "_columns", lambda *given: decoded.append(given[1]) or plain(*given))
    first, again = (load_split("mnist", "train", data_dir=str(tmp_path)) for _ in range(2))
    assert decoded == ["train"] and np.array_equal(first["image"], again["image"])
    first["image"][:] = 0
    assert load_split("mnist", "train", data_dir=str(tmp_path))["image"].any(), "what one reader writes, the next does not see"
    load_split("mnist", "test", data_dir=str(tmp_path))
    (file,) = (tmp_path / "mnist").rglob("*train*array_record*")
    os.utime(file, (1, 1))
    load_split("mnist", "train", data_dir=str(tmp_path))
    assert decoded == ["train", "test", "train"]


def test_labels_that_are_kept_back_are_told(folder):
    with pytest.raises(UserError, match=r"no labels.*config\.task\.label=none"):
        load_split("glue/sst2", "test", data_dir=folder)
    columns = load_split("glue/sst2", "test", data_dir=folder, label="none", also=("idx",))
    assert [f"s {i}" for i in columns["idx"]] == columns["text"]


def test_the_features_of_an_ambiguous_data_set_are_named_by_options():
    class Info:
        features = F.FeaturesDict({"a": F.Text(), "b": F.Text(), "x": F.ClassLabel(num_classes=2), "y": F.ClassLabel(num_classes=3)})
        supervised_keys = None

    with pytest.raises(UserError, match=r"several: a, b.*config\.task\.text"):
        features_of("set", Info)
    with pytest.raises(UserError, match=r"config\.task\.label"):
        features_of("set", Info, text="b")
    assert features_of("set", Info, text="b", label="y") == ("text", "b", "y")
    assert features_of("set", Info, text="a", label="none") == ("text", "a", "")
    for wrong in ({"text": "c"}, {"text": "a", "label": "z"}, {"text": "a", "label": "b"}, {"image": "a"}):
        with pytest.raises(UserError):
            features_of("set", Info, **wrong)
    Info.supervised_keys = ("a", "y")
    assert features_of("set", Info) == ("text", "a", "y")


@pytest.mark.parametrize(
    ("name", "split", "told"),
    [
        ("mnist", "valid", "Known: test, train"),
        ("mnist", "train[:x]", "train[:80%]"),
        ("mnistt", "train", "Did you mean mnist"),
        ("no_such_thing_at_all", "train", "Embedded: digits"),
        ("glue/sst3", "train", "Did you mean 'sst2'"),
        ("mnist:9.9.9", "train", "only: 3.0.1"),
        ("", "train", "config.task.name"),
        ("a b", "train", "config.task.name"),
    ],
)
def test_names_that_are_wrong(folder, name, split, told):
    with pytest.raises(UserError) as error:
        open_split(name, split, data_dir=folder)
    assert told in str(error.value) and "\n" not in str(error.value)


def copy_of(folder, tmp_path, **changes):
    target = tmp_path / "mnist" / "3.0.1"
    target.mkdir(parents=True)
    for file in Path(folder, "mnist", "3.0.1").iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    info = json.loads((target / "dataset_info.json").read_text())
    (target / "dataset_info.json").write_text(json.dumps(info | changes))
    return target


def test_a_format_without_random_access_says_how_to_convert(folder, tmp_path):
    copy_of(folder, tmp_path, fileFormat="tfrecord")
    with pytest.raises(UserError, match=r"tfrecord, which has no random access.*--out_file_format=array_record"):
        open_split("mnist", "train", data_dir=str(tmp_path))


def test_a_damaged_copy_is_told(folder, tmp_path):
    file = next(copy_of(folder, tmp_path).glob("*train*"))
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + bytes(len(whole) - 100))
    with pytest.raises(UserError, match=r"is damaged.*Remove the folder"):
        load_split("mnist", "train", data_dir=str(tmp_path))
    file.unlink()
    with pytest.raises(UserError, match=r"lacks mnist-train"):
        load_split("mnist", "train", data_dir=str(tmp_path))


class Refused(ConnectionError):
    pass


def test_without_network_and_without_a_copy(tmp_path, monkeypatch, capfd):
    def refuse(*args, **kwargs):
        raise Refused("Failed to resolve 'example.org'")

    monkeypatch.setattr("requests.Session.get", refuse)
    for name, place in (("mnist", "mnist/3.0.1"), ("glue/sst2", "glue/sst2/2.0.0")):
        with pytest.raises(UserError) as error:
            open_split(f"tfds/{name}", "train", data_dir=str(tmp_path))
        for part in ("no prepared copy", "without a network", "Failed to resolve", f"{tmp_path}/{place}", "name=digits", "stdlib/package"):
            assert part in str(error.value)
        assert not (tmp_path / place).exists()
    said = capfd.readouterr()
    assert said.out == "" and [line.split()[:2] for line in said.err.splitlines()] == [["preparing", "mnist"], ["preparing", "glue/sst2"]]


def test_without_tensorflow_the_extra_and_the_place_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    files = {}
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        files[name] = tmp_path / name
        files[name].write_bytes(b"")
    monkeypatch.setattr(
        tfds.download.DownloadManager, "download_and_extract", lambda self, urls: dict.fromkeys(urls, str(tmp_path / "train-images"))
    )
    with pytest.raises(UserError, match=r"needs TensorFlow to prepare.*\[tfds-prepare\].*mnist/3\.0\.1"):
        open_split("mnist", "train", data_dir=str(tmp_path))


def test_other_things_that_stop_a_builder(tmp_path):
    def told(error):
        return str(tfds_prepare.explain(error, "name", "/folder"))

    assert "needs the package h5py" in told(ModuleNotFoundError("No module named 'h5py'", name="h5py"))
    assert "ValueError: broken in two lines" in told(ValueError("broken\n in two lines."))
    assert "no permission" in told(PermissionError(13, "denied", "/folder"))
    try:
        try:
            raise TimeoutError("slow")
        except TimeoutError as inner:
            raise RuntimeError("outer") from inner
    except RuntimeError as error:
        assert "without a network" in told(error)


def test_downloads_do_not_wait_for_ever():
    from tensorflow_datasets.core.download import downloader

    before = downloader._open_url, downloader.MAX_RETRIES
    with tfds_prepare._patience():
        assert downloader.MAX_RETRIES <= 3 and downloader._open_url.keywords["timeout"] == (tfds_prepare.CONNECT, tfds_prepare.READ)
    assert (downloader._open_url, downloader.MAX_RETRIES) == before


class Mocked:
    """What TFDS's mock makes up; its own source of records cannot be asked for several at once."""

    def __len__(self):
        return 7

    def __getitems__(self, places):
        return [{"image": np.full((28, 28, 1), place, np.uint8), "label": place} for place in places]


def test_the_mock_of_tfds_itself(folder):
    testing = importlib.import_module("tensorflow_datasets.testing")
    with testing.mock_data(policy=testing.MockPolicy.USE_FILES, data_dir=folder, as_data_source_fn=lambda self, split, **_: Mocked()):
        columns = load_split("mnist", "train", data_dir=folder)
    assert columns["image"].shape == (7, 28, 28, 1) and columns["label"].tolist() == list(range(7))


READ = """
import sys
from assay.data.tfds import load_split
assert "tensorflow_datasets" not in sys.modules, "TFDS is imported on use"
for name in ("mnist", "imdb_reviews"):
    print(name, len(load_split(name, "train", data_dir=sys.argv[1])["label"]))
assert not {"tensorflow", "torch"} & set(sys.modules)
"""


def test_reading_never_imports_tensorflow(folder):
    run = subprocess.run([sys.executable, "-c", READ, folder], capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.split() == ["mnist", "24", "imdb_reviews", "24"], run.stderr
    assert run.stderr == ""


def test_valid_of_images_has_each_class_and_older_configs_keep_their_last_tenth(folder):
    """24 pictures of ten classes, two or three of each; equal pictures are never divided."""
    keys = {**TASKS["tfds/"].defaults, "name": "tfds/mnist", "data_dir": folder}
    task, older = build(keys, 0), build({**keys, "stratify": False}, 0)
    train, valid = (task.source(split).labels() for split in ("train", "valid"))
    assert sorted(valid.tolist()) == list(range(10)) and len(train) == 14
    assert len(older.source("valid").labels()) == 2 and len(older.source("train").labels()) == 22
    assert older.source("valid").labels().tolist() == load_split("mnist", "train", data_dir=folder)["label"][-2:].tolist()
    held = [build({**keys, "folds": 2, "fold": fold}, 0).source("valid").labels().tolist() for fold in (0, 1)]
    assert sorted(held[0] + held[1]) == sorted([*train.tolist(), *valid.tolist()]) and set(held[0]) == set(range(10))
