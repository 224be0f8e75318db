"""Distillation: the soft loss against its formula, teachers of every family, what is kept on disk, and whose task may be taught."""

import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.config.files import load
from assay.config.overrides import override
from assay.config.schema import to_dict
from assay.core.errors import UserError
from assay.core.tree import paths
from assay.train import loop
from assay.train.experiment import assemble
from assay.train.objective import mean_of
from assay.train.state import all_params
from assay.train.step import make_step
from assay.treatments.compression.distill import soft_loss
from assay.treatments.compression.match import by_example, parse_matches
from assay.treatments.compression.teacher import mean_logits
from assay.treatments.pipeline.load import load as open_run
from assay.treatments.pipeline.load import rebuild, treatments

KEY = jax.random.key(0)
PARITY = "experiments/reason/parity.py"
SCAN = "experiments/reason/scan.py"
DIGITS = "experiments/vision/cnn_digits.py"
QUICK = {"evaluate.splits": "valid", "evaluate.per_length": "2", "train.steps": "4", "checkpoint.every": "4"}


def config_of(spec: str, specs=(), **changes: str) -> dict:
    fewer = {"task.cutoff": "8"} if spec.startswith(SCAN) else {}  # of SCAN's training lines
    config = to_dict(override(load(spec), {**QUICK, **fewer, **{key.replace("__", "."): value for key, value in changes.items()}}))
    return {**config, "treatments": list(specs)}


def run(folder, spec: str, specs=(), **changes: str) -> dict:
    return loop.run(config_of(spec, specs, **changes), str(folder), treatments(specs), quiet=True)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Finished runs by name, of a few steps each."""
    root = tmp_path_factory.mktemp("teachers")
    for name, spec in {
        "lstm": f"{PARITY}:lstm,tiny",
        "transformer": f"{PARITY}:transformer,tiny",
        "cnn": f"{DIGITS}:plain,tiny",
        "resnet": "experiments/vision/resnet_digits.py:tiny",
        "scan": f"{SCAN}:transformer,tiny",
    }.items():
        run(root / name, spec)
    return root


def losses(spec: str, specs, **changes: str) -> dict[str, float]:
    """The metrics of one step."""
    made = assemble(config_of(spec, specs, **changes), treatments(specs))
    made.treatment.prepare()
    state = jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
    _, metrics = jax.jit(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer))(state, made.first_batch())
    return {name: float(value) for name, value in metrics.items()}


def divergence(logits, said, temperature, batch):
    return mean_of(soft_loss(logits, said, temperature, batch))


# -- the loss ---------------------------------------------------------------------------------------------------------------


def test_the_divergence_is_its_formula_and_zero_between_equals():
    ours, theirs = np.random.default_rng(0).standard_normal((2, 5, 7))
    batch = {"weight": np.array([1, 1, 0, 1, 1], np.float32)}

    def softmax(x, T):
        e = np.exp(x / T - (x / T).max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    for T in (1.0, 4.0):
        p, q = softmax(theirs, T), softmax(ours, T)
        wanted = T**2 * (p * np.log(p / q)).sum(axis=-1)[[0, 1, 3, 4]].mean()
        said = mean_logits([jnp.asarray(theirs)], T)
        np.testing.assert_allclose(divergence(jnp.asarray(ours), (said, None), T, batch), wanted, rtol=1e-4)
        assert abs(float(divergence(jnp.asarray(theirs), (said, None), T, batch))) < 1e-5
    both = mean_logits([jnp.asarray(ours), jnp.asarray(theirs)], 2.0)
    np.testing.assert_allclose(softmax(np.asarray(both), 2.0), (softmax(ours, 2.0) + softmax(theirs, 2.0)) / 2, rtol=1e-4)


def test_a_token_that_does_not_count_teaches_nothing():
    logits, said = jax.random.normal(KEY, (2, 3, 4, 5))
    batch = {"weight": np.array([1, 0, 1], np.float32), "mask": np.ones((3, 4), np.float32)}
    batch["mask"][0, 2:] = 0
    base = divergence(logits, (jax.nn.log_softmax(said), None), 1.0, batch)
    changed = said.at[1].add(jax.random.normal(KEY, (4, 5))).at[0, 2:].add(jax.random.normal(KEY, (2, 5)))
    np.testing.assert_allclose(divergence(logits, (jax.nn.log_softmax(changed), None), 1.0, batch), base, rtol=1e-6)
    counted = divergence(logits, (jax.nn.log_softmax(said.at[0, 0].add(jax.random.normal(KEY, (5,)))), None), 1.0, batch)
    assert abs(float(counted - base)) > 1e-3


def test_a_class_that_the_teacher_rules_out_adds_nothing():
    """0 log 0 is 0, and the gradient is finite: such a class has probability 0, whatever the student says."""
    said = jnp.array([[1.0, 2.0, -jnp.inf]])
    batch = {"weight": jnp.ones(1)}

    def loss(logits):
        return divergence(logits, (said, None), 2.0, batch)

    ours = jnp.array([[0.0, 1.0, -2.0]])
    p, q = np.asarray(jax.nn.softmax(said / 2.0)[0, :2], np.float64), np.asarray(jax.nn.softmax(ours / 2.0)[0, :2], np.float64)
    np.testing.assert_allclose(loss(ours), 4 * (p * np.log(p / q)).sum(), rtol=1e-5)
    assert np.isfinite(jax.grad(loss)(ours)).all()


def test_a_student_that_is_its_teacher_has_no_soft_loss(teachers):
    specs = [f"inherit:from={teachers / 'lstm'}", f"distill:from={teachers / 'lstm'},T=3,hard=0.25"]
    made = assemble(config_of(f"{PARITY}:lstm,tiny", specs), treatments(specs))
    state = jax.jit(made.init_state)(made.key, made.given(), made.first_batch(), made.started())
    _, metrics = jax.jit(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer))(state, made.first_batch())
    assert abs(float(metrics["distill"])) < 1e-6 < float(metrics["labels"])
    np.testing.assert_allclose(metrics["loss"], 0.25 * metrics["labels"], rtol=1e-5)


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("transformer", f"{PARITY}:lstm,tiny"),
        ("lstm", f"{PARITY}:transformer,tiny"),
        ("resnet", f"{DIGITS}:plain,tiny"),
        ("cnn", "experiments/vision/resnet_digits.py:small,tiny"),
        ("scan", f"{SCAN}:transformer,small,tiny"),
    ],
)
def test_any_family_teaches_any_other(teachers, teacher, student):
    found = losses(student, [f"distill:from={teachers / teacher},T=2"])
    assert found["distill"] > 1e-4 and np.isfinite(found["grad_norm"])
    np.testing.assert_allclose(found["loss"], 0.5 * found["labels"] + 0.5 * found["distill"], rtol=1e-4)


def test_several_teachers_are_one_mean(teachers):
    """The loss of two teachers is not the mean of their losses, but that of the mean of their probabilities."""
    one, other = teachers / "lstm", teachers / "transformer"
    found = losses(f"{PARITY}:lstm,tiny", [f"distill:from={one}+{other},T=2"])
    made = assemble(config_of(f"{PARITY}:lstm,tiny"), [])
    batch = made.first_batch()
    state = jax.jit(made.init_state)(made.key, {}, batch)
    ours = made.model.apply(state.params["model"], batch, key=None).logits
    said = mean_logits([open_run(path)[0].apply(open_run(path)[1], batch).logits for path in (one, other)], 2.0)
    np.testing.assert_allclose(found["distill"], divergence(ours, (said, None), 2.0, batch), rtol=1e-3)


# -- activations ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("teacher", "student", "option"),
    [
        ("transformer", f"{PARITY}:lstm,tiny", "hidden=block_0/hidden->block_0/residual"),
        ("lstm", f"{PARITY}:transformer,small,tiny", "hidden=block_0/residual->block_0/hidden"),
        ("cnn", "experiments/vision/resnet_digits.py:tiny", "hidden=block_0/residual->block_1/features;pooled->dense"),
        ("transformer", f"{PARITY}:transformer,small,tiny", "attention=block_0/attention/weights"),
        ("scan", f"{SCAN}:transformer,small,tiny", "attention=decoder/block_0/cross/weights,hidden=encoder/block_0/residual"),
    ],
)
def test_activations_are_matched_by_a_projection_of_their_own(teachers, teacher, student, option):
    specs = [f"distill:from={teachers / teacher},{option}"]
    made = assemble(config_of(student, specs), treatments(specs))
    state = jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
    step = jax.jit(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer))
    before = {path: np.asarray(leaf) for path, leaf in zip(paths(state.params), jax.tree.leaves(state.params), strict=True)}
    first = None
    for i in range(12):
        batch = {name: array[0] for name, array in made.batches(i, 1).items()}
        state, metrics = step(state, batch)
        first = first or {name: float(value) for name, value in metrics.items() if name.startswith("match_")}
    assert first and all(value > 0 for value in first.values())
    owned = [path for path in before if path.startswith("projection_")]
    assert len(owned) == option.count("hidden=") + option.count(";")
    after = {path: np.asarray(leaf) for path, leaf in zip(paths(state.params), jax.tree.leaves(state.params), strict=True)}
    assert all((before[path] != after[path]).any() for path in owned)


def test_taps_are_laid_out_by_example():
    """[batch * seq, width], [seq, batch, width] and [batch, seq, width] are the same activations."""
    wanted = np.random.default_rng(0).standard_normal((4, 4, 3)).astype(np.float32)  # as many examples as tokens
    for tap, axis in ((wanted.reshape(16, 3), 0), (wanted.swapaxes(0, 1), 1), (wanted, 0)):
        twice = tuple(2 * size if i == axis else size for i, size in enumerate(tap.shape))
        np.testing.assert_array_equal(by_example(jnp.asarray(tap), 4, tap.shape, twice), wanted)


def test_a_tap_that_is_not_there_is_told(teachers):
    with pytest.raises(UserError, match=r"the student has no such tap 'block_7/hidden'.*block_0/hidden"):
        losses(f"{PARITY}:lstm,tiny", [f"distill:from={teachers / 'transformer'},hidden=block_7/hidden->block_0/residual"])
    with pytest.raises(UserError, match=r"the student has no such tap 'block_0/attention/weights'.*none of this kind"):
        losses(f"{PARITY}:lstm,tiny", [f"distill:from={teachers / 'transformer'},attention=block_0/attention/weights"])
    with pytest.raises(UserError, match="student_tap->teacher_tap"):
        parse_matches("hidden", "->b")


# -- on disk ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("teacher", "spec"), [("cnn", f"{DIGITS}:plain,small,tiny"), ("scan", f"{SCAN}:transformer,small,tiny")])
def test_what_is_kept_on_disk_is_what_is_said(teachers, teacher, spec):
    online = losses(spec, [f"distill:from={teachers / teacher},T=2"])
    kept = losses(spec, [f"distill:from={teachers / teacher},T=2,cache=True"])
    np.testing.assert_allclose(kept["distill"], online["distill"], rtol=5e-3)
    classes = 10 if teacher == "cnn" else 7
    every = losses(spec, [f"distill:from={teachers / teacher},T=2,cache=True,top={classes}"])
    np.testing.assert_allclose(every["distill"], online["distill"], rtol=5e-3)
    few = losses(spec, [f"distill:from={teachers / teacher},T=2,cache=True,top=2"])
    assert np.isfinite(few["distill"]) and abs(few["distill"] - online["distill"]) > 1e-4


def test_outputs_are_written_once(teachers, capfd):
    spec, specs = f"{DIGITS}:plain,small,tiny", [f"distill:from={teachers / 'resnet'},T=5,cache=True"]
    folder = teachers / "resnet" / "outputs"
    losses(spec, specs)
    (only,) = folder.iterdir()
    before = (only / "values.npy").stat().st_mtime_ns
    losses(spec, specs)
    assert (only / "values.npy").stat().st_mtime_ns == before and len(list(folder.iterdir())) == 1
    assert np.load(only / "values.npy").shape == (718, 10)


def test_examples_without_end_are_not_kept(teachers):
    with pytest.raises(UserError, match="are unlimited"):
        losses(f"{PARITY}:lstm,tiny", [f"distill:from={teachers / 'lstm'},cache=True"])


def test_a_teacher_is_not_saved_with_its_student_which_answers_without_it(teachers, tmp_path):
    teacher = tmp_path / "teacher"
    shutil.copytree(teachers / "cnn", teacher)
    for name, option in {"online": "", "cached": ",cache=True"}.items():
        folder = tmp_path / name
        run(folder, f"{DIGITS}:plain,small,tiny", [f"distill:from={teacher}{option}"])
    shutil.rmtree(teacher)
    for name in ("online", "cached"):
        model, params, task = open_run(tmp_path / name)
        assert not [path for path in paths(params) if "teacher" in path]
        batch = task.encode(task.source("valid").fetch(np.arange(3)), 1)
        assert model.apply(params, batch).logits.shape == (3, 10)
        with pytest.raises(UserError, match="teacher"):
            run(tmp_path / name, f"{DIGITS}:plain,small,tiny", rebuild(tmp_path / name).settings.treatments, train__steps="8")


def test_a_stopped_student_goes_on_to_the_same_bits(teachers, tmp_path):
    specs = [f"distill:from={teachers / 'cnn'},hidden=block_0/features"]
    kept = {"checkpoint__every": "2", "checkpoint__keep": "9", "optimizer__schedule": "constant"}
    run(tmp_path / "whole", f"{DIGITS}:plain,small,tiny", specs, **kept, train__steps="6")
    run(tmp_path / "parts", f"{DIGITS}:plain,small,tiny", specs, **kept, train__steps="4")
    run(tmp_path / "parts", f"{DIGITS}:plain,small,tiny", specs, **kept, train__steps="6")
    first, second = (open_run(tmp_path / name)[1] for name in ("whole", "parts"))
    assert jax.tree.all(jax.tree.map(lambda a, b: (np.asarray(a) == np.asarray(b)).all(), first, second))


# -- labels -----------------------------------------------------------------------------------------------------------------


def test_the_teachers_own_answers_take_the_place_of_labels(teachers):
    spec, specs = f"{SCAN}:transformer,small,tiny", [f"distill:from={teachers / 'scan'},sequence=True"]
    made = assemble(config_of(spec, specs), treatments(specs))
    plain = assemble(config_of(spec), [])
    made.treatment.prepare()
    model, params, task = open_run(teachers / "scan")
    source = made.task.source("train")
    index = np.arange(40)
    taught, true = source.fetch(index), plain.task.source("train").fetch(index)
    assert (taught.input == true.input).all() and (taught.target != true.target).any()
    from assay.evals.evaluate import make_answer

    batch = dict(task.encode(true, task.width(source.lengths[1])))
    _, answers = make_answer(model, replace(task, metrics=("exact_match",)))(params, batch)
    for i in range(len(index)):
        length = int(taught.target_length[i])
        assert 1 <= length <= true.target_length[i]
        np.testing.assert_array_equal(taught.target[i, :length], np.asarray(answers)[i, :length])
        assert length == true.target_length[i] or taught.target[i, length - 1] == 6, (
            "it ends where the teacher ends, or where the label does"
        )
    assert (made.task.source("valid").fetch(index).target == plain.task.source("valid").fetch(index).target).all()
    with pytest.raises(UserError, match="token by token"):
        losses(f"{DIGITS}:plain,tiny", [f"distill:from={teachers / 'cnn'},sequence=True"])


def test_examples_without_a_label_are_taught_by_the_teacher_alone(teachers):
    spec, changes = f"{DIGITS}:plain,small,tiny", {"task__labels": "30", "task__unlabelled": "True", "train__batch_size": "128"}
    specs = [f"distill:from={teachers / 'cnn'},T=2"]
    made, few = assemble(config_of(spec, specs, **changes), treatments(specs)), assemble(config_of(spec, task__labels="30"), [])
    assert made.task.source("train").size == 718 and few.task.source("train").size == 30
    batch = made.first_batch()
    assert 0 < batch["labelled"].sum() < 30 and set(np.unique(batch["labelled"])) == {0.0, 1.0}
    every = made.task.source("train").fetch(np.arange(718))
    known = every.target_length > 0
    assert known.sum() == 30 and not every.target[~known].any()
    shown = {image.tobytes() for image in few.task.source("train").fetch(np.arange(30)).input}
    assert {image.tobytes() for image in every.input[known]} == shown, "they are the labels that a run without the others has"

    def losses_of(batch):
        state = jax.jit(made.init_state)(made.key, made.given(), batch)
        return made.objective.loss(made.model, all_params(state), batch, KEY, jnp.zeros((), jnp.int32))

    first, aux = losses_of(batch)
    other = {**batch, "targets": np.where(batch["labelled"] > 0, batch["targets"], 7).astype(np.int32)}
    np.testing.assert_allclose(losses_of(other)[0], first, rtol=1e-6)
    assert float(aux.sums["distill"][1]) == 128


# -- whose task -------------------------------------------------------------------------------------------------------------


def test_a_teacher_of_another_task_is_refused(teachers, tmp_path):
    for teacher, spec, words in (
        (teachers / "cnn", f"{PARITY}:lstm,tiny", ["labels", "digits"]),
        (teachers / "lstm", f"{SCAN}:transformer,tiny", ["other labels", "scan/length"]),
    ):
        with pytest.raises(UserError) as told:
            run(tmp_path / "student", spec, [f"distill:from={teacher}"])
        assert all(word in str(told.value) for word in [*words, "--config.task"]), str(told.value)
    with pytest.raises(UserError, match=r"config.json|no checkpoint"):
        run(tmp_path / "student", f"{PARITY}:lstm,tiny", [f"distill:from={tmp_path / 'nowhere'}"])
    assert not (tmp_path / "student").exists(), "nothing is written"


def test_options_are_checked():
    for spec, words in {
        "distill": ["needs from"],
        "distill:from=": ["from="],
        "distill:from=a,T=0": ["T=0", "from 1e-06 to 1e+09"],
        "distill:from=a,T=1e10": ["T=10000000000", "from 1e-06 to 1e+09"],
        "distill:from=a,hard=2": ["hard=2"],
        "distill:from=a,top=3": ["top=3", "cache"],
        "distill:from=a,cache=True,hidden=b": ["cache"],
        "distill:from=a,sequence=True,cache=True": ["sequence"],
    }.items():
        with pytest.raises(UserError) as told:
            treatments([spec])
        assert all(word in str(told.value) for word in words), (spec, str(told.value))
