"""How well does a two-layer BiLSTM, the classic text classifier, identify where a text comes from?

Command:   assay train --config=experiments/text/bilstm_classifier.py:package --workdir=runs/bilstm
Variants:  package    passages of Python's standard library -> their package (8 classes); built-in data
           imdb       IMDB film reviews -> positive or negative; needs imdb_reviews prepared by TFDS (see experiments/README.md)
           csv        your own files: --config.task.train=train.csv --config.task.test=test.csv
           tiny       a few steps; `imdb,tiny` and `csv,tiny` also use the built-in passages
Cost:      two CPU cores: package about 10 min
Expected:  package: test accuracy .607 (95 % interval over files .507-.720; Python 3.11, one seed; chance .125). imdb: above 0.85, not run
           here
Reference: embedding 128, hidden 256, 2 layers, dropout 0.5, Adam 1e-3, 10 epochs, as in IMDB tutorials
"""

from ml_collections import ConfigDict

from assay.config import defaults, recurrent, sized, texts, variant

VARIANTS = ("package", "imdb", "csv")


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/text/bilstm_classifier.py")
    config = defaults()
    task = {"package": "stdlib/package", "imdb": "tfds/imdb_reviews", "csv": "csv"}[name]
    config.task = texts("stdlib/package" if small else task, max_length=256 if name == "imdb" else 128)
    config.model = recurrent("bilstm", depth=2, width=256, embedding=128, dropout=0.5)
    config.train.update({"steps": 3510 if name == "imdb" else 600, "batch_size": 64 if name == "imdb" else 32, "buckets": 3})
    config.train.validate_every = config.train.steps // 10
    config.evaluate.splits = ("valid", "test")
    return tiny(config) if small else config


def tiny(config: ConfigDict) -> ConfigDict:
    """Shrinks the config to a few steps on short texts."""
    config.task.update({"max_length": 8, "tokenizer_size": 200})
    config.model.update({"width": 8, "depth": 1})
    config.train.update({"steps": 20, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "buckets": 1, "validate_every": 0})
    config.evaluate.splits = ("valid",)
    return config
