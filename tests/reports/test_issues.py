"""The section of a report on what may be wrong with the data: counts, the surest suspects, and every text escaped."""

import json

import pytest

from assay.fitting.issues.issue import Issue
from assay.fitting.issues.written import FILE, text_of
from assay.reports.issues import issues_of
from assay.reports.run import render
from assay.reports.view import RunView

SUSPECT = Issue("suspect label", "a.csv", 3, "train", 0.98765, "pos", "<neg>", "", "out of fold", "<script>alert(1)</script> a text")
PAIR = Issue("near duplicate", "a.csv", 4, "train+test", 0.95, "pos", "", "b.csv:7", "cosine of words 0.950", "another text")


@pytest.fixture
def folder(tmp_path):
    issues = [*(SUSPECT._replace(line=3 + i) for i in range(25)), PAIR, PAIR._replace(kind="leak column", line="", other="", given="code")]
    (tmp_path / FILE).write_text(text_of(issues), encoding="utf-8", newline="")
    return tmp_path


def page(folder) -> str:
    return render([RunView("mine", {}, [], [], {}, issues=issues_of(folder))], "title")


def test_the_surest_are_listed_and_all_are_counted(folder):
    (folder / "fit.json").write_text(
        json.dumps({"issues": {"counts": {"suspect label": 1234, "near duplicate": 1}, "notes": ["half of it"]}})
    )
    suspects, others = issues_of(folder).tables
    assert len(suspects.rows) == 20 and suspects.rows[0][:5] == ("3", "train", "pos", "<neg>", "0.9877")
    assert [row[:3] for row in others.rows] == [("near duplicate", "4, b.csv:7", "train + test"), ("leak column", "code", "train + test")]
    html = page(folder)
    assert 'href="#data"' in html and "1,234 suspect labels, 1 near duplicate" in html and "Half of it." in html
    assert "&lt;script&gt;alert(1)" in html and "<script>" not in html and "&lt;neg&gt;" in html
    assert "edit the file, or leave these rows out, and fit again" in " ".join(html.split())


def test_without_a_summary_the_rows_are_counted(folder):
    assert issues_of(folder).counts == [("suspect labels", "25"), ("near duplicate", "1"), ("leak column", "1")]
    (folder / "fit.json").write_text('{"issues": 3}')
    assert issues_of(folder).counts[0] == ("suspect labels", "25")


def test_no_section_without_the_file_or_for_one_that_was_rearranged(folder):
    assert 'id="data"' in page(folder)
    (folder / FILE).write_text("kind,line\noutlier,3\n")
    assert issues_of(folder) is None and 'id="data"' not in page(folder)
    (folder / FILE).unlink()
    assert issues_of(folder) is None


def test_nothing_suspect_is_said(tmp_path):
    (tmp_path / FILE).write_text(text_of([]), encoding="utf-8")
    assert "Nothing is suspect." in page(tmp_path)
