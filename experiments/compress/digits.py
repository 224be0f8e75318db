"""Can a small CNN with few labels learn the rest from a larger one?

Command:   assay study --config=experiments/compress/digits.py:teacher --config=experiments/compress/digits.py:alone \\
               --seeds=0:4 --workdir=runs/compress_digits
           assay treat --from=runs/compress_digits/teacher --workdir=runs/compress_digits/distilled \\
               --treat=distill:student=experiments/compress/digits.py:alone,T=4 --config.task.labels=50 --config.task.unlabelled=True
Variants:  teacher    the CNN of experiments/vision/cnn_digits.py with all labels
           wide       the same with four times the channels, the starting point of a pruning pipeline
           alone      the same with a quarter of the channels and 50 labels; settings were chosen on `valid`
           tiny       a few steps; also with a variant: `alone,tiny`
Cost:      two CPU cores, per seed: teacher about 1 min, alone 30 s, distilled 1 min
Expected:  see "Compression" in experiments/results/benchmarks.md
Reference: Hinton et al. 2015 (arXiv 1503.02531)
"""

from ml_collections import ConfigDict

from assay.config import cnn, defaults, digits, sized, variant

VARIANTS = ("teacher", "wide", "alone")
MODELS = {
    "teacher": {"filters": (32, 64), "dense": 128, "dropout": 0.5},
    "wide": {"filters": (128, 256), "dense": 512, "dropout": 0.5},
    "alone": {"filters": (8, 16), "dense": 32, "dropout": 0.1},
}
PIPELINES = {"small": ("distill:student=small,T=2,hard=0.1", "prune:channels=0.5,steps=1000", "quantize:int8")}  # used by `assay treat`


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/compress/digits.py")
    config = defaults()
    config.task = digits(labels=50 if name == "alone" else 0)
    config.model = cnn(**MODELS[name])
    config.optimizer.update({"name": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 50, "weight_decay": 0.05})
    config.train.update({"steps": 1500, "batch_size": 64, "log_every": 50})
    config.evaluate.splits = ("valid", "test")
    config.treatments = ("augment:images=shift:1+rotate:12", "average:decay=0.99")
    if small:
        config.model.update({"filters": (4, 8), "dense": 16})
        config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4})
        config.evaluate.splits = ("valid",)
    return config
