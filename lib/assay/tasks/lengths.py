"""The splits of a generated task by length: `train`, `valid` and `iid` have the training lengths, and any range FIRST-LAST can be named.

The same valid and test examples meet every run; training examples change with the run's seed. A length may be a depth or a number of
digits, of operands or of hops.
"""

from collections.abc import Callable, Sequence

from assay.config.schema import span
from assay.core.errors import UserError, unknown
from assay.data.source import Make, Source, generated

SPLIT_KEY = "--split or --config.evaluate.splits"
ROLE = {"train": "train", "valid": "valid", "iid": "test"}  # which strings a split by name holds; a range holds those of test


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
    """The sources of a task by the names of their splits. `splits`: those to name in an error; `longest`: the last length that exists.

    Raises UserError for a name that is neither known nor a range, and for a range that reaches beyond `longest`.
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
            raise UserError(f"{SPLIT_KEY}={split!r} reaches beyond {longest}, the last that {name} has. Name a smaller range.")
        return generated(name, f"{tested[0]}-{tested[1]}", "test", seed, tested, make, log2_inputs, shared_below)

    return source
