"""Shared recipe of the large decoder configs, which differ in size only."""

from typing import Any

from ml_collections import ConfigDict

from assay.config.generated import reasoning
from assay.config.groups import defaults, variant
from assay.config.models import transformer


def llama(
    given: str, variants: tuple[str, ...], file: str, vocabulary: int, tokens: int = 4096, batch: int = 256, **sizes: Any
) -> ConfigDict:
    """Builds the config of a Llama-style decoder: RMSNorm, rotary positions, SwiGLU.

    Matrix products are bfloat16, blocks run in one scan, and all devices are on the mesh axis `fsdp`.
    """
    model = {"norm": "rmsnorm", "activation": "swiglu", "residual_init": "scaled", "scan": True, "remat": "full"}
    return _recipe(given, variants, file, vocabulary, tokens, batch, model | sizes)


def gpt(
    given: str, variants: tuple[str, ...], file: str, vocabulary: int = 50_257, tokens: int = 1024, batch: int = 512, **sizes: Any
) -> ConfigDict:
    """Builds the config of a GPT-2-style decoder: LayerNorm, learned positions, GELU, tied embeddings."""
    model = {"positions": "learned", "max_length": tokens, "tied": True, "residual_init": "scaled", "scan": True, "remat": "dots"}
    return _recipe(given, variants, file, vocabulary, tokens, batch, model | sizes)


def _recipe(
    given: str, variants: tuple[str, ...], file: str, vocabulary: int, tokens: int, batch: int, model: dict[str, Any]
) -> ConfigDict:
    _, small = variant(given, variants, file)
    config = defaults()
    config.task = reasoning("synthetic/lm", vocabulary=vocabulary, window=tokens)
    config.model = transformer("decoder", **model)
    config.optimizer.update({"name": "adamw", "learning_rate": 3e-4, "schedule": "cosine", "warmup_steps": 2000, "weight_decay": 0.1})
    config.train.update({"steps": 250_000, "batch_size": batch, "steps_per_call": 1, "log_every": 10})
    config.evaluate.update({"splits": ("test",), "per_length": 1024, "buckets": 1})
    config.checkpoint.every = 1000
    config.precision.compute = "bfloat16"
    config.mesh.update({"data": 1, "fsdp": -1})
    if small:
        config.task.update({"vocabulary": 64, "window": 16})
        config.model.update({"depth": 2, "width": 16, "heads": 2, "kv_heads": 2, "mlp": 32, "max_length": 16})
        config.optimizer.warmup_steps = 2
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4})
        config.evaluate.update({"per_length": 16, "batch_size": 16})
    return config
