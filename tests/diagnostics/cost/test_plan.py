"""Plans: operations counted exactly, traffic read from a program's text, chips and topologies, and the verb."""

import importlib.util
import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from verb_server import refused, verb  # noqa: F401 - a fixture

from assay.config.files import load
from assay.config.overrides import override
from assay.config.schema import to_dict
from assay.core.errors import UserError
from assay.diagnostics.cost.chips import CHIPS, topology
from assay.diagnostics.cost.collectives import Traffic, collectives, seconds
from assay.diagnostics.cost.flops import flops
from assay.diagnostics.cost.plan import plan, search, text_of

TINY = "experiments/scale/gpt_125m.py:tiny"


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


# -- operations -------------------------------------------------------------------------------------------------------------


def test_a_product_and_its_gradient():
    assert flops(lambda w, x: jnp.sum(x @ w), shape(16, 8), shape(4, 16)) == 2 * 4 * 16 * 8
    both = flops(jax.grad(lambda w, v, x: jnp.sum(jnp.tanh(x @ w) @ v), argnums=(0, 1)), shape(16, 8), shape(8, 2), shape(4, 16))
    assert both == 2 * (2 * 4 * 16 * 8 + 2 * 4 * 8 * 2) + 2 * 4 * 8 * 2  # no gradient of the inputs


@pytest.mark.parametrize("groups", [1, 4])
def test_a_convolution(groups):
    conv = nn.Conv(12, (3, 5), padding="VALID", feature_group_count=groups, use_bias=False)
    params = jax.eval_shape(conv.init, jax.random.key(0), shape(2, 10, 11, 8))
    assert flops(conv.apply, params, shape(2, 10, 11, 8)) == 2 * (2 * 8 * 7 * 12) * (3 * 5 * 8 // groups)


def test_a_convolution_with_a_stride_costs_its_gradient_no_zeros():
    def loss(kernel, x):
        return jnp.sum(jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) ** 2)

    forward = flops(loss, shape(2, 2, 4, 6), shape(1, 8, 8, 4))
    assert forward == 2 * (4 * 4 * 6) * (2 * 2 * 4)
    assert flops(jax.grad(loss, argnums=(0, 1)), shape(2, 2, 4, 6), shape(1, 8, 8, 4)) == pytest.approx(3 * forward, rel=0.2)


def test_attention():
    batch, heads, tokens, dim = 2, 3, 7, 4
    each = shape(batch, tokens, heads, dim)
    found = flops(jax.nn.dot_product_attention, each, each, each)
    assert found == 2 * 2 * batch * heads * tokens * tokens * dim


def test_loops_and_branches():
    square = shape(8, 8)
    once = 2 * 8**3
    assert flops(lambda x: jax.lax.scan(lambda c, _: (c @ x, None), x, None, length=5)[0], square) == 5 * once
    assert flops(lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x, x), square) == 2 * once
    assert flops(jax.checkpoint(jax.jit(lambda x: x @ x)), square) == once
    with pytest.raises(ValueError, match="length depends on data"):
        flops(lambda x: jax.lax.while_loop(lambda c: c[0, 0] < 0, lambda c: c @ c, x), square)


def test_a_decoder_costs_what_its_matrices_say():
    found = plan(to_dict(override(load(TINY), {"mesh": "fsdp:1,data:1"})), topology("h100:1"))
    tokens, window, width, mlp, depth, ids = 16 * 16, 16, 16, 32, 2, 64
    forward = 2 * tokens * (depth * (4 * width * width + 2 * width * mlp) + width * ids) + depth * 2 * 2 * tokens * window * width
    assert found["model_flops"] == 3 * forward
    assert found["executed_flops"] > 3 * forward  # `dots` computes attention again


# -- traffic ----------------------------------------------------------------------------------------------------------------

TEXT = """
  %a = bf16[8,128]{1,0:T(8,128)(2,1)} all-gather(bf16[1,128]{1,0} %x), channel_id=1, dimensions={0}
  %piece = bf16[8,128]{1,0:T(8,128)(2,1)} all-gather(bf16[1,128]{1,0} %x), channel_id=1, dimensions={0}
  %b = (f32[4]{0:T(256)}, /*index=1*/f32[2,3]{1,0}) all-reduce(f32[4]{0} %y, f32[2,3]{1,0} %z), channel_id=2, to_apply=%add
  %c = f32[] all-reduce(%w), channel_id=3, to_apply=%add
  %d = (f32[2]{0}, f32[16]{0}) all-gather-start(f32[2]{0} %v), channel_id=4, dimensions={0}
  %e = f32[16]{0} all-gather-done(%d)
  %f = f32[2]{0} reduce-scatter(f32[16]{0} %v), channel_id=5, to_apply=%add
  %g = f32[2]{0} add(f32[2]{0} %f, f32[2]{0} %f)
"""


def test_collectives_are_read_from_a_program():
    assert collectives(TEXT) == {
        "all-gather": Traffic(2, 8 * 128 * 2 + 16 * 4),
        "all-reduce": Traffic(2, (4 + 6) * 4 + 4),
        "reduce-scatter": Traffic(1, 16 * 4),
    }
    assert seconds({"all-reduce": Traffic(1, 10.0), "all-gather": Traffic(1, 5.0)}, 5.0) == 5.0
    assert collectives("%x = f32[2] add(%a, %b)") == {}


# -- chips ------------------------------------------------------------------------------------------------------------------


def test_topologies():
    assert topology("v5e:16x16").chips == 256 and topology("v5p:4x4x4").chips == 64 and topology("h100:8").shape == (8,)
    assert all(chip.flops > 1e14 and chip.memory > 1e10 and chip.bandwidth > 5e11 and chip.links > 1e11 for chip in CHIPS.values())


@pytest.mark.parametrize("text", ["v5e", "v5e:", "v5e:0x4", "v5e:16*16", "v5e:-4", "tpu:4x4", "V5E:4x4"])
def test_what_is_no_topology_is_told(text):
    with pytest.raises(UserError, match="--topology"):
        topology(text)


# -- plans ------------------------------------------------------------------------------------------------------------------


def test_parameters_and_optimiser_are_divided_among_devices():
    changes = {"model.width": "64", "model.mlp": "256", "task.vocabulary": "512"}
    config = to_dict(override(load(TINY), changes | {"mesh": "data:1,fsdp:-1", "train.batch_size": "64"}))
    one, eight = (plan(config, topology(f"h100:{chips}")) for chips in (1, 8))
    assert one["fits"] and eight["fits"] and one["parameters"] == eight["parameters"]
    for kind in ("parameters", "optimiser"):
        assert eight["memory_bytes"][kind] == pytest.approx(one["memory_bytes"][kind] / 8, rel=0.1)
    assert one["collectives"] == {} and set(eight["collectives"]) == {"all-gather", "reduce-scatter"}
    assert eight["busy_seconds"]["compute"] == pytest.approx(one["busy_seconds"]["compute"] / 8)
    assert eight["step_seconds"] == max(eight["busy_seconds"].values())
    assert eight["tokens_a_step"] == 64 * 16 and eight["budget_tokens"] == 20 * eight["parameters"]
    assert eight["days"] == pytest.approx(eight["budget_tokens"] / eight["tokens_per_second"] / 86_400)


def test_what_does_not_fit_is_told():
    found = plan(to_dict(load("experiments/scale/llama_70b.py")), topology("h100:8"))
    assert not found["fits"] and sum(found["memory_bytes"].values()) > found["memory_of_a_chip_bytes"]
    assert found["parameters"] == pytest.approx(69e9, rel=0.01)


@pytest.mark.parametrize(("file", "parameters"), [("gpt_125m", 124e6), ("llama_1b", 1.236e9), ("llama_7b", 6.74e9), ("llama_70b", 69.0e9)])
def test_the_sizes_are_those_published(file, parameters):
    from assay.core.tree import count
    from assay.train.experiment import assemble

    made = assemble(to_dict(load(f"experiments/scale/{file}.py")), ())
    assert count(jax.eval_shape(made.untreated.init, made.key, made.first_batch())) == pytest.approx(parameters, rel=0.01)


def test_decoding_reads_parameters_and_cache():
    config = to_dict(override(load(TINY), {"mesh": "data:1,fsdp:1", "train.batch_size": "4"}))
    found = plan(config, topology("h100:1"), "decode")
    cache = 2 * 2 * 4 * 16 * 16 * 2  # keys and values, blocks, rows, tokens, features, bytes
    assert found["memory_bytes"]["cache"] == pytest.approx(cache, abs=64)
    assert found["tokens_a_step"] == 4 and found["days"] is None


def test_a_search_ranks_what_fits(verb, tmp_path):
    changes = {"model.width": "64", "model.heads": "4", "model.kv_heads": "2", "train.batch_size": "16"}
    ranked = search(to_dict(override(load(TINY), changes)), topology("h100:4"), "train")
    meshes = {(one["mesh"]["data"], one["mesh"]["fsdp"], one["mesh"]["tensor"]) for one in ranked}
    assert meshes == {(1, 4, 1), (2, 2, 1), (4, 1, 1), (1, 2, 2), (2, 1, 2)} and len(ranked) == 3 * len(meshes)
    assert [one["step_seconds"] for one in ranked] == sorted(one["step_seconds"] for one in ranked)
    done = verb("plan", f"--config={TINY}", "--topology=h100:2", "--search", "--shown=2", f"--out={tmp_path / 'plan.json'}")
    assert done.code == 0 and "bound by" in done.out and "fits: yes" in done.out, done.err
    assert json.loads((tmp_path / "plan.json").read_text())["ranked"][0]["fits"]


def test_the_verb_prints_and_saves(verb, tmp_path):
    out = tmp_path / "plan.json"
    done = verb("plan", f"--config={TINY}", "--topology=h100:8", "--config.mesh=data:2,fsdp:2,tensor:2", f"--out={out}")
    assert done.code == 0, done.err
    found = json.loads(out.read_text())
    assert "fits: yes" in done.out and found["mesh"] == {"data": 2, "fsdp": 2, "tensor": 2} and found["how"] == "counted from shapes"
    assert math.isclose(found["tokens_per_second"], found["tokens_a_step"] / found["step_seconds"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--topology=h101:8"], ("'h101'", "'h100'?", "v5e")),
        (["--topology=h100:8", "--phase=serve"], ("'serve'", "decode, train")),
        (["--topology=h100:6", "--config.mesh=data:4"], ("config.mesh", "6 device")),
        (["--topology=h100:3"], ("train.batch_size=16", "3 devices")),
        (["--topology=h100:8", "--tokens=-1"], ("--tokens=-1",)),
        ([], ("--topology",)),
    ],
)
def test_mistakes_of_the_verb(verb, arguments, words):
    refused(verb("plan", f"--config={TINY}", *arguments), *words)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_a_plan_for_tpus_says_how_to_get_what_it_needs(verb):
    refused(verb("plan", f"--config={TINY}", "--topology=v5e:2x2"), "libtpu", "assay[tpu]")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the extra `tpu`")
def test_a_plan_for_tpus_is_compiled():
    found = plan(to_dict(load(TINY)), topology("v5e:2x2"))
    assert found["how"] == "compiled" and found["fits"] and found["memory_bytes"]["temporaries"] > 0
    assert found["collectives"] and found["moved_bytes"] > 0


def test_a_program_that_cannot_be_read_names_the_libtpu_to_install():
    class Newer:
        def as_text(self):
            raise jax.errors.JaxRuntimeError(
                "INTERNAL: RET_CHECK failure: async-update instruction should have 1 operands but sees 3\nmore"
            )

    with pytest.raises(UserError, match=r"sees 3\)\. jax .* pip install 'assay\[tpu\]'"):
        text_of(Newer())
