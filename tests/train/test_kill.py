"""`kill -9` at any moment loses at most the steps since the last complete save, and the resumed run ends bit for bit as an unbroken one."""

import os
from pathlib import Path

from experiments.benches import kills

ROOT = Path(__file__).parents[2]


def test_killed_runs_end_as_the_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "lib")]))
    found = kills.kills(tmp_path, cycles=5, seed=20240607)
    assert len(found["resumed_at"]) == 5 and found["resumed_at"] == sorted(found["resumed_at"])
    assert found["resumed_at"][-1] >= 4 * kills.EVERY and max(found["lost_steps"]) <= 2 * kills.EVERY
    assert found["hit_a_save"]
