"""Treats a finished run: the same as `assay treat`. The verb is lib/assay/cli/treat.py; --help prints its flags."""

from assay.cli.treat import start

if __name__ == "__main__":
    start()
