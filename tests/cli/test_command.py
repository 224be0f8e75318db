"""What every verb does before it starts: home folders in flags, and a standard output that lacks characters."""

import io
import os
import sys

import pytest
from absl import flags

from assay.cli import command


def verb(main, words, monkeypatch, **defined):
    """Runs `main(flags)` as a verb with the words of a command line."""
    given = flags.FlagValues()
    for name, many in defined.items():
        (flags.DEFINE_multi_string if many else flags.DEFINE_string)(name, [] if many else "", "a flag", flag_values=given)
    monkeypatch.setattr(sys, "argv", ["verb", *words])
    with pytest.raises(SystemExit) as end:
        command.launch(lambda overrides: main({name: given[name].value for name in defined}), "usage", given=given)
    return end.value.code


def test_home_folders_of_flags_are_found_and_other_text_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = {}
    words = ["--workdir=~/a", "--after=~/b", "--after=c", "--text=~/kept", "--config=~/mine.py:tiny"]
    code = verb(seen.update, words, monkeypatch, workdir=False, after=True, text=False, config=False)
    assert code in (None, 0)
    assert seen == {"workdir": f"{tmp_path}/a", "after": [f"{tmp_path}/b", "c"], "text": "~/kept", "config": f"{tmp_path}/mine.py:tiny"}


def test_characters_that_an_output_lacks_are_escaped(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert verb(lambda _: print("naïve 文"), [], monkeypatch) in (None, 0)
    out.flush()
    assert out.buffer.getvalue() == rb"na\xefve \u6587" + os.linesep.encode()


def test_python_without_memory_is_one_message(monkeypatch, capsys):
    def main(_):
        raise MemoryError("Unable to allocate 29.8 GiB for an array")

    assert verb(main, [], monkeypatch) == 2
    assert "not enough memory (Unable to allocate 29.8 GiB for an array). Reduce --config.train.batch_size" in capsys.readouterr().err
