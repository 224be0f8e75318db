"""Does a small Transformer compress Python's standard library better than the best n-gram model?

Command:   assay study --config=experiments/text/language_model.py:transformer \\
               --config=experiments/text/language_model.py:ngram6 --workdir=runs/language_model
Variants:  transformer  a byte-level decoder, rotary positions
           ngram3, ngram4, ngram5, ngram6
                        interpolated Kneser-Ney models of that order in bytes, fitted by counting on the same text
           tiny         a few steps; also with a variant: `ngram3,tiny`
Cost:      two CPU cores: transformer about 40 min; an n-gram model less than 1 min
Expected:  bits per byte on the test files (Python 3.11): transformer 1.110 (95 % interval over files 1.01-1.22), ngram6 1.755, ngram5
           1.840, ngram4 2.053; other Python versions give other values
Reference: Chen and Goodman 1999 (Kneser-Ney)
"""

from ml_collections import ConfigDict

from assay.config import defaults, language, ngram, sized, transformer, variant

VARIANTS = ("transformer", "ngram3", "ngram4", "ngram5", "ngram6")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/text/language_model.py")
    config = defaults()
    config.task = language("stdlib/lm", window=256, context=128)
    config.evaluate.update({"splits": ("test",), "batch_size": 32, "buckets": 1})
    if name == "transformer":
        config.model = transformer("decoder", depth=4, width=192, heads=6, kv_heads=6, mlp=768, residual_init="scaled")
        config.optimizer.update({"name": "muon", "learning_rate": 1e-2, "schedule": "cosine", "warmup_steps": 100, "weight_decay": 0.05})
        config.train.update({"steps": 4000, "batch_size": 16, "log_every": 20})
        config.checkpoint.every = 500
    else:
        config.model = ngram(order=int(name.removeprefix("ngram")))
        config.train.steps = 0
    if small:
        config.task.update({"window": 16, "context": 0, "bytes": 20_000})
        config.evaluate.splits = ("train",)
        if name == "transformer":
            config.model.update({"depth": 1, "width": 16, "heads": 2, "kv_heads": 2, "mlp": 32})
            config.train.update({"steps": 20, "steps_per_call": 4, "log_every": 4})
        else:
            config.model.update({"order": 2, "capacity": 10_000})
    return config
