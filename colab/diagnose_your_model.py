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
# # Diagnose your model
#
# You have parameters and a JAX function `apply(params, batch) -> logits`, trained with any library. **What limits the model, and does a
# fix help?** This notebook needs the function, the parameters and a few lines of data. Neither an Assay config nor an Assay run is needed.
#
# The model here is a perceptron for handwritten digits, written by hand and trained with Optax. Put yours in its place. It runs on a CPU, a
# GPU or a TPU as it is, and takes about a minute on two CPU cores.

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
# ## Your data
#
# For each split inputs and targets, as NumPy arrays. `test` is what the model is measured on, `train` what it has seen. Images whose pixels
# lie in [0, 1] are also measured under noise, blur, shift and less contrast.

# %% tags=["data"]
import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
images = (digits.images[..., None] / 16).astype(np.float32)  # [1797, 8, 8, 1], from 0 to 1
data = {"train": (images[:898], digits.target[:898]), "test": (images[898:], digits.target[898:])}

# %% [markdown]
# ## Your model
#
# A pure function of parameters and `batch["inputs"]`. It may also return its activations by name: then dead units and the effective rank of
# what it represents are measured too.

# %% tags=["model"]
from itertools import pairwise

import jax.numpy as jnp


def start(seed, widths=(64, 256, 256, 10)):
    names = ("block_0", "block_1", "head")
    keys = jax.random.split(jax.random.key(seed), len(names))
    params = {}
    for name, key, (inputs, outputs) in zip(names, keys, pairwise(widths), strict=True):
        kernel = jax.random.normal(key, (inputs, outputs)) * (2 / inputs) ** 0.5
        params[name] = {"kernel": kernel, "bias": jnp.zeros((1, outputs))}
    return params


def apply(params, batch):
    x, taps = batch["inputs"].reshape(len(batch["inputs"]), -1), {}
    for name in ("block_0", "block_1"):
        x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"])
        taps[f"{name}/hidden"] = x
    return x @ params["head"]["kernel"] + params["head"]["bias"], taps


# %% [markdown]
# ## Your training
#
# Any loop will do. This one may change the pictures that a step sees, which we use below.

# %% tags=["training"]
import optax


def train(change=lambda key, pictures: pictures, seed=0, steps=1500, rows=64):
    pictures, labels = (jnp.asarray(array) for array in data["train"])
    optimizer = optax.adam(1e-3)

    def step(carry, key):
        params, opt_state = carry
        rows_key, change_key = jax.random.split(key)
        chosen = jax.random.randint(rows_key, (rows,), 0, len(pictures))

        def loss(params):
            logits, _ = apply(params, {"inputs": change(change_key, pictures[chosen])})
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen]).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), value

    params = start(seed)
    keys = jax.random.split(jax.random.key(seed + 1), steps)
    (params, _), losses = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))((params, optimizer.init(params)))
    print(f"training loss: {losses[:50].mean():.3f} at first, {losses[-50:].mean():.3f} at last")
    return params


params = train()

# %% [markdown]
# ## The diagnosis
#
# `bring` checks that function and data fit together. `examined` runs every applicable diagnostic: each row has its value, its 95 %
# interval, how it was measured and what it means. Rows that do not apply say why, on the page below.

# %% tags=["diagnosis"]
from assay.cli.diagnose import examined
from assay.diagnostics.bring import bring
from assay.reports.terminal.diagnosis import print_diagnosis

found = examined(bring(apply, params, data, name="digits", examples=899, seconds=4), "plain")
print_diagnosis(found)

# %% [markdown]
# A row is plain data, and many have a picture. Here is what a corruption does at each severity, and how far confidence can be trusted.

# %% tags=["pictures"]
from IPython.display import SVG, display

from assay.reports.drawings.plots import standalone
from assay.reports.drawings.sketch import sketch

rows = {f"{row.group}/{row.name}": row for row in found.rows}
for name in ("generalisation/corruption: shift", "calibration/calibration_error"):
    print(name, "-", rows[name].meaning)
    display(SVG(standalone(sketch(rows[name].plot))))

# %% [markdown]
# ## The page
#
# `save` writes the raw data (JSON) and a self-contained page: it opens offline, in light and dark, and can be sent to someone.

# %% tags=["page"]
import html
from pathlib import Path

from IPython.display import IFrame

from assay.cli.diagnose import save

save(found, "plain")
page = Path("plain/diagnosis.html").read_text()
print(f"plain/diagnosis.html, {len(page) / 1000:.0f} kB")
IFrame("about:blank", "100%", 600, extras=[f'srcdoc="{html.escape(page)}"'])

# %% [markdown]
# ## A fix, and whether it helped
#
# Two corruptions hurt most: less contrast, and a digit moved by a few pixels. We try the second, so another model is trained on pictures
# that are moved by a pixel at random. Both models answered the same examples, so they are compared **example by example**, which sees
# smaller differences than two separate percentages do.


# %% tags=["fix"]
def moved(key, pictures):
    wide = jnp.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)))
    corners = jax.random.randint(key, (len(pictures), 2), 0, 3)
    return jax.vmap(lambda picture, at: jax.lax.dynamic_slice(picture, (*at, 0), (8, 8, 1)))(wide, corners)


fixed = examined(bring(apply, train(moved), data, name="digits", examples=899, seconds=4), "moved")

# %% [markdown]
# One row by hand: how many digits only one of the two reads. McNemar's exact test asks whether that could be chance.

# %% tags=["paired"]
from assay.core.paired import difference_of, mean

plain, other = (next(row for row in one.rows if row.name == "score").columns["test/score"] for one in (found, fixed))
print(f"right in the plain model only: {int((plain > other).sum())} digits, in the other only: {int((other > plain).sum())}")
difference = difference_of(mean, {"test/score": other}, {"test/score": plain}, right=("score",))
value, low, high = (100 * number for number in difference[:3])
print(f"{value:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}, p = {difference.p_value:.4f}")

# %% [markdown]
# All rows at once: the card. Its p-values are corrected for the number of rows, so that one lucky row among thirty is not called better. A
# fix seldom helps everywhere: look at what it cost. Times are `inconclusive` on purpose, as the two models were not timed in turns.

# %% tags=["card"]
from assay.reports.card import card_page
from assay.reports.terminal.card import print_card
from assay.verdicts.card import build

card = build(found, {"moved": fixed})
Path("card.html").write_text(card_page(card))
print_card(card)

# %% [markdown]
# ## A model of tokens
#
# Token ids are integers [n, length], targets one class, or one for each token. This one answers with the token just before the last: the
# diagnosis finds that by changing tokens, one at a time, without knowing the function.

# %% tags=["tokens"]
from assay.diagnostics.table import examine

tokens = np.random.default_rng(0).integers(0, 8, (256, 16))


def second_last(params, batch):
    return params["scale"] * jax.nn.one_hot(batch["inputs"][:, -2], 8)


subject = bring(second_last, {"scale": jnp.float32(9.0)}, {"test": (tokens, tokens[:, -2])}, name="tokens")
(row,) = examine(subject, ["effective_context"])
print(row.name, row.value, row.unit, "-", row.meaning)

# %% [markdown]
# ## On a TPU or a GPU
#
# In Colab choose *Runtime > Change runtime type > TPU* (or a GPU) and *Run all*: JAX for that device is already installed there, the first
# cell installs Assay beside it, and nothing else changes. The rows of cost and speed are then those of that device. A TPU multiplies in
# bfloat16 unless told otherwise (`jax.config.update("jax_default_matmul_precision", "float32")`), so that a few digits at the edge of two
# classes may be answered otherwise than on a CPU; compare models that were measured on one device. Calls have 128 examples, spread over all
# chips.
#
# ## Where to go from here
#
# - `bring(..., classes=[...])` names classes; `examine(subject, ["calibration"])` asks only some diagnostics.
# - `assay.verdicts.diagnosis.read("plain")` reads a diagnosis back, with every example's answer, to compare it with the next model's.
# - A model trained with Assay is diagnosed with `assay diagnose --workdir=...`, which also suggests treatments.
