"""What does a training step of a 1B decoder cost, and on which devices does it fit?

Command:   assay plan --config=experiments/scale/llama_1b.py --topology=v5e:4x4
Variants:  full  16 blocks of width 2048, as in Llama 3.2 1B, 4,096 tokens
           tiny  a few steps on any machine
Cost:      planning: about 1 min on two CPU cores, without the devices; training: see the plan
Expected:  1.24 billion parameters, as published
Reference: Grattafiori et al. 2024 (arXiv 2407.21783), and the Llama 3.2 model card
"""

from ml_collections import ConfigDict

from assay.config import llama, sized

VARIANTS = ("full",)


@sized
def get_config(given: str = "") -> ConfigDict:
    sizes = {"depth": 16, "width": 2048, "heads": 32, "kv_heads": 8, "mlp": 8192, "tied": True}
    return llama(given, VARIANTS, "experiments/scale/llama_1b.py", vocabulary=128_256, batch=64, **sizes)
