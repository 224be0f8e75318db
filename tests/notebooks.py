"""Notebooks and the scripts that they are paired with: colab/NAME.py is what is edited, colab/NAME.ipynb what is made of it, with outputs.

python tests/notebooks.py diagnose_your_model        # runs the script in an empty folder and writes the notebook
"""

import re
import sys
import tempfile
from pathlib import Path
from unittest import mock

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
COLAB = ROOT / "colab"
PAIRED = ("diagnose_your_model", "read_a_model", "write_a_treatment")
SECONDS = 300  # for a cell
METADATA = {"colab": {"provenance": [], "toc_visible": True}, "language_info": {"name": "python"}}  # of notebooks, beside their scripts'


def of_script(name: str) -> nbformat.NotebookNode:
    """The notebook without outputs that a script stands for."""
    notebook = jupytext.read(COLAB / f"{name}.py")
    notebook.metadata.update(METADATA)
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:02d}"  # ids that do not change from one run to the next
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def committed(name: str) -> nbformat.NotebookNode:
    return nbformat.read(COLAB / f"{name}.ipynb", as_version=4)


def executed(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """A copy that was run in a folder, where `experiments` cannot be imported."""
    copy = nbformat.from_dict(notebook)
    settings = {
        "PYTHONPATH": str(ROOT / "lib"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    with mock.patch.dict("os.environ", settings):
        NotebookClient(copy, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    copy.metadata = notebook.metadata  # without the kernel's version
    for cell in copy.cells:
        cell.metadata.pop("execution", None)  # times
    return copy


def tagged(notebook: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    """The cell with a tag."""
    (cell,) = (cell for cell in notebook.cells if name in cell.metadata.get("tags", []))
    return cell


def printed(notebook: nbformat.NotebookNode, name: str) -> str:
    """What the cell with a tag wrote, as plain text without colours."""
    found = []
    for output in tagged(notebook, name).outputs:
        if output.output_type == "stream" and output.name == "stdout":
            found.append(output.text)
        elif "text/plain" in output.get("data", {}):
            found.append(output.data["text/plain"] + "\n")
    return re.sub(r"\x1b\[[\d;]*m", "", "".join(found))


def shown(notebook: nbformat.NotebookNode, name: str, kind: str) -> list[str]:
    """Outputs of a kind, such as image/svg+xml, of the cell with a tag."""
    return [output.data[kind] for output in tagged(notebook, name).outputs if kind in output.get("data", {})]


def defined(notebook: nbformat.NotebookNode, *names: str) -> dict:
    """What the cells with these tags define, run in order."""
    found: dict = {}
    for name in names:
        exec(tagged(notebook, name).source, found)
    return found


if __name__ == "__main__":
    for name in sys.argv[1:] or PAIRED:
        with tempfile.TemporaryDirectory() as folder:
            made = executed(of_script(name), Path(folder))
        nbformat.write(made, COLAB / f"{name}.ipynb")
        print(f"colab/{name}.ipynb: {(COLAB / f'{name}.ipynb').stat().st_size / 1000:.0f} kB")
