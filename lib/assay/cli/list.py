"""Lists the configs that ship with assay: the question, variants, cost and expected result of each.

    assay list
    assay list --copy=parity                            (copies the config to ./parity.py, as a starting point)
    assay list --matrix                                 (prints which treatment applies to which models, and why not)

Every config also has the variant `small`, a smaller model that serves as a student for `assay treat`. Only --copy writes
a file.
"""

import ast
import shutil
from pathlib import Path

from absl import flags

from assay.cli.command import launch
from assay.config.files import find, shipped
from assay.core.errors import UserError, unknown

FLAGS = flags.FlagValues()
SUBJECT = flags.DEFINE_string("subject", "", "Folder of configs, such as vision. Default: all.", flag_values=FLAGS)
COPY = flags.DEFINE_string("copy", "", "Name of a config, such as parity, to copy to the current folder.", flag_values=FLAGS)
MATRIX = flags.DEFINE_boolean("matrix", False, "Try every treatment on every family of models; takes about a minute.", flag_values=FLAGS)
HEADINGS = ("Command", "Variants", "Cost", "Expected", "Reference")


def describe(path: Path) -> tuple[str, dict[str, str]]:
    """Returns the question of a config file and the sections of its docstring by heading."""
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
    """Copies the config `name` to the current folder and returns the copy. Raises UserError if a file of that name exists."""
    source = find(name)
    target = Path(source.name)
    if target.exists():
        raise UserError(f"{target} already exists and is not overwritten. Remove it, or run --copy in another folder.")
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
    from assay.config.families import families  # only this imports JAX
    from assay.reports.terminal.matrix import print_matrix
    from assay.train.progress import bar
    from assay.verdicts.matrix import SPECS, matrix

    of, cells = families(), []
    with bar("treatments x families", len(of) * len(SPECS), "pairs") as update:
        for cell in matrix(of):
            cells.append(cell)
            update(len(cells), {})
    print_matrix(cells)
