"""Says what a training step (or a step of decoding) costs on devices that are not here, and whether it fits.

    assay plan --config=experiments/scale/llama_7b.py --topology=v5e:16x16
    assay plan --config=experiments/scale/llama_7b.py --topology=v5p:4x4x4 --phase=decode --config.train.batch_size=64
    assay plan --config=experiments/scale/gpt_125m.py --topology=h100:8 --tokens=10e9 --out=plan.json
    assay plan --config=experiments/scale/llama_1b.py --topology=v5e:4x4 --search

Topologies: v4, v5e, v5p and v6e, which XLA compiles for (needs libtpu, pip install 'assay[tpu]', and no TPU); a100, h100 and h200, counted
from shapes. Times are the least that the chips' peaks allow, so a bound and no promise. --config.KEY=VALUE changes the config, such as
--config.mesh=data:4,fsdp:-1 or --config.model.remat=dots. --search counts all meshes and ways to compute blocks again, ranks those that
fit, and plans the best.
"""

import sys
from pathlib import Path

import jax
from absl import flags

from assay import config as configs
from assay.cli.command import launch
from assay.core.errors import UserError, unknown
from assay.diagnostics.cost.chips import topology
from assay.diagnostics.cost.plan import PHASES, plan, search
from assay.reports.terminal.plan import show, show_ranked
from assay.train.workdir import WorkDir

FLAGS = flags.FlagValues()
CONFIG = flags.DEFINE_string("config", "", "FILE.py:variant of the experiment; --config.KEY=VALUE changes a key.", flag_values=FLAGS)
TOPOLOGY = flags.DEFINE_string("topology", "", "CHIP:SHAPE, such as v5e:16x16.", flag_values=FLAGS)
PHASE = flags.DEFINE_string("phase", "train", "train, or decode: one token more for each row of a batch.", flag_values=FLAGS)
TOKENS = flags.DEFINE_float("tokens", 0.0, "Tokens of the whole training; 0: 20 a parameter.", flag_values=FLAGS)
SEARCH = flags.DEFINE_bool("search", False, "Whether all meshes are tried, and the best is planned.", flag_values=FLAGS)
SHOWN = flags.DEFINE_integer("shown", 10, "How many of them are shown.", lower_bound=1, flag_values=FLAGS)
OUT = flags.DEFINE_string("out", "", "Where the figures are saved as JSON; nothing: nowhere.", flag_values=FLAGS)


def tell(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)


def main(overrides: dict[str, str]) -> None:
    chips = topology(TOPOLOGY.value)
    if PHASE.value not in PHASES:
        raise unknown("phase", PHASE.value, PHASES, "--phase")
    if TOKENS.value < 0:
        raise UserError(f"--tokens={TOKENS.value:g} is not possible: a number of tokens, or 0 for 20 a parameter.")
    jax.config.update("jax_enable_compilation_cache", False)  # what is compiled for a device that is not here cannot be read back
    config = configs.to_dict(configs.override(configs.load(CONFIG.value), overrides))
    ranked = search(config, chips, PHASE.value, tell) if SEARCH.value else []
    if ranked:
        show_ranked(ranked[: SHOWN.value])
        best = ranked[0]
        model = config["model"] | ({"remat": best["remat"]} if "remat" in config["model"] else {})
        config |= {"mesh": best["mesh"], "model": model}
    found = plan(config, chips, PHASE.value, TOKENS.value, tell)
    show(found)
    if OUT.value:
        WorkDir.write_json(Path(OUT.value), {**found, "ranked": ranked} if ranked else found)


def start() -> None:
    """Runs the verb from the command line."""
    jax.config.update("jax_platforms", "cpu")  # the planned devices are not here, and libtpu must not look for them
    launch(main, __doc__, given=FLAGS, required=("config", "topology"))
