"""How much accuracy do pruning, quantization and low rank cost a Transformer of four million parameters trained on SCAN?

Command:   assay study --config=experiments/compress/scan.py:wide --seeds=0:2 --workdir=runs/scan_wide
           assay treat --from=runs/scan_wide/wide --treat=experiments/compress/scan.py:small --workdir=runs/scan_small
Variants:  wide       an encoder-decoder of width 256, on the random 80/20 split
           student    half as wide; a pipeline distils into it
           tiny       a few steps; also with a variant: `student,tiny`
Cost:      two CPU cores, per seed: about 10 min
Expected:  see "Compression" in experiments/results/benchmarks.md
Reference: Lake and Baroni, ICML 2018 (arXiv 1711.00350), for the task
"""

from ml_collections import ConfigDict

from assay.config import defaults, reasoning, sized, transformer, variant

VARIANTS = ("wide", "student")
TAUGHT = "distill:student=experiments/compress/scan.py:student,T=2,hard=0.3,cache=True"
PIPELINES = {"small": (TAUGHT, "prune:units=0.5,steps=1000", "quantize:int8")}  # used by `assay treat`


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/compress/scan.py")
    config = defaults()
    config.task = reasoning("scan/simple", valid_share=0.05)
    sizes = (
        {"width": 256, "heads": 8, "kv_heads": 8, "mlp": 1024} if name == "wide" else {"width": 128, "heads": 4, "kv_heads": 4, "mlp": 512}
    )
    config.model = transformer("encoder_decoder", dropout=0.1, activation="relu", **sizes)
    config.optimizer.update({"learning_rate": 5e-4, "warmup_steps": 200, "schedule": "cosine"})
    config.train.update({"steps": 2000, "batch_size": 64, "buckets": 2, "log_every": 50})
    config.evaluate.update({"splits": ("valid", "test"), "batch_size": 512})
    config.checkpoint.every = 500
    if name == "student":
        config.optimizer.learning_rate = 1e-3
        config.train.steps = 5000
    if small:
        config.task.valid_share = 0.002
        config.model.update({"depth": 1, "width": 16, "heads": 2, "kv_heads": 2, "mlp": 32})
        config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4})
        config.evaluate.splits = ("valid",)
    return config
