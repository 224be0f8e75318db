"""How many labels is a pretrained encoder worth?

Command:   assay study --config=experiments/text/finetune.py:scratch_50 \\
               --config=experiments/text/finetune.py:pretrained_50 --seeds=0:4 --workdir=runs/finetune
           (run experiments/text/masked_lm.py with --workdir=runs/masked_lm first)
Variants:  scratch_50, scratch_200, scratch_all           random initialization; 50, 200 or all labelled passages
           pretrained_50, pretrained_200, pretrained_all  the same network, initialized from runs/masked_lm
           tiny                                           a few steps; also with a variant: `pretrained_50,tiny`
Cost:      two CPU cores, per seed: about 2 min with 50 labels, 3 min with 200, 6 min with all
Expected:  test accuracy on 600 passages, mean of 5 seeds, paired (Python 3.11; chance .125): with 50 labels, scratch .271 and pretrained
           .275 (p .71, no significant difference); with 200, scratch .372 and pretrained .402 (+.030, Holm-adjusted p .02); with all
           1,912, scratch .479 and pretrained .639 (+.160, Holm-adjusted p .0002)
Reference: Devlin et al. 2019 (arXiv 1810.04805), section 4
"""

from ml_collections import ConfigDict

from assay.config import defaults, sized, texts, transformer, variant

VARIANTS = ("scratch_50", "scratch_200", "scratch_all", "pretrained_50", "pretrained_200", "pretrained_all")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/text/finetune.py")
    start, _, labels = name.partition("_")
    config = defaults()
    config.task = texts("stdlib/package", tokenizer="bytes", max_length=256, labels=0 if labels == "all" else int(labels))
    config.model = transformer("encoder", depth=3, width=128, mlp=512, dropout=0.1)  # the network of masked_lm.py
    config.optimizer.update({"name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 20, "weight_decay": 0.01})
    config.train.update({"steps": {"50": 100, "200": 200, "all": 600}[labels], "batch_size": 32})
    if start == "pretrained":
        config.treatments = ("init:from=runs/masked_lm",)
    if small:
        config.task.max_length = 16
        config.model.update({"depth": 1, "width": 16, "heads": 2, "kv_heads": 2, "mlp": 32})
        config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4})
        config.evaluate.splits = ("valid",)
        config.treatments = ()
    return config
