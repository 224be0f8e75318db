"""Evaluates a run on other splits or lengths: the same as `assay evaluate`; see lib/assay/cli/evaluate.py."""

from assay.cli.evaluate import start

if __name__ == "__main__":
    start()
