"""Configs: overrides by type, and mistakes that name themselves."""

from dataclasses import dataclass

import pytest
from ml_collections import ConfigDict

from assay import config as configs
from assay.cli.command import split_overrides
from assay.core.errors import UserError


def make() -> ConfigDict:
    config = ConfigDict({"seed": 0, "train": {"steps": 10, "rate": 0.1, "name": "adam", "fast": False, "splits": ("iid",)}})
    return config.lock()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("seed", "3", 3),
        ("train.steps", "1e3", 1000),
        ("train.rate", "1e-3", 0.001),
        ("train.rate", "2", 2.0),
        ("train.name", "sgd", "sgd"),
        ("train.fast", "true", True),
        ("train.splits", "iid,41-500", ("iid", "41-500")),
        ("train.splits", "('valid',)", ("valid",)),
        ("train.splits", "('valid')", ("valid",)),
        ("train.splits", "['valid', 'iid']", ("valid", "iid")),
        ("train.splits", "", ()),
    ],
)
def test_override_by_type(key, text, value):
    config = configs.override(make(), {key: text})
    for part in key.split("."):
        config = config[part]
    assert config == value and type(config) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("train.stesp", "1", "Did you mean --config.train.steps"),
        ("trian.steps", "1", "Did you mean --config.train.steps"),
        ("steps", "1", "--config.train.steps"),
        ("train.steps", "abc", "expected int"),
        ("train.steps", "1.5e-1", "expected int"),
        ("train.fast", "perhaps", "expected bool"),
        ("train", "1", "group"),
        ("train.steps.more", "1", "train.steps is not a group"),
    ],
)
def test_override_mistakes(key, text, told):
    with pytest.raises(UserError) as error:
        configs.override(make(), {key: text})
    assert told in str(error.value)


@dataclass(frozen=True)
class Inner:
    steps: int
    rate: float
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    inner: Inner


def test_typed_converts_once_and_deeply():
    made = configs.typed(Outer, {"inner": {"steps": 3, "rate": 1, "splits": ["a"]}}, "")
    assert made == Outer(Inner(3, 1.0, ("a",)))
    assert isinstance(made.inner.rate, float)


@pytest.mark.parametrize(
    ("inner", "told"),
    [
        ({"steps": 3, "rate": 1.0}, "lacks splits"),
        ({"steps": 3, "rate": 1.0, "splits": [], "stepz": 1}, "Did you mean inner.steps"),
        ({"steps": 3.5, "rate": 1.0, "splits": []}, "config.inner.steps=3.5 has type float; expected int"),
        ({"steps": True, "rate": 1.0, "splits": []}, "has type bool"),
        ({"steps": 3, "rate": "x", "splits": []}, "config.inner.rate='x'"),
        ({"steps": 3, "rate": 1.0, "splits": "iid"}, "config.inner.splits='iid'"),
        ({"steps": 3, "rate": 1.0, "splits": [1]}, "config.inner.splits=1"),
    ],
)
def test_typed_mistakes(inner, told):
    with pytest.raises(UserError) as error:
        configs.typed(Outer, {"inner": inner}, "")
    assert told in str(error.value)


def test_differences():
    old, new = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "d": [1], "e": 0}
    assert configs.differences(old, new) == {"a.c": (2, 3), "e": (None, 0)}
    assert configs.differences(old, old) == {}


def test_span():
    assert configs.span("41:500", "k") == (41, 500) == configs.span("41-500", "k")
    for text in ("500:41", "0:4", "x", "4", "4:", ":4", "1:2:3"):
        with pytest.raises(UserError, match="k="):
            configs.span(text, "k")


def test_split_overrides():
    assert split_overrides(["m", "--config=a.py", "--config.a.b=1", "--config.c", "2", "--x"]) == (
        ["m", "--config=a.py", "--x"],
        {"a.b": "1", "c": "2"},
    )
    with pytest.raises(UserError, match="no value"):
        split_overrides(["m", "--config.c"])
