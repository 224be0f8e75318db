"""The contract of every experiment: what its file says, and that one step of every variant works, on a mesh that need not be there.

A new config file, or a new name in its VARIANTS, is found here without being listed.
"""

import ast
import importlib.util
from collections import namedtuple
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from assay.config.files import load
from assay.config.overrides import override
from assay.config.schema import to_dict
from assay.core.errors import UserError
from assay.core.tree import paths
from assay.dist.mesh import MeshConfig, abstract_mesh, batch_sharding, check_divides
from assay.dist.shard import place
from assay.train.experiment import Experiment, assemble
from assay.train.state import all_params
from assay.train.step import make_step, repeat
from assay.treatments.pipeline.load import treatments

ROOT = Path(__file__).resolve().parents[1]
KEYS = {"seed", "task", "model", "objective", "optimizer", "train", "evaluate", "checkpoint", "mesh", "precision", "treatments"}
MESH = MeshConfig(data=4, fsdp=1, tensor=2)
About = namedtuple("About", "model is_fitted needs_files")


def config_files() -> list[Path]:
    return [path for path in sorted((ROOT / "experiments").glob("*/*.py")) if "def get_config(" in path.read_text()]


@cache
def variants_of(path: Path) -> tuple[str, ...]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return tuple(module.VARIANTS)


def specs(size: str = "") -> list:
    """Every variant of every config; all but the first of a file are marked, so that `make quick` can leave them out."""
    found = []
    for path in config_files():
        for number, name in enumerate(variants_of(path)):
            marks = [pytest.mark.another_variant] if number else []
            found.append(pytest.param(f"{path}:{name}{size}", id=f"{path.parent.name}/{path.stem}:{name}", marks=marks))
    return found


def steppable(size: str = "") -> list:
    """The variants that take steps with data that are here; `make quick` compiles the first of each model only."""
    found, models = [], set()
    for param in specs(size):
        model, is_fitted, needs_files = about(*param.values)
        if is_fitted or (needs_files and not size):
            continue
        marks = [pytest.mark.another_variant] if param.marks or model in models else []
        found.append(pytest.param(*param.values, id=param.id, marks=marks))
        models.add(model)
    return found


def build(spec: str, shallow: bool = False) -> Experiment:
    """Assembles a config; `shallow`: with two blocks and two loops at most, as many as show how blocks follow one another, and with a
    hundredth of the sentences that are recombined."""
    config = load(spec)
    if shallow:
        config.treatments = tuple(one.replace("200000", "2000") if one.startswith("recombine") else one for one in config.treatments)
    if shallow and "loops" in config.model:  # a Transformer: tracing takes time by the block
        config.model.depth = min(config.model.depth, max(2, len(config.model.mixers)))
        config.model.loops, config.model.test_loops = min(config.model.loops, 2), min(config.model.test_loops, 2)
    return assemble(to_dict(config), treatments(config.treatments))


@cache
def about(spec: str) -> About:
    """What decides which tests a config gets: the name of its model, whether it counts instead of taking steps, and whether its data are
    not in the package (TFDS's by name, files of the user's own)."""
    config = load(spec)
    return About(config.model.name, config.train.steps == 0, config.task.name.startswith(("tfds/", "csv")))


def step_of(made: Experiment):
    return make_step(made.model, made.objective, made.treatment.gradient, made.optimizer)


def test_experiments_are_found():
    assert "parity" in {path.stem for path in config_files()}
    assert len(specs()) >= 3


@pytest.mark.parametrize("path", config_files(), ids=lambda path: path.stem)
def test_the_docstring_says_what_a_newcomer_asks(path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    question, *_ = text.splitlines()
    assert question.rstrip().endswith("?"), "the first line is the question"
    for word in ("Command:", "Cost:", "Expected:", "Reference:"):
        assert any(line.startswith(word) for line in text.splitlines()), f"{path} does not say its {word}"
    folder = path.relative_to(ROOT).parent
    assert f"--config={folder}/{path.name}" in text, "the command names this file"
    for name in variants_of(path):
        assert name in text, f"the variant {name} is not described"


@pytest.mark.parametrize("spec", [*specs(), *specs(",tiny")])
def test_the_config_is_locked_and_complete(spec):
    config = load(spec)
    assert set(config) == KEYS
    for group in (config, config.task, config.model, config.train):
        with pytest.raises((AttributeError, KeyError)):
            group.a_key_that_is_new = 1
    with pytest.raises(UserError, match="unknown config key"):
        override(config, {"train.stepz": "3"})
    assert load(spec) == config, "a config that differs from one call to the next cannot be run again"


@pytest.mark.parametrize("path", config_files(), ids=lambda path: path.stem)
def test_an_unknown_variant_is_refused(path):
    with pytest.raises(UserError, match="variant"):
        load(f"{path}:a_variant_that_is_not_there")


@pytest.mark.parametrize("spec", [param for param in specs() if about(*param.values).needs_files])
def test_data_that_are_not_here_are_told(spec, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"config\.task\.|data_dir"):
        build(spec)


@pytest.mark.parametrize("spec", [param for param in specs(",tiny") if about(*param.values).is_fitted])
def test_the_tiny_variant_is_fitted(spec):
    made = build(spec)
    state = jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
    batch = made.first_batch()
    fitted = made.model.fit(state.params["model"], [batch])
    assert any((np.asarray(old) != np.asarray(new)).any() for old, new in zip(*map(jax.tree.leaves, (state.params, fitted)), strict=False))
    _, _, before = made.task.score(made.model.apply(state.params["model"], batch), batch)
    _, _, after = made.task.score(made.model.apply(fitted, batch), batch)
    assert after["nll"].mean() < before["nll"].mean()


@pytest.mark.parametrize("spec", steppable())
def test_one_step_passes_on_an_abstract_mesh(spec):
    """State and batch as shapes on eight devices that are not there: the step keeps the state's shape, and lowers to a sharded program."""
    made = build(spec, shallow=True)
    mesh = abstract_mesh(MESH, 8)
    check_divides(made.settings.train.batch_size, mesh, "train.batch_size")
    batch = made.first_batch()
    state = place(jax.eval_shape(made.init_state, made.key, made.given(), batch), mesh)
    sharding = batch_sharding(mesh)
    abstract = {name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding) for name, array in batch.items()}

    traced = jax.jit(step_of(made)).trace(state, abstract)  # once, for shapes and for the program
    after, metrics = traced.out_info
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    assert {"loss", "grad_norm", "parameter_norm"} < set(metrics)
    assert {(metric.shape, metric.dtype) for metric in metrics.values()} == {((), np.dtype(np.float32))}

    split = {path for path, leaf in zip(paths(state.params), jax.tree.leaves(state.params), strict=True) if "tensor" in leaf.sharding.spec}
    assert split, "no parameter is split over the tensor axis: the rules in dist/shard.py do not know this model's paths"
    program = traced.lower(lowering_platforms=("cpu",)).as_text()
    assert '"tensor"' in program and '"data"' in program


@pytest.mark.parametrize("spec", steppable(",tiny"))
def test_the_tiny_variant_learns(spec):
    """Three steps: where the rate rises from zero and a block starts as its shortcut, a parameter waits for two of them."""
    made = build(spec)
    call = jax.jit(repeat(step_of(made), made.schedule))
    plain = replace(made.untreated, init=made.untreated.init.__wrapped__)  # not jitted: initializers of one shape compile once for all
    before = made._replace(untreated=plain).init_state(made.key, made.given(), made.first_batch())
    after, metrics = call(before, made.batches(0, 3), np.int32(3))
    assert int(after.step) == 3
    for name, values in metrics.items():
        assert np.isfinite(values[:3]).all(), name
    assert (np.asarray(metrics["grad_norm"])[:3] > 0).all()
    for path, old, new in zip(paths(before.params), jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True):
        assert np.isfinite(new).all(), path
        assert (np.asarray(old) != np.asarray(new)).any(), f"{path} did not move"
    assert set(paths(all_params(after))) == set(paths(all_params(before)))
