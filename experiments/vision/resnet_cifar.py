"""Does a residual network with GroupNorm instead of BatchNorm reach the published accuracy on CIFAR-10?

Command:   assay train --config=experiments/vision/resnet_cifar.py:resnet20 --workdir=runs/resnet20
Variants:  resnet20   0.27 million parameters
           resnet56   0.85 million parameters
           tiny       the same on the built-in digits, a few steps; also with a variant: `resnet56,tiny`
Cost:      one GPU: about 30 min (resnet20). Needs CIFAR-10 prepared by TFDS (see experiments/README.md)
Expected:  close to the published error; not run here, since CIFAR-10 cannot be downloaded
Reference: He et al. 2016: test error 8.75 % (ResNet-20), 6.97 % (ResNet-56), with BatchNorm, quoted in akamaster/pytorch_resnet_cifar10
"""

from ml_collections import ConfigDict

from assay.config import defaults, digits, images, resnet, sized, variant

VARIANTS = ("resnet20", "resnet56")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/vision/resnet_cifar.py")
    config = defaults()
    config.task = images("tfds/cifar10")
    config.model = resnet(depth=int(name.removeprefix("resnet")))
    config.optimizer.update({"name": "momentum", "learning_rate": 0.1, "schedule": "cosine", "warmup_steps": 400, "weight_decay": 1e-4})
    config.train.update({"steps": 64_000, "batch_size": 128, "log_every": 100, "validate_every": 1600})
    config.evaluate.splits = ("valid", "test")
    config.checkpoint.every = 1600
    config.treatments = ("augment:images=crop:4+flip:0.5",)
    if small:
        config.task = digits()
        config.model.update({"depth": 8, "width": 4, "groups": 2})
        config.optimizer.warmup_steps = 0
        config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "validate_every": 0})
        config.evaluate.splits = ("valid",)
    return config
