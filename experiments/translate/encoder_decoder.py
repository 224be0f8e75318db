"""Can an encoder-decoder translate SCAN's commands into actions if it has seen every kind of command?

Command:   assay train --config=experiments/translate/encoder_decoder.py:simple --workdir=runs/scan_simple
Variants:  simple     a random 80/20 split; answers are decoded autoregressively, without teacher forcing
           length     trained on at most 22 actions, tested on 24 to 48
           jump       `jump` occurs in training only in isolation
           turn_left  `turn left` occurs in training only in isolation
           tiny       a few steps; also with a variant: `length,tiny`
Cost:      two CPU cores: about 10 min
Expected:  simple: exact match of at least 0.99 on the 4,182 test commands
Reference: Lake and Baroni, ICML 2018 (arXiv 1711.00350): 0.997 (2-layer LSTM) on their random split
"""

from ml_collections import ConfigDict

from assay.config import defaults, sized, transformer, variant

VARIANTS = ("simple", "length", "jump", "turn_left")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/translate/encoder_decoder.py")
    config = defaults()
    config.task = ConfigDict(
        {
            "name": f"scan/{name}",
            "valid_share": 0.05,  # fraction of the training pairs held out for validation; 0: none, as published
        }
    )
    config.model = transformer("encoder_decoder", width=128, mlp=256, dropout=0.1, activation="relu")
    config.optimizer.update({"learning_rate": 1e-3, "warmup_steps": 200, "schedule": "linear"})
    config.train.update({"steps": 4000, "batch_size": 128, "buckets": 2, "log_every": 50})
    config.evaluate.update({"splits": ("valid", "test"), "batch_size": 512})
    config.checkpoint.every = 1000
    if small:
        config.model.update({"depth": 1, "width": 16, "heads": 2, "kv_heads": 2, "mlp": 32})
        config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4})
        config.task.valid_share = 0.002
        config.evaluate.splits = ("valid",)
    return config
