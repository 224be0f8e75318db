"""Seeds and variant names of the runs of a study."""

from collections.abc import Sequence

from assay.config.files import experiment_name
from assay.core.errors import UserError


def label(spec: str) -> str:
    """Returns the name of a config in a study: its variant, or the stem of its file."""
    name = experiment_name(spec) if ".py" in spec else spec
    return (name.rpartition(":")[2] if ":" in name else name.rpartition("/")[2]).replace(",", "-")


def seeds_of(text: str) -> list[int]:
    """Parses seeds: `0:4` -> 0 to 4, both inclusive; `0,2` -> 0 and 2. Raises UserError for invalid text."""
    try:
        first, colon, last = text.partition(":")
        seeds = list(range(int(first), int(last) + 1)) if colon else [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise UserError(f"--seeds={text!r} contains no valid seeds. Write FIRST:LAST, both inclusive, such as 0:4, or a list such as 0,2.")
    return sorted(set(seeds))


def seeds_text(seeds: Sequence[int]) -> str:
    """Formats seeds in the format that `seeds_of` parses."""
    consecutive = len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}:{seeds[-1]}" if consecutive else ",".join(map(str, seeds))
