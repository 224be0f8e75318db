"""Defaults for every key of a run, with its unit or effect. A config changes only what its question needs.

config = defaults()
config.task = ConfigDict({...})
config.model = transformer("encoder", depth=2, width=128)
config.train.update({"steps": 2000})
"""

from typing import Any

from ml_collections import ConfigDict


def defaults() -> ConfigDict:
    """Returns all groups except `task` and `model`."""
    config = ConfigDict()
    config.seed = 0  # seeds the initial parameters and the order or choice of training examples
    config.objective = ConfigDict({"name": "supervised"})
    config.optimizer = ConfigDict(
        {
            "name": "adam",  # sgd, momentum, adam, adamw, adagrad, adafactor, lion, muon
            "learning_rate": 1e-3,  # peak learning rate
            "schedule": "constant",  # constant, cosine, linear
            "warmup_steps": 0,  # steps of linear warmup
            "decay_steps": 0,  # steps until a decaying schedule ends; 0: train.steps
            "weight_decay": 0.0,  # decoupled weight decay
            "decay_paths": "kernel$",  # regex of the parameters to decay
            "clip_norm": 1.0,  # maximum global gradient norm; 0 disables clipping
        }
    )
    config.train = ConfigDict(
        {
            "steps": 1000,  # optimizer updates
            "batch_size": 64,  # examples per update
            "buckets": 1,  # number of padded shapes compiled for training
            "steps_per_call": 10,  # updates per compiled call
            "log_every": 10,  # steps between lines of metrics.jsonl
            "read_threads": 0,  # Grain read-ahead threads for record files; 0: none, the fastest for data in memory
            "validate_every": 0,  # steps between validations on the split `valid`; 0: none
            "patience": 0,  # validations without improvement before stopping; the best checkpoint is restored; 0: never stop early
            "metric": "",  # metric of validations and early stopping, such as a registered one; "": the task's first
            "valid_is_public": False,  # True if `valid` has no private examples; a private treatment may then stop early by it
        }
    )
    config.evaluate = ConfigDict(
        {
            "splits": ("test",),  # splits evaluated at the end of training
            "per_length": 8,  # examples per length, for unbounded splits
            "batch_size": 256,  # examples per compiled call
            "buckets": 4,  # number of padded shapes used to evaluate a split
            "samples": 0,  # answers sampled per example, for voting and verification; 0: none
            "temperature": 1.0,  # sampling temperature
        }
    )
    config.checkpoint = ConfigDict(
        {
            "every": 200,  # steps between checkpoints
            "keep": 2,  # number of recent checkpoints to keep
            "keep_every": 0,  # steps between checkpoints that are kept permanently; 0: none
        }
    )
    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # devices per axis; -1: all remaining devices
    config.precision = ConfigDict(  # each is float32 or bfloat16; the loss and the optimizer use at least float32
        {
            "params": "float32",  # parameters, and therefore their gradients
            "compute": "float32",  # activations and matrix products
            "output": "float32",  # logits
        }
    )
    config.treatments = ()  # applied in order, each name or name:key=value
    return config


def variant(given: str, names: tuple[str, ...], file: str) -> tuple[str, bool]:
    """Parses `name`, `name,tiny` or `tiny` (the first name's) into (name, whether tiny); `sized` has already removed `small`.

    Raises UserError listing the names.
    """
    from assay.core.errors import unknown

    name, _, size = (given or names[0]).partition(",")
    if name == "tiny":
        name, size = names[0], "tiny"
    if name not in names or size not in ("", "tiny"):
        raise unknown("variant", given, [*names, "small", "tiny"], f"--config={file}:VARIANT")
    return name, size == "tiny"


def changed(values: dict[str, Any], changes: dict[str, Any]) -> ConfigDict:
    """Returns the values with `changes` applied; raises KeyError for an unknown key."""
    config = ConfigDict(values).lock()
    config.update(changes)
    return config.unlock()
