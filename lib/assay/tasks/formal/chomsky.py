"""The fifteen tasks of "Neural Networks and the Chomsky Hierarchy" (Deletang et al., ICLR 2023, arXiv 2207.02098), with published cells.

Splits: `train`, `valid` and `iid` have the training lengths (1-40); `41-500` and `501-1000` test length generalisation, and any other range
can be named, such as `40-256`, the other range of published results. All runs share the evaluation examples; training examples change with
the run's seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from assay.config.schema import require, span
from assay.tasks.formal.chomsky_cells import TRAINED, cells
from assay.tasks.formal.chomsky_places import couples_of
from assay.tasks.formal.chomsky_rules import RULES, Rule
from assay.tasks.lengths import by_length
from assay.tasks.prompts import numbers, prompts
from assay.tasks.sequence import answer_after, score_tokens, vocabulary
from assay.tasks.task import Task

SPLITS = ("train", "valid", "iid", "41-500", "501-1000")


@dataclass(frozen=True)
class ChomskyConfig:
    name: str  # chomsky/NAME
    convention: str  # "code" (which produced the published numbers) or "paper", where the two disagree
    lengths: str  # training lengths, FIRST:LAST, both included
    seed: int  # seed of the valid and test examples: must be the same for all runs being compared

    def __post_init__(self):
        require(self.convention in RULES, "task.convention", self.convention, f"one of {', '.join(RULES)}")
        require(self.seed >= 0, "task.seed", self.seed, "a non-negative integer")
        span(self.lengths, "config.task.lengths")


def build(config: ChomskyConfig, seed: int) -> Task:
    """Builds the task; `seed` draws its training examples."""
    name = config.name.removeprefix("chomsky/")
    rule = RULES[config.convention][name]
    lengths = span(config.lengths, "config.task.lengths")
    prefix = f"chomsky/{name}/{config.convention}"

    source = by_length(prefix, SPLITS, lengths, seed, config.seed, rule.generate, rule.log2_inputs)
    metrics = metrics_of(name)
    return Task(
        name=config.name,
        vocabulary=vocabulary(rule.inputs, rule.outputs),
        splits=SPLITS,
        source=source,
        encode=partial(answer_after, empty=rule.inputs),
        width=lambda length: rule.width(length) + rule.slots(length),
        score=partial(score_tokens, metrics=metrics),
        metrics=metrics,
        chance=1.0 / rule.outputs,
        answer_to_input=rule.inputs + 1,
        published=cells(name, metrics[0]) if (lengths, config.convention) == (TRAINED, "code") else (),
        note=AMBIGUOUS if name == "solve_equation" and config.convention == "paper" else "",
        symbols=SYMBOLS.get(name, ()),
        classes=("0", "1", "END") if name in WITH_END else (),
        states=rule.states,
        couples=couples_of(name, config.convention),
        asked=partial(prompts, name=config.name, symbols=SYMBOLS.get(name, numbers(rule.inputs)), room=partial(room, rule=rule)),
    )


def room(tokens: Sequence[int], rule: Rule) -> tuple[int, int]:
    """Returns the nominal length of an input, and the number of tokens of its answer. Raises ValueError if no input has as many tokens."""
    length = next((length for length in range(1, len(tokens) + 2) if rule.width(length) == len(tokens)), 0)
    if not length:
        raise ValueError(f"no input has {len(tokens)} tokens")
    return length, rule.slots(length)


def metrics_of(name: str) -> tuple[str, ...]:
    """Returns the metrics of a task, headline first: tasks with one answer token have another one."""
    return ("answer_accuracy",) if RULES["code"][name].slots(7) == 1 else ("token_accuracy", "exact_match")


ABOUT = {
    "parity_check": "bits -> how many are 1, modulo 2",
    "even_pairs": "bits -> how many neighbours differ, modulo 2",
    "cycle_navigation": "steps back, stay, forth -> place on a cycle of 5",
    "modular_arithmetic": "digits and + - * -> value modulo 5",
    "reverse_string": "bits -> the same from right to left",
    "stack_manipulation": "a stack and its pushes and pops -> the stack",
    "modular_arithmetic_brackets": "bracketed digits and + - * -> value modulo 5",
    "solve_equation": "an equation with one digit hidden -> the digit",
    "duplicate_string": "bits -> the same twice",
    "missing_duplicate": "bits twice, one hidden -> the hidden bit",
    "odds_first": "bits -> every second one, then the others",
    "binary_addition": "n + m, lowest bit first -> the sum",
    "binary_multiplication": "n * m, lowest bit first -> the product",
    "compute_sqrt": "a binary number -> its integer square root",
    "bucket_sort": "digits 0-4 -> the same, sorted",
}
AMBIGUOUS = "with products some equations hold for several digits (a tenth of the short ones); the answer is the digit that was hidden"
WITH_END = ("stack_manipulation", "binary_addition", "binary_multiplication")  # class 2 ends their answers
SYMBOLS = {
    "modular_arithmetic": ("0", "1", "2", "3", "4", "+", "-", "*"),
    "modular_arithmetic_brackets": ("0", "1", "2", "3", "4", "+", "-", "*", "(", ")"),
    "solve_equation": ("0", "1", "2", "3", "4", "+", "-", "(", ")", "x", "=", "*"),
    "stack_manipulation": ("0", "1", "POP", "PUSH0", "PUSH1"),
    "binary_addition": ("0", "1", "+"),
    "binary_multiplication": ("0", "1", "*"),
    "missing_duplicate": ("0", "1", "?", "_"),
}
