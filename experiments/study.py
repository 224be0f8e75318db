"""Trains several runs side by side: the same as `assay study`. The verb is lib/assay/cli/study.py; --help prints its flags."""

from assay.cli.study import start

if __name__ == "__main__":
    start()
