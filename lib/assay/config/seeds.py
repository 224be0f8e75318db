"""Seeds and names of the runs of a study."""

from collections.abc import Sequence

from assay.config.files import experiment_name
from assay.core.errors import UserError


def label(spec: str) -> str:
    """The name of a config in a study: its variant, or its file's stem."""
    name = experiment_name(spec) if ".py" in spec else spec
    return (name.rpartition(":")[2] if ":" in name else name.rpartition("/")[2]).replace(",", "-")


def seeds_of(text: str) -> list[int]:
    """`0:4` -> 0 to 4, both included; `0,2` -> 0 and 2. Raises UserError."""
    try:
        first, colon, last = text.partition(":")
        seeds = list(range(int(first), int(last) + 1)) if colon else [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise UserError(f"--seeds={text!r} names no seeds. Write FIRST:LAST, both included, such as 0:4, or a list such as 0,2.")
    return sorted(set(seeds))


def seeds_text(seeds: Sequence[int]) -> str:
    consecutive = len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}:{seeds[-1]}" if consecutive else ",".join(map(str, seeds))
