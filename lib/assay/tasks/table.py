"""The table of tasks: `config.task.name` selects an entry. A name that ends in `/` stands for all names with that prefix."""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from assay.config.generated import CHOMSKY
from assay.config.schema import typed
from assay.core.errors import UserError, unknown
from assay.tasks import multi
from assay.tasks.composition import arithmetic, ctl, listops, scan
from assay.tasks.datasets import chain, images, language, regression, texts, tfds_task
from assay.tasks.files import pictures as file_pictures
from assay.tasks.files import table as file_table
from assay.tasks.files import texts as file_texts
from assay.tasks.formal import chomsky
from assay.tasks.formal.chomsky_rules import RULES
from assay.tasks.puzzles import addition, gym, modular, path_star
from assay.tasks.recall import induction, mqar, p_hop
from assay.tasks.task import Task

LABELS = {"labels": 0, "folds": 0, "fold": 0}
IMAGES = {**LABELS, "data_dir": "", "colour": 0.0}
TEXTS = {**LABELS, "data_dir": "", "tokenizer": "bytes", "tokenizer_size": 8192, "tokenizer_file": "", "max_length": 512}
FILES = {"train": "", "test": "", "text": "text", "label": "label", "stratify": True}
OWN = {
    **LABELS,
    "train": "",
    "test": "",
    "target": "",
    "kind": "classes",
    "text": (),
    "ignore": (),
    "delimiter": "",
    "encoding": "",
    "header": "",
}
LANGUAGE = {"tokenizer": "bytes", "tokenizer_size": 8192, "window": 256, "context": 128, "bytes": 0}
MULTI = {"members": ("chomsky/parity_check", "chomsky/cycle_navigation"), "weights": (1.0, 1.0), "shared": CHOMSKY}
LABELLED = ("train", "valid", "test")


class Entry(NamedTuple):
    """Entry of the table of tasks."""

    config: type  # frozen dataclass of the keys of config.task
    build: Callable[[Any, int], Task]  # (config, training seed) -> task
    defaults: Mapping[str, Any]  # keys for viewing the data without a config
    splits: Sequence[str]
    about: str  # what an example asks for, in one line


def build_multi(config: multi.MultiConfig, seed: int) -> Task:
    """Builds several tasks of this table as one."""
    return multi.together([build({**config.shared, "name": name}, seed) for name in config.members], config.weights, config.name)


def _entries(prefix: str, module: ModuleType, config: type) -> dict[str, Entry]:
    """Returns the entries of a module that defines DEFAULTS, SPLITS and ABOUT."""
    return {f"{prefix}{name}": Entry(config, module.build, module.DEFAULTS, module.SPLITS, about) for name, about in module.ABOUT.items()}


TASKS: dict[str, Entry] = {
    **{
        f"chomsky/{name}": Entry(chomsky.ChomskyConfig, chomsky.build, CHOMSKY, chomsky.SPLITS, chomsky.ABOUT[name])
        for name in RULES["code"]
    },
    **_entries("scan/", scan, scan.ScanConfig),
    **_entries("ctl/", ctl, ctl.CTLConfig),
    **_entries("arithmetic/", arithmetic, arithmetic.ArithmeticConfig),
    "listops/depth": Entry(listops.DepthConfig, listops.build_depth, listops.DEFAULTS, listops.SPLITS, listops.ABOUT["depth"]),
    "listops/lra": Entry(listops.LRAConfig, listops.build_lra, listops.LRA_DEFAULTS, listops.LRA_SPLITS, listops.ABOUT["lra"]),
    **_entries("", addition, addition.AdditionConfig),
    **_entries("modular/", modular, modular.ModularConfig),
    **_entries("", path_star, path_star.PathStarConfig),
    **_entries("recall/", mqar, mqar.MQARConfig),
    **_entries("recall/", induction, induction.InductionConfig),
    **_entries("recall/", p_hop, p_hop.PHopConfig),
    "digits": Entry(images.ImagesConfig, images.build, IMAGES, LABELLED, "a handwritten digit, 8 x 8 -> its value"),
    "diabetes": Entry(regression.RegressionConfig, regression.build, {}, LABELLED, "ten measurements of a patient -> a disease's progress"),
    "multi": Entry(multi.MultiConfig, build_multi, MULTI, chomsky.SPLITS, "several tasks at once, by --config.task.members"),
    "stdlib/package": Entry(texts.TextsConfig, texts.build_tfds, TEXTS, LABELLED, "a passage of Python's own library -> its package"),
    "stdlib/lm": Entry(language.LanguageConfig, language.build, LANGUAGE, LABELLED, "text of Python's own library -> its next token"),
    "stdlib/mlm": Entry(language.MaskedConfig, language.build_masked, {**LANGUAGE, "share": 0.15}, LABELLED, "the same -> hidden tokens"),
    **_entries("synthetic/", chain, chain.ChainConfig),
    "csv": Entry(texts.CSVConfig, texts.build_csv, {**TEXTS, **FILES}, LABELLED, "a text -> its label"),
    "files/texts": Entry(
        file_texts.TextsConfig,
        file_texts.build,
        {**OWN, "tokenizer": "words", "tokenizer_size": 20_000, "tokenizer_file": "", "max_length": 256},
        LABELLED,
        file_texts.ABOUT,
    ),
    "files/table": Entry(file_table.TableConfig, file_table.build, OWN, LABELLED, file_table.ABOUT),
    "files/pictures": Entry(
        file_pictures.PicturesConfig,
        file_pictures.build,
        {**OWN, "height": 32, "width": 32, "channels": 3},
        LABELLED,
        file_pictures.ABOUT,
    ),
    "gym/": Entry(gym.GymConfig, gym.build, gym.DEFAULTS, gym.SPLITS, gym.ABOUT),
    "tfds/": Entry(
        tfds_task.TFDSConfig,
        tfds_task.build,
        {**TEXTS, "stratify": True},
        LABELLED,
        "an image or a text of TensorFlow Datasets -> its class",
    ),
}


def build(config: Mapping[str, Any], seed: int) -> Task:
    """Builds the task that `config` describes. Raises UserError for an unknown name or key."""
    entry = find(config.get("name"))
    try:
        settings = typed(entry.config, config, "task")
    except UserError as error:
        raise UserError(f"{error} (These are the keys of the task {config['name']!r}; --config.task.name chooses it.)") from None
    return entry.build(settings, seed)


def find(name: object, key: str = "--config.task.name") -> Entry:
    """Returns the table's entry. Raises UserError listing the known tasks."""
    known = [entry for entry in TASKS if isinstance(name, str) and (name == entry or (entry.endswith("/") and name.startswith(entry)))]
    if not known:
        raise unknown("task", name, TASKS, key)
    return TASKS[known[0]]
