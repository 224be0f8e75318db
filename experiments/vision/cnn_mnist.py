"""How well does a plain tutorial CNN classify MNIST?

Command:   assay train --config=experiments/vision/cnn_mnist.py:cnn --workdir=runs/cnn_mnist
Variants:  cnn        filters 32-64, dropout before the output layer, Adam 1e-3, batch 64, 10 epochs (8,440 updates)
           tiny       the same on the built-in digits, a few steps
Cost:      one GPU: about 1 min; two CPU cores: about 30 min. Needs MNIST prepared by TFDS (see experiments/README.md)
Expected:  test accuracy of about 0.99; not run here, since MNIST cannot be downloaded
Reference: LeNet-5 on MNIST: 0.95 % test error without distortions (LeCun's MNIST page, quoted in several repositories)
"""

from ml_collections import ConfigDict

from assay.config import cnn, defaults, digits, images, sized, variant

VARIANTS = ("cnn",)


@sized
def get_config(given: str = "") -> ConfigDict:
    _, small = variant(given, VARIANTS, "experiments/vision/cnn_mnist.py")
    config = defaults()
    config.task = images("tfds/mnist")
    config.model = cnn(filters=(32, 64), padding="valid", dropout=0.5)
    config.train.update({"steps": 8440, "batch_size": 64, "log_every": 100, "validate_every": 844})
    config.evaluate.splits = ("valid", "test")
    config.checkpoint.every = 844
    return tiny(config) if small else config


def tiny(config: ConfigDict) -> ConfigDict:
    """Shrinks the config and uses the built-in digits instead of a data set that needs preparation."""
    config.task = digits()
    config.model.update({"filters": (4, 8), "padding": "same"})
    config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "validate_every": 0})
    config.evaluate.splits = ("valid",)
    return config
