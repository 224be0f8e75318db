"""What every test runs under: the allocator of the verbs, strict broadcasting, checked annotations, a compilation cache.

Annotations of the folders in CHECKED are checked at every call, shapes included (jaxtyping's import hook with beartype). Three kinds of
them are read as widely as JAX and NumPy themselves read them: see READINGS.
"""

import dataclasses
import gc
import inspect
import os
from importlib.metadata import version
from pathlib import Path

from assay.core.allocator import keep_memory

keep_memory()  # before JAX comes in
gc.set_threshold(200_000, 50, 100)  # tracing makes objects by the million: a fifth of the whole suite was looking for cycles among them

# Threads of OpenMP spin while they wait: in two workers on two cores, a gradient boosting of half a second took half a minute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

CACHE = Path.home() / ".cache" / "assay" / "tests"
CACHE.mkdir(parents=True, exist_ok=True)
CACHE.chmod(0o700)  # a compilation cache amounts to code that will be run
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))  # subprocesses of tests share it

# Tests compile far more than they compute. Of 28 s of compilation (20 small gradients), 9 are left without most optimizations, and 2
# without fusion emitters and the splitting of modules. Subprocesses inherit both.
QUICKLY = "JAX_DISABLE_MOST_OPTIMIZATIONS"
os.environ.setdefault(QUICKLY, "1")
if version("jaxlib").startswith("0.10."):  # later ones end the process at a flag that they do not know
    os.environ.setdefault(
        "XLA_FLAGS",
        " ".join(("--xla_cpu_opt_preset=FAST_COMPILE", "--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1")),
    )

from collections.abc import Callable, Iterator  # noqa: E402
from typing import Any  # noqa: E402

import beartype  # noqa: E402
import jax  # noqa: E402
import jaxtyping  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

READINGS = {
    np.dtype: Any,  # `dtype: jnp.dtype` is given jnp.float32, which is a scalar type
    np.ndarray: np.ndarray | np.generic,  # NumPy's functions return scalars where arrays have no axes
    jax.Array: jax.Array | np.ndarray,  # what is traced from the host's side gets host arrays
}
# Not the floors above, which take arrays as Sequence[float].
CHECKED = ("core", "config", "dist", "nn", "models", "data", "tasks", "infer", "evals", "train", "treatments")
_beartype = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True, hint_overrides=beartype.FrozenDict(READINGS)))


def check_annotations(decorated: Any, *args: Any, **kwargs: Any) -> Any:
    """The type checker that the import hook puts around functions and dataclasses, by its name in this module."""
    return _beartype(decorated, *args, **kwargs)


def annotated(*, typechecker: Any) -> Callable[[Any], Any]:
    """What the import hook decorates with: `jaxtyped` for annotations with shapes, which compares them at every call, else beartype alone.

    Two functions in three have no shapes, and comparing none took a fifth of the time of tracing.
    """

    def decorate(decorated: Any) -> Any:
        if dataclasses.is_dataclass(decorated):
            decorated.__init__ = decorate(decorated.__init__)
        if not inspect.isfunction(decorated):
            return decorated if inspect.isclass(decorated) else _jaxtyped(typechecker=typechecker)(decorated)
        shaped = any(isinstance(hint, str) or "jaxtyping." in str(hint) for hint in decorated.__annotations__.values())
        return _jaxtyped(typechecker=typechecker)(decorated) if shaped else check_annotations(decorated)

    return decorate


_jaxtyped, jaxtyping.jaxtyped = jaxtyping.jaxtyped, annotated
jaxtyping.install_import_hook([f"assay.{folder}" for folder in CHECKED], f"{__name__}.check_annotations")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


@pytest.fixture(scope="module", autouse=True)
def _compiled_as_users_do(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compiles with all optimizations in modules marked `optimised`: those that test numbers, speed and kernels."""
    if request.node.get_closest_marker("optimised") is None:
        yield
        return
    before = os.environ[QUICKLY]
    for setting in ("0", before):
        jax.clear_caches()
        os.environ[QUICKLY] = setting
        jax.config.update("jax_disable_most_optimizations", setting == "1")
        if setting == "0":
            yield


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "another_variant: of a config whose first variant is tested the same way")
    config.addinivalue_line("markers", "optimised: compile with all optimizations, for tests of numbers, speed and kernels")


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="tests/train/test_golden.py writes its numbers instead of comparing them")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls each timing undisturbed: tests of ratios run beside each other, and other work slows all models of a turn."""
    from assay.diagnostics.cost.disturbance import Timing

    monkeypatch.setattr("assay.diagnostics.cost.speed.judge", lambda alone, turns, cores: Timing({}, {}, None))


@pytest.fixture(scope="session")
def tiny() -> Callable[..., dict[str, Any]]:
    """`tiny("lstm", {"train.steps": "3"})`: the resolved config of experiments/reason/parity.py:lstm,tiny, with keys changed."""
    from assay.config.files import load
    from assay.config.overrides import override
    from assay.config.schema import to_dict

    def make(variant: str, changes: dict[str, str] | None = None) -> dict[str, Any]:
        return to_dict(override(load(f"{EXPERIMENTS}/reason/parity.py:{variant},tiny"), changes or {}))

    return make
