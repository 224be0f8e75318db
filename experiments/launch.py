"""Starts a command in several processes: the same as `assay launch`. The verb is lib/assay/cli/launch.py; --help prints its flags."""

from assay.cli.launch import start

if __name__ == "__main__":
    start()
