"""Prints examples of a task: the same as `assay show`. The verb is lib/assay/cli/show.py; --help prints its flags."""

from assay.cli.show import start

if __name__ == "__main__":
    start()
