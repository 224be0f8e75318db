"""Does a network predict disease progression better than ridge regression, from ten measurements of 264 patients?

Command:   assay study --config=experiments/generalise/regression.py:mlp \\
               --config=experiments/generalise/regression.py:ensemble --seeds=0:4 --workdir=runs/regression
Variants:  mlp        one hidden layer of 64, dropout and weight decay
           ensemble   five of them, with averaged outputs
           tiny       a few steps; also with a variant: `ensemble,tiny`
Cost:      two CPU cores, per seed: about 5 s
Expected:  test R2, mean of 5 seeds: mlp 0.503 (0.467 to 0.538), ensemble 0.518 (0.505 to 0.532). scikit-learn's Ridge on the same split and
           the same standardized features: 0.494 (alpha 1, its default; measured here). Ten measurements leave a network little to gain
Reference: Efron et al. 2004, "Least angle regression", the source of the data
"""

from ml_collections import ConfigDict

from assay.config import defaults, diabetes, mlp, sized, variant

VARIANTS = ("mlp", "ensemble")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/generalise/regression.py")
    config = defaults()
    config.task = diabetes()
    config.model = mlp(depth=1, width=64, dropout=0.2)
    config.optimizer.update({"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1})
    config.train.update({"steps": 200, "batch_size": 64, "steps_per_call": 20, "log_every": 100, "validate_every": 20})
    config.evaluate.splits = ("train", "valid", "test")
    config.treatments = ("ensemble:members=5,combine=outputs",) if name == "ensemble" else ()
    if small:
        config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 10, "log_every": 10, "validate_every": 10})
        config.evaluate.splits = ("valid",)
    return config
