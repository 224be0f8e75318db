"""Pipelines: treatments applied to a finished run one after another; each stage is a run that continues from the previous one.

    distill:student=small,T=4    prune:heads=0.5,steps=200    quantize:int8

A stage is a config: the previous run's config, with `inherit` to load its parameters, plus the new treatment. Earlier model treatments are
listed before `inherit`, because they determine the shapes. In addition to its own options, a treatment accepts those of its stage:

    steps     recovery steps; default: SHARE of the run's own steps
    rate      peak learning rate, followed by cosine decay; default: RATE times the run's own
    student   distill only: `small` or another variant of the run's config, FILE.py:variant, or `itself` for the unchanged model

A stage that trains has a control, which trains as long without the treatment: more updates alone may raise a score. `longer` is these
updates itself, and `larger` starts from scratch and takes as many updates as the run, so neither has one.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from assay import config as configs
from assay.core.errors import UserError, unknown
from assay.train.workdir import EXTRA, OVERRIDES, WorkDir
from assay.treatments.folder import folder, folders, pieces, written
from assay.treatments.table import FACTORIES

# Default steps of a stage as a share of the run's; 1 for others.
SHARE: dict[str, float] = {"prune": 0.25, "lowrank": 0.25, "lora": 0.5}
SHARE |= dict.fromkeys(("quantize", "merge", "calibrate", "threshold"), 0.0)
RATE = 0.3
SMALL, ITSELF = "small", "itself"
TASK = ("couple", "curriculum", "recombine", "reverse", "scratchpad", "supervise")  # treatments that change the task
MASKS = ("sparsity", "nm", "paths", "scope", "heads", "units", "channels", "layers")  # options of `prune` that define what is removed
MODEL = ("ensemble", "prune", "quantize", "lowrank", "lora", "merge", "calibrate", "threshold")  # treatments that later stages keep
LONGER, LARGER = "longer", "larger"
ONCE = ("init", "inherit", "distill", "early_stopping", LONGER)  # treatments that a later stage does not repeat
PENALTIES = ("l1", "l2", "rate")  # select parameters by path; records that replace matrices have other paths
RECORDS = ("quantize", "lowrank", "lora")
COMPRESSED = ("prune", "quantize", "lowrank", "lora", "merge")  # what a model that is trained from scratch leaves out
TRAINED_FROM = ("ensemble", "init", "inherit")  # treatments that only a run from scratch can have
FOLDER, CONTROL = "stages", "control"


class Stage(NamedTuple):
    """One stage of a pipeline."""

    name: str  # number and treatment, such as 1_distill
    spec: str  # the treatment spec as given; "" for a control
    config: dict[str, Any]
    workdir: str
    experiment: str  # experiment name in the rows
    overrides: Mapping[str, str]  # keys of the config file that the run's or this command changed


def plan(workdir: str, specs: Sequence[str], target: str, overrides: Mapping[str, str], base: Mapping[str, Any]) -> list[Stage]:
    """Returns the stages that apply `specs` to the run in `workdir`.

    Raises UserError for every mistake that is detectable without running the stages.

    Args:
        workdir: work directory of the finished run.
        specs: treatment specs in order.
        target: work directory of the last stage; the other stages are in folders below it.
        overrides: config overrides of every stage; keys of `model` apply to new students only.
        base: contents of the run's config.json.
    """
    if not specs:
        raise UserError("nothing to do: name a treatment with --treat, such as --treat=quantize:int8.")
    sizes = [key for key in overrides if key.split(".")[0] == "model"]
    if "treatments" in overrides:
        raise UserError("each stage sets its own treatments: name them with --treat and omit --config.treatments.")
    config = {key: value for key, value in base.items() if key not in EXTRA}
    own = _trained(config)  # sets the default steps and rate of a stage: the treated run, or its latest student
    workdir, target = os.path.abspath(workdir), os.path.abspath(target)
    stages: list[Stage] = []
    before = workdir
    for i, spec in enumerate(specs):
        name, _, text = spec.partition(":")
        if name not in FACTORIES or name in TRAINED_FROM:
            raise unknown("treatment", name, set(FACTORIES) - set(TRAINED_FROM), "--treat")
        options, stage = _split(text)
        place = target if i == len(specs) - 1 else f"{target}/{FOLDER}/{i + 1}_{name}"
        fresh = name == "distill" and stage.get("student") != ITSELF
        if fresh:
            config = _fresh(config, own, base["experiment"], options, stage, before)
        elif name == LARGER:
            config = _from_scratch(config, own, options, stage)
        else:
            config = _recovering(config, own, name, options, stage, before, workdir)
        wanted = {key: value for key, value in overrides.items() if fresh or key not in sizes}
        config = configs.to_dict(configs.override(configs.locked(config), wanted))
        own = config if fresh or name == LARGER else own
        changed = {**({} if fresh else base.get(OVERRIDES, {})), **wanted}
        stages.append(Stage(f"{i + 1}_{name}", spec, config, place, base["experiment"], changed))
        before = place
    if sizes and not any(stage.name.endswith("_distill") and "inherit:" not in str(stage.config["treatments"]) for stage in stages):
        raise UserError(f"a stage inherits its model unchanged: --config.{sizes[0]} can be changed for a new student of distill only.")
    return stages


def plan_controls(workdir: str, stages: Sequence[Stage], target: str, base: Mapping[str, Any]) -> list[Stage | None]:
    """Returns the control of each stage, or None while no stage has trained: the same updates at the same rate, without the treatments.

    A control starts where its stage does, from the treated run or its last control, and sees the same batches. The control of a new student
    is the student trained without a teacher. A stage that does not train has the control of the stage before it.

    Args:
        workdir: work directory of the finished run.
        stages: the stages of `plan`.
        target: work directory of the last stage; controls are in folders below it.
        base: contents of the run's config.json.
    """
    before, listed = os.path.abspath(workdir), list(base["treatments"])
    found: list[Stage | None] = []
    for i, stage in enumerate(stages):
        if not int(stage.config["train"]["steps"]):
            found.append(found[-1] if found else None)
            continue
        if _name(stage.spec) in (LONGER, LARGER):
            found.append(None)  # an earlier control has fewer updates
            before, listed = stage.workdir, list(stage.config["treatments"])
            continue
        if any(_name(spec) == "inherit" for spec in stage.config["treatments"]):
            model, task, others = _kept(listed)
            listed = [*model, f"inherit:from={written(before)}", *task, *others]
        else:
            listed = [spec for spec in stage.config["treatments"] if _name(spec) != "distill"]
        before = f"{os.path.abspath(target)}/{FOLDER}/{i + 1}_{CONTROL}"
        found.append(Stage(f"{i + 1}_{CONTROL}", "", {**stage.config, "treatments": listed}, before, stage.experiment, stage.overrides))
    return found


def find_config(experiment: str) -> str:
    """Returns the config file of an experiment such as `vision/cnn_digits:cnn`, with its variant. Raises UserError."""
    name, _, variant = experiment.partition(":")
    here = Path("experiments") / f"{name}.py"
    try:
        return f"{here if here.is_file() else configs.find(name)}:{variant}"
    except UserError:
        raise UserError(
            f"the config file of {experiment!r} was not found ({here}). Name the student's file with distill:student=FILE.py:variant."
        ) from None


# -- private --------------------------------------------------------------------------------------------------------------


def _trained(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the config of the run that trained the parameters: of a stage without updates, that of the run which it continues."""
    while not int(config["train"]["steps"]):
        before = next((spec.partition("from=")[2] for spec in config["treatments"] if _name(spec) == "inherit"), "")
        if not before:
            break
        try:
            config = WorkDir(folder(before)).read_config()
        except UserError:  # that run is gone
            break
    return config


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    """Splits options into those of the treatment and those of its stage."""
    own: list[str] = []
    stage: dict[str, str] = {}
    last = ""
    for pair in pieces([pair for pair in text.split(",") if pair]):
        key, equals, value = pair.partition("=")
        if key in ("steps", "rate", "student") and equals:
            stage[key], last = value, key
        elif last == "student" and not equals:  # a variant may contain a comma: cnn,tiny
            stage["student"] += f",{pair}"
        else:
            own.append(pair)
            last = ""
    return own, stage


def _fresh(
    config: Mapping[str, Any], own: Mapping[str, Any], experiment: str, options: list[str], stage: Mapping[str, str], before: str
) -> dict[str, Any]:
    """Returns the config of a newly initialized student that is distilled from the previous run."""
    student = stage.get("student", "")
    task, others = _parted([spec for spec in config["treatments"] if _name(spec) not in (*ONCE, *MODEL)])
    made = {**config, "train": own["train"], "optimizer": own["optimizer"]}
    made["treatments"] = [*task, _taught_by(before, options), *others]
    if configs.parts(student)[0].endswith(".py"):
        other = configs.to_dict(configs.load(student))
        if other["task"].get("name") != config["task"].get("name"):
            raise UserError(
                f"the student {student} is a model for {other['task'].get('name')}, but its teacher {before} was trained on "
                f"{config['task'].get('name')}: their labels and vocabularies differ. Name a config of the teacher's task."
            )
        made |= {group: other[group] for group in ("model", "optimizer", "train", "precision")}
    elif student:
        file, variant = configs.parts(find_config(experiment))
        if student == SMALL:
            student = f"{variant},{SMALL}" if variant else SMALL
        elif variant.endswith("tiny") and not student.endswith("tiny"):
            student = f"{student},tiny"
        made["model"] = configs.to_dict(configs.load(f"{file}:{student}"))["model"]
    return _timed(made, stage, int(made["train"]["steps"]), None)


def _from_scratch(config: Mapping[str, Any], own: Mapping[str, Any], options: list[str], stage: Mapping[str, str]) -> dict[str, Any]:
    """Returns the config of a larger model, trained from scratch as long as the run."""
    if "student" in stage:
        raise UserError(f"only distill has a student, but {LARGER!r} was given one. Omit student={stage['student']} in --treat.")
    left_out = ("inherit", "distill", LONGER, LARGER, *COMPRESSED)
    kept = [spec for spec in own["treatments"] if _name(spec) not in left_out]
    made = {**config, "train": own["train"], "optimizer": own["optimizer"]}
    made["treatments"] = [*kept, f"{LARGER}:{','.join(options)}" if options else LARGER]
    return _timed(made, stage, int(own["train"]["steps"]), None)


def _recovering(
    config: Mapping[str, Any], own: Mapping[str, Any], name: str, options: list[str], stage: Mapping[str, str], before: str, first: str
) -> dict[str, Any]:
    """Returns the config of a stage that inherits the model and adds one treatment."""
    if "student" in stage and name != "distill":
        raise UserError(f"only distill has a student, but {name!r} was given one. Omit student={stage['student']} in --treat.")
    model, task, others = _kept(config["treatments"], name)
    if name == "prune" and any(pair.startswith("rewind=") for pair in options) and not any(pair.startswith("from=") for pair in options):
        options = [*options, f"from={written(before)}"]
    new = _taught_by(first, options) if name == "distill" else f"{name}:{','.join(options)}" if options else name
    listed = [new, *others] if name == "distill" else [*others, new]
    made = {**config, "treatments": [*model, f"inherit:from={written(before)}", *task, *listed]}
    training = name == "quantize" and "train=true" in [pair.lower() for pair in options]
    share = SHARE["prune"] if training else SHARE.get(name, 1.0)
    rate = (1.0 if name == LONGER else RATE) * float(own["optimizer"]["learning_rate"])
    return _timed(made, stage, round(share * int(own["train"]["steps"])), rate)


def _kept(treatments: Sequence[str], name: str = "") -> tuple[list[str], list[str], list[str]]:
    """Returns the treatments of the model, the task and all others that a stage keeps if it adds the treatment `name`."""
    there = [spec for spec in treatments if _name(spec) not in ONCE]
    model = _of_model(there)
    records = name in RECORDS or any(_name(spec) in RECORDS for spec in model)
    left_out = (*MODEL, name, *(PENALTIES if records else ()))
    return model, *_parted([spec for spec in there if _name(spec) not in left_out])


def _parted(specs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits treatments into those that change the task, which must precede the teacher, and all others."""
    task = [spec for spec in specs if _name(spec) in TASK]
    return task, [spec for spec in specs if spec not in task]


def _timed(config: dict[str, Any], stage: Mapping[str, str], steps: int, rate: float | None) -> dict[str, Any]:
    """Returns the config with the steps and the learning rate of its stage."""
    for key, kind in (("steps", int), ("rate", float)):
        try:
            kind(stage.get(key, "0"))
        except ValueError:
            raise UserError(f"the stage has {key}={stage[key]}, which is not of type {kind.__name__}. Change it in --treat.") from None
    steps = int(stage.get("steps", steps))
    for key, fine, allowed in (("steps", steps >= 0, "at least 0"), ("rate", float(stage.get("rate", 1.0)) > 0, "above 0")):
        if not fine:
            raise UserError(f"the stage has {key}={stage[key]}, but it must be {allowed}. Change it in --treat.")
    train, optimizer = {**config["train"], "steps": steps}, dict(config["optimizer"])
    if rate is not None:  # recovery: a short run that continues from a trained model
        train |= {"patience": 0, "validate_every": train["validate_every"] if train["validate_every"] <= steps else 0}
        optimizer |= {"schedule": "cosine", "decay_steps": 0, "warmup_steps": min(optimizer["warmup_steps"], steps // 10)}
        optimizer["learning_rate"] = rate
    if "rate" in stage:
        optimizer["learning_rate"] = float(stage["rate"])
    return {**config, "train": train, "optimizer": optimizer}


def _taught_by(teacher: str, own: Sequence[str]) -> str:
    said = [pair for pair in own if pair.startswith("from=")]
    named = "+".join(map(written, folders(said[0].removeprefix("from=")) if said else [teacher]))
    return "distill:" + ",".join([f"from={named}", *(pair for pair in own if pair not in said)])


def _of_model(specs: Sequence[str]) -> list[str]:
    """Returns the model treatments still in effect; a merged `lora` drops out unless the model was quantized."""
    found = [_settled(spec) for spec in specs if _name(spec) in MODEL and not _in_training(spec)]
    names = [_name(spec) for spec in found]
    if "merge" in names and "quantize" not in names:
        return [spec for spec in found if _name(spec) not in ("lora", "merge")]
    return found


def _in_training(spec: str) -> bool:
    """Checks for quantization-aware training, which leaves the stored parameters unquantized."""
    return _name(spec) == "quantize" and "train=true" in spec.lower().partition(":")[2].split(",")


def _settled(spec: str) -> str:
    """Returns the spec that reproduces a finished model treatment; for `prune`, options such as the ramp are dropped."""
    name, _, text = spec.partition(":")
    if name != "prune":
        return spec
    kept = [pair for pair in text.split(",") if pair.partition("=")[0] in MASKS]
    return f"{name}:{','.join(kept)}"


def _name(spec: str) -> str:
    return spec.partition(":")[0]
