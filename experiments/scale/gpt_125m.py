"""What does a training step of GPT-2 small cost, and on which devices does it fit?

Command:   assay plan --config=experiments/scale/gpt_125m.py --topology=v5e:2x4
Variants:  full  12 blocks of width 768, 1,024 tokens
           tiny  a few steps on any machine
Cost:      planning: about 1 min on two CPU cores, without the devices; training: see the plan
Expected:  124 million parameters, as published
Reference: Radford et al. 2019
"""

from ml_collections import ConfigDict

from assay.config import gpt, sized

VARIANTS = ("full",)


@sized
def get_config(given: str = "") -> ConfigDict:
    return gpt(given, VARIANTS, "experiments/scale/gpt_125m.py", depth=12, width=768, heads=12, kv_heads=12, mlp=3072)
