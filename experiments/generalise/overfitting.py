"""Which treatment closes the gap between training and test accuracy of a network trained on 200 labelled digits?

Command:   assay study --config=experiments/generalise/overfitting.py:none \\
               --config=experiments/generalise/overfitting.py:augment --seeds=0:4 --workdir=runs/overfitting     (one --config per variant)
           assay compare --workdir=runs/overfitting --baseline=none --split=test --plot=differences.svg
Variants:  none            a CNN that memorizes its 200 images
           l1, l2          a penalty on the size of the weights
           dropout         drops half of the head's features
           augment         shifts images by up to one pixel and rotates them by up to 12 degrees
           early_stopping  restores the checkpoint with the best validation on the 180 images of `valid`, which add as many labels
           ensemble        five networks at once, with averaged probabilities
           average         an exponential moving average of the parameters
           kfold           `valid` is one of five folds: run one study per fold 0 to 4 with --config.task.fold=FOLD and its own --workdir;
                           pass the five to compare with one --workdir each; the mean over folds represents a seed
           tiny            a few steps; also with a variant: `l1,tiny`
Cost:      two CPU cores, per seed: less than 1 min, the ensemble 2 min
Expected:  test accuracy, mean of 5 seeds, and its paired difference to `none` (0.912; training 1.00): augment 0.945 (+0.033), dropout 0.927
           (+0.015); inconclusive: early_stopping 0.898 (-0.014, -0.028 to 0.001), l2 0.914, l1, ensemble and kfold 0.913,
           average 0.911
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
