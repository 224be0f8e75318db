"""How much state does a model need to recall what it has read, and how many layers does a chain of recalls need?

Command:   assay study --config=experiments/reason/recall.py:attention --config=experiments/reason/recall.py:lstm \\
               --workdir=runs/recall
Variants:  attention  key-value pairs followed by keys (MQAR): two attention blocks
           lstm       the same task with an LSTM, whose state must hold all pairs
           flat       16 hops from symbol to symbol (p-hop): one block, applied once
           looped     the same block, applied six times
           tiny       a few steps; also with a variant: `lstm,tiny`
Cost:      two CPU cores: attention and lstm about 10 min; flat and looped have the published size and need a GPU, not run here
Expected:  attention 1.00; lstm lower; published: flat .49, looped .999
Reference: Arora et al. 2024 (arXiv 2312.04927), figure 2; Saunshi et al. 2025 (arXiv 2502.17416), Table 1
"""

from ml_collections import ConfigDict

from assay.config import defaults, reasoning, recurrent, sized, transformer, variant

VARIANTS = ("attention", "lstm", "flat", "looped")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/recall.py")
    hops = name in ("flat", "looped")
    config = defaults()
    config.task = reasoning("recall/p_hop", hops=16, length=256) if hops else reasoning("recall/mqar")
    if name == "lstm":
        config.model = recurrent("lstm", width=128)
    else:
        config.model = transformer("decoder", depth=1 if hops else 2, width=128, heads=8, kv_heads=8, mlp=512)
        config.model.loops = 6 if name == "looped" else 1
    config.optimizer.update({"name": "adafactor" if hops else "adamw", "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 200})
    config.train.update({"steps": 200_000 if hops else 6000, "batch_size": 256 if hops else 64, "log_every": 50})
    config.evaluate.update({"splits": ("iid",), "per_length": 1000})
    config.checkpoint.every = 1000
    if small:
        config.task.update({"hops": 2, "length": 16} if hops else {"pairs": 2, "length": 16, "vocabulary": 16})
        config.model.width = 16
        if name == "looped":
            config.model.loops = 2
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4})
        config.evaluate.update({"per_length": 8, "batch_size": 32})
    return config
