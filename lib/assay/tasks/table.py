"""The table of tasks: `config.task.name` chooses one."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from assay.core.config import typed
from assay.core.errors import unknown
from assay.tasks import chomsky
from assay.tasks.chomsky_rules import RULES
from assay.tasks.task import Task


class Entry(NamedTuple):
    config: type  # the frozen dataclass of the keys of config.task
    build: Callable[[Any, int], Task]  # (config, training seed) -> task
    defaults: Mapping[str, Any]  # keys for those who only look at the data


TASKS: Mapping[str, Entry] = {
    f"chomsky/{name}": Entry(chomsky.ChomskyConfig, chomsky.build, {"convention": "code", "lengths": "1:40", "seed": 0})
    for name in RULES["code"]
}


def build(config: Mapping[str, Any], seed: int) -> Task:
    """The task that `config` describes. Raises UserError for an unknown name or key."""
    entry = find(config.get("name"))
    return entry.build(typed(entry.config, config, "task"), seed)


def find(name: object, key: str = "--config.task.name") -> Entry:
    """The table's entry. Raises UserError listing the known tasks."""
    if not isinstance(name, str) or name not in TASKS:
        raise unknown("task", name, TASKS, key)
    return TASKS[name]
