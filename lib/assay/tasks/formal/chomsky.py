"""The fifteen tasks of "Neural Networks and the Chomsky Hierarchy" (Deletang et al., ICLR 2023, arXiv 2207.02098), with published cells.

Splits: `train`, `valid` and `iid` have the training lengths (1-40); `41-500` and `501-1000` test length generalisation, and any other range
can be named. All runs share the evaluation examples; training examples change with the run's seed.
"""

from dataclasses import dataclass
from functools import partial

from assay.config.schema import require, span
from assay.tasks.formal.chomsky_rules import RULES
from assay.tasks.lengths import by_length
from assay.tasks.sequence import answer_after, score_tokens, vocabulary
from assay.tasks.task import PLAIN, TRANSFORMERS, Published, Task

TRAINED = (1, 40)  # training lengths of the published cells
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
    single = rule.slots(7) == 1
    metrics = ("answer_accuracy",) if single else ("token_accuracy", "exact_match")
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
        published=tuple(cell for cell in _published(name) if cell.metric == metrics[0]) if lengths == TRAINED else (),
        note=AMBIGUOUS if name == "solve_equation" and config.convention == "paper" else "",
        symbols=SYMBOLS.get(name, ()),
        classes=("0", "1", "END") if name in WITH_END else (),
        states=rule.states,
    )


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

# -- published cells --------------------------------------------------------------------------------------------------------
# Table 2 of the paper: token accuracy over lengths 41-500, the best of 10 seeds and the sweep of learning rates and positions. "V" cells
# appear in the paper itself; "V2" cells are quoted by the Deltaformer paper. Bounds ("at least 90") are left out.

PAPER = "Deletang et al. 2023 (arXiv 2207.02098), Table 2, best of 10 seeds x sweep"
QUOTED = PAPER + ", quoted in Deltaformer (arXiv 2505.19488), Table 5"
APPENDIX = "Deletang et al. 2023 (arXiv 2207.02098), App. B.3.2, best of 10 seeds x sweep"
SECOND = "expressive-sparse-state-space-model repository (Walker et al. 2025 protocol: lengths 40-256, mean of 5)"
SWEEP = "best-of rows: 1,000,000 steps, the best of {runs} runs (seeds, learning rates{positions}); ours: far fewer steps, every seed"
BEST_NOTES = {
    ("lstm",): SWEEP.format(runs=30, positions=""),
    ("rnn",): SWEEP.format(runs=30, positions=""),
    ("stack_rnn",): SWEEP.format(runs=30, positions=""),
    TRANSFORMERS: "published Transformers are encoders; " + SWEEP.format(runs=150, positions=", positions"),
}

_BEST: dict[str, tuple[tuple[tuple[str, ...], float, str, str], ...]] = {
    "even_pairs": ((("lstm",), 1.000, PAPER, "V"), (("rnn",), 1.000, PAPER, "V"), (("stack_rnn",), 1.000, PAPER, "V")),
    "modular_arithmetic": (
        (("lstm",), 1.000, PAPER, "V"),
        (TRANSFORMERS, 0.242, QUOTED, "V2"),
        (("rnn",), 1.000, PAPER, "V"),
        (("stack_rnn",), 1.000, PAPER, "V"),
    ),
    "parity_check": (
        (("lstm",), 1.000, PAPER, "V"),
        (TRANSFORMERS, 0.520, QUOTED, "V2"),
        (("rnn",), 1.000, PAPER, "V"),
        (("stack_rnn",), 1.000, PAPER, "V"),
    ),
    "cycle_navigation": (
        (("lstm",), 1.000, PAPER, "V"),
        (TRANSFORMERS, 0.619, APPENDIX, "V"),
        (("rnn",), 1.000, PAPER, "V"),
        (("stack_rnn",), 1.000, PAPER, "V"),
    ),
    "stack_manipulation": (
        (("lstm",), 0.591, QUOTED, "V2"),
        (TRANSFORMERS, 0.575, QUOTED, "V2"),
        (("rnn",), 0.560, QUOTED, "V2"),
        (("stack_rnn",), 1.000, QUOTED, "V2"),
    ),
    "reverse_string": (
        (("lstm",), 0.609, QUOTED, "V2"),
        (TRANSFORMERS, 0.623, QUOTED, "V2"),
        (("rnn",), 0.620, QUOTED, "V2"),
        (("stack_rnn",), 1.000, QUOTED, "V2"),
    ),
    "duplicate_string": (
        (("lstm",), 0.576, QUOTED, "V2"),
        (TRANSFORMERS, 0.528, QUOTED, "V2"),
        (("rnn",), 0.503, QUOTED, "V2"),
        (("stack_rnn",), 0.528, QUOTED, "V2"),
    ),
    "odds_first": (
        (("lstm",), 0.556, QUOTED, "V2"),
        (TRANSFORMERS, 0.528, QUOTED, "V2"),
        (("rnn",), 0.510, QUOTED, "V2"),
        (("stack_rnn",), 0.519, QUOTED, "V2"),
    ),
}
_MEAN: dict[str, tuple[tuple[tuple[str, ...], float, float], ...]] = {
    "cycle_navigation": ((("lstm",), 1.000, 0.000), (TRANSFORMERS, 0.244, 0.005)),
    "even_pairs": ((("lstm",), 1.000, 0.000), (TRANSFORMERS, 0.904, 0.104)),
    "modular_arithmetic": ((("lstm",), 0.999, 0.001), (TRANSFORMERS, 0.236, 0.007)),
    "parity_check": ((("lstm",), 1.000, 0.000), (TRANSFORMERS, 0.522, 0.004)),
}
_SINGLE = ("even_pairs", "modular_arithmetic", "parity_check", "cycle_navigation")


def _published(name: str) -> list[Published]:
    metric = "answer_accuracy" if name in _SINGLE else "token_accuracy"
    return [
        *(_cell(m, metric, value, None, "max", source, tag, BEST_NOTES[m]) for m, value, source, tag in _BEST.get(name, ())),
        *(_cell(m, metric, value, spread, "mean", SECOND, "V", "") for m, value, spread in _MEAN.get(name, ())),
    ]


def _cell(
    models: tuple[str, ...], metric: str, value: float, spread: float | None, statistic: str, source: str, tag: str, note: str
) -> Published:
    """Builds a published cell; a published Transformer is compared with plain Transformers only."""
    settings = PLAIN if models == TRANSFORMERS else {}
    return Published(models, "41-500", metric, value, spread, statistic, source, tag, note, settings)
