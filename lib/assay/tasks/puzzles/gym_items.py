"""Items of reasoning-gym by family (Stojanovski et al. 2025, arXiv 2505.24760): drawn, verified, and cached on disk if drawing is slow.

The library draws item i of a data set from the seed `seed + i`, so two data sets with close seeds share nearly all of their items. Here
each (split, seed) has its own block of BLOCK seeds. An item is a mapping with `question`, `answer` and `metadata`.

An answer is correct if the family's verifier scores it exactly 1.0; verifiers also give partial scores to wrong answers.
"""

import ast
import contextlib
import dataclasses
import hashlib
import json
import os
import pickle
import random
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from assay.core.errors import UserError, unknown

Item = Mapping[str, Any]
Options = Mapping[str, Any]

BLOCK = 2**20  # the library's seeds for one seed of ours; below 2**32 in all, since some families pass them to NumPy
BLOCKS: Mapping[str, range] = {"test": range(512), "harder": range(512, 1024), "valid": range(1024, 1536), "train": range(1536, 4096)}
NAMES = "--config.task.name"
OPTIONS = "--config.task.options"
LEFT_OUT: Mapping[str, str] = {
    "composite": "it is a mixture of the other families without items of its own",
    "codeio": "it runs unchecked programs, and its items differ between processes",
    "knight_swap": "its items differ between processes",
}
GOLD = (
    "example_answer",
    "example_correct_answer",
    "possible_answer",
)  # metadata keys of one correct answer, where there are many
# Matches an exponent that is not a number below 100, or has an exponent itself: some verifiers evaluate it, which could take hours.
TOWER = re.compile(r"\*\*(?!\s*\(?-?\d{1,2}+(/\d{1,2}+)?+\)?+(?![\d.]|\s*\*\*))")
SLOW_SECONDS = 10.0  # between progress lines; slower draws are cached

# Families that iterate over Python's sets of strings, whose order differs between processes. A child process with a fixed order draws them.
UNORDERED = (
    "intermediate_integration",
    "isomorphic_strings",
    "polynomial_multiplication",
    "ransom_note",
    "word_ladder",
)


def _same_text(answer: str, right: str) -> bool:
    return answer.strip().lower() == right.strip().lower()


def _same_number(answer: str, right: str) -> bool:
    """Returns True if the answer is within 0.01 % of the correct number."""
    try:
        given, wanted = Fraction(answer.strip()), Fraction(right)
    except (ValueError, ZeroDivisionError):
        return False
    return abs(given - wanted) <= abs(wanted) / 10_000


# Families whose verifiers give 1.0 to almost anything: any non-empty answer, or "0" for 0.003.
OWN: Mapping[str, Callable[[str, str], bool]] = {"game_of_life_halting": _same_text, "coin_flip": _same_number}
CHILD = "from assay.tasks.puzzles.gym_items import answer_parent; answer_parent()"


def library() -> ModuleType:
    """Returns the package. Raises UserError naming the extra if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of packages that it imports, where they are compiled for the first time
            import reasoning_gym
    except ImportError as error:
        raise UserError(
            f"the tasks gym/FAMILY need the package reasoning-gym ({error}), part of the extra `reason`: pip install -e '.[reason]'. "
            f"Or choose another task with {NAMES}."
        ) from None
    return reasoning_gym


def families() -> list[str]:
    library()
    from reasoning_gym.factory import DATASETS

    return sorted(set(DATASETS) - set(LEFT_OUT))


def check_family(family: str) -> None:
    """Raises UserError listing the families with similar names."""
    known = families()
    if family in LEFT_OUT:
        raise UserError(f"gym/{family} is not supported: {LEFT_OUT[family]}. Choose another family with {NAMES}.")
    if family not in known:
        words = set(family.split("_"))
        near = [name for name in known if words & set(name.split("_"))] or known
        raise unknown("task", f"gym/{family}", [f"gym/{name}" for name in near], NAMES)


def read_options(family: str, text: str) -> dict[str, Any]:
    """Parses `"min_terms=2, operators=('+', '-')"` into the family's own configuration keys. Raises UserError for others."""
    try:
        call = ast.parse(f"_({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not all(keyword.arg for keyword in call.keywords):
            raise ValueError
        given = {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError):
        raise UserError(
            f"config.task.options={text!r} is not a list of KEY=VALUE, such as `a=2, b=[1, 2]`. Set it with {OPTIONS}."
        ) from None
    fields = {field.name for field in dataclasses.fields(_config_class(family))} - {"seed", "size"}
    for name in given:
        if name in ("seed", "size"):
            raise UserError(f"{name} is not an option of gym/{family}: set --config.task.{name}, and --config.seed for training items.")
        if name not in fields:
            raise unknown(f"option of gym/{family}", name, fields, OPTIONS)
    defaults = _config(family, {})
    typed = {name: _like(getattr(defaults, name), value, family, name) for name, value in given.items()}
    _config(family, typed)
    return typed


def harder(family: str, options: Options) -> dict[str, Any] | None:
    """Returns the options one level up, or None if no number can move, or not all together.

    Each number of the family's curriculum moves to the first level beyond its training value. A range moves to the span between the two, or
    to that level alone.
    """
    from reasoning_gym.factory import create_curriculum, has_curriculum

    if not has_curriculum(family):
        return None
    trained, up = _config(family, options), dict(options)
    for attribute in create_curriculum(family).attributes.values():
        single = hasattr(attribute, "field_name")
        value = getattr(trained, attribute.field_name if single else attribute.upper_field_name, None)
        level = _next_level(attribute.levels, value)
        if level is None:
            continue
        if single:
            up[attribute.field_name] = level
        else:
            up[attribute.upper_field_name], up[attribute.lower_field_name] = level, value if attribute.ensure_interval else level
    try:
        _config(family, up)
    except UserError:
        return None
    return up if up != dict(options) else None


def draw(family: str, options: Options, split: str, seed: int, count: int) -> list[Item]:
    """Draws the first `count` items of a split, the same in every process. Raises UserError if the family cannot generate them."""
    first = BLOCKS[split][seed] * BLOCK
    wanted = (family, dict(options), first, count)
    kept = _kept(wanted)
    if kept.is_file():
        with contextlib.suppress(Exception):  # an unreadable file is rebuilt
            return pickle.loads(kept.read_bytes())
    begun = time.monotonic()
    items = _in_child(wanted) if family in UNORDERED and os.environ.get("PYTHONHASHSEED") != "0" else _items(*wanted)
    if time.monotonic() - begun > SLOW_SECONDS:
        _keep(kept, items)
    return items


def gold(item: Item, scorer: Any) -> str | None:
    """Returns a reference answer that the family's verifier accepts: the item's own, or the example in its metadata; otherwise None."""
    found = (item["answer"], *(item["metadata"].get(name) for name in GOLD))
    texts = (answer if isinstance(answer, str) else json.dumps(answer) for answer in found if answer)
    return next((text for text in texts if accepts(scorer, text, item)), None)


def scorer(family: str, options: Options) -> Any:
    """Returns the data set of the family, for its `score_answer`."""
    return _dataset(family, options, 0, 1)


def accepts(scorer: Any, answer: str, item: Item) -> bool:
    """Returns True if the verifier scores exactly 1.0. An answer that it cannot parse is rejected.

    Families in OWN are compared here. A correct answer followed by more text is rejected, although some verifiers only read its start.
    """
    if answer == item["answer"]:
        return _score(scorer, answer, item)
    if TOWER.search(answer):
        return False
    own = OWN.get(item["metadata"].get("source_dataset", ""))
    if own is not None:
        return own(answer, item["answer"])
    shorter = answer.rsplit(None, 1)[:-1]
    return _score(scorer, answer, item) and not (shorter and _score(scorer, shorter[0], item))


def version() -> str:
    return metadata.version("reasoning-gym")


def answer_parent() -> None:
    """Implements the child process of `_in_child`: reads the request, and writes its items or the message of a UserError."""
    wanted = pickle.load(sys.stdin.buffer)
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # a family may print
    try:
        result: Any = _items(*wanted)
    except UserError as error:
        result = str(error)
    pickle.dump(result, out)


# -- private --------------------------------------------------------------------------------------------------------------


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def _like(default: Any, value: Any, family: str, name: str) -> Any:
    """Converts the value to the type of the default. Raises UserError if it is of another kind."""
    if default is None:
        return value
    if isinstance(default, Sequence) and not isinstance(default, str):
        if isinstance(value, Sequence) and not isinstance(value, str):
            return type(default)(value)  # type: ignore[call-arg]
    elif isinstance(default, bool) or isinstance(value, bool):
        if isinstance(value, bool) and isinstance(default, bool):
            return value
    elif isinstance(value, int) and isinstance(default, float):
        return float(value)
    elif isinstance(value, type(default)):
        return value
    raise UserError(f"the option {name}={value!r} of gym/{family} has another type than its default, {default!r}. Change it in {OPTIONS}.")


def _config_class(family: str) -> type:
    library()
    from reasoning_gym.factory import DATASETS

    return DATASETS[family][1]


def _config(family: str, options: Options) -> Any:
    """Builds the family's configuration; the family validates it."""
    try:
        config = _config_class(family)(**options)
        if hasattr(config, "validate"):
            config.validate()
    except Exception as error:  # mostly assertions
        raise UserError(f"gym/{family} does not accept these options: {error or type(error).__name__}. Change {OPTIONS}.") from None
    return config


def _dataset(family: str, options: Options, seed: int, size: int) -> Any:
    _config(family, options)
    return library().create_dataset(family, seed=seed, size=size, **options)


def _score(scorer: Any, answer: str, item: Item) -> bool:
    try:
        return float(scorer.score_answer(answer, item)) == 1.0
    except Exception:  # the family's code may raise anything for an invalid answer
        return False


def _next_level(levels: Sequence[Any], value: Any) -> Any:
    """Returns the first level beyond the value, in the direction of the levels; None if there is none, or if they are not numbers."""
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in (value, *levels)):
        return None
    sign = 1 if levels[-1] >= levels[0] else -1
    return next((level for level in levels if sign * level > sign * value), None)


def _items(family: str, options: Options, first: int, count: int) -> list[Item]:
    begun = told = time.monotonic()
    items: list[Item] = []
    with _own_random():
        try:
            dataset = _dataset(family, options, first, count)
            for i in range(count):
                random.seed(first + i)  # some families draw from Python's global generator, and not from that of the item
                items.append(dataset[i])
                if time.monotonic() - told > SLOW_SECONDS:
                    told = time.monotonic()
                    left = (count - i - 1) * (told - begun) / (i + 1)
                    print(f"gym/{family}: {i + 1}/{count} items  {left:.0f} s left", file=sys.stderr, flush=True)
        except UserError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise UserError(f"gym/{family} cannot make item {len(items)} with these options ({why}). Change {OPTIONS}.") from None
    return items


@contextlib.contextmanager
def _own_random() -> Iterator[None]:
    """Restores the generators of Python and NumPy, which families reseed."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _in_child(wanted: tuple[str, Options, int, int]) -> list[Item]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": path}
    child = subprocess.run([sys.executable, "-c", CHILD], input=pickle.dumps(wanted), stdout=subprocess.PIPE, env=environment, check=True)
    result = pickle.loads(child.stdout)
    if isinstance(result, str):
        raise UserError(result)
    return result


def _kept(wanted: tuple[str, Options, int, int]) -> Path:
    family, options, first, count = wanted
    name = hashlib.blake2b(repr((family, sorted(options.items()), first, count, version())).encode(), digest_size=8).hexdigest()
    return Path(os.environ.get("ASSAY_DATA") or "~/.cache/assay/tfds").expanduser() / "gym" / f"{family}-{name}.pickle"


def _keep(path: Path, items: Sequence[Item]) -> None:
    """Writes the items atomically. The folder is private, because loading a pickle can run code."""
    with contextlib.suppress(OSError):  # a read-only home costs time, not correctness
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            pickle.dump(list(items), file)
        os.replace(file.name, path)
