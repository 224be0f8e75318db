"""The name that `experiments.train` had before; it stays as an alias."""

from assay.cli.train import start

if __name__ == "__main__":
    start()
