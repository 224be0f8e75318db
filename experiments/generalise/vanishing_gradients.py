"""Do gradients reach all 32 blocks of a deep Transformer evenly, and does the network learn?

Command:   assay study --config=experiments/generalise/vanishing_gradients.py:post \\
               --config=experiments/generalise/vanishing_gradients.py:post_scaled \\
               --config=experiments/generalise/vanishing_gradients.py:pre --workdir=runs/vanishing_gradients
Variants:  post         normalization after each residual sum, as in the original Transformer; plain initialization
           post_scaled  the same, with the initialization of residual branches scaled by the number of terms
           pre          normalization before each half of a block
           tiny         a few steps with few blocks; also with a variant: `pre,tiny`
Cost:      two CPU cores: about 2 min each
Expected:  ratio of the gradient norms of block 0 and block 31 at the first step: 13 with `post`, 1.0 with `post_scaled`, 1.4 with `pre`;
           after 100 updates, token accuracy is at chance (0.20) with `post` and above 0.5 with the other two (one seed, measured)
Reference: Xiong et al. 2020 (arXiv 2002.04745) for the norm placement; Radford et al. 2019 (GPT-2) for the scaled initialization
"""

from ml_collections import ConfigDict

from assay.config import defaults, sized, transformer, variant

VARIANTS = ("post", "post_scaled", "pre")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/generalise/vanishing_gradients.py")
    config = defaults()
    config.task = ConfigDict(
        {
            "name": "chomsky/bucket_sort",
            "convention": "code",  # "code" or "paper", if the published code and paper disagree
            "lengths": "1:20",  # training lengths, both ends included
            "seed": 0,  # seed of the test examples
        }
    )
    config.model = transformer("encoder", depth=32, width=32, mlp=64, positions="sinusoidal")
    config.model.update({"norm_place": "pre" if name == "pre" else "post", "residual_init": "plain" if name == "post" else "scaled"})
    config.optimizer.learning_rate = 3e-4
    config.train.update({"steps": 100, "batch_size": 32, "steps_per_call": 5, "log_every": 1})
    config.evaluate.splits = ("iid",)
    config.treatments = ("gradients",)
    if small:
        config.model.update({"depth": 2, "width": 16, "heads": 2, "kv_heads": 2, "mlp": 32})
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4})
        config.task.lengths = "1:8"
        config.evaluate.update({"per_length": 2, "batch_size": 16, "buckets": 1})
    return config
