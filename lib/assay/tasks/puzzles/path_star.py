"""Path-star graphs: arms of equal length start at one node, and the task is the path to the end of one of them.

    4 9 | 2 7 | 2 4 | 7 5 / 2 5 _  ->  2 7 5        edges in any order / start, goal; `_` is EMPTY, the `=`

Source: Bachmann and Nagarajan, "The Pitfalls of Next-Token Prediction", 2024, arXiv 2403.06963. As in the paper's code, a node is one token
and there are no comma tokens. The answer begins with the start, and `path_length` counts its nodes; the training set is finite. Trained
left to right, a model learns to follow an edge once it is on an arm. It guesses the first edge, and therefore gets 1 / degree of the paths.
From the goal backwards (--config.treatments=reverse), each step has a single edge.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.config.generated import PATH_STAR
from assay.config.schema import require
from assay.core.rng import integers
from assay.data.source import Source, finite, generated
from assay.tasks.prompts import prompts
from assay.tasks.sequence import prompted, score_tokens, vocabulary
from assay.tasks.task import Task, find_split

SHARED_BELOW = 10  # bits: an eighth of 2**10 strings is enough to draw from; the paper's setting has more than 2**60
SCORES = ("exact_match", "token_accuracy")
DEFAULTS = PATH_STAR
SPLITS = ("train", "valid", "test")
ABOUT = {"path_star": "the edges of a star, its centre and the end of an arm -> the path from one to the other"}


@dataclass(frozen=True)
class PathStarConfig:
    name: str  # path_star
    degree: int  # number of arms
    path_length: int  # nodes from the start to the end of an arm, both included
    nodes: int  # number of node ids to draw from
    train_size: int  # training examples, generated on request; 0: always new ones
    test_size: int  # test examples; valid has a tenth as many
    seed: int  # seed of the valid and test examples: must be the same for all runs being compared

    def __post_init__(self):
        require(self.degree >= 2, "task.degree", self.degree, "at least 2 arms")
        require(self.path_length >= 2, "task.path_length", self.path_length, "at least 2 nodes, the start and the goal")
        least = 1 + self.degree * (self.path_length - 1)
        require(self.nodes >= least, "task.nodes", self.nodes, f"at least {least}, the nodes of one example")
        require(self.train_size >= 0, "task.train_size", self.train_size, "a number of examples, or 0 for always new ones")
        require(self.test_size >= 1, "task.test_size", self.test_size, "it must be at least 1")
        require(self.seed >= 0, "task.seed", self.seed, "a non-negative integer")


def build(config: PathStarConfig, seed: int) -> Task:
    """Builds the task; `seed` draws its training examples."""
    degree, length, nodes = config.degree, config.path_length, config.nodes
    make = partial(stars, degree=degree, nodes=nodes)
    size = partial(log2_inputs, degree=degree, nodes=nodes)

    def source(split: str, role: str, drawn: int, examples: int) -> Source:
        name = f"path_star/{degree}/{nodes}"
        endless = generated(name, split, role, drawn, (length, length), make, size, SHARED_BELOW)
        return finite(endless, examples) if examples else endless

    sources = {
        "train": partial(source, "train", "train", seed, config.train_size),
        "valid": partial(source, "valid", "valid", config.seed, -(-config.test_size // 10)),
        "test": partial(source, "test", "test", config.seed, config.test_size),
    }
    separators = ("|", "/")
    inputs = nodes + len(separators)
    symbols = (*map(str, range(nodes)), *separators)

    def room(tokens: list[int]) -> tuple[int, int]:
        if len(tokens) != prompt_length(length, degree):
            raise ValueError(f"it has {len(tokens)} tokens; a star of {degree} paths of {length} nodes has {prompt_length(length, degree)}")
        return length, length

    return Task(
        name=config.name,
        vocabulary=vocabulary(inputs, nodes),
        splits=SPLITS,
        source=lambda name: find_split(sources, name)(),
        encode=partial(prompted, empty=inputs),
        width=lambda length: prompt_length(length, degree) + length,
        score=partial(score_tokens, metrics=SCORES),
        metrics=(SCORES[0], "verified", *SCORES[1:], "forced_token_accuracy"),
        chance=1.0 / nodes,
        shown="test",
        free_running=1,
        answer_to_input=inputs + 1,
        note=f"guessing the first edge and following the others gives an exact match of 1/{degree}",
        symbols=symbols,
        classes=tuple(map(str, range(nodes))),
        asked=partial(prompts, name=config.name, symbols=symbols, room=room),
        verify=lambda record: verify(record["input"], record["prediction"]),
    )


def stars(keys: np.ndarray, length: int, degree: int, nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns prompts [n, prompt_length], paths [n, length] from the start, and how many nodes count: all. `|` has id `nodes`, `/` the
    next.
    """
    order = integers(keys, "nodes", nodes, 2**32).argsort(axis=1, kind="stable")
    start, others = order[:, :1], order[:, 1 : 1 + degree * (length - 1)].reshape(len(keys), degree, length - 1)
    before = np.concatenate([np.repeat(start[:, :, None], degree, axis=1), others[:, :, :-1]], axis=2)
    edges = np.stack([before, others, np.full_like(others, nodes)], axis=3).reshape(len(keys), degree * (length - 1), 3)
    shuffled = integers(keys, "edges", edges.shape[1], 2**32).argsort(axis=1, kind="stable")
    prompt = np.take_along_axis(edges, shuffled[:, :, None], axis=1).reshape(len(keys), -1)
    prompt[:, -1] = nodes + 1
    path = np.concatenate([start, others[:, 0]], axis=1)  # the shuffled edges do not reveal which arm it is
    return np.concatenate([prompt, start, path[:, -1:]], axis=1), path, np.full(len(keys), length)


def prompt_length(length: int, degree: int) -> int:
    """Returns the tokens of a prompt without its `=`: three per edge, the start and the goal."""
    return 3 * degree * (length - 1) + 2


def log2_inputs(length: int, degree: int, nodes: int) -> float:
    """Returns log2 of the number of prompts: a start and arms, and all edges in any order; the order of the other arms does not count."""
    edges = degree * (length - 1)
    choices = math.lgamma(nodes + 1) - math.lgamma(nodes - edges)
    return (choices + math.lgamma(edges + 1) - math.lgamma(degree)) / math.log(2)


def verify(prompt: Sequence[int] | np.ndarray, answer: Sequence[int] | np.ndarray) -> bool:
    """Returns True if the answer is a path from the start to the goal along edges of the prompt, in their direction."""
    tokens, path = [int(token) for token in prompt], [int(node) for node in answer]
    if len(tokens) < 5 or len(tokens) % 3 != 2 or not path:
        return False
    *_, start, goal = tokens
    edges = set(zip(tokens[:-2:3], tokens[1:-2:3], strict=True))
    return path[0] == start and path[-1] == goal and all(edge in edges for edge in itertools.pairwise(path))
