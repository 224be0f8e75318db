"""Does next-token prediction learn to plan the single step at which a path branches, or a shortcut around it?

Command:   assay study --config=experiments/reason/path_star.py:forward --config=experiments/reason/path_star.py:reversed \\
               --seeds=0:2 --workdir=runs/path_star
           --config.task.nodes=50 uses as many node names as the paper; edge lookup is then learned much later
Variants:  forward    the path from start to goal, token by token: after the first step, every token follows from the previous one
           reversed   the path from goal to start, where no step is a choice
           tiny       a few steps; also with a variant: `reversed,tiny`
Cost:      one CPU core, per seed: 4 min
Expected:  one seed, exact match: forward .493, the rate of guessing the first edge (1/degree); reversed 1.00
Reference: Bachmann and Nagarajan 2024 (arXiv 2403.06963)
"""

from ml_collections import ConfigDict

from assay.config import defaults, reasoning, sized, transformer, variant

VARIANTS = ("forward", "reversed")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/path_star.py")
    config = defaults()
    config.task = reasoning("path_star", nodes=16, test_size=2000)
    config.model = transformer("decoder", depth=3, width=64, heads=4, kv_heads=4, mlp=256)
    config.treatments = ("reverse",) if name == "reversed" else ()
    config.optimizer.update({"name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 200})
    config.train.update({"steps": 4000, "batch_size": 64, "log_every": 50})
    config.evaluate.splits = ("test",)
    config.checkpoint.every = 1000
    if small:
        config.task.update({"path_length": 3, "nodes": 12, "train_size": 200, "test_size": 40})
        config.model.update({"depth": 1, "width": 16, "mlp": 32})
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4})
        config.evaluate.batch_size = 32
    return config
