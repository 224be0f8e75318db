"""Splits of a generated task by length: `train`, `valid` and `iid` have the training lengths, and any range FIRST-LAST can be named.

All runs share the valid and test examples; training examples change with the run's seed. A length may also be a depth, or a number of
digits, operands or hops.
"""

from collections.abc import Callable, Sequence

from assay.config.schema import span
from assay.core.errors import UserError, unknown
from assay.data.source import Make, Source, generated

SPLIT_KEY = "--split or --config.evaluate.splits"
ROLE = {"train": "train", "valid": "valid", "iid": "test"}  # a named split's role determines its strings; a range has the test role


def by_length(
    name: str,
    splits: Sequence[str],
    lengths: tuple[int, int],
    training_seed: int,
    seed: int,
    make: Make,
    log2_inputs: Callable[[int], float],
    shared_below: float | None = None,
    longest: int = 2**31,
) -> Callable[[str], Source]:
    """Returns a function from split names to sources. `splits` are the names that errors list; `longest` is the maximum length.

    It raises UserError for a name that is neither known nor a range, and for a range beyond `longest`.
    """

    def source(split: str) -> Source:
        if split in ROLE:
            drawn = training_seed if split == "train" else seed
            return generated(name, split, ROLE[split], drawn, lengths, make, log2_inputs, shared_below)
        try:
            tested = span(split, SPLIT_KEY)
        except UserError as error:
            if split[:1].isdigit():
                raise
            known = unknown("split", split, splits, SPLIT_KEY)
            raise UserError(f"{known} Or a range such as {splits[-1]}.") from error
        if tested[1] > longest:
            raise UserError(f"{SPLIT_KEY}={split!r} reaches beyond {longest}, the longest of {name}. Name a smaller range.")
        return generated(name, f"{tested[0]}-{tested[1]}", "test", seed, tested, make, log2_inputs, shared_below)

    return source
