"""Trains on a file or folder of your own: the same as `assay fit`. The verb is lib/assay/cli/fit.py; --help prints its flags."""

from assay.cli.fit import start

if __name__ == "__main__":
    start()
