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
# # Write a treatment
#
# A remedy is a function transformation: `Objective -> Objective`, as `grad` turns one function into another. A new one takes a few lines,
# and it works with every model, task and measurement without a copy of the trainer.
#
# This notebook writes one that is not in the library, the **confidence penalty** (Pereyra et al. 2017, arXiv 1701.06548), trains it and its
# control on handwritten digits with three seeds each, and evaluates it with paired tests. It runs on a CPU, a GPU or a TPU as it is, and
# takes about a minute on two CPU cores.

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
# ## What is trained
#
# A perceptron on scikit-learn's digits: 718 training images, 180 for choices (`valid`), 899 for the test. It reaches 100 % on its training
# images, so its probabilities go to 0 and 1, and those of its mistakes too.

# %% tags=["config"]
from ml_collections import ConfigDict

config = ConfigDict(
    {
        "seed": 0,
        "task": {"name": "digits", "labels": 0, "unlabelled": False, "folds": 0, "fold": 0, "data_dir": "", "colour": 0.0},
        "model": {"name": "mlp", "depth": 2, "width": 64, "activation": "relu", "dropout": 0.0},
        "objective": {"name": "supervised"},
        "optimizer": {"name": "adam", "learning_rate": 2e-3, "schedule": "constant", "warmup_steps": 0, "decay_steps": 0}
        | {"weight_decay": 0.0, "decay_paths": "kernel$", "clip_norm": 1.0},
        "train": {"steps": 1000, "batch_size": 64, "buckets": 1, "steps_per_call": 50, "log_every": 50}
        | {"read_threads": 0, "validate_every": 0, "patience": 0},
        "evaluate": {"splits": ("train", "test"), "per_length": 8, "batch_size": 256, "buckets": 1},
        "checkpoint": {"every": 1000, "keep": 1},
        "mesh": {"data": -1, "fsdp": 1, "tensor": 1},  # -1: all devices that are here
        "precision": {"params": "float32", "compute": "float32", "output": "float32"},  # compute: bfloat16 on a TPU
        "treatments": (),
    }
)

# %% [markdown]
# ## The treatment, in ten lines
#
# An objective's `loss` returns the mean loss and `aux`, with what the model answered: asking it again would cost a second forward pass. The
# penalty subtracts `weight` times the entropy of the answers from the loss, which penalizes confident predictions. Rows whose `weight` is
# 0 are padding.

# %% tags=["treatment"]
from dataclasses import replace

import jax.numpy as jnp

from assay.train.treatment import Treatment


def confidence_penalty(weight):
    def penalised(objective):
        def loss(model, params, batch, key, step):
            mean, aux = objective.loss(model, params, batch, key, step)
            log_probability = jax.nn.log_softmax(aux.output.logits)
            entropy = -(jnp.exp(log_probability) * log_probability).sum(axis=-1)
            return mean - weight * (entropy * batch["weight"]).sum() / batch["weight"].sum(), aux

        return replace(objective, loss=loss)

    return Treatment(objective=penalised, name=f"confidence_penalty:weight={weight}")


# %% [markdown]
# A check before anything is trained: for one batch, the treated loss has to be the plain loss less the entropy, computed by hand.

# %% tags=["check"]
import numpy as np

from assay.train.experiment import assemble

made = assemble(config.to_dict(), [])
batch = made.first_batch()
params = {"model": made.model.init(made.key, batch)}
plain, aux = made.objective.loss(made.model, params, batch, made.key, jnp.int32(0))
penalised = confidence_penalty(0.3).objective(made.objective)
treated, _ = penalised.loss(made.model, params, batch, made.key, jnp.int32(0))
p = np.asarray(jax.nn.softmax(aux.output.logits), np.float64)
by_hand = float(plain) - 0.3 * float(np.mean(-(p * np.log(p)).sum(axis=-1)))
print(f"plain {float(plain):.5f}, treated {float(treated):.5f}, by hand {by_hand:.5f}")
assert abs(float(treated) - by_hand) < 1e-5

# %% [markdown]
# ## Train it, and its control
#
# The treatment is passed to the loop as a value, with three weights; the results of all three are shown, including harmful ones. What is
# compared must differ in the treatment alone, so seeds, data and steps are the same. `nll` is the negative log-likelihood in nats, `ece`
# the expected calibration error, how far confidence is from the share that is right.

# %% tags=["train"]
from assay.train import loop

variants = {"control": []} | {f"weight_{weight}": [confidence_penalty(weight)] for weight in (0.1, 0.3, 1.0)}
for name, treatments in variants.items():
    for seed in (0, 1, 2):
        config.seed = seed
        results = loop.run(config, f"runs/{name}/seed_{seed}", treatments, experiment=f"digits:{name}", quiet=True)
        value = {row["metric"]: row["value"] for row in results["rows"] if row["split"] == "test"}
        print(f"{name}, seed {seed}:", ", ".join(f"{metric} {value[metric]:.3f}" for metric in ("accuracy", "nll", "ece")))

# %% [markdown]
# ## Did it help?
#
# All variants answered the same 899 test images, so they are compared image by image and seed by seed. The interval and the p-value are
# over seeds and images together: they say what other seeds of the same recipe would give. Holm corrects for three weights, and the verdict
# is the last column. Three seeds are few: only a difference that is large, or the same for each seed, is sure.

# %% tags=["compare"]
from assay.reports.terminal.comparison import print_comparison
from assay.verdicts.comparison import compare, runs_of

comparisons = {metric: compare(runs_of(["runs"]), "control", "test", metric) for metric in ("accuracy", "nll")}
for metric in comparisons:
    print_comparison(comparisons[metric])

# %% [markdown]
# Two metrics times three weights are six questions, and each table corrected for three of them. Corrected for all six:

# %% tags=["verdicts"]
from assay.core.stats import holm

every = [one for found in comparisons.values() for one in found]
adjusted = holm([one.difference.p_value for one in every])
for one, p_value in zip(every, adjusted, strict=True):
    improved = (one.difference.value > 0) == (one.metric == "accuracy")  # of nll, less is better
    verdict = ("better" if improved else "worse") if p_value < 0.05 else "inconclusive"
    span = f"95 % {one.difference.low:+.4f} to {one.difference.high:+.4f}"
    print(f"{one.name} on {one.metric}: {one.difference.value:+.4f} ({span}), p {p_value:.4f}: {verdict}")

# %% [markdown]
# ## What it cost
#
# A remedy seldom does one thing. The penalty is about confidence, so here is how far confidence can be trusted: on the diagonal, answers of
# 80 % are right in 80 % of the cases. A run with a treatment of a notebook is loaded with it, as its config does not know it.

# %% tags=["calibration"]
from IPython.display import SVG, display

from assay.diagnostics.subject import Subject
from assay.diagnostics.table import examine
from assay.reports.drawings.plots import standalone
from assay.reports.drawings.sketch import sketch
from assay.treatments.pipeline.load import load

for name in ("control", "weight_0.3"):
    model, params, task = load(f"runs/{name}/seed_0", treated=variants[name])
    rows = examine(Subject(model, params, task, "test", 899), ["calibration"])
    (row,) = (row for row in rows if row.name == "calibration_error")
    print(f"{name}: expected calibration error {row.value:.3f}, 95 % {row.interval[0]:.3f} to {row.interval[1]:.3f}")
    display(SVG(standalone(sketch(row.plot))))

# %% [markdown]
# What three seeds show is the cost: a weight of 1.0 makes the likelihood worse and the model underconfident. A small weight lowered the
# loss and a larger one raised the accuracy in these runs, but whether other seeds would do the same is open; `(0, 1, 2)` above takes more
# of them. Which weight to take is a choice like any other, to be made on `valid` and never on `test`.
#
# ## On a TPU or a GPU
#
# In Colab choose *Runtime > Change runtime type > TPU* (or a GPU) and *Run all*: JAX for that device is already installed there, the first
# cell installs Assay beside it, and nothing in the treatment changes. `mesh.data = -1` spreads each batch over all chips, so
# `train.batch_size` has to be a multiple of their number (64 is). Set `config.precision.compute = "bfloat16"` for models large enough to
# gain from it.
#
# ## Where to go from here
#
# - The other links: `Treatment(model=...)` for pruning or LoRA, `gradient=...` for clipping by example, `optimizer=...` for masks,
# `sample=...` for which examples a step sees. A list of treatments applies in order.
# - Parameters of its own: an objective's `init` returns them by name (a projection, a discriminator), and they are trained with the
# model's.
# - To add a treatment to the library, put it in `lib/assay/treatments/` and list it in `treatments/table.py`. Configs can then name it:
# `confidence_penalty:weight=0.1`.
