"""What does a training step of a 70B decoder cost, and on which devices does it fit?

Command:   assay plan --config=experiments/scale/llama_70b.py --topology=v5p:8x8x8
Variants:  full  80 blocks of width 8192, as in Llama 2 70B, 4,096 tokens
           tiny  a few steps on any machine
Cost:      planning: a few minutes on two CPU cores, without the devices; training: see the plan
Expected:  69 billion parameters, as published
Reference: Touvron et al. 2023 (arXiv 2307.09288)
"""

from ml_collections import ConfigDict

from assay.config import llama, sized

VARIANTS = ("full",)


@sized
def get_config(given: str = "") -> ConfigDict:
    sizes = {"depth": 80, "width": 8192, "heads": 64, "kv_heads": 8, "mlp": 28_672}
    return llama(given, VARIANTS, "experiments/scale/llama_70b.py", vocabulary=32_000, batch=1024, **sizes)
