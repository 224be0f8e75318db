"""Suites: grids of tasks and models that one command runs within a time budget.

    assay study --suite=reasoning --budget=10m --workdir=runs/reasoning

Entries are in order of importance. Each trains for fewer updates than its config alone, so that many fit into the budget. The
results tables use the unmodified configs.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

CHOMSKY = "experiments/reason/chomsky.py"
LOOKUP = "experiments/reason/table_lookup.py"
INDUCTION = "experiments/reason/induction.py"
ADDITION = "experiments/reason/addition.py"


class Entry(NamedTuple):
    """Cell of the grid: a config with overrides, and the split and metric used for evaluation."""

    task: str  # display name on the results page
    model: str
    spec: str  # FILE.py:variant
    overrides: Mapping[str, str]
    split: str  # out-of-distribution split
    metric: str
    seconds: float  # duration of one seed on two CPU cores, including evaluation


class Suite(NamedTuple):
    """Named grid of entries."""

    about: str  # introduction on the results page
    entries: Sequence[Entry]


def _chomsky(task: str, metric: str, model: str, variant: str, steps: int, seconds: float) -> Entry:
    changes = {
        "task.name": f"chomsky/{task}",
        "train.steps": str(steps),
        "evaluate.splits": "iid,41-500",
        "evaluate.per_length": "4",
        "checkpoint.every": "500",
    }
    if variant == "transformer":
        changes |= {"model.depth": "2", "train.batch_size": "64"}
    if variant == "attention_network":
        changes |= {"treatments": f"curriculum:examples={64 * steps}"}  # all lengths from the midpoint of training on
    return Entry(task.replace("_", " "), model, f"{CHOMSKY}:{variant}", changes, "41-500", metric, seconds)


def _lookup(direction: str, model: str, variant: str, steps: int, seconds: float) -> Entry:
    changes = {"task.name": f"ctl/{direction}", "train.steps": str(steps), "evaluate.per_length": "200"}
    if variant != "lstm":
        changes |= {"treatments": f"curriculum:examples={32 * steps}"}  # all lengths from the midpoint of training on
    return Entry(f"table lookup, {direction}", model, f"{LOOKUP}:{variant}", changes, "9-10", "answer_accuracy", seconds)


def _reasoning() -> Sequence[Entry]:
    answer, token = "answer_accuracy", "token_accuracy"
    found: list[Entry] = []
    for task, metric in (("parity_check", answer), ("even_pairs", answer), ("reverse_string", token), ("cycle_navigation", answer)):
        found.append(_chomsky(task, metric, "LSTM", "lstm", 1000, 35))
        if metric == answer:
            found.append(_chomsky(task, metric, "Transformer", "transformer", 300, 50))
    for direction in ("forward", "backward"):
        found.append(_lookup(direction, "LSTM", "lstm", 1500, 35))
        found.append(_lookup(direction, "Transformer", "universal", 1500, 110))
    for task in ("reverse_string", "stack_manipulation"):
        found.append(_chomsky(task, token, "Transformer + stack", "attention_stack", 1500, 150))
    for task in ("parity_check", "cycle_navigation"):
        found.append(_chomsky(task, answer, "Transformer + automata", "attention_automaton", 600, 60))
    found.append(_chomsky("modular_arithmetic", answer, "Transformer + automata", "attention_network", 1500, 120))
    few = {"train.steps": "1000", "evaluate.per_length": "200", "evaluate.splits": "iid,128,256"}
    for model, positions in (("Transformer", "rotary"), ("Transformer + local attention", "local")):
        found.append(Entry("induction heads", model, f"{INDUCTION}:{positions}", few, "256", answer, 60))
    few = {"train.steps": "1500", "evaluate.per_length": "200", "evaluate.splits": "iid,9-16"}
    for model, name in (("Transformer", "alone"), ("Transformer + coupling", "coupled")):
        found.append(Entry("addition", model, f"{ADDITION}:{name}", few, "9-16", "exact_match", 120))
    return found


SUITES: Mapping[str, Suite] = {
    "reasoning": Suite(
        "Models are trained on short strings and evaluated on longer ones: which of them learn the rule? Training is short, so a low score "
        "may mean that a run had too few updates.",
        _reasoning(),
    )
}

POSITIONS = ("transformer", "none", "sinusoidal", "alibi", "relative")  # variants of reason/chomsky
REGULAR = ("parity_check", "even_pairs", "cycle_navigation", "modular_arithmetic")
LONGER = ("reverse_string", "stack_manipulation", "duplicate_string", "odds_first")  # tasks that require more than a finite state
PLANNED = (  # (tasks, experiment, variants) of the reasoning suite; entries without a file are shown as not run
    (
        tuple(f"chomsky/{name}" for name in (*REGULAR, *LONGER)),
        "reason/chomsky",
        POSITIONS,
    ),
    (tuple(f"chomsky/{name}" for name in (*REGULAR[1:], *LONGER)), "reason/chomsky", ("lstm",)),  # for parity, reason/parity:lstm
    (("ctl/forward", "ctl/backward"), "reason/table_lookup", ("lstm", "universal", "relative", "gate", "geometric", "more_loops")),
    (("scan/length", "scan/jump", "scan/turn_left"), "reason/scan", ("lstm", "transformer")),
    (("recall/induction",), "reason/induction", ("rotary", "learned", "alibi", "none", "randomised", "local")),
    (("modular/divide",), "reason/grokking", ("decay", "none")),
    (("addition",), "reason/addition", ("plain", "reversed", "alone", "coupled")),
    (("path_star",), "reason/path_star", ("forward", "reversed")),
    (("recall/mqar",), "reason/recall", ("attention", "lstm")),
    (("recall/p_hop",), "reason/recall", ("flat", "looped")),
    (("listops/depth", "arithmetic/nested"), "reason/trees", ("lstm", "universal", "geometric")),
)
