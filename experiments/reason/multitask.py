"""Does a shared trunk learn parity and cycle navigation as well as a separate trunk per task does?

Command:   assay study --config=experiments/reason/multitask.py:together --config=experiments/reason/multitask.py:parity \\
               --config=experiments/reason/multitask.py:cycle --seeds=0:4 --workdir=runs/multitask
Variants:  together   an LSTM of width 64 with one head per task; a batch has 128 examples of each task
           parity     the same on parity alone
           cycle      the same on cycle navigation (position on a cycle of five) alone
           tiny       a few steps; also with a variant: `parity,tiny`, `cycle,tiny`
Cost:      two CPU cores, per seed: together about 80 s, the others 50 s
Expected:  after 1,000 updates, accuracy at 41-500 on parity is 1.00 alone, and together in one of two seeds, so it is learned later;
           accuracy on the cycle at 1-40 is 0.95 alone and 0.88 together, and neither generalizes to 41-500 (0.31, 0.26): sharing brings
           no gain at this size
Reference: Caruana 1997, "Multitask learning"; Deletang et al., ICLR 2023 (arXiv 2207.02098) for the tasks
"""

from ml_collections import ConfigDict

from assay.config import defaults, multi, recurrent, sized, variant

VARIANTS = ("together", "parity", "cycle")
MEMBERS = {"parity": ("chomsky/parity_check",), "cycle": ("chomsky/cycle_navigation",)}


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/multitask.py")
    members = MEMBERS.get(name, MEMBERS["parity"] + MEMBERS["cycle"])
    config = defaults()
    config.task = multi(members, convention="code", lengths="1:8" if small else "1:40", seed=0)
    config.model = recurrent("lstm", width=16 if small else 64)
    config.optimizer.learning_rate = 3e-3
    config.train.update({"steps": 1000, "batch_size": 128 * len(members), "buckets": 2})
    config.evaluate.update({"splits": ("iid", "41-500"), "per_length": 8 * len(members)})
    if small:
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "buckets": 1})
        config.evaluate.update({"splits": ("iid", "9-16"), "per_length": 4, "batch_size": 16, "buckets": 1})
    return config
