"""What models cost: operations by the formula of each family, bytes of what is stored, and no discount for zeros."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix

from assay.config import recurrent, transformer
from assay.core.errors import UserError
from assay.core.tree import count
from assay.diagnostics.cost.cost import Cost, bytes_in_memory, compiled_forward, cost, example_batch
from assay.models.families import build
from assay.models.model import Model, Output, Vocabulary
from assay.models.precision import PrecisionConfig
from assay.tasks.table import build as build_task
from experiments.reason.parity import get_config

ROWS, TOKENS, IDS, CLASSES = 3, 5, 11, 4
SEQUENCE, ONCE = Vocabulary(IDS, CLASSES), Vocabulary(IDS, CLASSES, pooled=True)
FLOAT32 = PrecisionConfig("float32", "float32", "float32")


def tokens(rows: int = ROWS) -> dict[str, np.ndarray]:
    return {
        "inputs": np.random.default_rng(0).integers(0, IDS, (rows, TOKENS)).astype(np.int32),
        "length": np.full(rows, TOKENS, np.int32),
        "weight": np.ones(rows, np.float32),
    }


def numbers(*shape: int) -> dict[str, np.ndarray]:
    return {"inputs": np.random.default_rng(0).random(shape).astype(np.float32), "weight": np.ones(shape[0], np.float32)}


def measured(config, vocabulary: Vocabulary, batch) -> Cost:
    model = build(dict(config), vocabulary, FLOAT32)
    return cost(model, model.init(jax.random.key(0), batch), batch)


def tiny_mlp(width: int = 7) -> Model:
    return build({"name": "mlp", "depth": 2, "width": width, "activation": "relu", "dropout": 0.0}, Vocabulary(0, 3, pooled=True), FLOAT32)


# -- known models -----------------------------------------------------------------------------------------------------------


def test_batch_statistics_are_no_learned_values():
    def apply(params, batch, *, key=None, train=False, edits=None):
        return Output(batch["inputs"] @ params["kernel"] - params["state"]["mean"][None], {})

    params = {"kernel": jnp.ones((12, 3)), "state": {"mean": jnp.ones(3)}}
    found = cost(Model(lambda key, batch: params, apply), params, numbers(ROWS, 12))
    assert found.parameters == found.nonzero == 36 and found.bytes_on_disk == 4 * 39


def test_an_mlp_is_its_matrices():
    model, batch = tiny_mlp(), numbers(ROWS, 12)
    params = model.init(jax.random.key(0), batch)
    found = cost(model, params, batch)
    weights = 12 * 7 + 7 * 7 + 7 * 3
    assert found.parameters == weights + 7 + 7 + 3 and found.nonzero == weights, "biases start at zero"
    assert found.flops_per_example == 2 * weights
    assert found.bytes_on_disk == found.bytes_in_memory == 4 * found.parameters
    assert 2 * weights <= found.xla_flops_per_example < 3 * weights + 100, "XLA counts biases and activations too"
    assert found.peak_memory_bytes >= found.bytes_in_memory + batch["inputs"].nbytes
    assert found.compile_seconds > 0


def test_a_cnn_is_its_windows():
    config = {"name": "cnn", "filters": (4, 6), "kernel": 3, "pools": 1, "padding": "same", "dense": 5, "dropout": 0.0}
    found = measured(config, Vocabulary(0, 3, pooled=True), numbers(ROWS, 8, 8, 2))
    first, second = 8 * 8 * 4 * (3 * 3 * 2), 4 * 4 * 6 * (3 * 3 * 4)  # pooling halves the picture
    assert found.flops_per_example == 2 * (first + second + 4 * 4 * 6 * 5 + 5 * 3)
    assert found.parameters == (3 * 3 * 2 + 1) * 4 + (3 * 3 * 4 + 1) * 6 + (4 * 4 * 6 + 1) * 5 + (5 + 1) * 3


@pytest.mark.parametrize(("name", "vocabulary", "answers"), [("decoder", SEQUENCE, TOKENS), ("encoder", ONCE, 1)])
def test_a_transformer_is_its_projections_and_its_attention(name, vocabulary, answers):
    width, heads, kv_heads, mlp, depth = 16, 4, 2, 24, 2
    sizes = {"width": width, "heads": heads, "kv_heads": kv_heads, "mlp": mlp, "depth": depth, "positions": "sinusoidal"}
    found = measured(transformer(name, **sizes), vocabulary, tokens())
    kv_width = kv_heads * width // heads
    block = TOKENS * (2 * width * width + 2 * width * kv_width + 2 * width * mlp)  # query, output; key, value; up, down
    attention = 2 * TOKENS * TOKENS * width  # logits, and the mean of values; what a causal mask hides is computed all the same
    mean = TOKENS * width if vocabulary.pooled else 0  # over tokens, as a product with their shares
    assert found.flops_per_example == 2 * (depth * (block + attention) + mean + answers * width * CLASSES)


def test_an_lstm_is_eight_matrices_a_token():
    width, depth = 6, 2
    found = measured(recurrent("lstm", width=width, depth=depth), SEQUENCE, tokens())
    assert found.flops_per_example == 2 * TOKENS * (depth * 8 * width * width + width * CLASSES)
    assert found.xla_flops_per_example is not None


def test_the_size_of_the_batch_is_nothing_to_an_example():
    one, many = (measured(transformer("decoder", width=8, heads=2, kv_heads=2, mlp=8), SEQUENCE, tokens(rows)) for rows in (1, 16))
    assert one.flops_per_example == many.flops_per_example
    assert one.peak_memory_bytes < many.peak_memory_bytes and one.bytes_in_memory == many.bytes_in_memory


# -- smaller models ---------------------------------------------------------------------------------------------------------


def test_two_thin_matrices_are_cheaper_than_one():
    def apply(params, batch, **_):
        return Output(batch["inputs"] @ params["down"] @ params["up"], {})

    params = {"down": jnp.ones((32, 2)), "up": jnp.ones((2, 32))}
    found = cost(Model(lambda key, batch: params, apply), params, numbers(ROWS, 32))
    assert found.flops_per_example == 2 * 2 * 32 * 2 and found.parameters == 2 * 32 * 2


@pytest.mark.filterwarnings("ignore:.VariableState. was removed:DeprecationWarning")  # qwix asks Flax for it
def test_an_int8_model_is_a_quarter_on_disk_and_does_the_same_products():
    module, batch = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(64)]), numbers(ROWS, 64)
    rules = [qwix.QuantizationRule(module_path=".*", weight_qtype=jnp.int8, act_qtype=None)]
    quantiser = qwix.quantize_model(module, qwix.PtqProvider(rules))

    def model(module: nn.Module) -> Model:
        return Model(
            lambda key, batch: module.init(key, batch["inputs"])["params"],
            lambda params, batch, **_: Output(module.apply({"params": params}, batch["inputs"]), {}),
        )

    params = model(module).init(jax.random.key(0), batch)
    quantised = qwix.quantize_params(params, jax.eval_shape(model(quantiser).init, jax.random.key(0), batch))
    before, after = cost(model(module), params, batch), cost(model(quantiser), quantised, batch)
    assert after.flops_per_example == before.flops_per_example == 2 * 2 * 64 * 64, "scales are no products"
    assert before.bytes_on_disk == before.bytes_in_memory == 4 * 2 * (64 * 64 + 64)
    assert after.bytes_on_disk == after.bytes_in_memory == 2 * (64 * 64 + 4 * (64 + 64)), "a byte a weight; a scale and a bias an output"


def test_int4_is_two_to_a_byte_in_memory():
    """`nbytes` says one byte each; the compiler says what is there."""
    kernel = jnp.ones((33, 3), jnp.int4)
    assert kernel.nbytes == 99 and bytes_in_memory({"kernel": kernel}) == 50
    assert bytes_in_memory({"a": jnp.ones(7, jnp.int8), "b": jnp.ones(7, jnp.bfloat16), "c": jnp.ones(7)}) == 7 * (1 + 2 + 4)


def test_zeros_are_counted_and_cost_the_same():
    model, batch = tiny_mlp(), numbers(ROWS, 12)
    params = model.init(jax.random.key(0), batch)
    params["block_1"]["up"]["kernel"] = params["block_1"]["up"]["kernel"].at[:3].set(0)
    masked, whole = cost(model, params, batch), cost(model, model.init(jax.random.key(0), batch), batch)
    assert masked.nonzero == whole.nonzero - 3 * 7
    for name in ("parameters", "bytes_on_disk", "bytes_in_memory", "flops_per_example", "peak_memory_bytes"):
        assert getattr(masked, name) == getattr(whole, name)
    narrow = {"a": jnp.array([0, 1, -8, 0], jnp.int4), "b": jnp.array([0.0, 0.5, -0.0], jnp.float8_e4m3fn), "c": jnp.array([True, False])}
    nothing = Model(lambda key, batch: narrow, lambda params, batch, **_: Output(batch["inputs"], {}))
    assert cost(nothing, narrow, batch).nonzero == 2 + 1 + 1


def test_a_loop_whose_length_is_data_is_not_counted():
    def apply(params, batch, **_):
        return Output(jax.lax.while_loop(lambda x: x.sum() < 100, lambda x: x @ params["square"], batch["inputs"]), {})

    params = {"square": 2 * jnp.eye(4)}
    found = cost(Model(lambda key, batch: params, apply), params, numbers(ROWS, 4))
    assert found.flops_per_example is None and found.bytes_on_disk == 64


# -- compiling and examples ---------------------------------------------------------------------------------------------------


def test_a_compile_time_is_not_that_of_the_cache():
    """Tests run under a cache that keeps every program, so a second compilation would be a hit."""
    seen: list[str] = []

    def listen(event: str, **_: object) -> None:
        seen.append(event)

    jax.monitoring.register_event_listener(listen)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # a verb that ran in this process has set it higher
    model, batch = tiny_mlp(), numbers(ROWS, 12)
    params = model.init(jax.random.key(0), batch)
    for _ in range(2):
        program, _ = compiled_forward(model, params, batch)
    assert not [event for event in seen if "cache_hits" in event or "cache_misses" in event]
    np.testing.assert_allclose(program(params, batch), model.apply(params, batch).logits, rtol=1e-5, atol=1e-6)
    assert jax.config.jax_enable_compilation_cache
    for scale in (1, 1):  # afterwards the cache is there again
        jax.jit(lambda x, scale=scale: x @ x + scale)(jnp.ones((17, 17)))
    assert [event for event in seen if "cache_hits" in event or "cache_misses" in event]


@pytest.mark.parametrize("rows", [1, 7])
def test_a_batch_holds_the_longest_examples_of_a_split(rows):
    task = build_task(dict(get_config("lstm,tiny").task), 0)
    first, last = task.source("valid").lengths
    assert first < last
    batch = example_batch(task, "", rows)
    other = example_batch(task, "valid", rows)
    assert batch.keys() == other.keys() and all((batch[name] == other[name]).all() for name in batch)
    assert batch["inputs"].shape == (rows, task.width(last)) and (batch["weight"] == 1).all() and len(batch["weight"]) == rows
    examples = task.source("valid").fetch(task.source("valid").index_of(np.arange(rows), last))
    assert (batch["inputs"] == task.encode(examples, task.width(last))["inputs"]).all()


def test_a_small_split_is_repeated_and_test_is_left_alone():
    task = build_task(dict(get_config("lstm,tiny").task), 0)
    assert len(example_batch(replace(task, splits=("train", "test")), "", 2)["inputs"]) == 2  # of `train`
    with pytest.raises(UserError, match=r"'test'.*--split=valid"):
        example_batch(task, "test", 2)


def test_a_cost_is_plain_data():
    found = measured(recurrent("lstm", width=4), SEQUENCE, tokens())
    assert all(isinstance(value, (int, float)) for value in found) and count({"a": jnp.ones(3)}) == 3
