"""Default config: every key of a run, with its unit or effect. Config files start from it and change the keys they need.

config = defaults()
config.task = ConfigDict({...})
config.model = transformer("encoder", depth=2, width=128)
config.train.update({"steps": 2000})
"""

from typing import Any

from ml_collections import ConfigDict


def defaults() -> ConfigDict:
    """Returns the default config, with all groups except `task` and `model`."""
    config = ConfigDict()
    config.seed = 0  # seed of the initial parameters and of the order or selection of training examples
    config.objective = ConfigDict({"name": "supervised"})
    config.optimizer = ConfigDict(
        {
            "name": "adam",  # sgd, momentum, adam, adamw, adagrad, adafactor, lion, muon
            "learning_rate": 1e-3,  # peak learning rate
            "schedule": "constant",  # constant, cosine, linear
            "warmup_steps": 0,  # steps of linear warmup
            "decay_steps": 0,  # steps until a decaying schedule ends; 0 means train.steps
            "weight_decay": 0.0,  # decoupled weight decay
            "decay_paths": "kernel$",  # regex of the parameter paths to which weight decay applies
            "clip_norm": 1.0,  # maximum global gradient norm; 0 disables clipping
        }
    )
    config.train = ConfigDict(
        {
            "steps": 1000,  # parameter updates
            "batch_size": 64,  # examples per update
            "buckets": 1,  # number of padded shapes that training compiles
            "steps_per_call": 10,  # updates per compiled call
            "log_every": 10,  # steps between lines of metrics.jsonl
            "read_threads": 0,  # Grain prefetch threads, for record files; 0: none, which is fastest for data in memory
            "validate_every": 0,  # steps between validations on the split `valid`; 0: none
            "patience": 0,  # validations without improvement before stopping; the best checkpoint is restored; 0: never stop early
        }
    )
    config.evaluate = ConfigDict(
        {
            "splits": ("test",),  # splits to evaluate after training
            "per_length": 8,  # examples of each length, for splits without a fixed size
            "batch_size": 256,  # examples per compiled call
            "buckets": 4,  # number of padded shapes per split
            "samples": 0,  # sampled answers per example, for majority voting and a verifier; 0: none
            "temperature": 1.0,  # sampling temperature
        }
    )
    config.checkpoint = ConfigDict({"every": 200, "keep": 2})  # steps between checkpoints; number of recent checkpoints to keep
    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # devices per axis; -1: all remaining devices
    config.precision = ConfigDict(  # each float32 or bfloat16; the loss and the optimizer use at least float32
        {
            "params": "float32",  # parameters and their gradients
            "compute": "float32",  # activations and matrix products
            "output": "float32",  # logits
        }
    )
    config.treatments = ()  # treatments in order, each as name or name:key=value
    return config


def variant(given: str, names: tuple[str, ...], file: str) -> tuple[str, bool]:
    """Parses a variant: `name`, `name,tiny` or `tiny` (of the first name) -> (name, whether it is tiny).

    `sized` has already removed `small`. Raises UserError for an unknown variant, and lists the names.
    """
    from assay.core.errors import unknown

    name, _, size = (given or names[0]).partition(",")
    if name == "tiny":
        name, size = names[0], "tiny"
    if name not in names or size not in ("", "tiny"):
        raise unknown("variant", given, [*names, "small", "tiny"], f"--config={file}:VARIANT")
    return name, size == "tiny"


def changed(values: dict[str, Any], changes: dict[str, Any]) -> ConfigDict:
    """Returns a config of the values with some of them changed. An unknown key raises an error."""
    config = ConfigDict(values).lock()
    config.update(changes)
    return config.unlock()
