"""Does a network that has memorized half of all equations generalize to the other half later?

Command:   assay train --config=experiments/reason/grokking.py:decay --workdir=runs/grokking
           (runs/grokking/report.html plots the accuracy on both halves against updates)
Variants:  decay      weight decay 1, as in the paper's main runs
           none       no weight decay
           tiny       a few steps; also with a variant: `none,tiny`
Cost:      one CPU core: 8 min
Expected:  decay, one seed: training batches are fully correct from update 300 on; held-out accuracy stays at chance (1/97) until update
           1,200 and is .99 at 2,300
Reference: Power et al. 2022 (arXiv 2201.02177)
"""

from ml_collections import ConfigDict

from assay.config import defaults, reasoning, sized, transformer, variant

VARIANTS = ("decay", "none")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/grokking.py")
    config = defaults()
    config.task = reasoning("modular/divide")
    config.model = transformer("decoder", depth=2, width=128, heads=4, kv_heads=4, mlp=512, positions="learned", max_length=8)
    config.optimizer.update({"name": "adamw", "learning_rate": 1e-3, "warmup_steps": 10, "clip_norm": 0.0})
    config.optimizer.update({"weight_decay": 1.0 if name == "decay" else 0.0, "decay_paths": "."})
    config.train.update({"steps": 6000, "batch_size": 512, "log_every": 20, "validate_every": 100})
    config.evaluate.splits = ("train", "test")
    config.checkpoint.every = 1000
    if small:
        config.task.modulus = 7
        config.model.update({"depth": 1, "width": 16, "mlp": 32})
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "validate_every": 4})
    return config
