"""The architecture: a file imports from the floors below its own, no files import each other, and files and folders stay small.

Imports are read from the source, so one inside a function or under TYPE_CHECKING counts too.
"""

import ast
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIB, EXPERIMENTS = ROOT / "lib" / "assay", ROOT / "experiments"
FILES = sorted(LIB.rglob("*.py"))

# (floor, place on it). A folder sees lower floors, and lower places of its own floor; two folders with one rank never see each other.
RANKS = {
    "core": (0, 0),
    "config": (0, 1),
    "dist": (0, 2),
    "nn": (0, 3),
    "models": (1, 0),
    "data": (1, 0),
    "tasks": (1, 1),
    "infer": (2, 0),
    "evals": (2, 1),
    "train": (2, 2),
    "fitting": (3, 0),
    "treatments": (3, 0),
    "diagnostics": (3, 0),
    "verdicts": (4, 0),
    "reports": (5, 0),
    "cli": (6, 0),
}
MOST_FILES = 16  # of a folder
NARROWER = {("tasks", "models"): "assay.models.model"}  # on this edge, only this module


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module, or name in a module, that a file imports, dotted. Relative imports keep their leading dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def upward_edges(folder: str, source: str) -> list[str]:
    """The imports of a file of `assay.<folder>` that the floors forbid."""
    return [name for name in imports(ast.parse(source)) if _is_upward(folder, name)]


def _is_upward(folder: str, name: str) -> bool:
    package, *rest = name.split(".")
    if package in ("", "experiments", "tests"):  # "": a relative import, which hides the floor that it reaches
        return True
    if package != "assay" or not rest:  # `import assay` alone reads its version, and imports nothing
        return False
    target = rest[0]
    if target == folder or target.startswith("__"):
        return False
    if target not in RANKS or RANKS[target] >= RANKS[folder]:
        return True
    only = NARROWER.get((folder, target))
    return only is not None and not f"{name}.".startswith(f"{only}.")


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("nn", "from assay.models.model import Model"),
        ("core", "import assay.dist.mesh"),
        ("dist", "from assay.nn import tap"),
        ("models", "from assay.data.source import Source"),
        ("data", "from assay import tasks"),
        ("tasks", "from assay.models.families import build"),
        ("tasks", "from assay.models import families"),
        ("infer", "from assay.train.step import make_step"),
        ("evals", "def late():\n    from assay.train import loop"),
        ("train", "from assay.treatments.table import build"),
        ("train", "if TYPE_CHECKING:\n    import assay.reports.run"),
        ("treatments", "from assay.diagnostics.cost.cost import cost"),
        ("diagnostics", "from assay.treatments.pipeline.load import load"),
        ("treatments", "from assay import load"),
        ("verdicts", "from assay.reports.page import template"),
        ("reports", "from assay.cli import train"),
        ("config", "from assay.tasks.table import find"),
        ("cli", "from experiments import main"),
        ("reports", "from .. import train"),
        ("core", "from assay.nowhere import thing"),
    ],
)
def test_the_checker_finds_an_upward_edge(folder, source):
    assert len(upward_edges(folder, source)) == 1


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("nn", "import jax\nfrom assay.core import rng\nfrom assay.nn.tap import tap"),
        ("tasks", "from assay.models.model import Batch, Output\nfrom assay.data.source import Source"),
        ("train", "import assay\nfrom assay.evals.evaluate import evaluate\nfrom assay import __version__"),
        ("cli", "from assay.treatments.pipeline import load\nfrom assay.diagnostics.cost import cost\nimport assay.train.loop"),
        ("reports", "from assay.verdicts.card import build"),
    ],
)
def test_the_checker_allows_a_downward_edge(folder, source):
    assert upward_edges(folder, source) == []


def test_every_folder_has_a_floor():
    folders = {path.parent.relative_to(LIB).parts[0] for path in FILES if path.parent != LIB}
    assert "core" in folders and folders <= set(RANKS), f"a new folder needs a floor in RANKS: {folders - set(RANKS)}"
    assert [path.name for path in FILES if path.parent == LIB] == ["__init__.py", "__main__.py"]


@pytest.mark.parametrize("path", [path for path in FILES if path.parent != LIB], ids=lambda path: str(path.relative_to(LIB)))
def test_no_upward_edge(path):
    folder = path.relative_to(LIB).parts[0]
    assert upward_edges(folder, path.read_text()) == []


def edges(files: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """Returns the imports among the files, {module: source}: for each module, those that it imports and the names taken."""
    found: dict[str, dict[str, list[str]]] = {module: {} for module in files}
    for module, source in files.items():
        for name in imports(ast.parse(source)):
            target, _, taken = name.rpartition(".")
            for candidate, names in ((name, ["the module"]), (target, [taken])):
                if candidate in files and candidate != module:
                    found[module].setdefault(candidate, []).extend(names)
                    break
    return found


def circles(found: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
    """Returns the shortest circle of imports through each module that lies on one, as text that names the files and the names taken."""
    told: dict[frozenset[str], str] = {}
    for start in found:
        paths, seen = deque([[start]]), {start}
        while paths:
            path = paths.popleft()
            if start in found[path[-1]]:
                links = [f"{a} takes {', '.join(found[a][b])} from {b}" for a, b in pairwise([*path, start])]
                told.setdefault(frozenset(path), "; ".join(links))
                break
            for target in found[path[-1]]:
                if target not in seen:
                    seen.add(target)
                    paths.append([*path, target])
    return list(told.values())


def test_the_checker_finds_a_circle():
    two = {"assay.a": "from assay.b import x, y", "assay.b": "def late():\n    from assay.a import z"}
    assert circles(edges(two)) == ["assay.a takes x, y from assay.b; assay.b takes z from assay.a"]
    three = {"assay.a": "from assay import b", "assay.b": "import assay.c", "assay.c": "if TYPE_CHECKING:\n    from assay.a import z"}
    (told,) = circles(edges(three))
    assert all(f"assay.{name}" in told for name in "abc") and "z" in told
    assert circles(edges({"assay.a": "from assay.b import x", "assay.b": "from assay.c import y", "assay.c": ""})) == []


def test_no_circle():
    files = {".".join(path.relative_to(LIB.parent).with_suffix("").parts): path.read_text() for path in FILES if path.name != "__init__.py"}
    assert circles(edges(files)) == []


def test_folders_stay_small():
    for folder in {path.parent for path in FILES}:
        names = [path.name for path in FILES if path.parent == folder and path.name != "__init__.py"]
        assert len(names) <= MOST_FILES, f"{folder} has {len(names)} files: it holds two trades"


def test_flax_stays_behind_the_seam():
    importers = {path for path in FILES if any(name.split(".")[0] == "flax" for name in imports(ast.parse(path.read_text())))}
    folders = {path.relative_to(LIB).parts[0] for path in importers}
    assert folders == {"models", "nn"}, "only models/ and nn/ import flax; a treatment takes `model.module` as it is"


def jit_uses(tree: ast.AST) -> list[str]:
    """Where a file compiles: `jax.jit`, `nn.jit`, `pjit`, or such a name imported."""
    attributes = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return [name for name in [*attributes, *imports(tree)] if name.rpartition(".")[2] in ("jit", "pjit")]


def test_the_checker_finds_a_jit():
    for source in ("@jax.jit\ndef f(x): ...", "from jax import jit", "partial(jax.jit, static_argnums=0)", "nn.jit(Block)"):
        assert jit_uses(ast.parse(source)), source


def test_models_do_not_jit():
    found = {str(path): jit_uses(ast.parse(path.read_text())) for folder in ("models", "nn") for path in (LIB / folder).glob("*.py")}
    assert {path: uses for path, uses in found.items() if uses} == {}, "a jit inside a model would cache an edit"


def test_no_other_framework_is_imported():
    for path in FILES:
        packages = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
        assert not packages & {"tensorflow", "torch", "keras"}, path


def test_files_stay_small():
    def lines(path: Path) -> int:
        return len(path.read_text().splitlines())

    for path in [*FILES, *EXPERIMENTS.rglob("*.py")]:
        assert lines(path) <= 500, f"{path} has {lines(path)} lines: split it"
    for path in EXPERIMENTS.glob("*.py"):
        most = 80 if (LIB / "cli" / path.name).exists() else 150
        assert lines(path) < most, f"the verb {path} has {lines(path)} lines: its logic belongs in lib/"


def test_no_file_without_a_noun():
    names = {path.stem for path in [*FILES, *EXPERIMENTS.rglob("*.py")]}
    assert not names & {"utils", "util", "common", "helpers", "helper", "misc"}
    managers = [node.name for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    assert not [name for name in managers if name.endswith("Manager")]


IMPORT_EVERYTHING = """
import importlib, pkgutil, sys, traceback

class Recorder:  # refuses the other frameworks, so that the answer is the same where they are installed
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "torch"):
            callers = [frame.filename for frame in traceback.extract_stack() if "importlib" not in frame.filename]
            print(name, callers[-2])
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Recorder())
import assay
assert "jax" not in sys.modules and "numpy" not in sys.modules, "`import assay` alone imports JAX or NumPy"
import experiments
assert "jax" not in sys.modules, "the verbs import JAX before they have set the allocator"
for module in pkgutil.walk_packages(assay.__path__, "assay."):
    importlib.import_module(module.name)
assert "jax" in sys.modules and not {"tensorflow", "torch"} & set(sys.modules)
"""


def test_imports_are_light():
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'lib'}:{ROOT}"}
    command = [sys.executable, "-W", "error", "-c", IMPORT_EVERYTHING]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    tried = [line.split() for line in run.stdout.splitlines()]
    assert [line for line in tried if "tensorboardX" not in line[1]] == [], "tensorboardX looks for torch, and nobody else may"
