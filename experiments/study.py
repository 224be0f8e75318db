"""Several runs side by side: each config with each seed, in WORKDIR/<variant>/seed_<n>, joined in one table and one page.

    python -m experiments.study --config=experiments/reason/parity.py:lstm --config=experiments/reason/parity.py:transformer \\
        --seeds=0:4 --workdir=runs/study
    python -m experiments.study --suite=reasoning --budget=10m --workdir=runs/reasoning

--seeds=0:4 is 0 to 4, both included; --seeds=0,3 is 0 and 3. --config.KEY=VALUE changes a key of every config.
Finished runs are skipped, stopped ones go on: the same command completes a study. A suite is a grid of tasks against models
(experiments/suites.py); --budget leaves out what would take longer, and the same command with more time adds it.
"""

from absl import flags

from assay.cli import suite
from assay.cli import train as conduct
from assay.cli.command import launch
from assay.core.errors import UserError, unknown

CONFIG = flags.DEFINE_multi_string("config", [], "FILE.py:variant of an experiment; may be given several times.")
SUITE = flags.DEFINE_string("suite", "", "Name of a suite, in place of --config.")
BUDGET = flags.DEFINE_string("budget", "", "Time for a suite, such as 10m; empty: all of it.")
SEEDS = flags.DEFINE_string("seeds", "0", "FIRST:LAST, both included, or a list such as 0,3.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the study. Default: runs/<name of the first config, or of the suite>.")


def main(overrides: dict[str, str]) -> None:
    from assay.cli.suites import SUITES

    if bool(CONFIG.value) == bool(SUITE.value):
        raise UserError("give either --config, once for each, or --suite=NAME. See --help.")
    if BUDGET.value and not SUITE.value:
        raise UserError("--budget is for a suite: its runs have an order and estimates. Give --suite=NAME, or leave out --budget.")
    seeds = conduct.seeds_of(SEEDS.value)
    if not SUITE.value:
        conduct.study(CONFIG.value, seeds, overrides, WORKDIR.value or f"runs/{conduct.label(CONFIG.value[0])}")
        return
    if SUITE.value not in SUITES:
        raise unknown("suite", SUITE.value, SUITES, "--suite")
    about, entries = SUITES[SUITE.value]
    suite.run(SUITE.value, about, entries, seeds, overrides, BUDGET.value, WORKDIR.value or f"runs/{SUITE.value}")


if __name__ == "__main__":
    launch(main, __doc__)
