"""What does an encoder learn from unlabelled text by predicting masked bytes?

Command:   assay train --config=experiments/text/masked_lm.py:masked_lm --workdir=runs/masked_lm
Variants:  masked_lm  a byte-level encoder on Python's standard library; experiments/text/finetune.py starts from it
           tiny       a few steps
Cost:      two CPU cores: about 15 min
Expected:  accuracy on the masked bytes of valid 75 % (95 % interval over files 74-78; Python 3.11, one seed); other Python versions give
           other values
Reference: Devlin et al. 2019 (arXiv 1810.04805): selects 15 % of the tokens, of which 80 % are masked, 10 % replaced, 10 % unchanged
"""

from ml_collections import ConfigDict

from assay.config import defaults, language, sized, transformer, variant

VARIANTS = ("masked_lm",)


@sized
def get_config(given: str = "") -> ConfigDict:
    _, small = variant(given, VARIANTS, "experiments/text/masked_lm.py")
    config = defaults()
    config.task = language("stdlib/mlm", window=256)
    config.model = encoder()
    config.optimizer.update({"name": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 100, "weight_decay": 0.01})
    config.train.update({"steps": 3000, "batch_size": 16, "log_every": 20})
    config.evaluate.update({"splits": ("valid",), "batch_size": 64, "buckets": 1})
    config.checkpoint.every = 500
    if small:
        config.task.update({"window": 16, "bytes": 20_000})
        config.model.update({"depth": 1, "width": 16, "heads": 2, "kv_heads": 2, "mlp": 32})
        config.train.update({"steps": 20, "steps_per_call": 4, "log_every": 4})
        config.evaluate.splits = ("train",)
    return config


def encoder() -> ConfigDict:
    """Returns the encoder that masked_lm trains and finetune starts from."""
    return transformer("encoder", depth=3, width=128, mlp=512)
