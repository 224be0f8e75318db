"""Lists every experiment: its question, its variants, what it costs and what to expect.

assay list
assay list --subject=vision
assay list --copy=parity            copies the config to ./parity.py, to begin one of your own
assay list --matrix                 which treatment applies to which family of models, and why not

Every config also has the variant `small`, a smaller model: a student for `assay treat`.
"""

import ast
import shutil
from pathlib import Path

from absl import flags

from assay.cli.command import launch
from assay.config.files import find, shipped
from assay.core.errors import UserError, unknown

FLAGS = flags.FlagValues()
SUBJECT = flags.DEFINE_string("subject", "", "Folder of experiments, such as vision; empty: all.", flag_values=FLAGS)
COPY = flags.DEFINE_string("copy", "", "Name of a config, such as parity, to copy into this folder.", flag_values=FLAGS)
MATRIX = flags.DEFINE_boolean("matrix", False, "Try every treatment on every family of models, in about a minute.", flag_values=FLAGS)
HEADINGS = ("Command", "Variants", "Cost", "Expected", "Reference")


def describe(path: Path) -> tuple[str, dict[str, str]]:
    """Returns the question of a config file and its parts by heading, from its docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    question, *rest = text.splitlines()
    parts: dict[str, str] = {}
    name = ""
    for line in rest:
        head, colon, tail = line.partition(":")
        if colon and head in HEADINGS:
            name, line = head, tail
        if name and line.strip():
            parts[name] = f"{parts.get(name, '')}\n{line.strip()}".strip()
    return question, parts


def copy(name: str) -> Path:
    """Copies the config `name` into the current folder and returns the copy. Raises UserError where a file of its name is there."""
    source = find(name)
    target = Path(source.name)
    if target.exists():
        raise UserError(f"{target} is there already, and is not overwritten. Remove it, or run --copy in another folder.")
    shutil.copyfile(source, target)
    return target


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("list takes no --config overrides.")
    if COPY.value:
        target = copy(COPY.value)
        print(f"copied to ./{target}\nRun it: assay train --config=./{target} --workdir=runs/{target.stem}")
    elif MATRIX.value:
        _print_matrix()
    else:
        _print_configs(SUBJECT.value)


def start() -> None:
    """Runs the verb from the command line."""
    launch(main, __doc__, given=FLAGS)


# -- private --------------------------------------------------------------------------------------------------------------


def _print_configs(subject: str) -> None:
    from rich.console import Console

    root = shipped()
    paths = [path for path in sorted(root.glob("*/*.py")) if "def get_config(" in path.read_text(encoding="utf-8")]
    subjects = sorted({path.parent.name for path in paths})
    if subject and subject not in subjects:
        raise unknown("subject", subject, subjects, "--subject")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    for path in paths:
        if subject in ("", path.parent.name):
            question, parts = describe(path)
            console.print(f"[bold]experiments/{path.relative_to(root)}[/bold]  {question}", soft_wrap=True)
            for name in HEADINGS[:-1]:
                for i, line in enumerate(parts.get(name, "").splitlines()):
                    console.print(f"  {name if i == 0 else '':<9} {line}", markup=False, soft_wrap=True)
            console.print()


def _print_matrix() -> None:
    from assay.config.families import families  # JAX comes in here only
    from assay.reports.terminal.matrix import print_matrix
    from assay.train.progress import bar
    from assay.verdicts.matrix import SPECS, matrix

    of, cells = families(), []
    with bar("treatments x families", len(of) * len(SPECS), "pairs") as update:
        for cell in matrix(of):
            cells.append(cell)
            update(len(cells), {})
    print_matrix(cells)
