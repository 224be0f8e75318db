"""Trains, evaluates and reports one run: the same as `assay train`. The verb is lib/assay/cli/train.py; --help prints its flags."""

from assay.cli.train import start

if __name__ == "__main__":
    start()
