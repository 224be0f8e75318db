"""Which remedy closes the gap between training and test accuracy of a network that has seen 200 labelled digits?

Command:   python -m experiments.study --config=experiments/generalise/overfitting.py:none \\
               --config=experiments/generalise/overfitting.py:augment --seeds=0:4 --workdir=runs/overfitting     (one --config a variant)
           python -m experiments.compare --workdir=runs/overfitting --baseline=none --split=test --plot=differences.svg
Variants:  none            a CNN that learns its 200 pictures by heart
           l1, l2          a penalty on the size of weights
           dropout         half of the features of the head
           augment         pictures moved by up to a pixel and turned by up to 12 degrees
           early_stopping  the best look at the 180 pictures of `valid`, which are so many labels more
           ensemble        five networks at once, whose probabilities are averaged
           average         the moving average of the parameters
           kfold           `valid` is one of five folds: for fold in 0 1 2 3 4, a study with --config.task.fold=$fold and its own --workdir;
                           compare takes the five with one --workdir each, and the mean over folds stands for a seed
           tiny            a few steps; `l1,tiny` and so on are the others
Cost:      two CPU cores, a seed: under 1 min, the ensemble 2 min
Expected:  test accuracy, mean of 5 seeds, and its paired difference to `none` (0.912; training 1.00): augment 0.945 (+0.033), dropout 0.927
           (+0.015), early_stopping 0.898 (-0.014, worse); inconclusive: l2 0.914, l1, ensemble and kfold 0.913, average 0.911
Reference: Goodfellow et al. 2016, "Deep Learning", chapter 7
"""

from ml_collections import ConfigDict

from assay.config import cnn, defaults, digits, sized, variant

TREATMENTS = {
    "l1": ("l1:weight=1e-4",),
    "l2": ("l2:weight=1e-3",),
    "augment": ("augment:images=shift:1+rotate:12",),
    "ensemble": ("ensemble:members=5",),
    "average": ("average:decay=0.99",),
}
VARIANTS = ("none", "l1", "l2", "dropout", "augment", "early_stopping", "ensemble", "average", "kfold")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/generalise/overfitting.py")
    config = defaults()
    config.task = digits(labels=200, folds=5 if name == "kfold" else 0)
    config.model = cnn(filters=(32, 64), dense=128, dropout=0.5 if name == "dropout" else 0.0)
    config.train.update({"steps": 600, "batch_size": 40, "log_every": 20})
    config.evaluate.splits = ("train", "valid", "test")
    config.treatments = TREATMENTS.get(name, ())
    if name == "early_stopping":
        config.train.update({"validate_every": 20, "patience": 10})
    if small:
        config.model.update({"filters": (4, 8), "dense": 16})
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4})
        if name == "early_stopping":
            config.train.update({"validate_every": 4})
    return config
