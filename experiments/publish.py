"""Writes a finished study as files small enough to commit: the same as `assay publish`; see lib/assay/cli/publish.py."""

from assay.cli.publish import start

if __name__ == "__main__":
    start()
