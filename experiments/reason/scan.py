"""Can a model that has seen the parts of SCAN's commands put them together in ways that it has not seen?

Command:   python -m experiments.study --config=experiments/reason/scan.py:lstm --config=experiments/reason/scan.py:transformer \\
               --seeds=0:2 --workdir=runs/scan_length
           --config.task.name=scan/jump, scan/turn_left, scan/simple for the other splits
Variants:  lstm         2 layers of width 200 that read the command and write on, without attention
           transformer  an encoder-decoder, rotary positions
           relative     the same with positions of Transformer-XL
           universal    the same, whose two blocks are applied three times
           words        the transformer, which also sees pairs made by exchanging words that are alike in training
           phrases      the same for phrases, which makes longer pairs than training has
           hybrid       a decoder in one stream: blocks of attention and of an LSTM in turn
           tiny         a few steps; `transformer,tiny` and so on are the others
Cost:      a CPU core, a seed: about 4 min
Expected:  three seeds. length: lstm .128, transformer .064, phrases .618; published: recurrent models .138 and .208.
           jump: lstm .000, transformer .000, words .961; published .0008 and .012. turn_left: lstm .685, transformer .367; published
           .900 and .903, by updates on single examples; one seed: lstm with dropout .2 .770, words .869
Reference: Lake and Baroni, ICML 2018 (arXiv 1711.00350): 100,000 updates on single examples, as many as are seen here, 32 an update;
           Andreas 2020 (arXiv 1904.09545) for the pairs that are made
"""

from ml_collections import ConfigDict

from assay.config import defaults, reasoning, recurrent, sized, transformer, variant

VARIANTS = ("lstm", "transformer", "relative", "universal", "words", "phrases", "hybrid")
TREATMENTS = {"words": ("recombine",), "phrases": ("recombine:of=phrases,draws=200000",)}
CHANGES = {
    "transformer": {},
    "words": {},
    "phrases": {},
    "relative": {"positions": "transformer_xl"},
    "universal": {"positions": "transformer_xl", "loops": 3},
}


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/scan.py")
    config = defaults()
    config.task = reasoning("scan/length", layout="prompted" if name in ("lstm", "hybrid") else "translation")
    config.treatments = TREATMENTS.get(name, ())
    if name == "lstm":
        config.model = recurrent("lstm", depth=2, width=200, dropout=0.5)
    elif name == "hybrid":
        config.model = transformer("decoder", depth=4, mixers=("attention", "lstm"), positions="none", width=128, mlp=256, dropout=0.1)
    else:
        config.model = transformer("encoder_decoder", width=128, mlp=256, dropout=0.1, activation="relu", **CHANGES[name])
    config.optimizer.update({"learning_rate": 1e-3, "warmup_steps": 200, "schedule": "linear"})
    config.train.update({"steps": 3125, "batch_size": 32, "buckets": 2, "log_every": 50})
    config.evaluate.update({"splits": ("test",), "batch_size": 512})
    config.checkpoint.every = 1000
    if small:
        config.treatments = tuple(treatment.replace("200000", "2000") for treatment in config.treatments)
        config.task.valid_share = 0.002
        config.model.update({"width": 16} if name == "lstm" else {"depth": 2 if name == "hybrid" else 1, "width": 16, "mlp": 32})
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4})
        config.evaluate.splits = ("valid",)
    return config
