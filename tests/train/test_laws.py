"""The laws of treatments, steps and streams. Most are shown on a linear model, which compiles in no time; nothing in them knows a model."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from assay.core import rng
from assay.core.errors import UserError
from assay.core.tree import paths
from assay.data.loader import Drawn
from assay.data.source import Source
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.evaluate import evaluate, make_answer
from assay.infer.decode import free_running
from assay.models.model import Model, Output
from assay.train.experiment import assemble
from assay.train.objective import OBJECTIVES, Aux, Objective, supervised
from assay.train.optim import OptimizerConfig, make_optimizer, make_schedule
from assay.train.state import all_params, init_params, init_state
from assay.train.step import make_step, repeat
from assay.train.treatment import Treatment, compose, links
from assay.treatments.pipeline.load import treatments
from assay.treatments.table import FACTORIES

ROWS, FEATURES, CLASSES = 8, 4, 3
KEY = jax.random.key(0)
SPEC = OptimizerConfig("adam", 1e-2, "constant", 0, 0, 0.0, "kernel$", 0.0)


@functools.cache
def linear(width: int) -> Model:
    """tanh(x A) B with a hidden width, noise in training, and a tap. Cached, so that two of the same width are the same Model."""

    def init(key, batch):
        first, second = jax.random.split(key)
        shapes = (batch["inputs"].shape[-1], width), (width, CLASSES)
        return {"up": {"kernel": jax.random.normal(first, shapes[0])}, "head": {"kernel": jax.random.normal(second, shapes[1])}}

    def apply(params, batch, *, key=None, train=False, edits=None):
        hidden = (edits or {}).get("hidden", lambda value: value)(jnp.tanh(batch["inputs"] @ params["up"]["kernel"]))
        if train:
            hidden = hidden + 0.01 * jax.random.normal(rng.stream(key, "noise"), hidden.shape)
        return Output(hidden @ params["head"]["kernel"], {"hidden": hidden})

    return Model(init, apply, editable=True)


def score(output, batch):
    nll = -jnp.take_along_axis(jax.nn.log_softmax(output.logits), batch["targets"][:, None], axis=1)[:, 0]
    return nll, batch["weight"], {"nll": nll}


def toy_batch(step: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(step)
    inputs = random.standard_normal((ROWS, FEATURES)).astype(np.float32)
    return {"inputs": inputs, "targets": random.integers(0, CLASSES, ROWS), "weight": np.ones(ROWS, np.float32)}


def toy(treated=(), spec: OptimizerConfig = SPEC, steps: int = 10):
    """(state, step, schedule) of a linear model under treatments."""
    treatment, schedule = compose(treated), make_schedule(spec, steps)
    objective, optimizer = treatment.objective(supervised(score)), treatment.optimizer(make_optimizer(spec, schedule))
    model, _ = jax.eval_shape(lambda key: init_params(key, linear(5), treatment, toy_batch()), KEY)
    init = functools.partial(init_state, model=linear(5), objective=objective, optimizer=optimizer, treatment=treatment)
    state = jax.jit(lambda given: init(key=KEY, given=given, batch=toy_batch()))(treatment.given)
    return state, make_step(model, objective, treatment.gradient, optimizer), schedule


def run(state, step, count: int = 3):
    step = jax.jit(step)
    for i in range(count):
        state, metrics = step(state, toy_batch(i))
    return state, metrics


def bits(tree) -> dict[str, bytes]:
    """Every leaf's bytes by path."""
    data = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf, tree)
    return {path: np.asarray(leaf).tobytes() for path, leaf in zip(paths(tree), jax.tree.leaves(data), strict=True)}


def leaves_close(first, second, tolerance: float = 1e-6) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), first, second)


# -- treatments -------------------------------------------------------------------------------------------------------------


def test_the_identity_changes_no_bit(tiny):
    ends = []
    for treated in ([], [Treatment(), compose([])]):
        made = assemble(tiny("lstm"), treated)
        state = jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
        step = make_step(made.model, made.objective, made.treatment.gradient, made.optimizer)
        state, _ = jax.jit(repeat(step, made.schedule))(state, made.batches(0, 3), np.int32(3))
        ends.append(bits(state))
    assert ends[0] == ends[1]
    plain, treated = (bits(run(*toy(treated)[:2])[0]) for treated in ([], [Treatment()]))
    assert plain == treated


@pytest.mark.parametrize("link", ["task", "model", "objective", "gradient", "optimizer"])
def test_links_apply_in_order(link):
    def adds(name: str) -> Treatment:
        arrow = (lambda model, params: (model, (*params, name))) if link == "model" else (lambda value: (*value, name))
        return Treatment(**{link: arrow})

    composed = compose([adds("first"), compose([adds("second"), adds("third")])])
    arrow = getattr(composed, link)
    assert (arrow(linear(5), ())[1] if link == "model" else arrow(())) == ("first", "second", "third")
    for other in {"task", "objective", "gradient", "optimizer"} - {link}:
        assert getattr(composed, other)("untouched") == "untouched"


def test_settings_and_samples_apply_in_order_and_one_from_the_last():
    def adds(name: str) -> Treatment:
        def sample(sample, source):
            return lambda step: sample(step)._replace(columns={**sample(step).columns, name: source.indices(1)})

        return Treatment(
            settings=lambda train, model: (train, {**model, name: len(model)}),
            sample=sample,
            one=lambda batch: {**batch, name: np.array(len(batch))},
        )

    source = Source("train", (1, 1), 2, lambda indices: indices, lambda indices: np.ones(len(indices)), lambda ordinals, length: ordinals)
    base = lambda step: Drawn(np.array([step]))  # noqa: E731
    for composed in (compose([adds("a"), compose([adds("b"), adds("c")])]), compose([compose([adds("a"), adds("b")]), adds("c")])):
        assert composed.settings(None, {}) == (None, {"a": 0, "b": 1, "c": 2})
        assert [*composed.sample(base, source)(7).columns] == ["a", "b", "c"] and composed.sample(base, source)(7).indices == [7]
        assert {name: int(value) for name, value in composed.one({}).items()} == {"c": 0, "b": 1, "a": 2}, "the outermost axis goes first"
    nothing = compose([Treatment()])
    assert nothing.settings(None, {"a": 1}) == (None, {"a": 1}) and nothing.sample(base, source) is base and nothing.one({}) == {}


def test_a_composition_names_what_acts():
    named = [Treatment(optimizer=lambda optimizer: optimizer, name="mask"), Treatment(name="nothing"), *treatments(["scratchpad"])]
    assert compose(named).name == "mask + nothing + scratchpad" and compose([]).name == "none"
    assert links(named) == {"task": ["scratchpad"], "optimizer": ["mask"]}


def test_frozen_parameters_keep_their_bits_and_have_no_optimizer_state():
    state, step, _ = toy([Treatment(frozen="/up/"), Treatment(frozen="a path that nothing has")])
    after, _ = run(state, step)
    assert set(bits(state.frozen)) == {"model/up/kernel"} and bits(after.frozen) == bits(state.frozen)
    assert bits(after.params)["model/head/kernel"] != bits(state.params)["model/head/kernel"]
    assert not [path for path in paths(state.opt_state) if "up" in path] and [path for path in paths(state.opt_state) if "head" in path]
    assert set(paths(all_params(after))) == {"model/up/kernel", "model/head/kernel"}


def test_given_trees_enter_the_state_as_arguments():
    teacher = {"up": {"kernel": np.full((FEATURES, 5), 0.5, np.float32)}}
    given, treated = {"teacher": teacher}, [Treatment(given={"teacher": teacher}, frozen="^teacher/")]
    state, step, _ = toy(treated)
    after, _ = run(state, step)
    assert bits(after.frozen) == bits(given)
    treatment, objective = compose(treated), supervised(score)
    made = functools.partial(init_state, model=linear(5), objective=objective, optimizer=optax.sgd(0.1), treatment=treatment)
    program = jax.make_jaxpr(lambda given: made(key=KEY, given=given, batch=toy_batch()))({"teacher": teacher})
    assert not [constant for constant in program.consts if np.shape(constant) == (FEATURES, 5)], "a given tree is a constant of the program"
    free, step, _ = toy([Treatment(given=given)])
    assert "teacher/up/kernel" in paths(free.params), "what is given and not frozen is trained"


def halve(model: Model, params):
    """Surgery: the first half of the hidden width."""
    width = params["up"]["kernel"].shape[1] // 2
    return linear(width), {"up": {"kernel": params["up"]["kernel"][:, :width]}, "head": {"kernel": params["head"]["kernel"][:width]}}


def test_a_model_arrow_is_replayed_from_shapes():
    treatment = compose([Treatment(model=halve)])
    model, shapes = jax.eval_shape(lambda key: init_params(key, linear(5), treatment, toy_batch()), KEY)
    real, params = init_params(KEY, linear(5), treatment, toy_batch())
    assert model == real == linear(2)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    state, step, _ = toy([Treatment(model=halve)])
    assert jax.tree.map(jnp.shape, run(state, step)[0].params["model"]) == jax.tree.map(jnp.shape, params)

    def by_value(model, params):
        return linear(int(params["up"]["kernel"].sum()) % 3 + 1), params

    with pytest.raises(jax.errors.ConcretizationTypeError):
        toy([Treatment(model=by_value)])


def with_projection(objective: Objective) -> Objective:
    """A regulariser that owns a parameter."""

    def init(key, model, params, batch):
        return {**objective.init(key, model, params, batch), "projection": jax.random.normal(rng.stream(key, "projection"), (CLASSES,))}

    def loss(model, params, batch, key, step):
        mean, aux = objective.loss(model, params, batch, key, step)
        return mean + (aux.output.logits * params["projection"][None]).mean(), aux

    return Objective(init, loss)


def test_what_an_objective_owns_is_made_under_a_trace_and_trained():
    objectives = {**{name: factory(score) for name, factory in OBJECTIVES.items()}, "projection": with_projection(supervised(score))}
    for name, objective in objectives.items():
        shapes = jax.eval_shape(lambda key, objective=objective: objective.init(key, linear(5), {"model": {}}, toy_batch()), KEY)
        assert "model" not in shapes, f"{name} takes a name that is not new"
    state, step, _ = toy([Treatment(objective=with_projection)])
    after, _ = run(state, step)
    before, now = bits(state.params), bits(after.params)
    assert set(now) == {"model/head/kernel", "model/up/kernel", "projection"}
    assert all(now[path] != before[path] for path in now)


def wrap(model: Model, params):
    return replace(model, apply=lambda params, batch, **kwargs: model.apply(params, batch, **kwargs)), params


def _double(value):
    return 2 * value


OTHERS = {"balance", "couple", "larger", "recombine", "reverse", "threshold"} | {
    "distill",
    "inherit",
    "init",
    "merge",
    "prune",
}  # not for this task; need options or a run


@pytest.mark.parametrize("name", ["a wrapper", *sorted({*FACTORIES} - OTHERS)])
def test_a_treated_apply_passes_keyword_arguments(tiny, name):
    """Dropout and edits arrive through whatever a treatment has put around the model."""
    if name == "a wrapper":
        (model, params), batch, path = wrap(linear(5), linear(5).init(KEY, toy_batch())), toy_batch(), "hidden"
    else:
        made = assemble(tiny("lstm", {"model.dropout": "0.5", "treatments": name}), treatments([name]))
        params = all_params(jax.jit(made.init_state)(KEY, made.given(), made.first_batch()))["model"]
        model, batch, path = made.model, made.first_batch(), "block_0/hidden"
    plain = model.apply(params, batch)
    for keywords in ({"key": KEY, "train": True}, {"edits": {path: Partial(_double)}}):
        assert (model.apply(params, batch, **keywords).logits != plain.logits).any(), keywords
    assert bits(model.apply(params, batch, key=KEY).logits) == bits(plain.logits), "a key alone changes nothing"
    assert path in plain.taps


def accumulate(gradient):
    """Two halves of a batch, joined as a weighted mean."""

    def joined(params, batch, key, step, carried):
        parts = [gradient(params, jax.tree.map(lambda array, i=i: array[i::2], batch), key, step, carried) for i in range(2)]
        weight = sum(aux.weight for _, aux, _ in parts)
        weighted = [jax.tree.map(lambda leaf, aux=aux: leaf * aux.weight / weight, grads) for grads, aux, _ in parts]
        return optax.tree.add(*weighted), Aux(weight, jax.tree.map(jnp.add, *(aux.sums for _, aux, _ in parts))), carried

    return joined


@pytest.mark.parametrize("weights", [np.ones(ROWS), np.arange(ROWS)])
def test_accumulated_halves_are_the_full_batch(weights):
    batch = toy_batch() | {"weight": weights.astype(np.float32)}
    quiet = replace(linear(5), apply=lambda params, batch, **_: linear(5).apply(params, batch))  # two halves would draw other noise
    state, _, _ = toy(spec=replace(SPEC, name="sgd"))
    steps = {}
    for name, arrow in (("whole", lambda gradient: gradient), ("halves", accumulate)):
        step = make_step(quiet, supervised(score), arrow, optax.sgd(1.0))
        steps[name] = jax.jit(step)(state._replace(opt_state=optax.sgd(1.0).init(state.params)), batch)
    leaves_close(steps["whole"][0].params, steps["halves"][0].params)
    leaves_close(dict(steps["whole"][1]), dict(steps["halves"][1]))
    assert float(steps["whole"][1]["grad_norm"]) > 1e-2


# -- the step ---------------------------------------------------------------------------------------------------------------


def test_the_step_is_pure():
    state, step, _ = toy()
    step, batch = jax.jit(step), toy_batch()
    before = bits((state, batch))
    first, second = step(state, batch), step(state, batch)
    assert bits(first) == bits(second)
    assert bits((state, batch)) == before
    assert bits(first[0].key) == bits(state.key) and int(first[0].step) == 1


@pytest.mark.parametrize("variant", ["lstm", "scratchpad"])
def test_two_calls_of_two_are_one_call_of_four(tiny, variant):
    config = tiny(variant)
    made = assemble(config, treatments(config["treatments"]))
    assert made.settings.train.steps_per_call == 4
    call = jax.jit(repeat(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer), made.schedule))
    start = jax.jit(made.init_state)(made.key, made.given(), made.first_batch())
    once, all_metrics = call(start, made.batches(0, 4), np.int32(4))
    half, first = call(start, made.batches(0, 2), np.int32(2))
    twice, second = call(half, made.batches(2, 2), np.int32(2))
    assert bits(twice) == bits(once) != bits(half)
    for name, values in all_metrics.items():
        np.testing.assert_array_equal(values, np.r_[first[name][:2], second[name][:2]])
        assert not np.any(first[name][2:])


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [0.4] * 6),
        ("constant", 4, [0.0, 0.1, 0.2, 0.3, 0.4, 0.4]),
        ("linear", 2, [0.0, 0.2, 0.4, 0.3, 0.2, 0.1]),
        ("cosine", 0, [0.2 * (1 + np.cos(np.pi * i / 6)) for i in range(6)]),
    ],
)
def test_the_learning_rate_is_logged_and_used(schedule, warmup, expected):
    spec = OptimizerConfig("sgd", 0.4, schedule, warmup, 0, 0.0, "", 0.0)
    state, step, rate = toy(spec=spec, steps=6)
    stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *(toy_batch(i) for i in range(6)))
    call = jax.jit(repeat(step, rate))
    _, metrics = call(state, stacked, np.int32(6))
    np.testing.assert_allclose(metrics["learning_rate"], expected, atol=1e-6)
    for i, wanted in enumerate(expected):
        after, one = call(state, jax.tree.map(lambda array, i=i: np.roll(array, -i, axis=0), stacked), np.int32(1))
        moved = float(optax.tree.norm(optax.tree.sub(after.params, state.params)))
        assert moved == pytest.approx(wanted * float(one["grad_norm"][0]), rel=1e-4, abs=1e-7)
        state = after


def test_clipping_scales_the_whole_gradient():
    for clip, expected in ((0.5, 0.5), (100.0, 5.0)):
        optimizer = make_optimizer(spec := replace(SPEC, name="sgd", learning_rate=1.0, clip_norm=clip), make_schedule(spec, 1))
        grads = {"a": jnp.array([3.0]), "b": jnp.array([0.0, 4.0])}
        updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
        leaves_close(updates, jax.tree.map(lambda g, expected=expected: -g * expected / 5.0, grads))


def test_weight_decay_falls_on_what_its_regex_selects():
    spec = replace(SPEC, name="sgd", learning_rate=0.5, weight_decay=0.1, decay_paths="kernel$")
    optimizer = make_optimizer(spec, make_schedule(spec, 1))
    params = {"kernel": jnp.ones(2), "bias": jnp.ones(2), "kernel_norm": jnp.ones(1)}
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    leaves_close(updates, {"kernel": jnp.full(2, -0.05), "bias": jnp.zeros(2), "kernel_norm": jnp.zeros(1)})


# -- named randomness -------------------------------------------------------------------------------------------------------


def test_streams_are_told_apart_by_name_and_step_alone():
    streams = {(name, step): rng.stream(KEY, name, step) for name in ("dropout", "outdrop", "noise") for step in (0, 1, 1000)}
    assert len({bits(key)[""] for key in streams.values()}) == 9
    for (name, step), key in reversed(streams.items()):  # drawn again, in another order, and under a trace
        again = jax.jit(rng.stream, static_argnums=1)(KEY, name, jnp.int32(step))
        assert bits(again) == bits(key)
    assert rng.stable_hash("dropout") == 10899584076077068586, "stable across processes and versions: old checkpoints rely on it"


def test_host_integers_are_uniform_and_random_access():
    keys = rng.example_keys("a split", 0, np.arange(4000))
    draws = rng.integers(keys, "digit", 10, 6)
    counts = np.bincount(draws.ravel(), minlength=6)
    assert len(counts) == 6 and ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 25  # chi-squared of 5 degrees: 1 in 7000
    some = np.array([17, 3, 17])
    np.testing.assert_array_equal(rng.integers(rng.example_keys("a split", 0, some), "digit", 10, 6), draws[some])
    np.testing.assert_array_equal(rng.integers(keys, "digit", 4, 6), draws[:, :4])
    for other in (rng.integers(keys, "operator", 10, 6), rng.integers(rng.example_keys("a split", 1, np.arange(4000)), "digit", 10, 6)):
        assert 0.14 < (other == draws).mean() < 0.19  # a sixth, as of independent draws
    spans = np.array([1, 2**32] * 2000)
    wide = rng.integers(keys, "wide", 1, spans)[:, 0]
    assert (wide[::2] == 0).all() and wide[1::2].max() > 2**31 and wide[1::2].min() >= 0


# -- the scratchpad ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["scratchpad", "lstm"])
def pad(request, tiny):
    """(experiment, parameters) with states that vary: a decoder, and an LSTM under the same treatment."""
    config = tiny(request.param, {"treatments": "scratchpad", "evaluate.splits": "iid"})
    made = assemble(config, treatments(["scratchpad"]))
    shapes = jax.eval_shape(made.model.init, KEY, made.first_batch())
    random = np.random.default_rng(3)
    return made, jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape), leaf.dtype), shapes)


def scramble(batch):
    """Other tokens where the model is to read its own."""
    noise = np.random.default_rng(0).integers(0, 3, batch["inputs"].shape)
    return {**batch, "inputs": np.where(batch["given"] > 0, batch["inputs"], noise).astype(np.int32)}


def test_evaluation_never_reads_the_true_states(pad):
    made, params = pad
    answer, mesh = jax.jit(make_answer(made.model, made.task)), make_mesh(MeshConfig(-1, 1, 1))
    blind = replace(made.task, encode=lambda examples, width: scramble(made.task.encode(examples, width)))
    true, scrambled = (evaluate(answer, params, task, "iid", made.settings.evaluate, mesh) for task in (made.task, blind))
    assert true == scrambled
    assert len({token for record in true for token in record["prediction"]}) == 2, "a model that always says the same would show nothing"
    batch = made.first_batch()
    assert (scramble(batch)["inputs"] != batch["inputs"]).any()
    forced = [np.asarray(jax.jit(made.model.apply)(params, batch).logits) for batch in (batch, scramble(batch))]
    assert np.abs(forced[0] - forced[1]).max() > 0.01, "the states matter to the model where it is given them"


def test_free_running_equals_a_loop_that_starts_over_for_each_token(pad):
    made, params = pad
    batch, first_state = made.first_batch(), made.task.vocabulary.inputs - made.task.vocabulary.outputs
    run = jax.jit(lambda params, batch: free_running(made.model, params, batch, first_state, made.task.free_running).logits)
    found = np.asarray(run(params, scramble(batch)))

    apply = jax.jit(lambda params, inputs: made.model.apply(params, {**batch, "inputs": inputs}).logits)
    tokens, expected = np.zeros_like(batch["inputs"]), np.zeros_like(found)
    for place in range(tokens.shape[1]):
        given = batch["given"][:, place] > 0
        tokens[:, place] = np.where(given, batch["inputs"][:, place], expected[:, place - 1].argmax(axis=-1) + first_state)
        expected[:, place] = np.asarray(apply(params, tokens))[:, place]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (found.argmax(axis=-1) == expected.argmax(axis=-1)).mean() > 0.99


def test_the_scratchpad_refuses_a_task_without_states(tiny):
    for name in ("chomsky/reverse_string", "chomsky/even_pairs"):
        with pytest.raises(UserError, match="does not apply to " + name):
            assemble(tiny("scratchpad", {"task.name": name}), treatments(["scratchpad"]))
