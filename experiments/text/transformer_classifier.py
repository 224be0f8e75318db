"""How much does tuning improve a Transformer text classifier: plain SGD, or AdamW with warm-up?

Command:   assay study --config=experiments/text/transformer_classifier.py:classic \\
               --config=experiments/text/transformer_classifier.py:tuned --workdir=runs/transformer_classifier
Variants:  classic    vocabulary 10,000, width 512, 8 heads, 2 layers, SGD 1e-3, 10 epochs
           tuned      the same network, AdamW 3e-4 with warm-up and cosine decay, weight decay, dropout
           tiny       a few steps; also with a variant: `tuned,tiny`
Cost:      two CPU cores: about 20 min each
Expected:  test accuracy on 600 passages, one seed (Python 3.11; chance .125; 95 % intervals over files): classic .183 (.100-.293), tuned
           .405 (.342-.473)
Reference: the classic settings follow introductory JAX Transformer tutorials
"""

from ml_collections import ConfigDict

from assay.config import defaults, sized, texts, transformer, variant

VARIANTS = ("classic", "tuned")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/text/transformer_classifier.py")
    config = defaults()
    config.task = texts("stdlib/package")
    config.model = transformer("encoder", width=512, heads=8, kv_heads=8, mlp=2048, positions="sinusoidal")
    config.optimizer.update({"name": "sgd", "learning_rate": 1e-3, "clip_norm": 0.0})
    config.train.update({"steps": 600, "batch_size": 32, "buckets": 3, "validate_every": 60})
    config.evaluate.splits = ("valid", "test")
    if name == "tuned":
        config.model.dropout = 0.2
        config.optimizer.update({"name": "adamw", "learning_rate": 3e-4, "schedule": "cosine", "warmup_steps": 60})
        config.optimizer.update({"weight_decay": 0.1, "clip_norm": 1.0})
    if small:
        config.task.update({"max_length": 8, "tokenizer_size": 200})
        config.model.update({"depth": 1, "width": 16, "heads": 2, "kv_heads": 2, "mlp": 32})
        config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "buckets": 1, "validate_every": 0})
        config.evaluate.splits = ("valid",)
    return config
