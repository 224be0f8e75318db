"""Augmentation by recombination (Andreas 2020, "Good-enough compositional data augmentation", arXiv 1904.09545, for single tokens).

Two training pairs that differ by one input token and one target token, such as `walk -> I_WALK` and `jump -> I_JUMP`, show that these can
stand in for each other. Training then sees its pairs with such tokens exchanged: with probability `share`, each group of tokens that stand
in for each other is permuted at random, in the input and in the target alike. The pairs that are so made are right as far as tokens that
are alike once are alike everywhere, and some may be pairs of the test split: what is measured is what this assumption is worth.

    --config.treatments=recombine
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from assay.core.errors import UserError
from assay.core.rng import example_keys, integers
from assay.data.source import Examples, Source
from assay.tasks.task import Task
from assay.train.treatment import Treatment
from assay.treat.option import KEY, check

Word = tuple[int, int]  # an input token, and the target token that goes with it
BLANK = -1


def recombine(share: float = 0.5) -> Treatment:
    check(0 < share <= 1, "recombine", "share", share, "a probability above 0, at most 1")

    def more_pairs(task: Task) -> Task:
        plain = task.source
        return replace(task, source=lambda split: recombined(plain(split), share) if split == "train" else plain(split))

    return Treatment(task=more_pairs, name="recombine")


def recombined(source: Source, share: float) -> Source:
    """The split whose example i has its tokens exchanged by a draw that depends on i alone, another one in every epoch.

    Raises UserError for a split that does not end, or that holds no two pairs which differ by one token each.
    """
    if source.size is None:
        raise UserError(
            f"the treatment recombine compares all training pairs, and {source.name!r} does not end. Change --config.task.name or {KEY}"
        )
    every = source.fetch(np.arange(source.size))
    if every.input.ndim != 2:
        raise UserError(f"the treatment recombine exchanges tokens, and {source.name!r} has none. Change --config.task.name or {KEY}")
    groups = exchangeable(every)
    if not groups:
        raise UserError(
            f"the treatment recombine finds no two training pairs of {source.name!r} that differ by one input token and one target token, "
            f"so there is nothing to exchange. {KEY}"
        )
    inputs, targets = int(every.input.max()) + 1, int(every.target.max()) + 1

    def fetch(indices: np.ndarray) -> Examples:
        examples = source.fetch(indices)
        keys = example_keys(f"recombine/{source.name}", 0, indices)
        changed = integers(keys, "share", 1, 1 << 30)[:, 0] < share * (1 << 30)
        words, classes = np.tile(np.arange(inputs), (len(keys), 1)), np.tile(np.arange(targets), (len(keys), 1))
        for place, group in enumerate(groups):
            order = np.argsort(integers(keys, f"group {place}", len(group), 1 << 31), axis=1)
            order = np.where(changed[:, None], order, np.arange(len(group)))
            words[:, [word for word, _ in group]] = np.array([word for word, _ in group])[order]
            classes[:, [one for _, one in group]] = np.array([one for _, one in group])[order]
        return examples._replace(
            input=np.take_along_axis(words, examples.input, 1).astype(examples.input.dtype),
            target=np.take_along_axis(classes, examples.target, 1).astype(examples.target.dtype),
        )

    return replace(source, fetch=fetch)


def exchangeable(examples: Examples) -> list[list[Word]]:
    """Groups of (input token, target token) that stand in for each other, each of two or more, none of whose tokens has two partners."""
    frames: dict[tuple[tuple[int, ...], tuple[int, ...]], set[Word]] = defaultdict(set)
    for given, answer in {pair for pair in zip(_rows(examples.input, examples.input_length), _rows(examples.target, examples.target_length))}:
        for word in set(given):
            frame = tuple(BLANK if token == word else token for token in given)
            for one in set(answer):
                frames[frame, tuple(BLANK if token == one else token for token in answer)].add((word, one))
    alike: dict[Word, set[Word]] = defaultdict(set)
    for found in frames.values():
        for a in found:
            alike[a] |= {b for b in found if a[0] != b[0] and a[1] != b[1]}
    return [group for group in _components(alike) if len(group) > 1]


# -- private --------------------------------------------------------------------------------------------------------------


def _rows(tokens: np.ndarray, lengths: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(row[:length]) for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]


def _components(alike: dict[Word, set[Word]]) -> list[list[Word]]:
    """Connected words, in order; what is linked to two partners is left out, since an exchange would not be one to one."""
    linked = [word for word in sorted(alike) if alike[word]]
    for side in (0, 1):
        tokens: Sequence[int] = [word[side] for word in linked]
        linked = [word for word in linked if tokens.count(word[side]) == 1]
    left, groups = set(linked), []
    for word in linked:
        group, border = [], [word] if word in left else []
        left.discard(word)
        while border:
            group.append(border.pop())
            near = alike[group[-1]] & left
            left -= near
            border += sorted(near)
        groups.append(sorted(group))
    return groups
