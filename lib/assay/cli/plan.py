"""Estimates what a step of training or decoding costs on devices you do not have, and whether it fits in memory.

    assay plan --config=llama_7b --topology=v5e:16x16
    assay plan --config=llama_7b --topology=v5p:4x4x4 --phase=decode --config.train.batch_size=64
    assay plan --config=gpt_125m --topology=h100:8 --tokens=10e9 --search --out=plan.json

For the topologies v4, v5e, v5p and v6e, XLA compiles the step. This needs libtpu (pip install 'assay[tpu]') but no TPU.
For a100, h100 and h200, the costs are counted from shapes. Times are lower bounds from the peak rates of the chips, not
predictions. --config.KEY=VALUE overrides a key of the config, such as --config.mesh=data:4,fsdp:-1 or
--config.model.remat=dots. --search tries all meshes and all ways to recompute blocks, ranks those that fit, and plans the
best. Prints the plan; --out also writes it to a file.
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
CONFIG = flags.DEFINE_string(
    "config", "", "Config to plan, as NAME:VARIANT or FILE.py:VARIANT; --config.KEY=VALUE overrides a key.", flag_values=FLAGS
)
TOPOLOGY = flags.DEFINE_string("topology", "", "Chips and their arrangement, as CHIP:SHAPE, such as v5e:16x16.", flag_values=FLAGS)
PHASE = flags.DEFINE_string("phase", "train", "Step to plan: train, or decode (one more token for each row of a batch).", flag_values=FLAGS)
TOKENS = flags.DEFINE_float("tokens", 0.0, "Number of tokens of the whole training; 0 means 20 per parameter.", flag_values=FLAGS)
SEARCH = flags.DEFINE_bool("search", False, "Try all meshes, and plan the best.", flag_values=FLAGS)
SHOWN = flags.DEFINE_integer("shown", 10, "Number of meshes to show with --search.", lower_bound=1, flag_values=FLAGS)
OUT = flags.DEFINE_string("out", "", "JSON file to write the figures to. Default: none.", flag_values=FLAGS)


def tell(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)


def main(overrides: dict[str, str]) -> None:
    chips = topology(TOPOLOGY.value)
    if PHASE.value not in PHASES:
        raise unknown("phase", PHASE.value, PHASES, "--phase")
    if TOKENS.value < 0:
        raise UserError(f"--tokens={TOKENS.value:g} is not possible: give a number of tokens, or 0 for 20 per parameter.")
    jax.config.update("jax_enable_compilation_cache", False)  # a program compiled for an absent device cannot be loaded back
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
    jax.config.update("jax_platforms", "cpu")  # the planned devices are absent, and libtpu must not search for them
    launch(main, __doc__, given=FLAGS, required=("config", "topology"))
