"""Any family of reasoning-gym by name, `gym/chain_sum` or `gym/course_schedule`, at the character level (requires the extra `reason`).

An example is the prompt, EMPTY, then the characters of the answer and END, which the model generates at test time. `verified` is the share
of answers that the family's verifier scores exactly 1.0; `exact_match` is the share equal to the one answer that an item contains.

Splits: `train` uses the run's seed; `valid`, `test` and `harder` (the family's curriculum one level up) use config.task.seed, the same for
all runs. No question is in two splits: questions of the others are excluded from training. The note of each row says what was excluded, and
how often. Published figures are for large language models without training, so none stands beside ours.
"""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np

from assay.config.generated import GYM
from assay.config.schema import require
from assay.core.errors import UserError
from assay.data.source import Examples, Source, in_memory, padded
from assay.tasks.prompts import prompts
from assay.tasks.puzzles import gym_items
from assay.tasks.puzzles.gym_items import BLOCK, BLOCKS, Item
from assay.tasks.sequence import prompted, score_tokens, vocabulary
from assay.tasks.task import Task, find_split

DEFAULTS = GYM
SPLITS = ("train", "valid", "test")  # and harder, if the family has a curriculum with a further level
ORDER = ("test", "harder", "valid", "train")  # a question drawn for several splits stays in the first of these
ABOUT = "puzzles with verifiers, by family: --task=gym/chain_sum"
UNKNOWN = "<unk>"  # an input character that does not occur in training
IMPOSSIBLE = -1  # class of an answer character that no training answer has; no model can predict it
NO_ANSWER = "without an answer that the verifier accepts"
MAJORITY = 0.05  # the note reports a constant answer that is correct for more than this share of the test
CAVEATS = {
    "syllogism": "one item in eight answers Yes where the conclusion does not follow (497 of 4,000, even where every kind of thing exists)",
}
UNENDED = " <no end>"  # suffix shown after an answer that did not stop in time


@dataclass(frozen=True)
class GymConfig:
    name: str  # gym/FAMILY
    options: str  # the family's own configuration, such as "min_terms=2, max_terms=4"; "": its defaults
    size: int  # number of training items to draw
    test_size: int  # number of items to draw for each of the other splits
    max_prompt: int  # characters of a prompt; longer items are excluded
    max_answer: int  # characters of an answer; longer items are excluded
    strip: bool  # whether to strip the words that all training questions begin and end with
    harder: bool  # whether to draw the split harder, which takes time
    seed: int  # seed of the valid, test and harder items: must be the same for all runs being compared

    def __post_init__(self):
        for name in ("size", "test_size"):
            require(1 <= getattr(self, name) <= BLOCK, f"task.{name}", getattr(self, name), f"from 1 to {BLOCK:,}")
        for name in ("max_prompt", "max_answer"):
            require(getattr(self, name) >= 1, f"task.{name}", getattr(self, name), "it must be at least 1")
        require(0 <= self.seed < len(BLOCKS["test"]), "task.seed", self.seed, f"from 0 to {len(BLOCKS['test']) - 1}")


@dataclass(frozen=True)
class Lines:
    """The items of a split with their prompts and reference answers, and the counts of excluded items by reason."""

    items: Sequence[Item]
    prompts: Sequence[str]
    answers: Sequence[str]
    scorer: Any  # the family's data set, for its verifier
    left_out: Mapping[str, int] = field(default_factory=dict)

    def where(self, keep: Callable[[str, str], bool], why: str) -> "Lines":
        """Returns the lines for which `keep(prompt, answer)` holds."""
        rows = [i for i, (prompt, answer) in enumerate(zip(self.prompts, self.answers, strict=True)) if keep(prompt, answer)]
        left_out = Counter(self.left_out) + Counter({why: len(self.items) - len(rows)})
        prompts, answers = [self.prompts[i] for i in rows], [self.answers[i] for i in rows]
        return Lines([self.items[i] for i in rows], prompts, answers, self.scorer, left_out)


def build(config: GymConfig, seed: int) -> Task:
    """Builds the task; `seed` draws its training items. Raises UserError for a family without reference answers."""
    family = config.name.removeprefix("gym/")
    gym_items.check_family(family)
    require(0 <= seed < len(BLOCKS["train"]), "seed", seed, f"from 0 to {len(BLOCKS['train']) - 1} for tasks of reasoning-gym")
    lines, missing = _lines(config, family, seed)
    train = lines["train"]
    items = {prompt: (item, part.scorer) for part in lines.values() for prompt, item in zip(part.prompts, part.items, strict=True)}

    inputs = tuple(sorted(set("".join(train.prompts))))
    outputs = tuple(sorted(set("".join(train.answers))))
    end, empty = len(outputs), len(inputs) + 1  # the class that ends an answer; the input id after UNKNOWN
    slots = 1 + max(len(answer) for part in lines.values() for answer in part.answers)
    sources = {
        split: cache(partial(_source, split, lines[split], inputs, outputs, slots)) for split in (*SPLITS, "harder") if split in lines
    }

    def source(name: str) -> Source:
        if name == "harder" and name not in sources:
            why = "; ".join(missing) or "no split harder: config.task.harder is False"
            raise UserError(f"{config.name}: {why}. Set --config.evaluate.splits=test.")
        return find_split(sources, name)()

    def read(answers: np.ndarray, batch: Mapping[str, np.ndarray]) -> str:
        start = int(batch["mask"].argmax())
        return _text(answers[start : start + slots], outputs)

    def verify(record: Mapping[str, Any]) -> bool:
        item, scorer = items[record["input"]]
        return not record["prediction"].endswith(UNENDED) and gym_items.accepts(scorer, record["prediction"], item)

    return Task(
        name=config.name,
        vocabulary=vocabulary(empty, end + 1),
        splits=tuple(sources),
        source=source,
        encode=partial(prompted, empty=empty),
        width=lambda length: length + slots,
        score=partial(score_tokens, metrics=("exact_match", "token_accuracy")),
        metrics=("verified", "exact_match", "token_accuracy"),
        chance=1.0 / (end + 1),
        read=read,
        shown="test",
        free_running=1,
        answer_to_input=empty + 1,
        note=_note(family, lines, missing),
        symbols=(*inputs, UNKNOWN),
        classes=(*outputs, "END"),
        asked=partial(prompts, name=config.name, symbols=inputs, room=lambda tokens: (len(tokens), slots), unknown=len(inputs)),
        data=_hash(lines),
        verify=verify,
    )


def common_ends(texts: Sequence[str]) -> tuple[str, str]:
    """Returns the words that all texts begin with, and those that all end with, up to white space. Some of each text always remains."""
    shortest = min(map(len, texts)) - 1
    prefix = _shared(texts)[:shortest]
    prefix = prefix[: max((space.end() for space in re.finditer(r"\s", prefix)), default=0)]
    suffix = _shared([text[::-1] for text in texts])[: shortest - len(prefix)][::-1]
    return prefix, suffix[min((space.start() for space in re.finditer(r"\s", suffix)), default=len(suffix)) :]


# -- private --------------------------------------------------------------------------------------------------------------


def _lines(config: GymConfig, family: str, seed: int) -> tuple[dict[str, Lines], list[str]]:
    """Returns the lines of each split, and messages about missing splits."""
    options, missing = gym_items.read_options(family, config.options), []
    wanted = {"test": options, "valid": options, "train": options}
    if config.harder:
        up = gym_items.harder(family, options)
        wanted |= {"harder": up} if up is not None else {}
        missing += ["no split harder: the family's curriculum has no level beyond these options"] if up is None else []
    lines: dict[str, Lines] = {}
    seen: dict[str, str] = {}
    for split in (split for split in ORDER if split in wanted):
        count, number = (config.size, seed) if split == "train" else (config.test_size, config.seed)
        try:
            drawn = gym_items.draw(family, wanted[split], split, number, count)
        except UserError:
            if split != "harder":
                raise
            missing.append("no split harder: the family cannot generate items one level up")
            continue
        lines[split] = _apart(split, drawn, gym_items.scorer(family, wanted[split]), seen)
    if not lines["train"].items:
        raise _nothing_left(config, "train", lines["train"])
    prefix, suffix = common_ends(lines["train"].prompts) if config.strip else ("", "")
    for split, part in lines.items():
        cut = replace(part, prompts=[_cut(prompt, prefix, suffix) for prompt in part.prompts])
        cut = cut.where(lambda prompt, answer: len(prompt) <= config.max_prompt, "longer than max_prompt")
        lines[split] = cut.where(lambda prompt, answer: len(answer) <= config.max_answer, "longer than max_answer")
    if "harder" in lines and not lines["harder"].items:
        missing.append(f"no split harder: {_reasons(lines.pop('harder'))}")
    for split in SPLITS:
        if not lines[split].items:
            raise _nothing_left(config, split, lines[split])
    return lines, missing


def _apart(split: str, drawn: Sequence[Item], scorer: Any, seen: dict[str, str]) -> Lines:
    """Returns the items with a reference answer whose question is in no split yet (`seen`: question -> its split)."""
    items, questions, answers, left_out = [], [], [], Counter[str]()
    for item in drawn:
        question = item["question"]
        if question in seen:
            left_out["drawn before" if seen[question] == split else f"in {seen[question]} too"] += 1
            continue
        seen[question] = split
        answer = gym_items.gold(item, scorer)
        if answer is None:
            left_out[NO_ANSWER] += 1
            continue
        items.append(item)
        questions.append(question)
        answers.append(answer)
    return Lines(items, questions, answers, scorer, left_out)


def _cut(prompt: str, prefix: str, suffix: str) -> str:
    """Removes what all training prompts share; a prompt without the shared parts is unchanged."""
    ends = prompt.startswith(prefix) and prompt.endswith(suffix) and len(prompt) > len(prefix) + len(suffix)
    return prompt[len(prefix) : len(prompt) - len(suffix)] if ends else prompt


def _shared(texts: Sequence[str]) -> str:
    """Returns the longest common prefix: what the smallest and the largest text share, all share."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(min(texts), max(texts), strict=False))
    return "".join(a for a, _ in pairs)


def _source(split: str, lines: Lines, inputs: Sequence[str], outputs: Sequence[str], slots: int) -> Source:
    input_ids, output_ids = ({character: i for i, character in enumerate(characters)} for characters in (inputs, outputs))
    tokens, token_length = padded([[input_ids.get(character, len(inputs)) for character in prompt] for prompt in lines.prompts])
    targets, target_length = padded([[*(output_ids.get(c, IMPOSSIBLE) for c in answer), len(outputs)] for answer in lines.answers])
    room = np.full(len(lines.items), slots, np.int64)

    def describe(examples: Examples, i: int) -> dict[str, Any]:
        at = int(examples.id[i]) % len(lines.items)
        return {"input": lines.prompts[at], "target": lines.answers[at]}

    examples = Examples(np.arange(len(lines.items)), token_length, tokens, token_length, targets, target_length, room)
    return in_memory(split, examples, describe)


def _text(answers: np.ndarray, outputs: Sequence[str]) -> str:
    """Returns the text before the first END, marked if there is none."""
    ends = np.flatnonzero(answers == len(outputs))
    text = "".join(outputs[i] for i in answers[: ends[0] if len(ends) else None].tolist())
    return text if len(ends) else text + UNENDED


def _reasons(lines: Lines) -> str:
    return ", ".join(f"{count:,} {why}" for why, count in sorted(lines.left_out.items()))


def _note(family: str, lines: Mapping[str, Lines], missing: Sequence[str]) -> str:
    """Returns the library's version, what was excluded, and the accuracy of a constant answer."""
    counts = [f"{split}: {len(part.items):,} items, left out {_reasons(part)}" for split, part in lines.items() if part.left_out]
    (answer, _), *_ = Counter(lines["train"].answers).most_common(1)
    right = float(np.mean([gym_items.accepts(lines["test"].scorer, answer, item) for item in lines["test"].items]))
    majority = [f"always {answer!r}: correct for {right:.1%} of test"] if right >= MAJORITY else []
    caveats = [CAVEATS[family]] if family in CAVEATS else []
    return "; ".join([f"reasoning-gym {gym_items.version()}", *counts, *missing, *majority, *caveats])


def _nothing_left(config: GymConfig, split: str, lines: Lines) -> UserError:
    if 2 * lines.left_out.get(NO_ANSWER, 0) > sum(lines.left_out.values()):
        return UserError(
            f"the items of {config.name} have no reference answer, only a verifier, so they cannot be used for training. "
            f"Choose another family with {gym_items.NAMES}."
        )
    return UserError(
        f"{config.name}: nothing is left for {split} ({_reasons(lines)}). Change --config.task.max_prompt, --config.task.max_answer, or "
        f"where questions repeat --config.task.size, --config.task.test_size or {gym_items.OPTIONS}."
    )


def _hash(lines: Mapping[str, Lines]) -> str:
    """Hashes all questions and answers: another version of the library may draw others."""
    whole = hashlib.blake2b(digest_size=8)
    for split, part in lines.items():
        whole.update(repr((split, part.prompts, part.answers)).encode("utf-8", "surrogatepass"))
    return whole.hexdigest()
