"""Workers of this library for the comparisons: its models, training step and decoding, as in a run.

python -m experiments.peers.ours gpt_small
"""

import os
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from assay.config import recurrent, resnet, transformer
from assay.core.tree import count
from assay.diagnostics.cost.flops import flops
from assay.dist import launch
from assay.dist.mesh import MeshConfig, make_mesh
from assay.dist.shard import shardings
from assay.infer.decode import written
from assay.models.families import build
from assay.models.model import Vocabulary
from assay.models.precision import PrecisionConfig
from assay.tasks.datasets.classify import score_classes
from assay.tasks.datasets.language import score_language
from assay.train.objective import OBJECTIVES
from assay.train.optim import OptimizerConfig, make_optimizer, make_schedule
from assay.train.state import init_state
from assay.train.step import make_call, make_step
from assay.train.treatment import compose
from experiments.peers.serve import serve
from experiments.peers.works import ON_GPU, WORKS

BLOCK = 4  # steps per compiled call


def model_of(work: dict[str, Any]):
    """Returns (model, batch, score) of a workload."""
    drawn, batch, kind = np.random.default_rng(0), work["batch"], work["kind"]
    config: ConfigDict
    if kind in ("gpt", "decode"):
        seq, ids, heads = work.get("context") or work["tokens"] + 1, work["vocabulary"], work["heads"]
        sizes = {"depth": work["depth"], "width": work["width"], "heads": heads, "kv_heads": heads, "mlp": 4 * work["width"]}
        config = transformer("decoder", **sizes, positions="learned", max_length=1024 if kind == "decode" else seq, tied=True)
        vocabulary, score, tokens = Vocabulary(ids, ids), score_language, drawn.integers(ids, size=(batch, seq + 1)).astype(np.int32)
        arrays = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "mask": np.ones((batch, seq), np.float32)}
        arrays["length"] = np.full(batch, seq, np.int32)
    else:
        score, arrays = score_classes, {"targets": drawn.integers(work["classes"], size=batch).astype(np.int32)}
        vocabulary = Vocabulary(work.get("vocabulary", 0), work["classes"], pooled=True)
        if kind == "lstm":
            config = recurrent("lstm", width=work["width"])
            arrays["inputs"] = drawn.integers(work["vocabulary"], size=(batch, work["length"])).astype(np.int32)
            arrays["length"] = np.full(batch, work["length"], np.int32)
        else:
            config = resnet(depth=work["depth"])
            arrays["inputs"] = drawn.normal(size=(batch, work["size"], work["size"], 3)).astype(np.float32)
    precision = PrecisionConfig("float32", work.get("dtype", "float32"), "float32")
    return build(config.to_dict(), vocabulary, precision), arrays | {"weight": np.ones(batch, np.float32)}, score


def training(work: dict[str, Any]):
    """Returns (run, params, flops): `run(steps)` trains for that many steps; flops are those of one step."""
    model, arrays, score = model_of(work)
    config = OptimizerConfig("adamw", 3e-4, "constant", 0, 0, 0.1, "kernel$", 0.0)
    schedule = make_schedule(config, 1)
    optimizer, objective, treatment = make_optimizer(config, schedule), OBJECTIVES["supervised"](score), compose([])
    mesh = make_mesh(MeshConfig(1, 1, 1))
    initial = lambda key: init_state(key, {}, model, objective, optimizer, treatment, arrays)  # noqa: E731
    state = jax.jit(initial, out_shardings=shardings(jax.eval_shape(initial, jax.random.key(0)), mesh))(jax.random.key(0))
    step, placed = make_step(model, objective, treatment.gradient, optimizer), jax.tree.map(lambda leaf: leaf.sharding, state)
    call = make_call(step, schedule, mesh, placed, looped=work["kind"] != "resnet")  # as in the training loop on a CPU
    batches = jax.device_put({name: np.stack([array] * BLOCK) for name, array in arrays.items()})

    def run(steps: int) -> None:
        nonlocal state
        for begun in range(0, steps, BLOCK):
            state, metrics = call(state, batches, np.int32(min(BLOCK, steps - begun)))
        jax.block_until_ready((state.params, metrics))

    return run, state.params, flops(step, jax.eval_shape(initial, jax.random.key(0)), arrays)


def decoding(work: dict[str, Any]):
    """Returns (run, params, None): `run(count)` decodes `count` times."""
    model, arrays, _ = model_of(work)
    seq = arrays["inputs"].shape[1]
    batch = jax.device_put(arrays | {"given": np.repeat(np.arange(seq)[None, :] == 0, work["batch"], axis=0).astype(np.float32)})
    params = jax.jit(model.init)(jax.random.key(0), batch)
    params = jax.tree.map(lambda leaf: leaf.astype(work["dtype"]), params)
    answers = jax.jit(lambda params: written(model, params, batch, 0).answers)

    def run(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(answers(params))

    return run, params, None


def make(name: str):
    """Returns (run, facts) of a workload, for `serve`."""
    launch.start()
    work = (WORKS | ON_GPU)[name]
    run, params, operations = (decoding if work["kind"] == "decode" else training)(work)
    facts = {"parameters": count(params), "jax": jax.__version__, "device": jax.devices()[0].device_kind, "flops": operations}
    return run, {**facts, "malloc": {key: value for key, value in os.environ.items() if key.startswith("MALLOC_")}}


if __name__ == "__main__":
    serve(make)
