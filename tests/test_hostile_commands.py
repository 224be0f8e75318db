"""Command lines with hostile values end with one message or do what they say: never with a traceback, never waiting for a pipe."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assay.cli.main import VERBS
from experiments.hostile.lines import CONFIGS, Line, keys, line, names
from experiments.hostile.verdict import fault, kind, running

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
