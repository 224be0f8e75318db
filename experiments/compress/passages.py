"""Can a BiLSTM with few labels learn from a Transformer to identify where a text comes from?

Command:   assay study --config=experiments/compress/passages.py:teacher \\
               --config=experiments/compress/passages.py:alone --seeds=0:4 --workdir=runs/compress_passages
           assay treat --from=runs/compress_passages/teacher --workdir=runs/compress_passages/distilled \\
               --treat=distill:student=experiments/compress/passages.py:alone,T=1,hard=0.1,cache=True \\
               --config.task.labels=200 --config.task.unlabelled=True
Variants:  teacher    an encoder of two blocks with all labels
           alone      a BiLSTM with 200 labels; settings were chosen on `valid`
           tiny       a few steps; also with a variant: `alone,tiny`
Cost:      two CPU cores, per seed: teacher 2 min, alone and distilled 1 min each
Expected:  see "Compression" in experiments/results/benchmarks.md
Reference: Hinton et al. 2015 (arXiv 1503.02531); Tang et al. 2019 (arXiv 1903.12136), from BERT to a BiLSTM
"""

from ml_collections import ConfigDict

from assay.config import defaults, recurrent, sized, texts, transformer, variant

VARIANTS = ("teacher", "alone")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/compress/passages.py")
    config = defaults()
    config.task = texts("stdlib/package", tokenizer_size=5_000, labels=200 if name == "alone" else 0)
    if name == "teacher":
        config.model = transformer("encoder", width=128, mlp=256, positions="sinusoidal", dropout=0.3)
        config.optimizer.update({"name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 50, "weight_decay": 0.1})
    else:
        config.model = recurrent("bilstm", width=64, embedding=64, dropout=0.3)
        config.optimizer.update({"name": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 50, "weight_decay": 0.1})
    config.train.update({"steps": 800, "batch_size": 32, "buckets": 3, "log_every": 20})
    config.evaluate.splits = ("valid", "test")
    if small:
        config.task.update({"max_length": 8, "tokenizer_size": 200, "labels": min(config.task.labels, 100)})
        config.model.width = 16
        config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "buckets": 1})
        config.evaluate.splits = ("valid",)
    return config
