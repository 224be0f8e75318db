"""What does a training step of a 7B decoder cost, and on which devices does it fit?

Command:   assay plan --config=experiments/scale/llama_7b.py --topology=v5e:16x16
Variants:  full  32 blocks of width 4096, as in Llama 2 7B, 4,096 tokens
           tiny  a few steps on any machine
Cost:      planning: about 2 min on two CPU cores, without the devices; training: see the plan
Expected:  6.74 billion parameters, as published
Reference: Touvron et al. 2023 (arXiv 2307.09288)
"""

from ml_collections import ConfigDict

from assay.config import llama, sized

VARIANTS = ("full",)


@sized
def get_config(given: str = "") -> ConfigDict:
    sizes = {"depth": 32, "width": 4096, "heads": 32, "kv_heads": 32, "mlp": 11_008}
    return llama(given, VARIANTS, "experiments/scale/llama_7b.py", vocabulary=32_000, **sizes)
