"""Keys that configs of older versions lack, each with the value that reproduces the older behaviour.

A work directory written before a key existed still loads, evaluates and resumes: `completed(config)` adds the keys that are missing.
Add a line here whenever a key is added to a config.
"""

from collections.abc import Mapping
from typing import Any

# Group of the config -> the keys added later. Keys of `model` depend on the family, by the value of model.name.
GROUPS: Mapping[str, Mapping[str, Any]] = {"checkpoint": {"keep_every": 0}, "train": {"valid_is_public": False, "metric": ""}}
TRANSFORMER: Mapping[str, Any] = {"norm_variance": "fast", "attention_bias": "none", "mlp_bias": True, "head_bias": True}
CONVNET: Mapping[str, Any] = {"convolution": "xla"}
SPLIT: Mapping[str, Any] = {"stratify": False}  # of the tasks csv and tfds/NAME
MODELS: Mapping[str, Mapping[str, Any]] = {
    "decoder": TRANSFORMER,
    "encoder": TRANSFORMER,
    "encoder_decoder": TRANSFORMER,
    "cnn": CONVNET,
    "resnet": CONVNET,
}


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config with every missing key of GROUPS, SPLIT and MODELS set to its older meaning; keys that are present stay."""
    found = dict(config)
    for group, values in GROUPS.items():
        if isinstance(found.get(group), Mapping):
            found[group] = {**values, **found[group]}
    task = found.get("task")
    if isinstance(task, Mapping) and (task.get("name") == "csv" or str(task.get("name")).startswith("tfds/")):
        found["task"] = {**SPLIT, **task}
    model = found.get("model")
    if isinstance(model, Mapping):
        found["model"] = {**MODELS.get(str(model.get("name")), {}), **model}
    return found
