"""The config file that `assay fit` writes: what it decided, as a file to read, change and train again.

`assay train --config=runs/mine/fit.py:bag --workdir=runs/again` trains the same model to the same bits.
"""

from collections.abc import Mapping, Sequence
from pprint import pformat
from typing import Any

from ml_collections import ConfigDict

from assay.config.groups import defaults
from assay.fitting.plans import Plan

FILE = "fit.py"
MARK = "Written by assay fit."  # in each file, so that no other one is overwritten
TEXT = '''"""{question}

Command:   assay train --config={path}:{first} --workdir=runs/again
Variants:  {names}

{mark} Change keys here, or with --config.KEY=VALUE.
"""

from ml_collections import ConfigDict

from assay.config import defaults, variant

VARIANTS = {variants}

TASK = {task}

MODELS = {models}

CHANGES = {changes}


def get_config(given: str = "") -> ConfigDict:
    name, tiny = variant(given, VARIANTS, "{path}")
    config = defaults()
    config.task, config.model = ConfigDict(TASK), ConfigDict(MODELS[name])
    for group, values in CHANGES[name].items():
        if group == "treatments":
            config.treatments = values
        else:
            config[group].update(values)
    if tiny:
        config.train.steps = min(config.train.steps, 20)
    return config
'''


def text_of(plans: Sequence[Plan], target: str, source: str, path: str) -> str:
    """Returns the text of a config file with one variant for each plan; `path` is where it will be."""
    names = tuple(plan.name for plan in plans)
    question = f"Can {target} be predicted from {source}?"
    return TEXT.format(
        mark=MARK,
        question=_quoted(question),
        path=_quoted(path),
        first=names[0],
        names=", ".join(names),
        variants=pformat(names),
        task=_formatted(_plain(plans[0].config.task)),
        models=_formatted({plan.name: _plain(plan.config.model) for plan in plans}),
        changes=_formatted({plan.name: _changes(plan.config) for plan in plans}),
    )


# -- private --------------------------------------------------------------------------------------------------------------


def _changes(config: ConfigDict) -> dict[str, Any]:
    """Returns the groups with the keys that differ from the defaults, besides task and model."""
    base, found = defaults(), dict[str, Any]()
    for group in base:
        if not isinstance(base[group], ConfigDict):
            if config[group] != base[group]:
                found[group] = config[group]
        elif changed := {key: config[group][key] for key in base[group] if config[group][key] != base[group][key]}:
            found[group] = changed
    return found


def _plain(config: ConfigDict) -> Mapping[str, Any]:
    return {key: _plain(value) if isinstance(value, ConfigDict) else value for key, value in config.items()}


def _formatted(value: Any) -> str:
    return pformat(value, width=110, sort_dicts=False)


def _quoted(text: str) -> str:
    """Returns a text that may stand inside a docstring."""
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', "'")
