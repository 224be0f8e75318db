"""Which treatment helps a model that has seen too few strings to find a rule by itself?

Command:   assay study --config=experiments/reason/remedies.py:none --config=experiments/reason/remedies.py:supervise \\
               --config=experiments/reason/remedies.py:curriculum --seeds=0:4 --workdir=runs/remedies
           assay compare --workdir=runs/remedies --baseline=none --split=41-500 --plot=runs/remedies/differences.svg
Variants:  none        an LSTM trained on parity for 400 updates, which is mostly too short
           supervise   the running state is a target at every bit; no prediction is fed back
           curriculum  short strings first; all lengths from the 20,000th example on
           tiny        a few steps; also with a variant: `supervise,tiny`, `curriculum,tiny`
Cost:      two CPU cores, per seed: about 25 s
Expected:  five seeds, accuracy at 41-500: none .50, supervise 1.00, curriculum .90 (four seeds of five)
Reference: Bengio et al. 2009, "Curriculum learning"; experiments/reason/parity.py has the scratchpad, which feeds the states back
"""

from ml_collections import ConfigDict

from assay.config import chomsky, defaults, recurrent, sized, variant

TREATMENTS = {"none": (), "supervise": ("supervise",), "curriculum": ("curriculum:examples=20000",)}
VARIANTS = ("none", "supervise", "curriculum")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/remedies.py")
    config = defaults()
    config.task = chomsky("parity_check")
    config.model = recurrent("lstm")
    config.treatments = TREATMENTS[name]
    config.optimizer.learning_rate = 3e-3
    config.train.update({"steps": 400, "batch_size": 128, "buckets": 2})
    config.evaluate.splits = ("iid", "41-500")
    if small:
        config.task.lengths = "1:8"
        config.model.width = 16
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "buckets": 1})
        config.evaluate.update({"splits": ("iid", "9-16"), "per_length": 4, "batch_size": 16, "buckets": 1})
    return config
