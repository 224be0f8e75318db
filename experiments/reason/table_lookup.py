"""Can a model trained to compose up to 5 functions compose 9 or 10, in either reading order?

Command:   assay study --config=experiments/reason/table_lookup.py:lstm \\
               --config=experiments/reason/table_lookup.py:bilstm_attention --seeds=0:2 --workdir=runs/forward
           --config.task.name=ctl/backward lists the functions from last to first
Variants:  lstm        an LSTM
           bilstm_attention   an encoder of two blocks: a bidirectional LSTM, then attention to all its outputs
           universal   a Transformer with one block applied 12 times, sinusoidal positions
           relative    the same with Transformer-XL positions
           gate        the same, with a learned gate that lets a block copy its input
           geometric   the gate, and attention to the nearest match, with directions but no distances (Neural Data Router)
           more_loops  the geometric variant with 20 loops at test time
           tiny        a few steps; also with a variant: `universal,tiny`
Cost:      one CPU core, per seed: lstm and bilstm_attention 3 min, the Transformers, with a length curriculum, 7 min
Expected:  published at 9-10, forward and backward: lstm 1.00, .22; universal .13, .12 (chance); relative .23, .13; gate .99, .19;
           geometric 1.00, 1.00. Measured here, three seeds: bilstm_attention .998 in both; forward: lstm .997; geometric .306, and .885
           with more_loops; backward: lstm .11, and .51 on 1-5 (published .59). more_loops does not fit backward in 6,000 updates (.45 on
           1-5; one seed). Forward on 1-5 after 6,000 updates: relative .35, gate .79; both are at chance beyond
Reference: Csordas et al. 2021 (arXiv 2110.07732v1), Table 1
"""

from ml_collections import ConfigDict

from assay.config import defaults, reasoning, recurrent, sized, transformer, variant

VARIANTS = ("lstm", "bilstm_attention", "universal", "relative", "gate", "geometric", "more_loops")
MODELS = {
    "lstm": lambda: recurrent("lstm", width=200),
    "bilstm_attention": lambda: transformer("encoder", mixers=("bilstm", "attention"), positions="none", width=128),
}
CHANGES = {
    "universal": {"positions": "sinusoidal"},
    "relative": {"positions": "transformer_xl"},
    "gate": {"positions": "transformer_xl", "gate": True},
    "geometric": {"positions": "direction", "attention_weights": "geometric", "gate": True},
    "more_loops": {"positions": "direction", "attention_weights": "geometric", "gate": True, "test_loops": 20},
}


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/table_lookup.py")
    config = defaults()
    config.task = reasoning("ctl/forward")
    if name in CHANGES:
        size = {"depth": 1, "loops": 12, "width": 64, "heads": 4, "kv_heads": 4, "mlp": 256, "norm_place": "post", "dropout": 0.1}
        config.model = transformer("encoder", **(size | CHANGES[name]))
        config.optimizer.update({"name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 500, "weight_decay": 0.01})
        config.train.update({"steps": 6000, "batch_size": 64})
        config.treatments = ("curriculum:examples=100000",)
    else:
        config.model = MODELS[name]()
        config.optimizer.update({"learning_rate": 3e-3, "schedule": "cosine", "warmup_steps": 100})
        config.train.update({"steps": 8000 if name == "lstm" else 4000, "batch_size": 128})
    config.train.log_every = 50
    config.evaluate.update({"splits": ("iid", "6-8", "9-10"), "per_length": 500})
    config.checkpoint.every = 1000
    if small:
        config.model.width = 16
        if name in CHANGES:
            config.model.update({"loops": 2, "test_loops": min(config.model.test_loops, 3)})
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4})
        config.evaluate.update({"per_length": 8, "batch_size": 32})
    return config
