"""Which position encodings let attention copy the token that followed an earlier occurrence, far beyond the training length?

Command:   assay study --config=experiments/reason/induction.py:rotary --config=experiments/reason/induction.py:alibi \\
               --seeds=0:2 --workdir=runs/induction
Variants:  rotary, learned, alibi, none, randomised   two blocks of causal attention; trained on 64 tokens
           local        the first block sees the last 4 tokens and their distances, the second all tokens without positions
           tiny         a few steps; also with a variant: `alibi,tiny`
Cost:      one CPU core, per seed: 2 min
Expected:  three seeds, accuracy at 64, 128, 256, 512 tokens: rotary 1.00, .90, .25, .08; local 1.00 at all lengths; alibi 1.00, 1.00,
           .98, .87; randomised .90, .87, .73, .47; none .61, .37, .24, .15
Reference: Gu and Dao 2023 (arXiv 2312.00752), section 4.1, which trains on 256 tokens
"""

from ml_collections import ConfigDict

from assay.config import defaults, reasoning, sized, transformer, variant

VARIANTS = ("rotary", "learned", "alibi", "none", "randomised", "local")
CHANGES = {
    "randomised": {"positions": "rotary", "randomised": 2048},
    "local": {"positions": "none", "mixers": ("local", "attention"), "local_window": 4},
}


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/induction.py")
    config = defaults()
    config.task = reasoning("recall/induction")
    config.model = transformer("decoder", depth=2, width=64, heads=4, kv_heads=4, mlp=128, **CHANGES.get(name, {"positions": name}))
    config.optimizer.update({"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 200})
    config.train.update({"steps": 1200, "batch_size": 64, "log_every": 50})
    config.evaluate.update({"splits": ("iid", "128", "256", "512"), "per_length": 1000, "batch_size": 128})
    config.checkpoint.every = 1000
    if small:
        config.task.length = 8
        config.model.width = 16
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4})
        config.evaluate.update({"splits": ("iid", "16"), "per_length": 8, "batch_size": 32})
    return config
