"""Data augmentation by recombination: training also sees new pairs composed of parts of others (Andreas 2020, arXiv 1904.09545).

    --config.treatments=recombine                          exchanges interchangeable words, such as `jump` and `walk` in SCAN
    --config.treatments=recombine:of=phrases,longest=48    exchanges phrases, also into answers longer than any training answer

Interchangeable parts are inferred from the training pairs (assay.data.recombine); no grammar is given. Some generated pairs may also
occur in the test split. The experiment therefore measures one assumption: parts that are interchangeable once are interchangeable
everywhere.
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
LARGEST = 10_000_000  # limit of pairs x input tokens x answer tokens; SCAN has half as many and takes seconds


def recombine(of: str = "words", draws: int = 0, longest: int = 0) -> Treatment:
    """Returns the recombination treatment.

    Args:
        of: what is exchanged, `words` or `phrases`.
        draws: number of generated pairs, for phrases before deduplication; 0: the size of the split.
        longest: maximum answer length for phrases in tokens, without the end token; 0: twice the longest training answer.
    """
    check(of in OF, "recombine", "of", of, f"it must be one of {', '.join(OF)}")
    check(draws >= 0, "recombine", "draws", draws, "it must be a number of pairs, or 0 for the size of the split")
    check(longest >= 0, "recombine", "longest", longest, "it must be a number of tokens of an answer, or 0 for twice the longest")

    def more_pairs(task: Task) -> Task:
        plain = task.source

        @cache
        def source(split: str) -> Source:
            return recombined(plain(split), of, draws, longest) if split == "train" else plain(split)

        return replace(task, source=source)

    return Treatment(task=more_pairs, name="recombine")


def recombined(source: Source, of: str, draws: int, longest: int) -> Source:
    """Returns the split with the generated pairs appended.

    Raises UserError if the split is unlimited or too large, does not map tokens to tokens, or has no interchangeable parts.
    """
    if source.size is None:
        raise UserError(f"the treatment 'recombine' compares all training pairs, but {source.name!r} is unlimited. {KEY}")
    first = source.fetch(np.arange(1))
    if source.size * first.input[0].size * first.target[0].size > LARGEST:
        raise UserError(
            f"the treatment 'recombine' compares all training pairs, but the {source.size:,} of {source.name!r} are too many or too long: "
            f"pairs x input tokens x answer tokens exceeds {LARGEST:,}. {KEY}"
        )
    every = source.fetch(np.arange(source.size))
    if every.input.ndim != 2 or (every.length != every.target_length).any() or (every.slots != every.target_length).any():
        raise UserError(
            f"the treatment 'recombine' needs inputs and answers that are token sequences, with the answer's length as the example's "
            f"length, unlike {source.name!r}. {KEY}"
        )
    pairs, end = as_pairs(every)
    longest = longest or 2 * max(len(answer) for _, answer in pairs)
    made = exchanges(pairs, draws or len(pairs), 0) if of == "words" else substitutions(pairs, draws or len(pairs), longest, 0)
    if not made:
        raise UserError(f"the treatment 'recombine' finds no interchangeable {of} in {source.name!r}. {KEY}")
    given, given_length = padded([tokens_of(pair[0]) for pair in (*pairs, *made)])
    answer, answer_length = padded([tokens_of(pair[1] + end) for pair in (*pairs, *made)])
    ids = np.arange(len(given))
    return in_memory(source.name, Examples(ids, answer_length, given, given_length, answer, answer_length, answer_length))


def as_pairs(examples: Examples) -> tuple[list[Pair], str]:
    """Returns (input, answer) pairs and the common end token.

    If every answer ends with the same token, it is removed from the answers and returned; otherwise the end token is "".
    """
    given, answers = _rows(examples.input, examples.input_length), _rows(examples.target, examples.target_length)
    ends = {answer[-1:] for answer in answers}
    end = ends.pop() if len(ends) == 1 and min(map(len, answers)) > 1 else ""
    return [(one, answer[: len(answer) - len(end)]) for one, answer in zip(given, answers, strict=True)], end


# -- private --------------------------------------------------------------------------------------------------------------


def _rows(tokens: np.ndarray, lengths: np.ndarray) -> Sequence[str]:
    return [written(row[:length]) for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
