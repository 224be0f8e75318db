"""Can a small Transformer learn a family of puzzles character by character, and solve harder ones of the same kind?

Command:   assay train --config=experiments/reason/puzzles.py:transformer --workdir=runs/puzzles
           --config.task.name=gym/FAMILY selects any reasoning-gym family, --config.task.options="KEY=VALUE" sets its own keys
Variants:  transformer  a causal Transformer of 4 blocks on the sums of `chain_sum`
           reversed     the same, with the answer's last character first
           tiny         a few steps; also with a variant: `reversed,tiny`
Cost:      two CPU cores: about 20 min
Expected:  not measured yet. An answer counts as correct if the family's own verifier gives it full marks
Reference: Stojanovski et al. 2025 (arXiv 2505.24760), which reports large language models without training
"""

from ml_collections import ConfigDict

from assay.config import defaults, reasoning, sized, transformer, variant

VARIANTS = ("transformer", "reversed")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/puzzles.py")
    config = defaults()
    config.task = reasoning("gym/chain_sum", size=20_000)
    config.model = transformer("decoder", depth=4, width=128, heads=4, kv_heads=4, mlp=512)
    config.treatments = ("reverse",) if name == "reversed" else ()
    config.optimizer.update({"name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 200})
    config.train.update({"steps": 5000, "batch_size": 64, "log_every": 50, "buckets": 2})
    config.evaluate.splits = ("test", "harder")
    config.checkpoint.every = 500
    if small:
        config.task.update({"size": 100, "test_size": 20})
        config.model.update({"depth": 1, "width": 16, "mlp": 32})
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "buckets": 1})
        config.evaluate.update({"splits": ("test",), "batch_size": 32})
    return config
