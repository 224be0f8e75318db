"""Can a model learn parity on strings of 1-40 bits and generalize to 41-500?

Command:   assay train --config=experiments/reason/parity.py:lstm --workdir=runs/parity
Variants:  lstm          an LSTM, width 64
           transformer   a causal Transformer decoder that answers directly
           scratchpad    the same Transformer, which writes the running state after every bit
           tiny          a few steps of a small LSTM; also with a variant: `transformer,tiny`, `scratchpad,tiny`
           All three see as many updates and examples, and attention sees the whole string.
Cost:      two CPU cores, including compilation: lstm about 1 min, transformer 4 min, scratchpad 8 min; as `make demo` runs them, with
           --config.task.lengths=1:20 --config.train.batch_size=32 --config.train.steps=600, a quarter of a minute to a minute
Expected:  answer accuracy beyond the trained lengths: lstm 1.00; transformer 0.45-0.58; scratchpad above 0.99
Reference: Deletang et al., ICLR 2023 (arXiv 2207.02098), Table 2: LSTM 1.00, Transformer 0.52 (best of 150 runs)
"""

from ml_collections import ConfigDict

from assay.config import chomsky, defaults, recurrent, sized, transformer, variant

VARIANTS = ("lstm", "transformer", "scratchpad")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/parity.py")
    lstm = name == "lstm"
    config = defaults()
    config.task = chomsky("parity_check")
    config.model = recurrent("lstm") if lstm else transformer("decoder", kv_heads=1, positions="alibi", activation="relu")
    config.optimizer.update({"learning_rate": 5e-3 if lstm else 1e-3, "warmup_steps": 0 if lstm else 50})
    config.train.update({"steps": 1000, "batch_size": 128, "buckets": 2 if lstm else 1})
    config.evaluate.splits = ("iid", "41-500")  # any range of lengths is a valid split
    if name == "scratchpad":
        config.treatments = ("scratchpad",)
    return tiny(config) if small else config


def tiny(config: ConfigDict) -> ConfigDict:
    """Shrinks the config to a run of seconds, which checks that everything works but learns nothing."""
    config.model.update({"depth": 1, "width": 16})
    if config.model.name != "lstm":
        config.model.update({"heads": 2, "mlp": 32})
    config.task.lengths = "1:8"
    config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "buckets": 1})
    config.evaluate.update({"splits": ("iid", "9-16"), "per_length": 2, "batch_size": 16, "buckets": 1})
    config.checkpoint.every = 10
    return config
