"""Augmentation by recombination: training also sees pairs that are made of parts of others (Andreas 2020, arXiv 1904.09545).

    --config.treatments=recombine                          words that stand in for each other are exchanged, as `jump` and `walk` in SCAN
    --config.treatments=recombine:of=phrases,longest=48    phrases stand in for each other, in answers longer than any that training has

What is alike is read off the training pairs (assay.data.recombine), and no grammar is given. Some pairs that are made may be pairs of the
test split: what is measured is what the assumption is worth that tokens and phrases which are alike once are alike everywhere.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from assay.core.errors import UserError
from assay.data.recombine import Pair, exchanges, substitutions, tokens_of, written
from assay.data.source import Examples, Source, in_memory, padded
from assay.tasks.task import Task
from assay.train.treatment import Treatment
from assay.treatments.option import KEY, check

OF = ("words", "phrases")
LARGEST = 10_000_000  # pairs times the tokens of the longest input and answer: SCAN has half as many, and takes seconds


def recombine(of: str = "words", draws: int = 0, longest: int = 0) -> Treatment:
    """`draws`: how many pairs are made, those of phrases before the same ones are joined; 0: as many as the split has. `longest`: tokens of
    the longest answer made of phrases, its end not counted; 0: twice the longest of training."""
    check(of in OF, "recombine", "of", of, f"it is one of {', '.join(OF)}")
    check(draws >= 0, "recombine", "draws", draws, "a number of pairs, or 0 for as many as there are")
    check(longest >= 0, "recombine", "longest", longest, "tokens of an answer, or 0 for twice the longest")

    def more_pairs(task: Task) -> Task:
        plain = task.source

        @cache
        def source(split: str) -> Source:
            return recombined(plain(split), of, draws, longest) if split == "train" else plain(split)

        return replace(task, source=source)

    return Treatment(task=more_pairs, name="recombine")


def recombined(source: Source, of: str, draws: int, longest: int) -> Source:
    """The split with the pairs that are made of it after its own. Raises UserError for one that does not end, has no tokens to read and
    write, or has no parts that are alike."""
    if source.size is None:
        raise UserError(f"the treatment recombine compares all training pairs, and {source.name!r} does not end. {KEY}")
    first = source.fetch(np.arange(1))
    if source.size * first.input[0].size * first.target[0].size > LARGEST:
        raise UserError(
            f"the treatment recombine compares all training pairs, and the {source.size:,} of {source.name!r} are too many or too long: "
            f"pairs x tokens of an input x tokens of an answer are above {LARGEST:,}. {KEY}"
        )
    every = source.fetch(np.arange(source.size))
    if every.input.ndim != 2 or (every.length != every.target_length).any() or (every.slots != every.target_length).any():
        raise UserError(
            f"the treatment recombine needs inputs and answers of tokens, whose length is the answer's, unlike {source.name!r}. {KEY}"
        )
    pairs, end = as_pairs(every)
    longest = longest or 2 * max(len(answer) for _, answer in pairs)
    made = exchanges(pairs, draws or len(pairs), 0) if of == "words" else substitutions(pairs, draws or len(pairs), longest, 0)
    if not made:
        raise UserError(f"the treatment recombine finds no {of} in {source.name!r} that stand in for each other. {KEY}")
    given, given_length = padded([tokens_of(pair[0]) for pair in (*pairs, *made)])
    answer, answer_length = padded([tokens_of(pair[1] + end) for pair in (*pairs, *made)])
    ids = np.arange(len(given))
    return in_memory(source.name, Examples(ids, answer_length, given, given_length, answer, answer_length, answer_length))


def as_pairs(examples: Examples) -> tuple[list[Pair], str]:
    """Inputs and answers, and the token that ends all answers, which these lack then."""
    given, answers = _rows(examples.input, examples.input_length), _rows(examples.target, examples.target_length)
    ends = {answer[-1:] for answer in answers}
    end = ends.pop() if len(ends) == 1 and min(map(len, answers)) > 1 else ""
    return [(one, answer[: len(answer) - len(end)]) for one, answer in zip(given, answers, strict=True)], end


# -- private --------------------------------------------------------------------------------------------------------------


def _rows(tokens: np.ndarray, lengths: np.ndarray) -> Sequence[str]:
    return [written(row[:length]) for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
