"""`python -m assay VERB ...`: the same as the command `assay`."""

from assay.cli.main import main

if __name__ == "__main__":
    main()
