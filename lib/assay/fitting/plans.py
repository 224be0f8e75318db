"""Which models to train on a data set, and how: `plans(config, found)` returns configs, the first one for every budget.

Sizes follow the number of training rows, and steps the number of passes over them. Early stopping keeps the best validated parameters. None
of these numbers was chosen on test data; experiments/README.md says on which data sets they were.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from assay.config.groups import defaults
from assay.config.models import bag, cnn, mlp, transformer
from assay.data.files.content import located
from assay.data.files.kinds import is_blank
from assay.data.files.pictures import describe
from assay.data.files.table import size
from assay.data.tokenizers import words_of
from assay.evals.cut import METRICS
from assay.tasks.files.opened import Opened

QUALITIES = ("fast", "good", "best")
RARE = 0.1  # share of the rows below which a class gets a weight
LONGEST = 512  # tokens
SIDES = (8, 64)  # least and greatest side of a picture, pixels
PATIENCE = 8  # validations
PASSES = ((1_000, 40), (10_000, 20), (100_000, 10), (math.inf, 4))  # training rows up to -> passes over them


class Plan(NamedTuple):
    """A model to train."""

    name: str  # folder and row
    title: str  # in sentences
    config: ConfigDict


class Pace(NamedTuple):
    """How many updates a number of training rows gets."""

    batch: int  # rows of an update
    steps: int
    every: int  # steps between validations


def task_name(found: Opened) -> str:
    """Returns the task that reads the columns of a data set."""
    return "files/pictures" if found.roles.pictures else "files/texts" if found.roles.texts else "files/table"


def task_keys(found: Opened) -> dict[str, object]:
    """Returns the keys of the task that follow from the data: lengths of texts, sizes of pictures."""
    train = found.parts["train"]
    if found.roles.pictures:
        seen = describe(located(train, found.roles.pictures[0]))
        height, width = (_side(extent) for extent in (seen.height, seen.width))
        return {"height": height, "width": width, "channels": 1 if seen.grey >= 0.99 else 3}
    if not found.roles.texts:
        return {}
    rows = [
        " ".join(str(cell) for cell in cells if not is_blank(cell))
        for cells in zip(*(train.columns[name] for name in found.roles.texts), strict=True)
    ]
    lengths = [len(words_of(text)) for text in rows[:: max(1, len(rows) // 5000)]]
    others = len(found.roles.inputs) + 3 * len(found.roles.dates)
    return {"max_length": min(LONGEST, 16 * math.ceil((np.quantile(lengths, 0.99) + others + 1) / 16))}


def pace(rows: int, steps: int | None = None) -> Pace:
    """Returns the pace for a number of training rows: by default as many steps as PASSES says, with a validation after each pass."""
    batch = 32 if rows < 4_000 else 64 if rows < 40_000 else 128
    each = max(1, rows // batch)  # steps of a pass
    steps = max(100, each * next(passes for most, passes in PASSES if rows <= most)) if steps is None else steps
    return Pace(batch, steps, max(1, min(each, steps // 10)))


def plans(task: ConfigDict, found: Opened, quality: str, metric: str = "") -> list[Plan]:
    """Returns the models to train for a quality, in the order in which they are trained; `metric` stops them early."""
    rows = size(found.parts["train"])
    listed = [plan(task, found, rows) for plan in MAKERS[task.name][: 1 + QUALITIES.index(quality)]]
    cut = cut_of(found, metric)
    after = (
        *(["calibrate"] if found.roles.kind == "classes" and "valid" in found.parts else []),
        *([f"threshold:metric={cut}"] if cut else []),
    )
    for plan in listed:
        plan.config.train.metric = metric
        plan.config.treatments = (*plan.config.treatments, *after)
    return listed


def cut_of(found: Opened, metric: str) -> str:
    """Returns the metric by which the threshold of two classes is chosen on `valid`; "" where there are not two, or it needs none."""
    chosen = metric or "accuracy"
    two = found.roles.kind == "classes" and len(found.classes) == 2 and "valid" in found.parts
    return chosen if two and chosen in METRICS else ""


def shortened(plan: Plan, steps: int) -> Plan:
    """Returns a plan with fewer steps, and the validations and warmup that they leave room for."""
    config = ConfigDict(plan.config.to_dict())
    every = max(1, min(config.train.log_every, steps // 10))
    config.train.update({"steps": steps, "log_every": every, "steps_per_call": min(config.train.steps_per_call, every)})
    config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, steps // 20)
    config.treatments = tuple(
        f"early_stopping:patience={PATIENCE},every={every}" if spec.startswith("early_stopping") else spec for spec in config.treatments
    )
    return plan._replace(config=config.lock())


# -- private --------------------------------------------------------------------------------------------------------------


def _side(extent: tuple[int, float, int]) -> int:
    least, median, most = extent
    if least == most and most <= SIDES[1]:
        return most
    return int(min(SIDES[1], max(SIDES[0], 8 * round(median / 8))))


def _plan(name: str, title: str, model: ConfigDict, rate: float, dropout: float, task: ConfigDict, found: Opened, rows: int) -> Plan:
    config = defaults()
    config.task, config.model = task, model
    batch, steps, every = pace(rows)
    block = min(8, every)
    settings = {
        "train.steps": steps,
        "train.batch_size": batch,
        "train.buckets": 1 if task.name != "files/texts" else min(4, max(1, task.max_length // 64)),
        "train.steps_per_call": block,
        "train.log_every": every,
        "optimizer.name": "adam",
        "optimizer.learning_rate": rate,
        "optimizer.schedule": "cosine",
        "optimizer.warmup_steps": min(100, steps // 20),
        "optimizer.clip_norm": 1.0,
        "evaluate.splits": tuple(split for split in ("valid", "test") if split in found.parts),
    }
    rare = found.roles.kind == "classes" and found.found.balance < min(RARE, 0.5 / max(len(found.classes), 1))
    treatments = [f"dropout:rate={dropout:g}", f"early_stopping:patience={PATIENCE},every={every}", *(["balance"] if rare else [])]
    with config.unlocked():
        config.update_from_flattened_dict(settings)
        config.treatments = tuple(treatments)
    return Plan(name, title, config.lock())


def _bag(task: ConfigDict, found: Opened, rows: int) -> Plan:
    model = bag(width=32 if rows < 2_000 else 64, bigrams=0)
    return _plan("bag", "the bag of words", model, 3e-3, 0.3 if rows < 2_000 else 0.5, task, found, rows)


def _encoder(task: ConfigDict, found: Opened, rows: int) -> Plan:
    width = 64 if rows < 20_000 else 128
    model = transformer("encoder", depth=2, width=width, mlp=4 * width, heads=4, kv_heads=4)
    return _plan("encoder", "the Transformer", model, 1e-3, 0.2, task, found, rows)


def _pairs(task: ConfigDict, found: Opened, rows: int) -> Plan:
    return _plan("bigrams", "the bag of words and bigrams", bag(width=64, bigrams=50_000), 3e-3, 0.5, task, found, rows)


def _mlp(task: ConfigDict, found: Opened, rows: int) -> Plan:
    model = mlp(depth=2, width=64 if rows < 5_000 else 128)
    return _plan("mlp", "the multilayer perceptron", model, 1e-3, 0.1, task, found, rows)


def _linear(task: ConfigDict, found: Opened, rows: int) -> Plan:
    return _plan("linear", "the linear model", mlp(depth=0), 3e-3, 0.0, task, found, rows)


def _wide(task: ConfigDict, found: Opened, rows: int) -> Plan:
    return _plan("wide", "the wide multilayer perceptron", mlp(depth=3, width=256), 1e-3, 0.3, task, found, rows)


def _cnn(task: ConfigDict, found: Opened, rows: int) -> Plan:
    side = min(task.height, task.width)
    pools = max(1, min(3, int(math.log2(max(side, 8) / 4))))
    filters = (16, 32, 64)[:pools] if rows < 5_000 else (32, 64, 128)[:pools]
    return _plan("cnn", "the CNN", cnn(filters=filters, pools=pools, dense=64 if rows < 5_000 else 128), 2e-3, 0.3, task, found, rows)


def _pixels(task: ConfigDict, found: Opened, rows: int) -> Plan:
    return _plan("mlp", "the multilayer perceptron", mlp(depth=2, width=128), 1e-3, 0.3, task, found, rows)


def _deep(task: ConfigDict, found: Opened, rows: int) -> Plan:
    model = cnn(filters=(32, 32, 64, 64, 128), pools=2, dense=128)
    return _plan("deep", "the deeper CNN", model, 1e-3, 0.4, task, found, rows)


Maker = Callable[[ConfigDict, Opened, int], Plan]
MAKERS: Mapping[str, tuple[Maker, ...]] = {  # in the order of qualities
    "files/texts": (_bag, _encoder, _pairs),
    "files/table": (_mlp, _linear, _wide),
    "files/pictures": (_cnn, _pixels, _deep),
}
