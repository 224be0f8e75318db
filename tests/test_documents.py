"""The documents: links lead somewhere, commands parse, tables of results are those of the committed files, the README stays short."""

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.cli.main import ALIASES, VERBS
from assay.cli.publish import render
from assay.config.files import load
from assay.config.suites import PLANNED
from assay.reports.cells import best_of, judge, name_of, remarks_of
from assay.reports.cells import page as page_of_cells
from assay.reports.results import MARKS
from assay.verdicts.published import MISSED
from assay.verdicts.result_file import read

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
PAGES = (
    "README.md",
    "WORKSPACE_NOTES.md",
    "lib/assay/README.md",
    "experiments/README.md",
    *(f"experiments/results/{name}.md" for name in ("README", "CELLS", "benchmarks")),
)
LARGEST = {"README.md": 12_500, "WORKSPACE_NOTES.md": 15_000, "lib/assay/README.md": 6_000}  # bytes: a page that is read in one go
COMMAND = re.compile(r"(?:^|`|srun )((?:assay|python -m experiments\.)[ \w][^`\n]*)", re.MULTILINE)
PLACEHOLDERS = ("A", "B", "...", "STUDY", "VERB")  # words in capitals stand for what the reader puts there


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command, from the verb on; those after `--`, which `launch` starts, are a command of their own."""
    for line in COMMAND.findall(text):
        for part in re.split(r" -- |, or ", line):
            words = shlex.split(part, comments=True)
            if words[:1] == ["assay"]:
                yield words[1:]
            elif words[:2] == ["python", "-m"]:
                yield [words[2].rpartition(".")[2], *words[3:]]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{page} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page} links to {link}, and there is no such heading"


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_verbs_flags_and_configs_that_are_there(page):
    for verb, *words in commands((ROOT / page).read_text()):
        if verb in PLACEHOLDERS:
            continue
        verb = ALIASES.get(verb, verb)
        if verb not in VERBS:  # a verb of a checkout, which is a script
            assert (ROOT / "experiments" / f"{verb}.py").is_file(), f"{page}: no verb {verb}"
            continue
        known = importlib.import_module(f"assay.cli.{verb}").FLAGS
        for word in words:
            name, _, value = word.removeprefix("--").partition("=")
            if not word.startswith("--") or name.startswith("config.") or name in ("help", "import", "coordinator", "processes", "process"):
                continue
            assert name in known, f"{page}: assay {verb} has no flag --{name}"
            if name == "config" and value not in PLACEHOLDERS and not value.startswith("FILE"):
                load(value)  # raises UserError where there is no such file or variant


@pytest.mark.parametrize("page", PAGES)
def test_examples_in_python_compile(page):
    for code in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        compile(code, page, "exec")


@pytest.mark.parametrize("page", LARGEST)
def test_pages_stay_short(page):
    size = (ROOT / page).stat().st_size
    assert size <= LARGEST[page], f"{page} has {size} bytes: move what is reference to a page of its own"


def test_published_values_are_compared_with_the_committed_files():
    """Where this fails, write it: assay publish --cells=experiments/results/CELLS.md"""
    assert (RESULTS / "CELLS.md").read_text() == page_of_cells(RESULTS)


def test_each_missed_cell_says_what_was_tried():
    files = [read(path) for path in sorted(RESULTS.glob("*.json"))]
    best = {task: [best_of(each) for each in known] for task, known in judge(files).items()}
    missed = {(task, name_of(line.cell)) for task, each in best.items() for line in each if line.verdict.name == MISSED}
    assert missed == {(task, name) for task, each in remarks_of(RESULTS).items() for name in each}


def test_tables_are_those_of_the_committed_files(tmp_path):
    """Where this fails, write them: assay publish --readme=experiments/results/README.md"""
    text = (RESULTS / "README.md").read_text()
    before, start, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    for path in RESULTS.glob("*.json"):
        (tmp_path / path.name).symlink_to(path)
    page = tmp_path / "README.md"
    page.write_text(f"{before}{start}{end}{after}")
    planned = [(task, f"{experiment}:{name}") for tasks, experiment, variants in PLANNED for task in tasks for name in variants]
    render(page, tmp_path, planned)
    assert page.read_text() == text


def test_no_published_command_names_a_folder_of_a_machine():
    for path in RESULTS.glob("*.json"):
        assert "=/" not in json.loads(path.read_text()).get("command", ""), path
