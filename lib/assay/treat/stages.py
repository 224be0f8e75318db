"""A pipeline: treatments done to a finished run one after another, each a run of its own that goes on from the one before.

    distill:student=small,T=4    prune:heads=0.5,steps=200    quantize:int8

A stage is a config: that of the run before it, in which `inherit` takes over its parameters, and the new treatment. What was done to the
model before stands ahead of `inherit`, for its shapes. Besides its own options a treatment takes those of its stage:

    steps     updates in which the model recovers; given none, SHARE of the run's own
    rate      the peak of the learning rate, which then falls as a cosine; given none, RATE of the run's own
    student   distill alone: `small` or another variant of the run's config, FILE.py:variant, or `itself`, the model as it is
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from assay.core import config as configs
from assay.core.errors import UserError
from assay.train.workdir import EXTRA
from assay.treat.table import FACTORIES

SHARE: Mapping[str, float] = {"prune": 0.25, "lowrank": 0.25, "lora": 0.5, "quantize": 0.0, "merge": 0.0}  # of the run's steps; others: all
RATE = 0.3
ITSELF = "itself"
MODEL = ("ensemble", "prune", "quantize", "lowrank", "lora", "merge")  # treatments that stay with a model once it has them
ONCE = ("init", "inherit", "distill")  # treatments that a later stage does not repeat
FOLDER = "stages"


class Stage(NamedTuple):
    name: str  # 1_distill
    spec: str  # as it was asked for
    config: dict[str, Any]
    workdir: str
    experiment: str  # of the rows


def plan(workdir: str, specs: Sequence[str], target: str, overrides: Mapping[str, str], base: Mapping[str, Any]) -> list[Stage]:
    """The stages that do `specs` to the run in `workdir`, whose config.json is `base`; the last lies in `target` itself, the others below
    it. Raises UserError for what can be seen to be wrong without running them."""
    if not specs:
        raise UserError("nothing to do: name a treatment with --treat, such as --treat=quantize:int8.")
    config = {key: value for key, value in base.items() if key not in EXTRA}
    stages: list[Stage] = []
    before = workdir
    for i, spec in enumerate(specs):
        name, _, text = spec.partition(":")
        own, stage = _split(text)
        folder = target if i == len(specs) - 1 else f"{target}/{FOLDER}/{i + 1}_{name}"
        if name == "distill" and stage.get("student") != ITSELF:
            config = _fresh(config, base, own, stage, before)
        else:
            config = _recovering(config, base, name, own, stage, before, workdir)
        config = configs.to_dict(configs.override(configs.locked(config), overrides))
        stages.append(Stage(f"{i + 1}_{name}", spec, config, folder, f"{base['experiment']}/{name}"))
        before = folder
    return stages


def find_config(experiment: str) -> str:
    """The path of the file that an experiment such as `vision/cnn_digits:cnn` is in, with its variant. Raises UserError."""
    name, _, variant = experiment.partition(":")
    here = Path("experiments") / f"{name}.py"
    spec = importlib.util.find_spec("experiments")
    installed = [Path(folder) / f"{name}.py" for folder in (spec.submodule_search_locations or [])] if spec else []
    for path in (here, *installed):
        if path.is_file():
            return f"{path}:{variant}"
    raise UserError(f"the config file of {experiment!r} is not here ({here}). Name the student's with distill:student=FILE.py:variant.")


# -- private --------------------------------------------------------------------------------------------------------------


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    """The options of the treatment, and those of its stage."""
    own: list[str] = []
    stage: dict[str, str] = {}
    last = ""
    for pair in (pair for pair in text.split(",") if pair):
        key, equals, value = pair.partition("=")
        if key in ("steps", "rate", "student") and equals:
            stage[key], last = value, key
        elif last == "student" and not equals:  # a variant has a comma of its own: cnn,tiny
            stage["student"] += f",{pair}"
        else:
            own.append(pair)
            last = ""
    return own, stage


def _fresh(config: Mapping[str, Any], base: Mapping[str, Any], own: list[str], stage: Mapping[str, str], before: str) -> dict[str, Any]:
    """A student that is drawn anew and taught by the run before."""
    student = stage.get("student", "")
    kept = [spec for spec in config["treatments"] if _name(spec) not in (*ONCE, *MODEL)]
    made = {**config, "treatments": [_taught_by(before, own), *kept]}
    if student.partition(":")[0].endswith(".py"):
        other = configs.to_dict(configs.load(student))
        if other["task"].get("name") != config["task"].get("name"):
            raise UserError(
                f"the student {student} is a model for {other['task'].get('name')}, and its teacher {before} was trained on "
                f"{config['task'].get('name')}: their labels and vocabularies differ. Name a config of the teacher's task."
            )
        made |= {group: other[group] for group in ("model", "optimizer", "train", "precision")}
    elif student:
        file, _, variant = find_config(base["experiment"]).partition(":")
        tiny = ",tiny" if variant.endswith("tiny") and not student.endswith("tiny") else ""
        made["model"] = configs.to_dict(configs.load(f"{file}:{student}{tiny}"))["model"]
    return _timed(made, stage, int(made["train"]["steps"]), None)


def _recovering(
    config: Mapping[str, Any], base: Mapping[str, Any], name: str, own: list[str], stage: Mapping[str, str], before: str, first: str
) -> dict[str, Any]:
    """The model as it is, with a treatment more."""
    if name not in FACTORIES:
        from assay.core.errors import unknown

        raise unknown("treatment", name, FACTORIES, "--treat")
    if "student" in stage and name != "distill":
        raise UserError(f"a student is taught by distill, and {name!r} has none. Leave out student={stage['student']}.")
    there = [spec for spec in config["treatments"] if _name(spec) not in ONCE]
    model = _of_model(there)
    others = [spec for spec in there if _name(spec) not in MODEL and _name(spec) != name]
    if name == "prune" and any(pair.startswith("rewind=") for pair in own) and not any(pair.startswith("from=") for pair in own):
        own = [*own, f"from={before}"]
    new = _taught_by(first, own) if name == "distill" else f"{name}:{','.join(own)}" if own else name
    listed = [new, *others] if name == "distill" else [*others, new]
    made = {**config, "treatments": [*model, f"inherit:from={before}", *listed]}
    training = name == "quantize" and "train=true" in [pair.lower() for pair in own]
    share = 0.25 if training else SHARE.get(name, 1.0)
    return _timed(made, stage, round(share * int(base["train"]["steps"])), RATE * float(base["optimizer"]["learning_rate"]))


def _timed(config: dict[str, Any], stage: Mapping[str, str], steps: int, rate: float | None) -> dict[str, Any]:
    """The config with the steps and the rate of its stage."""
    for key, kind in (("steps", int), ("rate", float)):
        try:
            kind(stage.get(key, "0"))
        except ValueError:
            raise UserError(f"the stage has {key}={stage[key]}, which is not of type {kind.__name__}. Change it in --treat.") from None
    steps = int(stage.get("steps", steps))
    train, optimizer = {**config["train"], "steps": steps}, dict(config["optimizer"])
    if rate is not None:  # it recovers: a short run from where another ended
        train |= {"patience": 0, "validate_every": train["validate_every"] if train["validate_every"] <= steps else 0}
        optimizer |= {"schedule": "cosine", "decay_steps": 0, "warmup_steps": min(optimizer["warmup_steps"], steps // 10)}
        optimizer["learning_rate"] = rate
    if "rate" in stage:
        optimizer["learning_rate"] = float(stage["rate"])
    return {**config, "train": train, "optimizer": optimizer}


def _taught_by(teacher: str, own: Sequence[str]) -> str:
    named = any(pair.startswith("from=") for pair in own)
    return "distill:" + ",".join([*([] if named else [f"from={teacher}"]), *own])


def _of_model(specs: Sequence[str]) -> list[str]:
    """What was done to the model, as far as it still shows: where `lora` was merged, and nothing quantised below it, neither does."""
    found = [_settled(spec) for spec in specs if _name(spec) in MODEL]
    names = [_name(spec) for spec in found]
    if "merge" in names and "quantize" not in names:
        return [spec for spec in found if _name(spec) not in ("lora", "merge")]
    return found


def _settled(spec: str) -> str:
    """A treatment of the model as it stands once it was done: a mask does not grow again."""
    name, _, text = spec.partition(":")
    if name != "prune":
        return spec
    kept = [
        pair
        for pair in text.split(",")
        if pair.partition("=")[0] in ("sparsity", "nm", "paths", "scope", "heads", "units", "channels", "layers")
    ]
    return f"{name}:{','.join(kept)}"


def _name(spec: str) -> str:
    return spec.partition(":")[0]
