"""Lists every experiment: its question, its variants, what it costs and what to expect.

python -m experiments.list
python -m experiments.list --subject=vision
python -m experiments.list --matrix                 which treatment applies to which family of models, and why not

Every config also has the variant `small`, which has a smaller model: a student for experiments.treat.
"""

import ast
from pathlib import Path

from absl import flags
from rich.console import Console

from assay.cli.command import launch
from assay.core.errors import UserError, unknown

SUBJECT = flags.DEFINE_string("subject", "", "Folder of experiments, such as vision; empty: all.")
MATRIX = flags.DEFINE_boolean("matrix", False, "Try every treatment on every family of models, in about a minute.")
ROOT = Path(__file__).parent


def describe(path: Path) -> tuple[str, dict[str, str]]:
    """(question, {Command, Variants, Cost, Expected, Reference}) of a config file, from its docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    question, *rest = text.splitlines()
    parts: dict[str, str] = {}
    name = ""
    for line in rest:
        head, colon, tail = line.partition(":")
        if colon and head in ("Command", "Variants", "Cost", "Expected", "Reference"):
            name, line = head, tail
        if name and line.strip():
            parts[name] = f"{parts.get(name, '')}\n{line.strip()}".strip()
    return question, parts


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("list takes no --config overrides.")
    if MATRIX.value:
        from assay.config.families import families
        from assay.train.progress import bar
        from assay.verdicts.matrix import SPECS, matrix, print_matrix

        of, cells = families(), []
        with bar("treatments x families", len(of) * len(SPECS), "pairs") as update:
            for cell in matrix(of):
                cells.append(cell)
                update(len(cells), {})
        print_matrix(cells)
        return
    paths = [path for path in sorted(ROOT.glob("*/*.py")) if "def get_config(" in path.read_text(encoding="utf-8")]
    subjects = sorted({path.parent.name for path in paths})
    if SUBJECT.value and SUBJECT.value not in subjects:
        raise unknown("subject", SUBJECT.value, subjects, "--subject")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    for path in paths:
        if SUBJECT.value in ("", path.parent.name):
            question, parts = describe(path)
            console.print(f"[bold]experiments/{path.relative_to(ROOT)}[/bold]  {question}", soft_wrap=True)
            for name in ("Command", "Variants", "Cost", "Expected"):
                for i, line in enumerate(parts.get(name, "").splitlines()):
                    console.print(f"  {name if i == 0 else '':<9} {line}", markup=False, soft_wrap=True)
            console.print()


if __name__ == "__main__":
    launch(main, __doc__)
