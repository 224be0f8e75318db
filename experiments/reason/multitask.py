"""Does one trunk that learns parity and the place on a cycle at once learn each of them as well as a trunk of its own does?

Command:   python -m experiments.study --config=experiments/reason/multitask.py:together --config=experiments/reason/multitask.py:parity \\
               --config=experiments/reason/multitask.py:cycle --seeds=0:4 --workdir=runs/multitask
Variants:  together   an LSTM of width 64 with a head for each task; a batch has 128 examples of each
           parity     the same on parity alone
           cycle      the same on the place on a cycle of five alone
           tiny       a few steps; `parity,tiny` and `cycle,tiny` are the others
Cost:      two CPU cores, a seed: together about 80 s, the others 50 s
Expected:  after 1,000 updates parity alone holds at 41-500 with accuracy 1.00, and together in one of two seeds, so it is learned later;
           the cycle has 0.95 at 1-40 alone and 0.88 together, and neither holds at 41-500 (0.31, 0.26): no gain from sharing at this size
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
