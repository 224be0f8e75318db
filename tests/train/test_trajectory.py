"""Checkpoints that are kept for good, beside the newest: the trajectory of a run."""

from pathlib import Path

import pytest
from carrying import config_of
from test_laws import bits

from assay.config.older import completed
from assay.core.errors import UserError
from assay.dist.mesh import make_mesh
from assay.dist.shard import place
from assay.train import loop
from assay.train.checkpoint import Checkpointer
from assay.train.experiment import assemble
from assay.train.treatment import Treatment


def state_at(folder: Path, step: int) -> dict[str, bytes]:
    made = assemble(config_of(), [])
    with Checkpointer(folder / "checkpoints", made.settings.checkpoint) as checkpointer:
        return bits(checkpointer.restore(step, place(made.abstract(), make_mesh(made.settings.mesh)))[0])


def kept(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdecimal())


def test_every_kth_checkpoint_stays_and_can_be_restored(tmp_path):
    every, newest, short = (tmp_path / name for name in ("every", "newest", "short"))
    saving = {"checkpoint__every": 4, "checkpoint__keep": 1}
    loop.run(config_of(train__steps=7, checkpoint__keep_every=3, **saving), str(every), [], quiet=True)
    assert kept(every) == [3, 6, 7], "of calls of three steps; the newest is not one of them"
    loop.run(config_of(train__steps=10, checkpoint__keep_every=5, **saving), str(every), [], quiet=True)
    assert kept(every) == [10], "another interval keeps its own; 5 was passed"
    loop.run(config_of(train__steps=10, **saving), str(newest), [], quiet=True)
    assert kept(newest) == [10] and state_at(every, 10) == state_at(newest, 10), "a call that ends early changes no bit"
    loop.run(config_of(train__steps=10, checkpoint__keep_every=4, **saving), str(short), [], quiet=True)
    assert kept(short) == [4, 8, 10], "where calls would end at 3, 6 and 9"
    loop.run(config_of(train__steps=4), str(tmp_path / "four"), [Treatment()], quiet=True)
    assert state_at(short, 4) == state_at(tmp_path / "four", 4) != state_at(short, 8)


def test_the_key_may_be_missing_and_is_at_least_0():
    older = config_of()
    del older["checkpoint"]["keep_every"]
    assert completed(older) == config_of()
    with pytest.raises(UserError, match=r"config\.checkpoint\.keep_every=-1 is not possible"):
        assemble(config_of(checkpoint__keep_every=-1), [])
