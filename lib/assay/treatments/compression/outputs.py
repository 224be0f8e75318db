"""Cached teacher outputs for every training example, written to disk once and read by example while a student trains.

The cache is in the first teacher's work directory, in `outputs/NAME/`. NAME is a hash of the teachers' checkpoints, the examples and the
settings. Students with the same settings share it, and a teacher with a newer checkpoint gets a new one.

    values.npy    float16 [examples, ..., k]: logits at a temperature                 classes.npy   int32: the k classes, if not all
    answers.npy   int32 [examples, positions]: the classes that the teacher wrote     lengths.npy   int32 [examples]: number of them
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from assay.core.errors import Inapplicable, UserError
from assay.core.tree import PyTree
from assay.data.loader import encoded
from assay.data.source import Examples
from assay.infer.decode import written
from assay.tasks.task import Task
from assay.train.progress import bar
from assay.train.workdir import WorkDir
from assay.treatments.compression.teacher import Teacher, mean_logits
from assay.treatments.option import KEY

ROWS = 256  # examples per teacher batch
VALUES, CLASSES = "teacher_values", "teacher_classes"  # batch keys
FORMAT = "logits"  # what values.npy holds; earlier caches held log probabilities, which float16 cannot tell apart at a high temperature

Answer = Callable[[Sequence[PyTree], Any], Mapping[str, jax.Array]]  # (params of each teacher, batch) -> arrays by file name


def with_outputs(task: Task, named: Sequence[Teacher], temperature: float, top: int) -> Task:
    """Returns the task with the teachers' logits (`mean_logits`) in its batches.

    They are zeros until the cache is written; no training step uses those.
    """
    encode, kept = task.encode, top or task.vocabulary.outputs

    @cache
    def folder() -> Path:
        return _folder(task, named, temperature, top, False)

    def encode_with(examples: Examples, width: int) -> Mapping[str, np.ndarray]:
        arrays = encode(examples, width)
        answered = arrays["targets"].shape
        added = {VALUES: np.zeros((*answered, kept), np.float16)} | ({CLASSES: np.zeros((*answered, kept), np.int32)} if top else {})
        if folder().is_dir():
            ids = examples.id % _size(task)
            for name, file in ((VALUES, "values.npy"), (CLASSES, "classes.npy")):
                if name in added:
                    found = _read(folder(), file)[ids]
                    added[name] = found[:, : answered[1]] if len(answered) > 1 else found
        return {**arrays, **added}

    return replace(task, encode=encode_with)


def with_answers(task: Task, teacher: Teacher) -> Task:
    """Returns the task with the teacher's own answers as training labels.

    An answer stops at the end token, if all labels end with one, and is never longer than the label. Raises UserError if models do not
    answer the task token by token.
    """
    plain = task.source
    if task.free_running != 1:
        raise Inapplicable(f"does not apply: distill:sequence=True needs answers written token by token, unlike {task.name}. {KEY}")

    @cache
    def folder() -> Path:
        return _folder(task, (teacher,), 0.0, 0, True)

    def fetch(indices: np.ndarray) -> Examples:
        examples = plain("train").fetch(indices)
        if not folder().is_dir():  # not written yet; no training step uses these
            return examples
        ids, width = examples.id % _size(task), examples.target.shape[1]
        answers = _read(folder(), "answers.npy")[ids]
        target = np.zeros_like(examples.target)
        target[:, : answers.shape[1]] = answers[:, :width]
        return examples._replace(target=target, target_length=_read(folder(), "lengths.npy")[ids].astype(np.int64))

    return replace(task, source=lambda split: replace(plain(split), fetch=fetch) if split == "train" else plain(split))


def fill(task: Task, named: Sequence[Teacher], temperature: float, top: int, sequence: bool) -> None:
    """Writes the cache that `with_outputs` or `with_answers` reads, unless it exists. Raises UserError for unlimited examples."""
    if task.source("train").size is None:
        raise UserError(
            f"the training examples of {task.name} are unlimited, so a teacher cannot answer each once. Omit cache and sequence. {KEY}"
        )
    folder = _folder(task, named[:1], 0.0, 0, True) if sequence else _folder(task, named, temperature, top, False)
    if not folder.is_dir():
        _write(folder, task, named, _writing(task, named) if sequence else _saying(named, temperature, top))


# -- private --------------------------------------------------------------------------------------------------------------


def _saying(named: Sequence[Teacher], temperature: float, top: int) -> Answer:
    def answer(params: Sequence[PyTree], batch: Any) -> Mapping[str, jax.Array]:
        logits = [teacher.model.apply(one, batch).logits for teacher, one in zip(named, params, strict=True)]
        found = mean_logits(logits, temperature)
        if not top:
            return {"values.npy": found}
        return dict(zip(("values.npy", "classes.npy"), jax.lax.top_k(found, min(top, found.shape[-1])), strict=True))

    return answer


def _writing(task: Task, named: Sequence[Teacher]) -> Answer:
    model, end = named[0].model, _end(task)

    def answer(params: Sequence[PyTree], batch: Any) -> Mapping[str, jax.Array]:
        wrote = written(model, params[0], batch, task.answer_to_input, task.free_running).answers
        room, first = batch["mask"].sum(axis=1).astype("int32"), batch["mask"].argmax(axis=1)
        places = jax.numpy.minimum(first[:, None] + jax.numpy.arange(wrote.shape[1])[None, :], wrote.shape[1] - 1)
        moved = jax.numpy.take_along_axis(wrote, places, axis=1)
        ended = (moved == end).argmax(axis=1) + 1
        stopped = (moved == end).any(axis=1) & (ended < room)
        return {"answers.npy": moved, "lengths.npy": jax.numpy.where(stopped, ended, room)}

    return answer


def _end(task: Task) -> int:
    """Returns the class that ends every label, or -1 if there is none."""
    source = task.source("train")
    examples = source.fetch(np.arange(min(_size(task), 1000)))
    last = np.unique(examples.target[np.arange(len(examples.id)), examples.target_length - 1])
    return int(last[0]) if len(last) == 1 else -1


def _folder(task: Task, named: Sequence[Teacher], temperature: float, top: int, sequence: bool) -> Path:
    source = task.source("train")
    said = [task.name, temperature, top, sequence or FORMAT, *((str(WorkDir(one.workdir).path), one.checkpoint()) for one in named)]
    whole = hashlib.blake2b(json.dumps(said).encode(), digest_size=8)
    whole.update(source.fetch(np.arange(source.size or 0)).input.tobytes())
    return WorkDir(named[0].workdir).path / "outputs" / whole.hexdigest()


def _write(folder: Path, task: Task, named: Sequence[Teacher], answer: Answer) -> None:
    """Writes one row per example to each file, in split order. The folder appears only when it is complete."""
    size, params, compiled = _size(task), [teacher.params() for teacher in named], jax.jit(answer)
    begun = folder.with_name(f"{folder.name}.{os.getpid()}")
    files: dict[str, np.ndarray] = {}
    done = 0
    try:
        begun.mkdir(parents=True)
        with bar(f"outputs of {' and '.join(teacher.workdir for teacher in named)}", size, "examples") as update:
            for examples, batch in _every(task):
                for name, array in jax.device_get(compiled(params, batch)).items():
                    if name not in files:
                        kind = np.float16 if name == "values.npy" else np.int32
                        files[name] = np.lib.format.open_memmap(begun / name, mode="w+", dtype=kind, shape=(size, *array.shape[1:]))
                    files[name][examples.id] = array
                done = min(done + ROWS, size)
                update(done, {})
        files.clear()  # flushes the memory maps
        os.rename(begun, folder)
    except OSError as error:
        if not folder.is_dir():  # otherwise another run wrote it first
            raise UserError(
                f"cannot write the teacher's outputs to {folder}: {error.strerror}. Free disk space, or omit distill:cache. {KEY}"
            ) from None
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def _every(task: Task) -> Iterator[tuple[Examples, Mapping[str, np.ndarray]]]:
    """Yields all training examples in batches of one size and width; the last batch is filled by repeating an example."""
    source = task.source("train")
    for start in range(0, _size(task), ROWS):
        indices = np.minimum(np.arange(start, start + ROWS), _size(task) - 1)
        yield encoded(source, indices, task.encode, task.width(source.lengths[1]))


def _size(task: Task) -> int:
    size = task.source("train").size
    assert size is not None
    return size


@cache
def _read(folder: Path, name: str) -> np.ndarray:
    """Opens a cached file as a memory map."""
    return np.load(folder / name, mmap_mode="r")
