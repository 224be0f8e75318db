"""Does a model trained on trees of up to 5 nested operations evaluate deeper ones?

Command:   assay study --config=experiments/reason/trees.py:lstm \\
               --config=experiments/reason/trees.py:geometric --workdir=runs/trees
           --config.task.name=listops/depth uses MIN, MAX, MED and SUM instead of + and *
Variants:  lstm        an LSTM
           universal   a Transformer with one block applied 12 times
           geometric   the same with a copy gate and attention to the nearest match (Neural Data Router)
           tiny        a few steps; also with a variant: `universal,tiny`, `geometric,tiny`
Cost:      two CPU cores: lstm 10 min, the Transformers about 2 h; a GPU is recommended
Expected:  not measured yet; the report shows the published result next to each row
Reference: Csordas et al. 2021 (arXiv 2110.07732v1), Tables 2 and 3
"""

from ml_collections import ConfigDict

from assay.config import defaults, reasoning, recurrent, sized, transformer, variant

VARIANTS = ("lstm", "universal", "geometric")
CHANGES = {
    "universal": {"positions": "sinusoidal"},
    "geometric": {"positions": "direction", "attention_weights": "geometric", "gate": True},
}


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/trees.py")
    config = defaults()
    config.task = reasoning("arithmetic/nested")
    if name in CHANGES:
        config.model = transformer("encoder", depth=1, loops=12, width=128, mlp=512, norm_place="post", dropout=0.1, **CHANGES[name])
        config.optimizer.update({"name": "adamw", "learning_rate": 5e-4, "schedule": "cosine", "warmup_steps": 500, "weight_decay": 0.01})
        config.train.steps = 50_000
    else:
        config.model = recurrent("lstm", width=256)
        config.optimizer.update({"learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 100})
        config.train.steps = 10_000
    config.train.update({"batch_size": 128, "log_every": 50, "buckets": 2})
    config.evaluate.update({"splits": ("iid", "6-6", "7-8"), "per_length": 500})
    config.checkpoint.every = 1000
    if small:
        config.task.lengths = "1:2"
        config.model.width = 16
        if name in CHANGES:
            config.model.loops = 2
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "buckets": 1})
        config.evaluate.update({"splits": ("iid", "3-3"), "per_length": 8, "batch_size": 32})
    return config
