"""Draws command lines: a verb, the words of a small valid call, and a few of them replaced by hostile ones.

Flags come from the verbs' own FlagValues, config keys from the configs, so new ones are drawn without being named here.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from assay.cli.command import SHARED
from assay.cli.main import VERBS
from assay.config.files import load
from assay.config.schema import flat
from assay.tasks.table import TASKS
from assay.treatments.table import FACTORIES
from experiments.hostile.box import DAMAGES, FILES
from experiments.hostile.values import BOX, LINES, hostile

CONFIGS = (
    "parity:tiny",
    "parity:transformer,tiny",
    "parity:scratchpad,tiny",
    "regression:tiny",
    "cnn_digits:tiny",
    "reason/scan:lstm,tiny",
)
SMALL = ("--config.train.steps=2", "--config.evaluate.splits=valid", "--config.evaluate.per_length=1")
NEW = f"--workdir={BOX}/new"
CALLS = {  # of each verb: the words of a valid call
    "fit": [
        (f"{BOX}/texts.csv", NEW, "--config.train.steps=2"),
        (f"{BOX}/texts.csv", f"--test={BOX}/texts.csv", "--target=label", "--group=label", "--budget=1s", "--metric=f1_macro", NEW),
    ],
    "train": [("--config={config}", NEW, *SMALL)],
    "study": [("--config={config}", NEW, "--seeds=0", *SMALL), ("--suite=reasoning", "--budget=1s", NEW, "--config.train.steps=2")],
    "evaluate": [(f"--workdir={BOX}/damaged", "--split=iid"), (f"--workdir={BOX}/run", "--lengths=9:9")],
    "diagnose": [(f"--workdir={BOX}/damaged", "--quick")],
    "treat": [
        (f"--from={BOX}/run", "--treat={treatment}", NEW, "--seconds=0"),
        (f"--from={BOX}/damaged", "--treat=prune:sparsity=0.5", NEW, "--seconds=0"),
        (f"--from={BOX}/damaged", "--apply=1", NEW, "--seconds=0"),
    ],
    "compare": [
        (f"--workdir={BOX}/study", "--baseline=tiny", "--split=iid"),
        (f"--workdir={BOX}/study", f"--workdir={BOX}/damaged", "--baseline=tiny", "--split=iid"),
        ("--pareto", f"--workdir={BOX}/damaged"),
        (f"--before={BOX}/run", f"--after={BOX}/damaged", f"--out={BOX}/card", "--seconds=0.1"),
    ],
    "predict": [
        (f"--workdir={BOX}/classifier", "--text=a"),
        (f"--workdir={BOX}/classifier", f"--input={BOX}/texts.csv", "--format=csv"),
        (f"--workdir={BOX}/run", "--text=0110"),
        (f"--workdir={BOX}/classifier", "--text=a", "--simple"),
    ],
    "show": [("--task={task}", "--n=2"), ("--task=chomsky/parity_check", "--lengths=9:9"), ("--task=list",)],
    "list": [(), ("--copy=parity",)],
    "plan": [("--config={config}", "--topology=h100:2", *SMALL)],
    "launch": [("--processes=1", "--", "true"), ("--processes=2", "--devices=1", "--", "true")],
    "publish": [(f"--workdir={BOX}/damaged", "--name=x", f"--out={BOX}/out"), (f"--readme={BOX}/file", f"--out={BOX}/damaged")],
}
TREATING = {"treat": ("--treat",), "show": ("--treatment",)}  # flags that name treatments; elsewhere a key of the config does
OFTEN = ("train", "show", "evaluate", "treat", "compare")  # verbs with many keys


CONFIGURED = ("fit", "train", "study", "treat", "show", "plan")  # verbs that take --config.KEY
CHANGES = (*("key",) * 4, *("flag",) * 2, *("word",) * 2, "option", "option", "less", "odd")  # kinds of a hostile word
READING = ("flag", "word", "none", "none", "none", "less", "odd")  # of a verb that reads runs: one of them is damaged
Choose = Callable[[Sequence[Any]], Any]


class Line(NamedTuple):
    """One command line, with the damage to be done to a run before it starts."""

    verb: str
    words: tuple[str, ...]
    damage: tuple[str, str, int]  # file of the run `damaged`, what is done to it, and where


def names(verb: str) -> list[str]:
    """Returns the flags of a verb."""
    return sorted({*importlib.import_module(f"assay.cli.{verb}").FLAGS} - set(SHARED)) * 4 + sorted(SHARED)


@functools.cache
def keys(config: str) -> list[str]:
    """Returns the keys of a config and its groups."""
    found = flat(load(config))
    return sorted({*found, *(name.rpartition(".")[0] for name in found if "." in name)})


def line(choose: Choose) -> Line:
    """Returns a command line with one to three hostile words; `choose` picks one of several."""
    verb, config, task, treatment = choose((*VERBS, *OFTEN)), choose(CONFIGS), choose(sorted(TASKS)), choose(sorted(FACTORIES))
    words = [word.replace("{config}", config).replace("{task}", task).replace("{treatment}", treatment) for word in choose(CALLS[verb])]
    for _ in range(choose((1, 1, 2, 3))):
        value, at = choose(hostile()), choose(range(len(words) + 1))
        change = choose(CHANGES if verb in CONFIGURED or choose(range(8)) == 0 else READING)
        if change == "key":
            known = [f"task.{name}" for name in TASKS[task].defaults] if verb == "show" else keys(config)
            words.append(f"--config.{choose(known or keys(config))}={value}")
        elif change == "flag":
            words.insert(at, f"--{choose(names(verb))}={value}")
        elif change == "option":
            words.append(f"{choose(TREATING.get(verb, ('--config.treatments',)))}={treatment}:{choose(options(treatment))}={value}")
        elif change == "odd":
            words.insert(at, choose(LINES))
        elif words and change == "word":
            words[at - 1] = f"{words[at - 1].partition('=')[0]}={value}"
        elif words and change == "less":
            words.pop(at - 1)
    return Line(verb, tuple(words), (choose(FILES), choose(DAMAGES), choose(range(10_000))))


@functools.cache
def options(treatment: str) -> list[str]:
    """Returns the options of a treatment."""
    return [name.removesuffix("_") for name in inspect.signature(FACTORIES[treatment]).parameters] or ["none"]
