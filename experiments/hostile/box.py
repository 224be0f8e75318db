"""The folder that a command line runs in: traps of every kind, finished runs, and a run with one damaged file.

`template` makes the runs once; `fill` copies them and sets the traps; `left_behind` finds what a refused command should not have written.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RUN = "--config.train.steps=2", "--config.evaluate.splits=iid", "--config.evaluate.per_length=1", "--config.task.lengths=1:2"
READER = "--config.train.steps=2", "--config.task.max_length=12", "--config.evaluate.splits=valid"
TEXTS = "text,label\n" + "".join(f"{word} {number},{word}\n" for number in range(12) for word in ("red", "blue"))
FILES = (
    *("config.json", "results.json", "metrics.jsonl", "predictions/iid.jsonl", "predictions", "diagnosis.json", "diagnosis.npz"),
    *("stages.json", "taken_over.json", "applied.json", "checkpoints", "checkpoints/2", "checkpoints/2/seal.json", "checkpoints/2/state"),
    *("checkpoints/2/data/metadata", "checkpoints/2/state/_METADATA", "timing.json", "report.html", "tensorboard", ".lock"),
)
DAMAGES = ("whole", "empty", "cut", "binary", "deep", "null", "list", "object", "gone", "folder", "pipe", "loop", "value", "value", "value")
DEEP = "[" * 100_000
JSON_VALUES: tuple[Any, ...] = (None, True, -1, 0, 1e308, 10**30, "", "x", "../../x", "\ud800", [], {}, [[]], {"a": 1}, [None])
MAKER = "get" + "_config"  # in two parts, so that this file is not taken for a config
CONFIG = f'"""A config of one\'s own."""\n\n\ndef {MAKER}(variant):\n    raise RuntimeError("two\\nlines")\n'


def template(folder: Path, call: Callable[..., Any], run: Path | None = None) -> None:
    """Makes a study of two runs, a classifier of texts, a diagnosis and a treated run by `call(verb, *words)`. With a finished `run`, only
    copies of it."""
    (folder / "texts.csv").write_text(TEXTS)
    if run is not None:
        for name in ("study/tiny/seed_0", "study/other/seed_0", "run"):
            shutil.copytree(run, folder / name)
        return
    call("study", "--config=parity:tiny", "--config=parity:transformer,tiny", f"--workdir={folder}/study", *RUN)
    call("train", "--config=transformer_classifier:tiny", f"--workdir={folder}/classifier", *READER)
    shutil.copytree(folder / "study" / "tiny" / "seed_0", folder / "run")
    call("diagnose", "--quick", f"--workdir={folder}/run")
    call("treat", f"--from={folder}/run", "--treat=quantize:int8", "--seconds=0.1", f"--workdir={folder}/treated")


def fill(box: Path, made: Path, damage: Sequence[Any]) -> None:
    """Copies the runs of `made` into an empty folder, and sets the traps. `damage`: file, kind, place."""
    shutil.copytree(made, box, dirs_exist_ok=True)
    for name in ("empty", "locked", "odd, +=~#e %41"):
        (box / name).mkdir()
    (box / "file").write_text("--config.seed=1\nstray\n")
    (box / "binary").write_bytes(bytes(range(256)))
    (box / "binary.py").write_bytes(bytes(range(256)))
    (box / "broken.py").write_text(f"def {MAKER}(:\n")
    (box / "mine.py").write_text(CONFIG)
    os.mkfifo(box / "pipe")
    for name, target in (("loop", "loop"), ("null", "/dev/null"), ("full", "/dev/full"), ("memory", "/proc/self/mem")):
        (box / name).symlink_to(target)
    shutil.copytree(box / "run", box / "damaged")
    for path in (box / "treated" / "stages.json", box / "treated" / "taken_over.json"):
        if path.exists():
            shutil.copyfile(path, box / "damaged" / path.name)
    spoil(box / "damaged" / damage[0], damage[1], damage[2])
    (box / "locked").chmod(0)


def spoil(path: Path, how: str, place: int) -> None:
    """Damages one file or folder of a run."""
    whole = path.read_bytes() if path.is_file() else b""
    if how == "whole":
        return
    if how == "value":
        _change(path, whole, place)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "loop":
        path.symlink_to(path.name)
    elif how != "gone":
        texts = {"empty": "", "deep": DEEP, "null": "null\n", "list": "[]\n", "object": "{}\n"}
        contents = {"cut": whole[: place % (len(whole) + 1)], "binary": bytes(range(256))}
        path.write_bytes(contents[how] if how in contents else texts[how].encode())


def listed(box: Path) -> set[str]:
    """Returns the paths below a folder."""
    return {str(path.relative_to(box)) for path in box.rglob("*")}


def left_behind(box: Path, before: set[str]) -> list[str]:
    """Returns new folders without a file in them, and new temporary files and locks."""
    new = sorted(name for name in listed(box) - before if "downloads" not in name)  # which TFDS makes beside its data
    folders = [name for name in new if (box / name).is_dir() and not any(one.is_file() for one in (box / name).rglob("*"))]
    return folders + [name for name in new if name.rpartition("/")[2].startswith(".")]


# -- private --------------------------------------------------------------------------------------------------------------


def _change(path: Path, whole: bytes, place: int) -> None:
    """Replaces one value of a JSON file, or of the first line of a file of lines."""
    try:
        first, newline, rest = (whole, b"", b"") if path.suffix == ".json" or path.suffix == "" else whole.partition(b"\n")
        said = json.loads(first)
    except ValueError:
        return
    value, node, trail = JSON_VALUES[place % len(JSON_VALUES)], said, place // len(JSON_VALUES)
    while isinstance(node, (dict, list)) and node:
        known: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = known[trail % len(known)]
        deeper = node[key]
        if not (isinstance(deeper, (dict, list)) and deeper) or trail % 3 == 0:
            node[key] = value
            break
        node, trail = deeper, trail // len(known) + 1
    path.write_bytes(json.dumps(said).encode() + newline + rest)
