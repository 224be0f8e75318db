"""Configs: what they start from, how they are loaded, and how keys are overridden.

config = assay.config.defaults()                               every key of a run but those of task and model
config.task = assay.config.digits()
config.model = assay.config.transformer("decoder", depth=4)
config = assay.config.load("parity:lstm")                      a file's config, locked
"""

from assay.config.decoders import gpt, llama
from assay.config.files import experiment_name, find, load, parts, pipeline, shipped, source_of
from assay.config.generated import chomsky, reasoning
from assay.config.groups import changed, defaults, variant
from assay.config.models import bag, cnn, memory_rnn, mlp, ngram, recurrent, resnet, transformer
from assay.config.overrides import locked, override
from assay.config.schema import differences, span, to_dict, typed
from assay.config.students import sized
from assay.config.tasks import diabetes, digits, files, images, language, multi, texts

__all__ = [
    "bag",
    "changed",
    "chomsky",
    "cnn",
    "defaults",
    "diabetes",
    "differences",
    "digits",
    "experiment_name",
    "files",
    "find",
    "gpt",
    "images",
    "language",
    "llama",
    "load",
    "locked",
    "memory_rnn",
    "mlp",
    "multi",
    "ngram",
    "override",
    "parts",
    "pipeline",
    "reasoning",
    "recurrent",
    "resnet",
    "shipped",
    "sized",
    "source_of",
    "span",
    "texts",
    "to_dict",
    "transformer",
    "typed",
    "variant",
]
