"""Registration of models, tasks, treatments, diagnostics and metrics by name: `assay.register`, as a function and as decorators.

    @assay.register.treatment
    def label_noise(share: float = 0.1) -> assay.Treatment: ...

    @assay.register.model("mine", config=MyConfig)
    def build(config, vocabulary, dtype) -> assay.Model: ...

Names last as long as the process. `assay VERB --import=my_module` registers those of a module, and config.json records the module.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from assay.config.generated import KEYS
from assay.core.errors import UserError, unknown
from assay.diagnostics.table import DIAGNOSTICS, Diagnostic
from assay.evals.rows import HEADLINES, LOWER_IS_BETTER
from assay.evals.summary import SUMMARIES, Summary, of_predictions
from assay.models.families import FAMILIES, Family
from assay.tasks.table import TASKS, Entry
from assay.treatments.table import FACTORIES

TABLES: Mapping[str, dict[str, Any]] = {
    "treatment": FACTORIES,
    "task": TASKS,
    "model": FAMILIES,
    "diagnostic": DIAGNOSTICS,
    "metric": SUMMARIES,
}
ENTRIES: Mapping[str, type] = {"task": Entry, "model": Family, "diagnostic": Diagnostic, "metric": Summary}  # a treatment's is a function
BETTER = ("higher", "lower")

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Function], Function]


class Register:
    """Adds an entry to a table, so that configs, verbs and functions of this process know its name.

    `register(kind, name, entry)` takes the entry; `register.treatment`, `.model`, `.task`, `.diagnostic` and `.metric` are decorators that
    make it from a function, which they return as it is. Without a name, a decorator takes that of the function.

    Args:
      kind: "treatment": entry is a factory, a function from options to a Treatment. "task": `tasks.table.Entry`. "model":
        `models.families.Family`. "diagnostic": `diagnostics.table.Diagnostic`. "metric": `evals.summary.Summary`.
      name: a name that the table does not have yet.
      entry: the value of the name.

    Raises UserError for an unknown kind, a name that is already taken, and an entry of another type.

    >>> import optax
    >>> @assay.register.treatment
    ... def halved(factor: float = 0.5) -> assay.Treatment:
    ...     return assay.Treatment(optimizer=lambda optimizer: optax.chain(optimizer, optax.scale(factor)))
    >>> assay.register("treatment", "doubled", lambda: halved(2.0))
    >>> rows = assay.run("parity:tiny", "runs/halved", {"treatments": "halved:factor=0.25", "evaluate.splits": "iid"})
    >>> rows[0]["treatment"]
    'halved:factor=0.25'
    """

    def __call__(self, kind: str, name: str, entry: Any) -> None:
        if kind not in TABLES:
            raise unknown("kind", kind, TABLES, "register(KIND, ...)")
        if not isinstance(name, str) or not name:
            raise UserError(f"{name!r} is not the name of a {kind}. Give a text.")
        if name in TABLES[kind] or (kind == "metric" and name in {*HEADLINES, *LOWER_IS_BETTER}):
            raise UserError(f"a {kind} named {name!r} already exists. Choose another name.")
        wanted = ENTRIES.get(kind)
        if not (callable(entry) if wanted is None else isinstance(entry, wanted)):
            said = "a function that returns a Treatment" if wanted is None else f"{wanted.__name__} of {wanted.__module__}"
            raise UserError(f"the {kind} {name!r} is {type(entry).__name__}, not {said}. Pass one, or use the decorator register.{kind}.")
        TABLES[kind][name] = entry
        if kind == "task":
            KEYS[name] = entry.defaults
        if kind == "metric" and entry.lower:
            LOWER_IS_BETTER.add(name)

    def treatment(self, name: Any = "") -> Any:
        """Registers a factory of a treatment: a function from options to a Treatment. `--treat=NAME:OPTION=VALUE` names it."""
        return self._made("treatment", name, lambda factory: factory)

    def model(self, name: str = "", *, config: type) -> Decorator:
        """Registers a family of models: a function (config, vocabulary, dtype) -> Model. `config` is a frozen dataclass of its keys."""
        _check_config("model", config)
        return self._made("model", name, lambda build: Family(config, build))

    def task(
        self,
        name: str = "",
        *,
        config: type,
        defaults: Mapping[str, Any] | None = None,
        splits: Sequence[str] = ("train", "valid", "test"),
        about: str = "",
    ) -> Decorator:
        """Registers a task: a function (config, seed) -> Task.

        Args:
          name: its name, which `config.task.name` chooses.
          config: a frozen dataclass of the keys of config.task; its field `name` is the name.
          defaults: values of the keys, for `assay show`. Default: those of the dataclass.
          splits: names of its splits, as `assay show --task=list` prints them.
          about: an example in one line. Default: the first line of the function's docstring.
        """
        _check_config("task", config)
        fields = {field.name: field.default for field in dataclasses.fields(config) if field.default is not dataclasses.MISSING}
        known = {key: value for key, value in (fields if defaults is None else defaults).items() if key != "name"}
        return self._made("task", name, lambda build: Entry(config, build, known, splits, about or _first_line(build)))

    def diagnostic(
        self, name: str = "", *, group: str, rows: Sequence[str] = (), choosing: bool = False, timing: bool = False
    ) -> Decorator:
        """Registers a diagnostic: a function Subject -> list of Measurement.

        Args:
          name: its name in the table.
          group: the group of its rows, one of today's or a new one.
          rows: the names of its rows, which state the error if it fails. Default: its own name.
          choosing: True if suggestions read its rows, which are then also measured on `valid`.
          timing: True if its rows vary between diagnoses.
        """
        return self._made(
            "diagnostic", name, lambda measure: Diagnostic(group, tuple(rows) or (_name(measure, name),), measure, choosing, timing)
        )

    def metric(self, name: Any = "", *, unit: str = "fraction", better: str = "higher", interval: bool = True) -> Any:
        """Registers a metric of a split: a function (predictions, targets) -> number, of two lists as the predictions of a run show them.

        `--config.train.metric=NAME` lists it in the rows, and makes it the metric of validations and early stopping.

        Args:
          name: its name, which no score and no other metric has.
          unit: its unit; "fraction" is printed in per cent.
          better: "higher" or "lower".
          interval: False for no interval, which a slow function needs: it is called on 1,000 resamples.
        """
        if better not in BETTER:
            raise unknown("direction", better, BETTER, "register.metric(better=...)")
        return self._made("metric", name, lambda function: of_predictions(function, unit, better == "lower", interval))

    def _made(self, kind: str, name: Any, entry: Callable[[Any], Any]) -> Any:
        """Returns the decorator of a kind; or the function, registered, if it was used without parentheses."""
        if callable(name):
            self(kind, _name(name), entry(name))
            return name

        def decorate(function: Function) -> Function:
            self(kind, _name(function, name), entry(function))
            return function

        return decorate


register = Register()


# -- private --------------------------------------------------------------------------------------------------------------


def _name(function: Any, name: str = "") -> str:
    return name or str(getattr(function, "__name__", type(function).__name__))


def _first_line(function: Any) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _check_config(kind: str, config: Any) -> None:
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise UserError(f"register.{kind}(config={config!r}) needs a frozen dataclass of the keys of config.{kind}.")
