"""What configs start from: every key of a run, with its unit or effect. A config changes what its question needs.

config = defaults()
config.task = ConfigDict({...})
config.model = transformer("encoder", depth=2, width=128)
config.train.update({"steps": 2000})
"""

from typing import Any

from ml_collections import ConfigDict


def defaults() -> ConfigDict:
    """All groups but `task` and `model`."""
    config = ConfigDict()
    config.seed = 0  # of initial parameters and of the order or choice of training examples
    config.objective = ConfigDict({"name": "supervised"})
    config.optimizer = ConfigDict(
        {
            "name": "adam",  # sgd, momentum, adam, adamw, adagrad, adafactor, lion, muon
            "learning_rate": 1e-3,  # at the peak
            "schedule": "constant",  # constant, cosine, linear
            "warmup_steps": 0,  # steps of linear rise
            "decay_steps": 0,  # steps until a decaying schedule ends; 0 means train.steps
            "weight_decay": 0.0,  # decoupled
            "decay_paths": "kernel$",  # regex of the parameters that decay
            "clip_norm": 1.0,  # global gradient norm; 0 switches clipping off
        }
    )
    config.train = ConfigDict(
        {
            "steps": 1000,  # updates
            "batch_size": 64,  # examples an update
            "buckets": 1,  # padded shapes that training compiles
            "steps_per_call": 10,  # updates in one compiled call
            "log_every": 10,  # steps between lines of metrics.jsonl
            "read_threads": 0,  # threads by which Grain reads ahead, for record files; 0: none, the fastest for data in memory
            "validate_every": 0,  # steps between looks at the split `valid`; 0: none
            "patience": 0,  # looks without a better value after which training stops, with the best look's parameters; 0: never
        }
    )
    config.evaluate = ConfigDict(
        {
            "splits": ("test",),  # evaluated at the end
            "per_length": 8,  # examples of each length, where a split does not end
            "batch_size": 256,  # examples in one compiled call
            "buckets": 4,  # padded shapes a split is evaluated in
            "samples": 0,  # answers drawn for each example, for a vote and a verifier; 0: none
            "temperature": 1.0,  # of the draw
        }
    )
    config.checkpoint = ConfigDict(
        {
            "every": 200,  # steps between saves
            "keep": 2,  # newest checkpoints that stay
            "keep_every": 0,  # steps between checkpoints that are kept for good, beside the newest; 0: none
        }
    )
    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # devices an axis; -1 takes all that are left
    config.precision = ConfigDict(  # each float32 or bfloat16; the loss and the optimiser are float32 at least
        {
            "params": "float32",  # parameters, and so their gradients
            "compute": "float32",  # activations and matrix products
            "output": "float32",  # logits
        }
    )
    config.treatments = ()  # in order, each name or name:key=value
    return config


def variant(given: str, names: tuple[str, ...], file: str) -> tuple[str, bool]:
    """`name`, `name,tiny` or `tiny` (the first name's) -> (name, whether tiny); `sized` has taken `small` out of them. Raises UserError
    listing the names."""
    from assay.core.errors import unknown

    name, _, size = (given or names[0]).partition(",")
    if name == "tiny":
        name, size = names[0], "tiny"
    if name not in names or size not in ("", "tiny"):
        raise unknown("variant", given, [*names, "small", "tiny"], f"--config={file}:VARIANT")
    return name, size == "tiny"


def changed(values: dict[str, Any], changes: dict[str, Any]) -> ConfigDict:
    """The values with some of them changed; a key that is not there is a mistake."""
    config = ConfigDict(values).lock()
    config.update(changes)
    return config.unlock()
