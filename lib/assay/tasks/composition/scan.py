"""SCAN: commands such as `jump around left twice` to sequences of actions (Lake and Baroni, ICML 2018, arXiv 1711.00350).

The grammar gives 20,910 pairs. The splits test whether a model that has seen the parts can combine them. They are those of the paper,
except that `simple` is our own random 80/20, since the published one is a file:

length     trained on at most 22 actions, tested on 24 to 48
jump       `jump` only occurs alone in training (a tenth of the training lines), tested inside commands
turn_left  `turn left` only occurs alone in training (a tenth of the training lines), tested inside commands
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from assay.config.generated import SCAN
from assay.config.schema import require
from assay.core.errors import unknown
from assay.core.rng import example_keys
from assay.data.source import Examples, Source, in_memory, padded
from assay.models.model import Vocabulary
from assay.tasks.prompts import prompts
from assay.tasks.published import Protocol, Published
from assay.tasks.sequence import prompted, score_tokens, translation, vocabulary
from assay.tasks.task import Task, find_split

WORDS = ("walk", "look", "run", "jump", "turn", "left", "right", "opposite", "around", "twice", "thrice", "and", "after")
ACTIONS = ("I_WALK", "I_LOOK", "I_RUN", "I_JUMP", "I_TURN_LEFT", "I_TURN_RIGHT")
CUTOFF = SCAN["cutoff"]  # for `length`: number of actions of the longest training answer
END = len(ACTIONS)  # class that ends an answer; the decoder begins with the id after it
LONGEST_COMMAND = 9
LONGEST_ANSWER = 49  # with END
DEFAULTS = SCAN
SPLITS = ("train", "test")  # and valid, if a share of the training pairs is held out
PRIMITIVE_SHARE = 0.1  # share of the lines of the jump and turn_left training sets
ABOUT = {
    "simple": "a command -> its actions; a random 80/20",
    "length": "a command -> its actions; longer answers in test",
    "jump": "a command -> its actions; `jump` only alone in training",
    "turn_left": "a command -> its actions; `turn left` only alone in training",
}

LAYOUTS: Mapping[str, Mapping[str, Any]] = {  # keys of Task
    "translation": {
        "vocabulary": Vocabulary(len(WORDS), len(ACTIONS) + 1),
        "encode": partial(translation, begin=END + 1, source_width=LONGEST_COMMAND),
        "width": lambda length: length,
        "read": lambda answers, batch: _actions(answers),
    },
    "prompted": {
        "vocabulary": vocabulary(len(WORDS), len(ACTIONS) + 1),
        "encode": partial(prompted, empty=len(WORDS)),
        "width": lambda length: LONGEST_COMMAND + length,
        "answer_to_input": len(WORDS) + 1,
        "read": lambda answers, batch: _actions(answers[int(np.argmax(batch["mask"] > 0)) :]),
    },
}

Pair = tuple[str, str]  # command, actions; words joined by single spaces


SHIFTS = {  # how commands of `test` differ
    "scan/length": "longer answers",
    "scan/jump": "commands with a verb seen only alone in training",
    "scan/turn_left": "`turn left` in new commands",
}


@dataclass(frozen=True)
class ScanConfig:
    name: str  # scan/simple, scan/length, scan/jump, scan/turn_left
    valid_share: float  # share of the training pairs held out for validation; 0: none, as in the paper
    layout: str = "translation"  # translation: for encoder_decoder; prompted: a decoder-only model reads the command and continues
    cutoff: int = CUTOFF  # scan/length: actions of the longest training answer; fewer leave lengths for validation

    def __post_init__(self):
        if self.layout not in LAYOUTS:
            raise unknown("layout", self.layout, LAYOUTS, "--config.task.layout")
        require(0.0 <= self.valid_share < 1.0, "task.valid_share", self.valid_share, "a share in [0, 1)")
        require(1 <= self.cutoff <= CUTOFF, "task.cutoff", self.cutoff, f"actions from 1 to {CUTOFF}")
        standard = self.cutoff == CUTOFF or self.name == "scan/length"
        require(standard, "task.cutoff", self.cutoff, f"{CUTOFF}, since {self.name} is not split by length")


def build(config: ScanConfig, seed: int) -> Task:
    """Builds the task. Its splits do not depend on the run's seed."""
    del seed
    train, test = split(config.name.removeprefix("scan/"), config.cutoff)
    held = _held_out(train, config.valid_share)
    parts = {"train": [pair for pair in train if pair not in held], "valid": [pair for pair in train if pair in held], "test": test}
    sources = {name: partial(_source, name, tuple(pairs)) for name, pairs in parts.items() if pairs}

    return Task(
        name=config.name,
        **LAYOUTS[config.layout],
        splits=tuple(sources),
        source=lambda name: find_split(sources, name)(),
        score=partial(score_tokens, metrics=("exact_match", "token_accuracy")),
        metrics=("exact_match", "token_accuracy", "forced_token_accuracy", "bleu"),
        chance=1.0 / (len(ACTIONS) + 1),
        shown="test",
        free_running=1,
        shifted=SHIFTS.get(config.name, ""),
        published=published(config.name.removeprefix("scan/")) if config.cutoff == CUTOFF else (),
        symbols=WORDS,
        classes=(*ACTIONS, "END"),
        asked=partial(prompts, name=config.name, symbols=WORDS, room=lambda tokens: (LONGEST_ANSWER, LONGEST_ANSWER), most=LONGEST_COMMAND),
    )


def pairs() -> list[Pair]:
    """Returns all 20,910 commands with their actions."""
    single = [(command, actions) for verb, act in _verbs() for command, actions in _repeated(verb, act)]
    joined = [(f"{a} and {b}", f"{x} {y}") for a, x in single for b, y in single]
    swapped = [(f"{a} after {b}", f"{y} {x}") for a, x in single for b, y in single]
    return single + joined + swapped


@cache
def split(name: str, cutoff: int = CUTOFF) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Returns the (training lines, test lines) of a split; training lines of jump and turn_left repeat the primitive, as published."""
    every = pairs()
    if name == "simple":
        order = np.argsort(example_keys("scan/simple", 0, np.arange(len(every))))
        cut = len(every) * 4 // 5
        return tuple(every[i] for i in order[:cut]), tuple(every[i] for i in order[cut:])
    if name == "length":
        short = [pair for pair in every if pair[1].count(" ") < cutoff]
        return tuple(short), tuple(pair for pair in every if pair[1].count(" ") >= cutoff)
    primitive = {"jump": ("jump", "I_JUMP"), "turn_left": ("turn left", "I_TURN_LEFT")}[name]
    others = [pair for pair in every if primitive[0] not in pair[0]]
    copies = round(len(others) * PRIMITIVE_SHARE / (1 - PRIMITIVE_SHARE))
    tested = tuple(pair for pair in every if primitive[0] in pair[0] and pair != primitive)
    return (*others, *(primitive,) * copies), tested


# -- published cells --------------------------------------------------------------------------------------------------------

PAPER = "Lake and Baroni 2018 (arXiv 1711.00350)"
STATED = {
    "model.depth": (2,),
    "model.width": (200,),
    "model.dropout": (0.5,),
    "task.layout": ("translation",),
    "optimizer.name": ("adam",),
    "optimizer.learning_rate": (1e-3,),
    "optimizer.clip_norm": (5.0,),
    "train.steps": (100_000,),
    "train.batch_size": (1,),
}
LSTM = "LSTM without attention"
FED_BACK = "half of its training steps feed back its own answers"
SWEEP = "the architecture that is best on this split, of a sweep"
RANDOM = "another random 80/20 split"
NEEDS = {"task.cutoff": (CUTOFF,)}
_CELLS: Mapping[str, tuple[float, float, str]] = {  # the overall best model, the best architecture for the split, and which that is
    "simple": (0.997, 0.998, ""),
    "length": (0.138, 0.208, "a GRU of width 50 with attention"),
    "jump": (0.0008, 0.012, ""),
    "turn_left": (0.900, 0.903, ""),
}


def published(name: str) -> tuple[Published, ...]:
    """Returns the published cells of a split: exact match, the mean of 5 runs."""
    overall, best, which = _CELLS[name]
    data = "; ".join([FED_BACK, *([RANDOM] if name == "simple" else [])])
    words = f"{SWEEP}: {which}" if which else f"{SWEEP}, not named here"
    trained = {key: STATED[key] for key in ("train.steps", "train.batch_size")}
    common: Mapping[str, Any] = {"split": "test", "metric": "exact_match", "spread": None, "statistic": "mean", "tag": "V", "needs": NEEDS}
    one = Protocol(LSTM, "the training lines", "5 runs", data=data, stated=STATED)
    other = one._replace(model=words, stated=trained)
    return (
        Published(("lstm",), value=overall, source=f"{PAPER}, 2-layer LSTM", protocol=one, **common),
        # the best architecture has parts that no model here has
        Published((), value=best, source=f"{PAPER}, best architecture", protocol=other, **common),
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _verbs() -> list[Pair]:
    verbs = []
    for word, act in (*zip(WORDS[:4], ACTIONS[:4], strict=True), ("turn", "")):
        if act:
            verbs.append((word, act))
        for side in ("left", "right"):
            turn = f"I_TURN_{side.upper()}"
            verbs.append((f"{word} {side}", f"{turn} {act}".strip()))
            verbs.append((f"{word} opposite {side}", f"{turn} {turn} {act}".strip()))
            verbs.append((f"{word} around {side}", " ".join([f"{turn} {act}".strip()] * 4)))
    return verbs


def _repeated(command: str, actions: str) -> list[Pair]:
    return [(command, actions), (f"{command} twice", f"{actions} {actions}"), (f"{command} thrice", f"{actions} {actions} {actions}")]


def _held_out(train: tuple[Pair, ...], share: float) -> set[Pair]:
    different = [pair for pair, copies in Counter(train).items() if copies == 1]
    order = np.argsort(example_keys("scan/valid", 0, np.arange(len(different))))
    return {different[i] for i in order[: int(share * len(different))]}


@cache
def _source(name: str, lines: tuple[Pair, ...]) -> Source:
    inputs, input_length = padded([[WORDS.index(word) for word in command.split()] for command, _ in lines])
    targets, target_length = padded([[*(ACTIONS.index(action) for action in actions.split()), END] for _, actions in lines])
    ids = np.arange(len(lines))

    def describe(examples: Examples, i: int) -> dict[str, Any]:
        command, actions = lines[int(examples.id[i]) % len(lines)]
        return {"input": command, "target": actions}

    return in_memory(name, Examples(ids, target_length, inputs, input_length, targets, target_length, target_length), describe)


def _actions(answers: np.ndarray) -> str:
    """Returns the actions before the first end."""
    ends = np.flatnonzero(answers == END)
    return " ".join(ACTIONS[i] for i in answers[: ends[0] if len(ends) else None].tolist())
