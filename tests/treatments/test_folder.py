"""Work directories with any characters, in every option of a treatment that takes one."""

import os

import pytest

from assay.treatments.compression.distill import distill
from assay.treatments.folder import folder, folders, pieces, written
from assay.treatments.option import parse
from assay.treatments.pipeline.stages import plan
from assay.treatments.table import joined

NAMES = ["c++", "a,b", "a,T=4", "rate=1", "x=~#;%41", "two words", "two%20words", "50%"]
NAMES += ["naïve", "(1)", "it's", '"quoted"', "a+b,c", "tab\there", "{x}"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        os.makedirs(f"runs/{name}")
    os.makedirs("runs/c")
    return tmp_path


def option(from_: str, T: float = 1.0) -> None:
    raise NotImplementedError


@pytest.mark.parametrize("name", NAMES)
def test_what_the_program_writes_is_read_back(here, name):
    spec = written(f"runs/{name}")
    assert folder(spec) == str(here / "runs" / name) and folders(spec) == (folder(spec),)
    assert not set(spec) & set(",+;'\"()[]{} \t")
    found = parse("distill", option, f"from={spec},T=4")
    assert (folder(found["from_"]), found["T"]) == (str(here / "runs" / name), 4.0)
    assert joined([f"inherit:from={spec}", "l2:weight=1", "paths=k"]) == [f"inherit:from={spec}", "l2:weight=1,paths=k"]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_user_types_is_read_if_it_exists(here, name):
    typed = f"runs/{name}"
    found = parse("distill", option, f"from={typed},T=4")
    assert (os.path.abspath(folder(found["from_"])), found["T"]) == (str(here / typed), 4.0)
    (whole, *more) = joined(f"distill:from={typed},T=4".split(","))
    assert not more and os.path.abspath(folder(parse("distill", option, whole.partition(":")[2])["from_"])) == str(here / typed)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_option_needs_no_name(here, name):
    typed = f"runs/{name}"
    (whole,) = pieces(f"distill:{typed}".split(","))
    assert os.path.abspath(folder(parse("distill", option, whole.partition(":")[2])["from_"])) == str(here / typed)


def test_several_folders_are_joined_by_plus_unless_that_is_one(here):
    assert folders("runs/c+runs/50%") == ("runs/c", "runs/50%")
    assert folders("runs/c++") == ("runs/c++",), "not runs/c, which exists too"
    assert folders("+".join(map(written, ("runs/c++", "runs/a,b")))) == (str(here / "runs/c++"), str(here / "runs/a,b"))
    assert folders("runs/c+++runs/c") == ("runs/c++", "runs/c") and folders("runs/c+runs/c++") == ("runs/c", "runs/c++")
    assert folders("runs/c+++runs/nowhere") == ("runs/c++", "runs/nowhere")
    assert folders("runs/c+++") == ("runs/c+++",), "which does not exist: not runs/c"
    assert folders("") == ()
    (both,) = pieces(["distill:from=runs/c+runs/a", "b+runs/50%"])
    assert folders(both.partition("from=")[2]) == tuple(str(here / "runs" / name) for name in ("c", "a,b", "50%"))
    (bare,) = pieces(["init:runs/a", "b"])
    assert folder(bare.partition(":")[2]) == str(here / "runs/a,b"), "the first option needs no name"


def test_options_that_name_no_folder_stay_apart(here):
    assert pieces(["from=runs/c", "T=4", "hard=0.1"]) == ["from=runs/c", "T=4", "hard=0.1"]
    assert pieces(["l2:weight=1", "inherit:from=runs/nowhere", "b"]) == ["l2:weight=1", "inherit:from=runs/nowhere", "b"]


def test_home_is_meant_by_its_sign(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    assert folder(written("~/runs/c")) == folder("~/runs/c") == str(here / "runs/c")


def test_a_pipeline_names_its_own_run(tiny, here):
    """Where `runs/c` exists too, its weights would otherwise teach, while config.json says `runs/c++`."""
    base = {**tiny("lstm"), "experiment": "reason/parity:lstm,tiny", "overrides": {"model.width": "8"}}
    stages = plan("runs/c++", ["distill:student=itself", "prune:sparsity=0.5,rewind=1"], "runs/a,b/out", {}, base)
    assert [stage.overrides for stage in stages] == [{"model.width": "8"}] * 2 and "overrides" not in stages[0].config
    first, second = ([spec for spec in stage.config["treatments"] if "from=" in spec] for stage in stages)
    teacher, inherited = (next(spec for spec in first if spec.startswith(name)) for name in ("distill", "inherit"))
    assert folders(parse("distill", distill, teacher.partition(":")[2])["from_"]) == (str(here / "runs/c++"),)
    assert folder(inherited.partition("from=")[2]) == str(here / "runs/c++")
    assert {folder(spec.rpartition("from=")[2].partition(",")[0]) for spec in second} == {str(here / "runs/a,b/out/stages/1_distill")}
