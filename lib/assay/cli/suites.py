"""Suites: grids of tasks against models that one command runs, as far as a budget of time goes.

    python -m experiments.study --suite=reasoning --budget=10m --workdir=runs/reasoning

The order is that of importance. An entry trains for fewer updates than its config does by itself, so that many fit; the tables of results
come from the configs.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from assay.cli.suite import Entry

CHOMSKY = "experiments/reason/chomsky.py"
LOOKUP = "experiments/reason/table_lookup.py"
INDUCTION = "experiments/reason/induction.py"
ADDITION = "experiments/reason/addition.py"


class Suite(NamedTuple):
    about: str  # what the page says first
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
        changes |= {"treatments": f"curriculum:examples={64 * steps}"}  # all lengths from the middle of training on
    return Entry(task.replace("_", " "), model, f"{CHOMSKY}:{variant}", changes, "41-500", metric, seconds)


def _lookup(direction: str, model: str, variant: str, steps: int, seconds: float) -> Entry:
    changes = {"task.name": f"ctl/{direction}", "train.steps": str(steps), "evaluate.per_length": "200"}
    if variant != "lstm":
        changes |= {"treatments": f"curriculum:examples={32 * steps}"}  # all lengths from the middle of training on
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
        "Trained on short strings, asked about long ones: which models learn the rule? Few updates each, so a low number may be a run that "
        "was too short.",
        _reasoning(),
    )
}
