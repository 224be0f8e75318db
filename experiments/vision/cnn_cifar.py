"""How well does a plain tutorial CNN classify CIFAR-10?

Command:   assay train --config=experiments/vision/cnn_cifar.py:cnn --workdir=runs/cnn_cifar
Variants:  cnn        filters 32-64-64, a dense layer of 64, Adam 1e-3, batch 64, 10 epochs (7,030 updates)
           tiny       the same on the built-in digits, a few steps
Cost:      one GPU: about 2 min; two CPU cores: about 1 h. Needs CIFAR-10 prepared by TFDS (see experiments/README.md)
Expected:  test accuracy of about 0.70; not run here, since CIFAR-10 cannot be downloaded
Reference: ResNet-20 on CIFAR-10: 8.75 % test error (He et al. 2016, quoted in akamaster/pytorch_resnet_cifar10)
"""

from ml_collections import ConfigDict

from assay.config import cnn, defaults, digits, images, sized, variant

VARIANTS = ("cnn",)


@sized
def get_config(given: str = "") -> ConfigDict:
    _, small = variant(given, VARIANTS, "experiments/vision/cnn_cifar.py")
    config = defaults()
    config.task = images("tfds/cifar10")
    config.model = cnn(filters=(32, 64, 64), padding="valid", dense=64)
    config.train.update({"steps": 7030, "batch_size": 64, "log_every": 100, "validate_every": 703})
    config.evaluate.splits = ("valid", "test")
    config.checkpoint.every = 703
    if small:
        config.task = digits()  # embedded, in place of a data set that must be prepared
        config.model.update({"filters": (4, 8, 8), "dense": 8, "padding": "same"})
        config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "validate_every": 0})
        config.evaluate.splits = ("valid",)
    return config
