"""Several runs side by side: each config with each seed, in WORKDIR/<variant>/seed_<n>, joined in one table and one page.

    python -m experiments.study --config=experiments/reason/parity.py:lstm --config=experiments/reason/parity.py:transformer \\
        --seeds=0:4 --workdir=runs/study

--seeds=0:4 is 0 to 4, both included; --seeds=0,3 is 0 and 3. --config.KEY=VALUE changes a key of every config.
Finished runs are skipped, stopped ones go on: the same command completes a study.
"""

from absl import flags

from assay.card import conduct
from assay.core.command import launch

CONFIG = flags.DEFINE_multi_string("config", [], "FILE.py:variant of an experiment; may be given several times.")
SEEDS = flags.DEFINE_string("seeds", "0", "FIRST:LAST, both included, or a list such as 0,3.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the study. Default: runs/<name of the first config>.")


def main(overrides: dict[str, str]) -> None:
    workdir = WORKDIR.value or f"runs/{conduct.label(CONFIG.value[0])}"
    conduct.study(CONFIG.value, conduct.seeds_of(SEEDS.value), overrides, workdir)


if __name__ == "__main__":
    launch(main, __doc__, required=("config",))
