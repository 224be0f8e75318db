"""Treats a finished run: distils, prunes, quantises, factorises it, stage by stage, and measures what each stage buys and costs.

    python -m experiments.treat --from=runs/teacher --treat=quantize:int8 --workdir=runs/small
    python -m experiments.treat --from=runs/teacher --treat=distill:student=small,T=4 --treat=prune:units=0.5 --treat=quantize:int8 \\
        --workdir=runs/small
    python -m experiments.treat --from=runs/X --apply=1 --workdir=runs/mended     # suggestion 1 of its diagnosis (experiments.diagnose)

--treat names a treatment with its options, once for each stage, in order, or a list of them in a config file, FILE.py:NAME, such as
experiments/compress/scan.py:small. `python -m experiments.list --matrix` prints which apply to which models. A stage also takes steps=N and
rate=R (its updates and its learning rate), and distill student=small, another variant, FILE.py:variant, or itself.
The run that is treated stays as it is. WORKDIR is the treated run, with the stages before it in WORKDIR/stages/; stages.json and
pareto.svg hold the comparison, and with --apply, applied.json the suggestion and what it predicts. The same command goes on where it was
stopped. --config.KEY=VALUE changes a key of every stage.
"""

from absl import flags

from assay.cli.apply import apply
from assay.cli.command import launch
from assay.cli.treat import treat
from assay.core.errors import UserError

FROM = flags.DEFINE_string("from", "", "Work directory of a finished run, or a folder of its seeds.")
TREAT = flags.DEFINE_multi_string("treat", [], "NAME or NAME:option=value,..., or FILE.py:NAME of a list; may be given several times.")
APPLY = flags.DEFINE_integer("apply", None, "In place of --treat: which suggestion of the diagnosis of --from is done.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the treated run.")
SECONDS = flags.DEFINE_float("seconds", 20.0, "Time for measuring latency and throughput, all stages together.", lower_bound=0.0)


def main(overrides: dict[str, str]) -> None:
    if APPLY.value is not None and TREAT.value:
        raise UserError(f"--apply={APPLY.value} and --treat={TREAT.value[0]} both say what is to be done. Give one of them.")
    if APPLY.value is not None:
        apply(FROM.value, APPLY.value, WORKDIR.value, overrides, SECONDS.value)
    elif TREAT.value:
        treat(FROM.value, TREAT.value, WORKDIR.value, overrides, SECONDS.value)
    else:
        raise UserError("missing --treat, or --apply=N for a suggestion of the run's diagnosis. See --help.")


if __name__ == "__main__":
    launch(main, __doc__, required=("from", "workdir"))
