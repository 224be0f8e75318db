"""Does a small CNN classify handwritten digits better than the classical classifier in scikit-learn's own example?

Command:   assay study --config=experiments/vision/cnn_digits.py:cnn --seeds=0:4 --workdir=runs/cnn_digits
Variants:  cnn        two convolutions with pooling and a dense layer, dropout, small shifts and rotations as augmentation
           plain      the same without augmentation and dropout
           tiny       a few steps; also with a variant: `plain,tiny`
Cost:      two CPU cores, per seed: about 1 min
Expected:  accuracy on the 899 test digits above 0.9689, that of the SVC in scikit-learn's example on the same split
Reference: scikit-learn's example "Recognizing hand-written digits"; its SVC(gamma=0.001) reaches 0.9689 on this split (measured here)
"""

from ml_collections import ConfigDict

from assay.config import cnn, defaults, digits, sized, variant

VARIANTS = ("cnn", "plain")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/vision/cnn_digits.py")
    config = defaults()
    config.task = digits()
    config.model = cnn(filters=(32, 64), dense=128, dropout=0.5 if name == "cnn" else 0.0)
    config.optimizer.update({"name": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 50, "weight_decay": 0.05})
    config.train.update({"steps": 1500, "batch_size": 64, "log_every": 50, "validate_every": 250})
    config.evaluate.splits = ("valid", "test")
    config.treatments = ("augment:images=shift:1+rotate:12", "average:decay=0.99") if name == "cnn" else ()
    if small:
        config.model.update({"filters": (4, 8), "dense": 16})
        config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "validate_every": 0})
        config.evaluate.splits = ("valid",)
    return config
