"""`--import=MODULE`: names that a module of the user's own registers, from training to the card, and modules that fail."""

import json
import re
import sys
from pathlib import Path

import pytest

import assay
from assay.cli import compare, diagnose, launch, train, treat
from assay.cli.python import register as registering
from assay.config import generated, modules
from assay.config.reproduce import training_command
from assay.core.errors import UnknownName, UserError, unknown
from assay.evals import rows
from assay.train.workdir import WorkDir

README = Path(__file__).parents[2] / "README.md"
NAME = "my_treatments"
SMALL = ("--config.model.width=8", "--config.evaluate.splits=iid", "--config.evaluate.per_length=1", "--config.train.steps=4")
METRIC = """
@assay.register.metric(better="lower")
def wrong_share(predictions, targets):
    return sum(one != other for one, other in zip(predictions, targets)) / len(targets)
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch, tmp_path):
    """Nothing is imported or registered before a test, nor after it; the module lies in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(modules, "_loaded", {})
    monkeypatch.setattr(modules, "_given", ())
    monkeypatch.setattr(sys, "path", list(sys.path))
    tables = [*registering.TABLES.values(), generated.KEYS]
    known, lower, loaded = [dict(table) for table in tables], set(rows.LOWER_IS_BETTER), set(sys.modules)
    yield
    for table, before in zip(tables, known, strict=True):
        table.clear()
        table.update(before)
    rows.LOWER_IS_BETTER.clear()
    rows.LOWER_IS_BETTER.update(lower)
    for name in set(sys.modules) - loaded:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def forget() -> None:
    """Makes this process one that has imported nothing."""
    for name in ("label_noise", "wrong_share"):
        for table in registering.TABLES.values():
            table.pop(name, None)
    rows.LOWER_IS_BETTER.discard("wrong_share")
    modules._loaded.clear()
    modules._given = ()


def verb(file, monkeypatch, capsys, *words: str) -> tuple[int, str]:
    """Runs a verb in this process. Returns its exit code and what it printed as errors."""
    monkeypatch.setattr(sys, "argv", ["verb", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        file.start()
    return end.value.code or 0, capsys.readouterr().err


def example() -> str:
    """The README's example of a treatment, as a module that registers it with the decorator."""
    (code,) = (part for part in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "def label_noise" in part)
    code = code.partition('assay.register("treatment"')[0].partition("\nassay.run(")[0]
    decorated = code if "@assay.register" in code else code.replace("def label_noise", "@assay.register.treatment\ndef label_noise")
    return f"import assay\n{decorated}"


def test_the_example_of_the_readme_goes_from_training_to_the_card(tmp_path, monkeypatch, capsys):
    few = {name: one for name, one in diagnose.DIAGNOSTICS.items() if name in ("held_out", "update_norm")}
    monkeypatch.setattr(diagnose, "DIAGNOSTICS", few)
    monkeypatch.setattr(diagnose, "_suggestions", lambda *_: ([], []))
    monkeypatch.setattr(compare, "retime", lambda *_: {})
    monkeypatch.setattr(train, "report", lambda *_: None)
    monkeypatch.setattr(treat, "report", lambda *_: None)
    monkeypatch.setattr(treat, "pareto", lambda _: "<svg></svg>")
    (tmp_path / f"{NAME}.py").write_text(example() + METRIC)
    noisy = ("--config=parity:tiny", *SMALL, "--config.treatments=label_noise:share=0.2", "--config.train.metric=wrong_share")

    assert verb(train, monkeypatch, capsys, f"--import={NAME}", *noisy, "--workdir=noisy")[0] == 0
    found = WorkDir("noisy").read_results()["rows"]
    records = [json.loads(line) for line in WorkDir("noisy").predictions("iid").read_text().splitlines()]
    assert [row["metric"] for row in found] == ["wrong_share", "answer_accuracy"] and found[0]["treatment"] == "label_noise:share=0.2"
    assert found[0]["value"] == pytest.approx(sum(one["prediction"] != one["target"] for one in records) / len(records))
    config = json.loads(Path("noisy/config.json").read_text())
    assert config["imports"] == [NAME] and f"--import={NAME}" in training_command(config, "again")

    forget()
    needed = f"It was trained with --import={NAME}; add it."
    code, told = verb(train, monkeypatch, capsys, *noisy, "--workdir=noisy")
    assert code == 2 and "unknown treatment 'label_noise'" in told and needed in told
    code, told = verb(diagnose, monkeypatch, capsys, "--workdir=noisy", "--quick")
    assert code == 2 and told.count("error:") == 1 and needed in told
    with pytest.raises(UserError, match=f"unknown treatment 'label_noise'.*{needed}"):
        assay.load("noisy")
    assert verb(diagnose, monkeypatch, capsys, f"--import=./{NAME}.py", "--workdir=noisy", "--quick")[0] == 0
    stage = ("--from=noisy", "--treat=label_noise:share=0.3,steps=0", "--control=False", "--workdir=more", "--seconds=0.1")
    assert verb(treat, monkeypatch, capsys, f"--import={NAME}", *stage)[0] == 0
    assert json.loads(Path("more/config.json").read_text())["imports"] == [NAME]
    assert verb(compare, monkeypatch, capsys, f"--import={NAME}", "--before=noisy", "--after=more")[0] == 0
    card = json.loads(Path("more/card.json").read_text())
    assert card["after"]["more"]["treatments"][-1] == "label_noise:share=0.3"


FAILS = {
    "it raises": ("x = 1\nraise ValueError('no luck.')\n", "line 2: ValueError: no luck. Fix it"),
    "a library raises": ("import json\n\njson.loads('{')\n", "line 3: JSONDecodeError: Expecting property name"),
    "it exits": ("raise SystemExit(0)\n", "line 1: SystemExit: 0"),
    "it is not Python": ("def f(:\n", "line 1: SyntaxError: invalid syntax. Fix it"),
    "it needs a module that is missing": ("\nimport nowhere_at_all\n", "line 2: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "a name is taken": ("import assay\nassay.register('treatment', 'l2', lambda: None)\n", "line 2: a treatment named 'l2' already exists"),
}


@pytest.mark.parametrize(("code", "told"), FAILS.values(), ids=FAILS)
def test_a_module_that_fails_is_one_message_with_its_line(tmp_path, monkeypatch, capsys, code, told):
    (tmp_path / f"{NAME}.py").write_text(code)
    for name in (NAME, f"./{NAME}.py"):
        end, said = verb(train, monkeypatch, capsys, f"--import={name}", "--config=parity:tiny", "--workdir=run")
        assert end == 2 and said.count("error:") == 1 and "Traceback" not in said
        assert f"error: --import={name} failed in {tmp_path / NAME}.py, {told}" in said
        assert NAME not in sys.modules and not Path("run").exists()


MISSING = (("none", "no module 'none'"), ("a.b", "no module 'a.b'"), ("./none.py", "no Python file"), ("x/", "no Python file"))


@pytest.mark.parametrize(("name", "told"), MISSING)
def test_a_module_that_is_missing_is_one_message(monkeypatch, capsys, name, told):
    end, said = verb(train, monkeypatch, capsys, f"--import={name}", "--config=parity:tiny", "--workdir=run")
    assert end == 2 and said.count("error:") == 1 and told in said and "--import" in said


def test_a_module_is_imported_once_however_it_is_named(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "beside.py").write_text("VALUE = 7\n")
    code = (
        "from __future__ import annotations\nimport dataclasses as data, beside\n@data.dataclass\nclass Keys:\n  size: int = beside.VALUE\n"
    )
    (tmp_path / "parts" / "more.py").write_text(code)
    (tmp_path / f"{NAME}.py").write_text("with open('count', 'a') as file:\n    file.write('x')\n")
    names = [NAME, f"./{NAME}.py", str(tmp_path / f"{NAME}.py"), NAME, "parts/more.py"]
    modules.load(names)
    modules.load(names[1:])
    assert Path("count").read_text() == "x" and modules.given() == (f"./{NAME}.py", "parts/more.py")
    assert sys.modules["more"].Keys().size == 7 and sys.modules[NAME].__file__ == str(tmp_path / f"{NAME}.py")
    modules.load([])
    assert modules.given() == ()


def test_a_module_named_like_another_does_not_replace_it(tmp_path):
    (tmp_path / "json.py").write_text("VALUE = 1\n")
    modules.load(["./json.py"])
    assert sys.modules["json"] is json and sys.modules["json_imported"].VALUE == 1


def test_what_a_run_names_is_data_and_only_missing_modules_are_told(tmp_path):
    def write(folder: str, names) -> None:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text(json.dumps({"imports": names}))

    (tmp_path / f"{NAME}.py").write_text("raise AssertionError('imported')\n")
    write("run", [NAME, "other.tasks"])
    write("study/a/seed_0", ["of_a_study"])
    write("odd", {"x": 1})
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    assert modules.needed("run") == f" It was trained with --import={NAME} --import=other.tasks; add it."
    assert modules.needed("study") == " It was trained with --import=of_a_study; add it."
    assert [modules.needed(folder) for folder in ("odd", "damaged", "none")] == ["", "", ""]
    (tmp_path / f"{NAME}.py").write_text("")
    modules.load([f"./{NAME}.py"])
    assert modules.needed("run") == " It was trained with --import=other.tasks; add it."
    with pytest.raises(UserError, match=r"Known: b\. .*--import=other.tasks"), modules.explaining("run"):
        raise unknown("model", "a", "b", "--config.model.name")
    with pytest.raises(UnknownName, match=r"--config.model.name\.$"), modules.explaining("odd"):
        raise unknown("model", "a", "b", "--config.model.name")


def test_modules_change_nothing_that_is_computed(tmp_path):
    """A finished run stays finished, and a stopped one resumes, with another list of modules."""
    config = {"experiment": "e", "composition": {}, "task": {}, "model": {}, "treatments": [], "imports": ["a"]}
    folder = WorkDir(tmp_path / "run")
    folder.claim(config)
    folder.write_json(folder.results, {"schema": 1, "rows": [], "environment": {}})
    for imports in ({}, {"imports": ["b"]}):
        other = {**{key: value for key, value in config.items() if key != "imports"}, **imports}
        folder.check(other, ())
        assert folder.finished(other) is not None
    assert folder.finished({**config, "treatments": ["l2"]}) is None


def test_launch_imports_nothing_itself(monkeypatch, capsys, tmp_path):
    (tmp_path / f"{NAME}.py").write_text("")
    end, said = verb(launch, monkeypatch, capsys, f"--import={NAME}", "--", "assay", "train")
    assert end == 2 and "Write --import after --" in said
