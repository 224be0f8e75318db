"""Can a model learn parity on strings of 1-40 bits and hold it at 41-500?

Command:   python -m experiments.main --config=experiments/reason/parity.py:lstm --workdir=runs/parity
Variants:  lstm          an LSTM, width 64
           transformer   a causal Transformer decoder that answers directly
           scratchpad    the same Transformer, which writes the running state after every bit
           tiny          a few steps of a small LSTM; `transformer,tiny` and `scratchpad,tiny` are the others
Cost:      two CPU cores, compilation included, about: lstm 50 s, transformer 55 s, scratchpad 80 s
Expected:  answer accuracy at 41-500: lstm 1.00; transformer 0.45-0.58; scratchpad above 0.99
Reference: Deletang et al., ICLR 2023 (arXiv 2207.02098), Table 2: LSTM 1.00, Transformer 0.52 (best of 150 runs)
"""

from ml_collections import ConfigDict

from assay.core.errors import unknown

VARIANTS = ("lstm", "transformer", "scratchpad")


def get_config(variant: str = "") -> ConfigDict:
    name, _, size = (variant or "lstm").partition(",")
    if name == "tiny":
        name, size = "lstm", "tiny"
    if name not in VARIANTS or size not in ("", "tiny"):
        raise unknown("variant", variant, [*VARIANTS, "tiny"], "--config=experiments/reason/parity.py:VARIANT")
    config = ConfigDict()
    config.seed = 0  # of initial parameters and training examples
    config.task = ConfigDict(
        {
            "name": "chomsky/parity_check",  # python -m experiments.show --task=list prints all
            "convention": "code",  # "code" or "paper", where the published code and paper disagree
            "lengths": "1:40",  # training lengths, both included
            "seed": 0,  # of the test examples: the same for all runs that are compared
        }
    )
    config.model = lstm() if name == "lstm" else transformer()
    config.objective = ConfigDict({"name": "supervised"})
    config.optimizer = ConfigDict(
        {
            "name": "adam",  # sgd, momentum, adam, adamw
            "learning_rate": 3e-3 if name == "lstm" else 1e-3,  # at the peak
            "schedule": "constant",  # constant, cosine, linear
            "warmup_steps": 0 if name == "lstm" else 50,  # steps of linear rise
            "decay_steps": 0,  # steps until a decaying schedule ends; 0 means train.steps
            "weight_decay": 0.0,  # decoupled
            "decay_paths": "kernel$",  # regex of the parameters that decay
            "clip_norm": 1.0,  # global gradient norm; 0 switches clipping off
        }
    )
    config.train = ConfigDict(
        {
            "steps": {"lstm": 1000, "transformer": 250, "scratchpad": 250}[name],  # updates
            "batch_size": 128 if name == "lstm" else 64,  # examples an update
            "buckets": 2 if name == "lstm" else 1,  # padded shapes that training compiles
            "steps_per_call": 10,  # updates in one compiled call
            "log_every": 10,  # steps between lines of metrics.jsonl
        }
    )
    config.evaluate = ConfigDict(
        {
            "splits": ("iid", "41-500"),  # evaluated at the end; any range of lengths is a split
            "per_length": 8,  # examples of each length
            "batch_size": 256,  # examples in one compiled call
            "buckets": 4,  # padded shapes a split is evaluated in
        }
    )
    config.checkpoint = ConfigDict({"every": 200, "keep": 2})  # steps between saves; newest ones that stay
    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # devices an axis; -1 takes all that are left
    config.precision = ConfigDict({"compute": "float32"})  # float32, bfloat16
    config.treatments = ("scratchpad",) if name == "scratchpad" else ()  # in order, each name or name:key=value
    return tiny(config) if size else config


def lstm() -> ConfigDict:
    return ConfigDict(
        {
            "name": "lstm",
            "depth": 1,  # layers
            "width": 64,  # features of embedding, hidden and cell state
            "dropout": 0.0,  # share of features dropped before the read-out
        }
    )


def transformer() -> ConfigDict:
    return ConfigDict(
        {
            "name": "decoder",
            "depth": 2,  # blocks
            "width": 64,  # features of the residual stream
            "heads": 4,  # attention heads
            "kv_heads": 1,  # key/value heads, shared by groups of heads
            "window": 80,  # tokens back that attention sees; training sequences have at most 80, so it only saves time at test; 0: all
            "mlp": 256,  # features inside the feed-forward layer
            "positions": "alibi",  # none, sinusoidal, learned, rotary, alibi
            "norm": "layernorm",  # layernorm, rmsnorm
            "activation": "relu",  # relu, gelu
            "dropout": 0.0,  # share of features dropped after each half of a block
            "max_length": 1024,  # how far learned positions reach, in tokens
        }
    )


def tiny(config: ConfigDict) -> ConfigDict:
    """A run of seconds, which shows that everything works and learns nothing."""
    config.model.update({"depth": 1, "width": 16})
    if config.model.name != "lstm":
        config.model.update({"heads": 2, "mlp": 32})
    config.task.lengths = "1:8"
    config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "buckets": 1})
    config.evaluate.update({"splits": ("iid", "9-16"), "per_length": 2, "batch_size": 16, "buckets": 1})
    config.checkpoint.every = 10
    return config
