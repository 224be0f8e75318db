# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Read a model
#
# A model that answers right may still be right for the wrong reason. This notebook trains a small Transformer, opens it, and **checks by
# intervention** how it finds its answer, in three steps: look at parameters and activations, look at attention, then change an activation
# while the model runs and see what happens to the answer.
#
# The task is the one that in-context learning is made of (Olsson et al. 2022, arXiv 2209.11895): a trigger T stands somewhere among random
# tokens and again at the end; the answer is the token that followed it the first time. It runs on a CPU, a GPU or a TPU as it is, and takes
# about a minute on two CPU cores.

# %% tags=["install"]
try:
    import assay
except ImportError:
    # %pip install --quiet "git+https://github.com/assay-research/assay"
    import assay

from assay.core import allocator

allocator.keep_memory()  # on a CPU; call before importing JAX
print("assay", assay.__version__)

# %% tags=["devices"]
import jax

devices = jax.devices()
name = {"cpu": "a CPU", "gpu": "a GPU", "tpu": "a TPU"}.get(devices[0].platform, devices[0].platform)
print(f"This runs on {name}: {len(devices)} x {devices[0].device_kind}, JAX {jax.__version__}")

# %% [markdown]
# ## Train it
#
# Two blocks. The first sees only the last four tokens and how far away they are, the second sees all tokens and no positions at all.

# %% tags=["config"]
from ml_collections import ConfigDict

config = ConfigDict(
    {
        "seed": 0,
        "task": {"name": "recall/induction", "vocabulary": 16, "length": 10, "seed": 0},
        "model": {"name": "decoder", "depth": 2, "loops": 1, "width": 32, "mixers": ("local", "attention"), "heads": 2, "kv_heads": 2}
        | {"window": 0, "mlp": 64, "positions": "none", "randomised": 0, "norm": "layernorm", "norm_place": "pre", "gate": False}
        | {"activation": "gelu", "residual_init": "plain", "tied": False, "attention": "auto", "dropout": 0.0, "max_length": 1024}
        | {"local_window": 4, "local_positions": "rotary"},
        "objective": {"name": "supervised"},
        "optimizer": {"name": "adam", "learning_rate": 3e-3, "schedule": "cosine", "warmup_steps": 50, "decay_steps": 0}
        | {"weight_decay": 0.0, "decay_paths": "kernel$", "clip_norm": 1.0},
        "train": {"steps": 400, "batch_size": 128, "buckets": 1, "steps_per_call": 10, "log_every": 50}
        | {"read_threads": 0, "validate_every": 0, "patience": 0},
        "evaluate": {"splits": ("iid", "64"), "per_length": 500, "batch_size": 128, "buckets": 1},
        "checkpoint": {"every": 400, "keep": 1},
        "mesh": {"data": -1, "fsdp": 1, "tensor": 1},  # -1: all devices that are here
        "precision": {"params": "float32", "compute": "float32", "output": "float32"},
        "treatments": (),
    }
)

# %% [markdown]
# Training and evaluation are one call. `64` is a split of inputs of 64 tokens.

# %% tags=["train"]
from assay.train import loop

results = loop.run(config, "runs/induction", [], experiment="read_a_model:induction", quiet=True)
for row in results["rows"]:
    if row["metric"] == "answer_accuracy":
        print(f"{row['split']}: answer accuracy {row['value']:.3f}, chance {1 / 15:.3f}, n {row['n']}")
model, params, task = assay.load("runs/induction")

# %% [markdown]
# It was trained on 10 tokens only, and also answers at 64. So it has not memorized strings. How does it find the answer?
#
# ## Look at its parts
#
# Parameters are a plain tree. [Treescope](https://treescope.readthedocs.io) unfolds any tree and draws its arrays: click on a part.

# %% tags=["parameters"]
import treescope

from assay.core.tree import count

print(f"{count(params):,} parameters in {', '.join(params)}")
with treescope.active_autovisualizer.set_scoped(treescope.ArrayAutovisualizer(maximum_size=500)):
    treescope.display({"attention of block 1": params["block_1"]["attention"]})

# %% [markdown]
# `apply` returns the logits and the **taps**: every activation by its path. Under `jit`, those that nobody reads cost nothing.

# %% tags=["taps"]
import numpy as np

source = task.source("iid")
batch = task.encode(source.fetch(np.arange(256)), task.width(10))
output = model.apply(params, batch)
for path, tap in output.taps.items():
    print(f"{path:26} {tap.shape}")
labels = {0: "head", 1: "query", 2: "key"}
weights = output.taps["block_1/attention/weights"][0]  # of the first example
treescope.render_array(weights, axis_labels=labels, vmin=0, vmax=1, trim_outliers=False, pixels_per_cell=14)

# %% [markdown]
# ## Attention
#
# The same weights as the report of a run shows them: rows are queries, columns are keys.

# %% tags=["attention"]
from IPython.display import SVG, display

from assay.diagnostics.attention import picture
from assay.reports.drawings.plots import attention_picture, standalone

seen = picture(model, params, task)
display(SVG(standalone(attention_picture(seen.weights, seen.tokens))))
print(seen.caption)

# %% [markdown]
# A picture of one example is a hint, not a proof. Two numbers over 256 examples: how much the token after the first T looks back at T in
# block 0 (a *previous token head*), and how much the last T looks at the token after the first one in block 1 (an *induction head*).


# %% tags=["heads"]
def shares(weights):
    return ", ".join(f"head {i}: {share:.2f}" for i, share in enumerate(weights))


rows, at = np.arange(len(batch["inputs"])), (batch["inputs"] == 15).argmax(axis=1)  # where the first T, id 15, stands
previous = np.asarray(output.taps["block_0/local/weights"])[rows, :, at + 1, at].mean(axis=0)
induction = np.asarray(output.taps["block_1/attention/weights"])[rows, :, -1, at + 1].mean(axis=0)
print("block 0, from the token after T to T:", shares(previous))
print("block 1, from the last T to the token after the first:", shares(induction))

# %% [markdown]
# ## Change an activation
#
# This explanation predicts that the information moves from T to the next token in block 0, and from there to the last position in block 1.
# **Activation patching** (Vig et al. 2020; Meng et al. 2022, arXiv 2202.05262) tests it. Remove the first T: the model cannot know the
# answer. Then restore one activation, at one tap and position, to its value with T, and check whether the model recovers the answer.
#
# An edit is a function of an activation, given by the tap's path. It crosses `jit` as data, so one compiled program serves all places.

# %% tags=["patching"]
import jax.numpy as jnp
from jax.tree_util import Partial


def restore(clean, at, value):
    """`value`, with `clean` in one place of each example. Residual streams are [examples * tokens, width]."""
    shape = (len(at), -1, value.shape[-1])
    rows = jnp.arange(len(at))
    return value.reshape(shape).at[rows, at].set(clean.reshape(shape)[rows, at]).reshape(value.shape)


@jax.jit
def right(params, batch, edits):
    """The mean probability of the right answer."""
    probability = jax.nn.softmax(model.apply(params, batch, edits=edits).logits[:, -1])
    return jnp.take_along_axis(probability, batch["targets"][:, -1:], axis=1).mean()


inputs = batch["inputs"].copy()
inputs[rows, at] = (inputs[rows, at - 1] + 1) % 15  # another token in place of the first T
without = {**batch, "inputs": inputs}

# %% [markdown]
# Three taps, from the input to the output, times three places. Each cell is a model with one activation of each example put back.

# %% tags=["result"]
import matplotlib.pyplot as plt

taps = ("embedded", "block_0/residual", "block_1/residual")
places = {"T": at, "token after T": at + 1, "end": np.full(len(at), 9)}
print(f"probability of the right answer: {right(params, batch, {}):.3f}, without T {right(params, without, {}):.3f}")
table = np.empty((3, 3))
for row, tap in enumerate(taps):
    for column, place in enumerate(places.values()):
        table[row, column] = right(params, without, {tap: Partial(restore, output.taps[tap], place)})
axes = plt.figure(figsize=(5, 2.4), dpi=80).gca()
axes.imshow(table, vmin=0, vmax=1, cmap="Blues", aspect="auto")
axes.set_xticks(range(3), places.keys())
axes.set_yticks(range(3), taps)
axes.set_title("probability of the right answer, restored", fontsize=10)
for (row, column), value in np.ndenumerate(table):
    axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black")
plt.show()

# %% [markdown]
# One place in each row brings the answer back: T itself in the embedding, the token after it behind block 0, and the end behind block 1.
# That is the path of the information, shown by intervention.
#
# An edit can also ablate: here one attention head at a time, with the remaining probability of the correct answer. Without the attention
# of block 1, the last position cannot know the token after T:

# %% tags=["ablation"]
for path in ("block_0/local/weights", "block_1/attention/weights"):
    for head in range(2):
        weaker = Partial(lambda head, weights: weights.at[:, head].set(0.0), head)
        print(f"{path}, head {head} off: {right(params, batch, {path: weaker}):.3f}")
nothing = {"block_1/attention/weights": Partial(jnp.zeros_like)}
print(f"block_1/attention/weights, both off: {right(params, batch, nothing):.3f}")

# %% [markdown]
# ## On a TPU or a GPU
#
# In Colab choose *Runtime > Change runtime type > TPU* (or a GPU) and *Run all*: JAX for that device is already installed there, the first
# cell installs Assay (and Treescope, with Flax) beside it, and nothing else changes: taps and edits are part of the compiled program on any
# device. `mesh.data = -1` spreads a batch of training over all chips, so `train.batch_size` has to be a multiple of their number (128 is).
# A TPU multiplies in bfloat16 unless told otherwise, so activations differ in the third digit from those of a CPU.
#
# ## Where to go from here
#
# - `edits` is an argument, so an edited model can be differentiated, batched with `vmap`, and evaluated like any other.
# - The same taps feed distillation of features (`distill:hidden=...`), and the rows on dead units, attention and rank of a diagnosis.
# - Any run: `model, params, task = assay.load("runs/...")`.
