"""Answers new inputs with a finished run: the same as `assay predict`. The verb is lib/assay/cli/predict.py; --help prints its flags."""

from assay.cli.predict import start

if __name__ == "__main__":
    start()
