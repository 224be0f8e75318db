"""Compares runs on the same examples: the same as `assay compare`. The verb is lib/assay/cli/compare.py; --help prints its flags."""

from assay.cli.compare import start

if __name__ == "__main__":
    start()
