"""Plans what a step costs on devices that are not here: the same as `assay plan`; see lib/assay/cli/plan.py."""

from assay.cli.plan import start

if __name__ == "__main__":
    start()
