"""p-hop induction: from the last token, hop to the token after the latest earlier occurrence of its symbol, p times. The answer is the
symbol reached.

    hop(i) = the latest j < i with x[j - 1] = x[i];  the answer is x[hop^p(n - 1)]            a d c b a c b  ->  1 hop: a, 2 hops: d

Source: Sanford et al. 2024, arXiv 2402.09268; Saunshi et al., ICLR 2025, arXiv 2502.17416, Table 1. Inputs are constructed so that p hops
exist. The p positions have no two neighbours and are uniform among all such choices. Each symbol of the chain differs from the previous
one, and the random symbols around the chain match nothing closer. No position of the chain follows its own symbol, so it does not matter
whether j = i counts. The answer is read at the last token. The input does not encode the number of hops: a model learns a fixed number.

Splits: `train`, `valid`, `iid`; `512` is length 512 with the same hops, and `hops-24` has 24 hops at the training length, for models that
are given more loops. Splits share the inputs of settings with at most 2**10 inputs; otherwise each string belongs to one split role.
"""

import math
import re
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.config.generated import P_HOP
from assay.config.schema import LONGEST, require
from assay.core.errors import UserError, unknown
from assay.core.rng import integers
from assay.data.source import Source, generated
from assay.models.model import Vocabulary
from assay.tasks.lengths import SPLIT_KEY
from assay.tasks.prompts import numbers, prompts
from assay.tasks.published import PLAIN, Protocol, Published
from assay.tasks.sequence import answer_inside, last_token, score_tokens
from assay.tasks.task import Task

SHARED_BELOW = 10  # an eighth of 2**10 strings is enough to draw from
METRICS = ("answer_accuracy",)
DEFAULTS = P_HOP
SPLITS = ("train", "valid", "iid", "128", "hops-8")
ABOUT = {"p_hop": "symbols -> the one reached by p hops, each to what followed the same symbol before"}


@dataclass(frozen=True)
class PHopConfig:
    name: str  # recall/p_hop
    hops: int  # 16 or 32 in the paper
    length: int  # tokens per training input; 256 in the paper
    alphabet: int  # number of symbols; 4 in the paper
    seed: int  # seed of the valid and test examples: must be the same for all runs being compared

    def __post_init__(self):
        require(self.alphabet >= 3, "task.alphabet", self.alphabet, "at least 3 symbols: with two, the last token determines the answer")
        require(self.hops >= 1, "task.hops", self.hops, "it must be at least 1")
        allowed = f"a number of tokens, from 2 * config.task.hops + 1 to {LONGEST:,}"
        require(shortest(self.hops) <= self.length <= LONGEST, "task.length", self.length, allowed)
        require(self.seed >= 0, "task.seed", self.seed, "a non-negative integer")


def build(config: PHopConfig, seed: int) -> Task:
    """Builds the task; `seed` draws its training examples."""
    longer, further = str(2 * config.length), f"hops-{2 * config.hops}"
    splits = ("train", "valid", "iid", longer, *([further] if shortest(2 * config.hops) <= config.length else []))

    def source(split: str) -> Source:
        length, hops, role = config.length, config.hops, {"train": "train", "valid": "valid", "iid": "test"}.get(split, "")
        if not role:
            length, hops = _named(split, config, splits)
            split, role = f"hops-{hops}" if split.startswith("hops") else str(length), "test"
        make, size = partial(generate, hops=hops, alphabet=config.alphabet), partial(_log2_inputs, hops, config.alphabet)
        drawn = seed if role == "train" else config.seed
        return generated(config.name, split, role, drawn, (length, length), make, size, SHARED_BELOW)

    return Task(
        name=config.name,
        recalls=True,
        vocabulary=Vocabulary(config.alphabet, config.alphabet),
        splits=splits,
        source=source,
        encode=lambda examples, width: answer_inside(examples, width, last_token(examples)),
        width=lambda length: length,
        score=partial(score_tokens, metrics=METRICS),
        metrics=METRICS,
        chance=1.0 / config.alphabet,
        published=published(config),
        asked=partial(prompts, name=config.name, symbols=numbers(config.alphabet), room=lambda tokens: (len(tokens), 1)),
    )


def generate(keys: np.ndarray, length: int, hops: int, alphabet: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns inputs [n, length], answers [n, 1], and how many count."""
    rows = np.arange(len(keys))[:, None]
    # Choose p of fewer positions and spread them by one each: p positions without neighbours, in ascending order; the first is not 0.
    subset = np.argsort(integers(keys, "places", length - 1 - hops, 1 << 32), axis=1, kind="stable")[:, :hops]
    places = np.sort(subset, axis=1) + np.arange(1, hops + 1)
    # The chain from the right: the last token's symbol, then that of each position, different from the previous one.
    steps = np.concatenate([integers(keys, "last", 1, alphabet), 1 + integers(keys, "chain", hops, alphabet - 1)], axis=1)
    chain = np.cumsum(steps, axis=1) % alphabet
    # Between a position and the next token of the chain, that token's symbol would be a closer match; left of all positions nothing would.
    passed = np.zeros((len(keys), length), np.int64)
    passed[rows, places] = 1
    passed = np.cumsum(passed, axis=1)
    free = passed == 0
    drawn = (integers(keys, "filling", length, 1 << 32) * (alphabet - 1 + free)) >> 32
    tokens = np.where(free, drawn, (chain[rows, hops - passed] + 1 + drawn) % alphabet)
    tokens[rows, places] = chain[:, :0:-1]
    tokens[rows, places - 1] = chain[:, -2::-1]
    tokens[:, -1] = chain[:, 0]
    return tokens.astype(np.int32), chain[:, -1:].astype(np.int32), np.ones(len(keys), np.int64)


def shortest(hops: int) -> int:
    """Returns the tokens of the shortest input with `hops` hops."""
    return 2 * hops + 1


# -- published cells --------------------------------------------------------------------------------------------------------
# Table 1: layers, loops, and the accuracies at 16 and 32 hops.

PAPER = "Saunshi et al. 2025 (arXiv 2502.17416), Table 1, ({depth} x {loops})"
DATA = "4,000,000 training examples, ours unlimited"
STATED = {
    "model.width": (128,),
    "model.heads": (8,),
    "model.mlp": (512,),
    "optimizer.name": ("adafactor",),
    "optimizer.learning_rate": (1e-3,),
    "train.steps": (200_000,),
    "train.batch_size": (256,),
}
LENGTH, ALPHABET = 256, 4
HOPS = (16, 32)
_CELLS: dict[tuple[int, int], tuple[float, float]] = {
    (6, 1): (0.999, 0.996),
    (1, 1): (0.489, 0.490),
    (1, 6): (0.999, 0.995),
    (2, 1): (0.688, 0.594),
    (2, 3): (0.999, 0.998),
    (3, 1): (0.972, 0.730),
    (3, 2): (0.999, 0.995),
}


def published(config: PHopConfig) -> tuple[Published, ...]:
    """Returns the published cells of this setting; empty except for the paper's own settings."""
    if (config.length, config.alphabet) != (LENGTH, ALPHABET) or config.hops not in HOPS:
        return ()
    return cells(config.hops)


def cells(hops: int) -> tuple[Published, ...]:
    """Returns the published cells of 16 or 32 hops."""
    found = []
    data = {"task.length": (LENGTH,), "task.alphabet": (ALPHABET,), "task.hops": (hops,)}
    for (depth, loops), values in _CELLS.items():
        value, source = values[HOPS.index(hops)], PAPER.format(depth=depth, loops=loops)
        model = {"model.depth": (depth,), "model.loops": (loops,), "model.test_loops": (0, loops)}
        needs = {**data, **PLAIN, **model, "model.positions": ("rotary",), "model.randomised": (0,)}
        words = f"Transformer decoder, {depth} block{'s' if depth > 1 else ''} {f'applied {loops} times' if loops > 1 else 'applied once'}"
        protocol = Protocol(f"{words}, rotary positions", f"{hops} hops in {LENGTH} tokens", data=DATA, stated=STATED)
        found.append(Published(("decoder",), "iid", METRICS[0], value, None, "mean", source, "V", needs=needs, protocol=protocol))
    return tuple(found)


# -- private --------------------------------------------------------------------------------------------------------------


def _named(split: str, config: PHopConfig, splits: tuple[str, ...]) -> tuple[int, int]:
    """Parses length and hops of a split such as 512 or hops-24."""
    found = re.fullmatch(r"(hops-)?(\d+)", re.sub(r"^(\d+)-\1$", r"\1", split))  # 512-512 is 512
    if not found:
        known = unknown("split", split, splits, SPLIT_KEY)
        raise UserError(f"{known} Or a length such as 512, or a number of hops such as hops-24; a range is not a split.")
    number = int(found[2])
    length, hops = (config.length, number) if found[1] else (number, config.hops)
    if hops < 1 or not shortest(hops) <= length <= LONGEST:
        raise UserError(
            f"the split {split!r} is not possible: it needs at least one hop, and {hops} hops need {shortest(hops)} to {LONGEST:,} tokens, "
            f"not {length}. Choose another with {SPLIT_KEY}, or change config.task.length."
        )
    return length, hops


def _log2_inputs(hops: int, alphabet: int, length: int) -> float:
    """Returns a lower bound: it ignores that the tokens left of all positions may be any symbol."""
    places = math.log2(math.comb(length - 1 - hops, hops))
    return places + math.log2(alphabet) + (length - 1 - hops) * math.log2(alphabet - 1)
