"""What a process does once before it computes: the persistent compilation cache, private to its owner."""

import os
from pathlib import Path

import jax


def start() -> None:
    """Turns the compilation cache on: $JAX_COMPILATION_CACHE_DIR as it is, else ~/.cache/assay/xla, made with mode 0700.

    The cache amounts to code that will be run, so nobody else may write to ours.
    """
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = Path.home() / ".cache" / "assay" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError:  # a read-only home costs time, not correctness
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
