"""A secret: folded into what training draws, never written, and asked for again by a resume."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from carrying import config_of

from assay.core import rng, secret
from assay.core.errors import UserError
from assay.train import loop
from assay.train.experiment import assemble
from assay.train.treatment import Treatment
from assay.treatments.pipeline.load import restore

FIRST, SECOND = "correct horse battery staple", "another secret of some length"


def noisy(asks: bool = True) -> Treatment:
    """Noise on the gradient, as a mechanism of privacy draws it."""

    def arrow(gradient):
        def private(params, batch, key, step, carried):
            grads, aux, carried = gradient(params, batch, key, step, carried)
            noise = rng.stream(key, "noise", step)
            return jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(noise, leaf.shape), grads), aux, carried

        return private

    return Treatment(gradient=arrow, secret=asks, name="noisy")


@pytest.fixture(autouse=True)
def no_secret(monkeypatch):
    for name in (secret.VARIABLE, secret.FILE):
        monkeypatch.delenv(name, raising=False)


def train(folder: Path, steps: int = 2, asks: bool = True) -> dict:
    """The parameters of a run after so many steps."""
    config = config_of(train__steps=steps, train__batch_size=8, evaluate__splits="valid", evaluate__batch_size=64)
    loop.run(config, str(folder), [noisy(asks)], quiet=True)
    state = restore(assemble(config_of(train__steps=steps, train__batch_size=8), [noisy(asks)]), folder)
    return {"key": jax.random.key_data(state.key), **state.params["model"]["head"]}


def same(first: dict, second: dict) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_a_secret_changes_noise_and_sample_and_is_written_nowhere(tmp_path, monkeypatch):
    published, ignored = train(tmp_path / "published"), train(tmp_path / "unasked", asks=False)
    assert same(published, ignored), "without a secret it is the published seed's"
    for folder, said in (("published", "randomness: published seed"), ("unasked", None)):
        rows = json.loads((tmp_path / folder / "results.json").read_text())["rows"]
        assert rows and {row.get("note") for row in rows} == {said}
    plain = assemble(config_of(), [noisy()])
    monkeypatch.setenv(secret.VARIABLE, FIRST)
    hidden = train(tmp_path / "hidden")
    assert np.array_equal(hidden["key"], published["key"]), "the key that is saved is the published one"
    assert not np.array_equal(hidden["kernel"], published["kernel"])
    made = assemble(config_of(), [noisy()])
    assert not np.array_equal(made.sample(0), plain.sample(0)) and made.source.seed != plain.source.seed
    assert same(train(tmp_path / "unasked_again", asks=False), ignored), "a treatment that does not ask has none"
    rows = json.loads((tmp_path / "hidden" / "results.json").read_text())["rows"]
    assert rows and {row["note"] for row in rows} == {"randomness: secret key"}
    state = made.hidden(jax.jit(made.init_state)(made.key, {}, made.first_batch()))
    kept = [FIRST.encode(), secret.words(FIRST.encode()).tobytes(), np.asarray(jax.random.key_data(state.key)).tobytes()]
    kept += [str(made.source.seed).encode()]
    files = [path for path in (tmp_path / "hidden").rglob("*") if path.is_file()]
    assert len(files) > 5 and not [path for path in files for part in kept if part in path.read_bytes()]
    bare = sorted({*json.loads((tmp_path / "hidden" / "secret.json").read_text())})
    assert bare == ["fingerprint", "salt"]


def test_a_resume_needs_the_same_secret(tmp_path, monkeypatch):
    monkeypatch.setenv(secret.VARIABLE, FIRST)
    whole = train(tmp_path / "whole", 4)
    train(tmp_path / "run", 2)
    monkeypatch.delenv(secret.VARIABLE)
    with pytest.raises(UserError, match=r"was started with a secret, which is not set\. Set ASSAY_SECRET"):
        train(tmp_path / "run", 4)
    monkeypatch.setenv(secret.VARIABLE, SECOND)
    with pytest.raises(UserError, match="was started with another secret"):
        train(tmp_path / "run", 4)
    monkeypatch.setenv(secret.VARIABLE, FIRST)
    assert same(train(tmp_path / "run", 4), whole)
    monkeypatch.delenv(secret.VARIABLE)
    train(tmp_path / "published", 2)
    monkeypatch.setenv(secret.VARIABLE, FIRST)
    with pytest.raises(UserError, match="was started with the published seed"):
        train(tmp_path / "published", 4)


def test_a_secret_of_a_file_is_its_owners_alone(tmp_path, monkeypatch):
    file = tmp_path / "secret"
    file.write_text(FIRST + "\n")
    monkeypatch.setenv(secret.FILE, str(file))
    file.chmod(0o640)
    with pytest.raises(UserError, match="mode 0640: others can read it"):
        secret.read()
    file.chmod(0o600)
    assert secret.read() == secret.read(tmp_path / "run") == FIRST.encode()
    with pytest.raises(UserError, match="is in the work directory"):
        secret.read(tmp_path)
    monkeypatch.setenv(secret.VARIABLE, FIRST)
    with pytest.raises(UserError, match="both ASSAY_SECRET and ASSAY_SECRET_FILE"):
        secret.read()
    monkeypatch.delenv(secret.FILE)
    monkeypatch.setenv(secret.VARIABLE, "short")
    with pytest.raises(UserError, match="has 5 characters; it needs at least 16"):
        secret.read()
    monkeypatch.delenv(secret.VARIABLE)
    monkeypatch.setenv(secret.FILE, os.fspath(tmp_path / "nothing"))
    with pytest.raises(UserError, match="cannot be read"):
        secret.read()
