"""Lists the experiments: the same as `assay list`. The verb is lib/assay/cli/list.py; --help prints its flags."""

from assay.cli.list import start

if __name__ == "__main__":
    start()
