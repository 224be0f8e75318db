"""Treatment options: parses `key=value,key=value` according to the types of the factory's parameters.

A factory is a function such as `l1(weight: float = 1e-4, paths: str = "kernel$") -> Treatment`. Its parameters are the options, and those
without a default are required. A trailing underscore is dropped: the parameter `from_` is the option `from`. All errors name
`--config.treatments`.
"""

import inspect
import os
import re
from collections.abc import Callable
from typing import Any

from assay.core.errors import UserError
from assay.treatments.folder import folder, pieces

KEY = "Change it in --config.treatments."
GIVEN = "runs"  # factory parameter that is not an option: the readers of other runs, see runs.py
WORDS = {"true": True, "1": True, "false": False, "0": False}


def parse(name: str, factory: Callable[..., Any], text: str) -> dict[str, Any]:
    """Returns the factory's arguments. Raises UserError for an option that is unknown, missing, repeated or of the wrong type."""
    parameters = inspect.signature(factory).parameters
    taken = {key.removesuffix("_"): parameter for key, parameter in parameters.items() if key != GIVEN}
    known = f"It takes: {', '.join(taken) or 'no options'}."
    found: dict[str, Any] = {}
    for place, pair in enumerate(pieces([pair for pair in text.split(",") if pair])):
        key, equals, value = pair.partition("=")
        bare = not place and key not in taken and (not equals or os.path.isdir(folder(pair)))
        if bare and taken and (first := next(iter(taken.items())))[1].annotation is str:
            key, equals, value = first[0], "=", pair  # `quantize:int8`, `distill:runs/lr=0.1`: a string-valued first option needs no key
        if key not in taken:
            raise UserError(f"the treatment {name!r} does not take {key!r}. {known} {KEY}")
        if not equals or taken[key].name in found:
            raise UserError(f"the treatment {name!r} has {'no value for' if not equals else 'two values for'} {key!r}. {KEY}")
        found[taken[key].name] = _typed(name, key, value, taken[key].annotation)
    missing = [key for key, parameter in taken.items() if parameter.default is inspect.Parameter.empty and parameter.name not in found]
    if missing:
        raise UserError(f"the treatment {name!r} needs {', '.join(missing)}: {name}:{missing[0]}=... {known} {KEY}")
    return found


def check(condition: bool, name: str, option: str, value: object, allowed: str) -> None:
    """Raises UserError, naming the treatment's option, its value and the allowed values, unless the condition holds."""
    if not condition:
        raise UserError(f"the treatment {name!r} has {option}={value}, which is not possible: {allowed}. {KEY}")


def pattern(name: str, option: str, text: str) -> re.Pattern[str]:
    """Compiles a path regex. Raises UserError if it is invalid."""
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"the treatment {name!r} has {option}={text}, which is not a regular expression: {error}. {KEY}") from None


def _typed(name: str, key: str, text: str, kind: Any) -> Any:
    try:
        if kind is bool:
            return WORDS[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        raise UserError(f"the treatment {name!r} has {key}={text}, which is not of type {kind.__name__}. {KEY}") from None
