"""The variant `small` of every config: the same run with a smaller model of its family, as a student for distillation.

@sized
def get_config(given: str = "") -> ConfigDict: ...          # also accepts `small`, `NAME,small` and `NAME,small,tiny`
"""

from collections.abc import Callable
from functools import wraps

from ml_collections import ConfigDict

HALVED = ("depth", "width", "embedding", "heads", "kv_heads", "mlp", "dense")  # keys of a family; 0 stays 0, and 1 stays 1
MULTIPLE = {"automaton": 8, "automata_network": 8, "pushdown": 8}  # the width of a cell must be a multiple of this


def student(model: ConfigDict) -> ConfigDict:
    """Returns the config of a model about a quarter to an eighth of the size."""
    made, name = ConfigDict(model.to_dict()), model.name
    if name == "ngram":
        made.order = max(1, model.order - 1)
        return made
    for key in HALVED:
        if key in made and not (name == "resnet" and key == "depth"):  # a ResNet's layout fixes its layers
            made[key] = max(model[key] // 2, min(model[key], 1))
    if "filters" in made:
        made.filters = tuple(max(1, filters // 2) for filters in model.filters)
    if "groups" in made:
        made.groups = max(groups for groups in range(1, model.groups + 1) if made.width % groups == 0)
    cells = {name, *made.get("mixers", ())}
    for cell, multiple in MULTIPLE.items():
        if cell in cells:
            made.width = max(multiple, made.width // multiple * multiple)
    if "mixers" in made:
        made.depth = max(made.depth, len(model.mixers))
    return made


def sized(get_config: Callable[[str], ConfigDict]) -> Callable[[str], ConfigDict]:
    """Decorates a config file's `get_config`: it removes `small` from the variant's name and replaces the model by a student."""

    @wraps(get_config)
    def sized_config(given: str = "") -> ConfigDict:
        parts = given.split(",")
        if "small" not in parts:
            return get_config(given)
        parts.remove("small")
        config = get_config(",".join(parts))
        config.model = student(config.model)
        return config

    return sized_config
