"""Diagnoses a finished run: the same as `assay diagnose`. The verb is lib/assay/cli/diagnose.py; --help prints its flags."""

from assay.cli.diagnose import start

if __name__ == "__main__":
    start()
