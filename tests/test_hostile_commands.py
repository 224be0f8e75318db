"""Command lines with hostile values end with one message or do what they say: never with a traceback, never waiting for a pipe."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assay.cli.main import VERBS
from experiments.hostile.lines import CONFIGS, Line, keys, line, names
from experiments.hostile.verdict import STOPPED, End, fault, kind, running

READY = Path(__file__).parent / "older" / "run"
CASES = 100
WHOLE = ("config.json", "whole", 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    for config in CONFIGS:  # what is imported on the way draws random numbers, which Hypothesis would object to
        keys(config)
    for verb in VERBS:
        names(verb)
    with running(folder, 0.5, READY) as run:
        yield run
    if (folder / "box" / "locked").exists():
        (folder / "box" / "locked").chmod(0o700)


@st.composite
def lines(draw: st.DrawFn) -> Line:
    return line(lambda options: draw(st.sampled_from(options)))


def test_hostile_command_lines_end_well(run):
    @settings(
        max_examples=CASES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(lines())
    def each(one: Line) -> None:
        end = run(one)
        assert not fault(one, end), f"{fault(one, end)}: {one}\n{kind(end)}\n{end.err}"

    each()


@pytest.mark.parametrize(
    ("end", "wrong"),
    [
        (End(0, "done", "", 0.1), ""),
        (End(2, "", "error: unknown key 'x'. Set --config.x.\n", 0.1), ""),
        (End(143, "", "stopped by SIGTERM", 0.1), ""),
        (End(STOPPED, "", "", 9.0), ""),
        (End(1, "", "Traceback (most recent call last):", 0.1), "traceback"),
        (End(0, "Traceback (most recent call last):", "", 0.1), "traceback"),
        (End(1, "", "", 0.1), "exit code 1"),
        (End(-9, "", "", 0.1), "exit code -9"),
        (End(2, "", "", 0.1), "0 messages"),
        (End(2, "", "error: --a\nerror: --b\n", 0.1), "2 messages"),
        (End(2, "", "error: it does not work\n", 0.1), "a message without a name"),
        (End(2, "", "error: --a\n", 0.1, ("new",)), "left behind"),
        (End(STOPPED, "", "", 20.0, (), True), "waits"),
    ],
)
def test_what_a_good_end_is(end, wrong):
    assert fault(Line("train", (), WHOLE), end) == wrong
