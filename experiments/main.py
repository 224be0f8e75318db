"""Alias of `experiments.train`, so that commands in older results still run."""

from assay.cli.train import start

if __name__ == "__main__":
    start()
