"""Cost of a step on hardware that need not be present: memory by kind, operations, traffic, and the minimum time they take.

For TPUs, XLA compiles the actual training step (or decoding step) for the named topology and reports the memory it needs. Its counts of
bytes and traffic include a loop once. They are therefore taken from programs with one and two groups of blocks without a loop, and
extrapolated linearly to the requested depth. For other chips the same values are counted from shapes.
"""

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from assay.core.errors import UserError
from assay.core.tree import PyTree, count, floats_as, size_in_bytes
from assay.diagnostics.cost.chips import Topology
from assay.diagnostics.cost.collectives import Traffic, collectives, seconds
from assay.diagnostics.cost.flops import flops
from assay.dist.mesh import AXES, BATCH, abstract_mesh, batch_sharding, check_divides, everywhere, sizes
from assay.dist.shard import on_mesh, place
from assay.models.precision import DTYPES
from assay.nn.scan import REMATS
from assay.train.experiment import Experiment, assemble
from assay.train.step import make_step

PHASES = ("train", "decode")
TOKENS_A_PARAMETER = 20  # default training budget (Hoffmann et al. 2022, arXiv 2203.15556)
_FULL = ("RESOURCE_EXHAUSTED", "Ran out of memory", "Exceeded")


class Cost(NamedTuple):
    """Cost of one step on one device."""

    moved: float  # bytes between memory and the chip
    traffic: Mapping[str, Traffic]  # between chips


class Start(NamedTuple):
    """Initial state and batch in shapes, traced once per plan, because tracing the many blocks of a large model takes seconds."""

    state: Any
    batch: Mapping[str, np.ndarray]


class Program(NamedTuple):
    """Function that runs once per step, with the shardings of its arrays."""

    function: Callable[..., Any]
    arguments: tuple[PyTree, ...]
    results: PyTree  # shardings, or None if the compiler chooses
    kinds: Mapping[str, PyTree]  # arguments by kind, for the memory table


def plan(
    config: Mapping[str, Any],
    topology: Topology,
    phase: str = "train",
    budget: float = 0.0,
    on_stage: Callable[[str], None] = lambda text: None,
    compile: bool = True,
) -> dict[str, Any]:
    """Returns the values of one step as plain JSON data.

    Args:
        budget: tokens of the whole training; 0 means 20 per parameter.
        compile: False counts from shapes even if a compiler is available.

    Raises UserError if the mesh or the batch does not fit the topology, or if TPUs are requested without libtpu.
    """
    made, chip = assemble(config, ()), topology.peak
    axes = sizes(made.settings.mesh, topology.chips)
    mesh = _mesh(topology, axes) if compile else None
    abstract = abstract_mesh(made.settings.mesh, topology.chips)
    check_divides(made.settings.train.batch_size, abstract, "train.batch_size")
    start = _start(made)
    program = PROGRAMS[phase](made, mesh if mesh is not None else abstract, start)
    memory: dict[str, float] = {kind: _on_one(tree) for kind, tree in program.kinds.items()}
    executed = flops(program.function, *program.arguments)
    useful = 3 * flops(_forward(made), start.state.params, start.batch) if phase == "train" else executed
    told = ""
    if mesh is not None:
        on_stage(f"compiling the step for {topology.name}")
        memory["temporaries"], told = _temporaries(program, mesh, chip.memory - sum(memory.values()))
        on_stage("compiling one and two groups of blocks, for traffic")
        cost = _extended(config, mesh, phase)
    else:
        memory["temporaries"] = _kept(made, phase, start) / topology.chips + (
            _on_one(program.kinds["parameters"]) if phase == "train" else 0.0
        )
        cost = _counted(made, phase, axes, memory, start)
    busy = {
        "compute": executed / topology.chips / chip.flops,
        "memory": cost.moved / chip.bandwidth,
        "links": seconds(cost.traffic, chip.links) if topology.chips > 1 else 0.0,
    }
    step, tokens = max(busy.values()), _tokens(made, phase, start.batch)
    parameters = count(start.state.params)
    budget = budget or float(TOKENS_A_PARAMETER * parameters)
    days = budget / tokens * step / 86_400
    return {
        "schema": 1,
        "topology": topology.name,
        "chips": topology.chips,
        "mesh": dict(zip(AXES, axes, strict=True)),
        "remat": config["model"].get("remat", "none"),
        "phase": phase,
        "how": "compiled" if mesh is not None else "counted from shapes",
        "fits": sum(memory.values()) <= chip.memory and not told,
        "told": told,
        "parameters": parameters,
        "memory_bytes": memory,
        "memory_of_a_chip_bytes": chip.memory,
        "model_flops": useful,
        "executed_flops": executed,
        "moved_bytes": cost.moved,
        "intensity": executed / topology.chips / max(cost.moved, 1.0),
        "collectives": {kind: {"calls": one.calls, "bytes": one.bytes} for kind, one in cost.traffic.items()},
        "busy_seconds": busy,
        "step_seconds": step,
        "tokens_a_step": tokens,
        "tokens_per_second": tokens / step,
        "utilisation": useful / topology.chips / chip.flops / step,
        "budget_tokens": budget if phase == "train" else None,
        "days": days if phase == "train" else None,
        "chip_hours": days * 24 * topology.chips if phase == "train" else None,
    }


def search(
    config: Mapping[str, Any], topology: Topology, phase: str, on_stage: Callable[[str], None] = lambda text: None
) -> list[dict[str, Any]]:
    """Plans every mesh and rematerialization policy that the config allows, counted from shapes.

    Plans that fit come first, sorted by minimum time, then by memory. Raises UserError if no mesh divides the batch.
    """
    again = tuple(REMATS) if phase == "train" and "remat" in config["model"] else (None,)
    heads = config["model"].get("kv_heads", 1)
    found = []
    for tensor in (size for size in range(1, topology.chips + 1) if topology.chips % size == 0 and heads % size == 0):
        for data in (size for size in range(1, topology.chips // tensor + 1) if topology.chips // tensor % size == 0):
            for remat in again:
                mesh = {"data": data, "fsdp": topology.chips // tensor // data, "tensor": tensor}
                model = config["model"] if remat is None else {**config["model"], "remat": remat}
                try:
                    found.append(plan({**config, "mesh": mesh, "model": model}, topology, phase, compile=False))
                except UserError:  # the batch is not divisible
                    continue
            on_stage(f"{len(found)} plans")
    if not found:
        size = config["train"]["batch_size"]
        raise UserError(
            f"config.train.batch_size={size} is not divisible over any mesh of {topology.name}. Change it with --config.train.batch_size."
        )
    return sorted(found, key=lambda one: (not one["fits"], one["step_seconds"], sum(one["memory_bytes"].values())))


def memory_on_each(made: Experiment, mesh: Mesh) -> dict[str, float]:
    """Returns the bytes on one device of a physical mesh, as its compiler reports them.

    The values are the arguments of a step (parameters, optimizer state, batch), the state's part of them by its shapes, and temporaries.
    """
    program = _trained(made, mesh, _start(made))
    found = _compiled(program, mesh).memory_analysis()
    state = sum(_on_one(program.kinds[kind]) for kind in ("parameters", "optimiser"))
    return {
        "arguments_bytes": float(found.argument_size_in_bytes),
        "state_bytes": state,
        "temporaries_bytes": float(found.temp_size_in_bytes),
    }


def text_of(compiled: Any) -> str:
    """Returns the text of the compiled program. Raises UserError if it was written by a libtpu that does not match jaxlib."""
    try:
        return compiled.as_text()
    except jax.errors.JaxRuntimeError as error:
        told = str(error).splitlines()[0][:200]
        raise UserError(
            f"the program compiled by libtpu cannot be read ({told}). jax {jax.__version__} needs the libtpu of its own version: "
            "install it with pip install 'assay[tpu]'."
        ) from None


# -- private --------------------------------------------------------------------------------------------------------------


def _mesh(topology: Topology, axes: tuple[int, int, int]) -> Mesh | None:
    """Returns a mesh of TPUs that need not be present; None for other chips."""
    if not topology.peak.tpu:
        return None
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # otherwise libtpu queries the cloud metadata server
    cores = {"chip_config_name": "megacore"} if topology.chip == "v4" else {}  # the two cores of a chip form one device
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology.name, **cores)
    except (RuntimeError, jax.errors.JaxRuntimeError) as error:
        told = str(error).splitlines()[0]
        if "not installed" in told:
            raise UserError("a plan for TPUs needs libtpu, which is not installed: pip install 'assay[tpu]'. No TPU is needed.") from None
        raise UserError(f"--topology={topology.name} is not a valid topology of {topology.chip} ({told}).") from None
    return topologies.make_mesh(described, axes, AXES)


def _start(made: Experiment) -> Start:
    batch = made.first_batch()
    return Start(jax.eval_shape(made.init_state, made.key, made.given(), batch), batch)


def _trained(made: Experiment, mesh: Any, start: Start) -> Program:
    state, batch = place(start.state, mesh), _placed(start.batch, batch_sharding(mesh))
    step = make_step(made.model, made.objective, made.treatment.gradient, made.optimizer)
    placed = jax.tree.map(lambda leaf: leaf.sharding, state)
    kinds = {"parameters": (state.params, state.frozen), "optimiser": state.opt_state, "batch": batch}
    return Program(step, (state, batch), (placed, everywhere(mesh)), kinds)


def _decoded(made: Experiment, mesh: Any, start: Start) -> Program:
    """Decodes one more token for each row of a batch, with a cache as long as the window."""
    if made.model.decode is None:
        raise UserError(f"the model {made.settings.model['name']!r} cannot decode step by step. Choose --phase=train.")
    kept = DTYPES[made.settings.precision.compute]
    params = place(jax.eval_shape(lambda tree: floats_as(kept, tree), start.state.params["model"]), mesh)
    batch = _placed(made.seen_at_once(), batch_sharding(mesh))
    rows, window = batch["inputs"].shape
    init_cache, extend = made.model.decode.init_cache, made.model.decode.extend
    cache = jax.tree.map(
        lambda leaf: _with(leaf, _cache_sharding(leaf, mesh)),
        jax.eval_shape(on_mesh(lambda p, b: init_cache(p, b, window), mesh), params, batch),
    )
    token = jax.ShapeDtypeStruct((rows, 1), jnp.int32, sharding=batch_sharding(mesh))
    placed = jax.tree.map(lambda leaf: leaf.sharding, cache)
    return Program(extend, (params, cache, token), (batch_sharding(mesh), placed), {"parameters": params, "cache": cache, "batch": token})


PROGRAMS: Mapping[str, Callable[[Experiment, Any, Start], Program]] = {"train": _trained, "decode": _decoded}


def _placed(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding) for name, array in batch.items()}


def _with(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _cache_sharding(leaf: Any, mesh: Any) -> NamedSharding:
    """Returns the sharding of keys and values [batch, kv_heads, head_dim, length]: examples like a batch, heads over `tensor`."""
    if len(leaf.shape) != 4:
        return NamedSharding(mesh, PartitionSpec())
    heads = "tensor" if leaf.shape[1] % mesh.shape["tensor"] == 0 else None
    return NamedSharding(mesh, PartitionSpec(*BATCH, heads))


def _on_one(tree: PyTree) -> float:
    """Returns the bytes of a tree on one device."""
    return float(sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * jax.dtypes.itemsize_bits(leaf.dtype) / 8 for leaf in _sized(tree)))


def _sized(tree: PyTree) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(tree) if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)]


def _compiled(program: Program, mesh: Mesh) -> Any:
    jitted = jax.jit(on_mesh(program.function, mesh), donate_argnums=0 if len(program.arguments) == 2 else 1, out_shardings=program.results)
    return jitted.lower(*program.arguments).compile()


def _temporaries(program: Program, mesh: Mesh, left: float) -> tuple[float, str]:
    """Returns the bytes besides the arguments, and the compiler's message if memory does not suffice."""
    try:
        found = _compiled(program, mesh).memory_analysis()
        own = found.output_size_in_bytes - found.alias_size_in_bytes
        return float(found.temp_size_in_bytes + own + found.generated_code_size_in_bytes), ""
    except jax.errors.JaxRuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if any(sign in line for sign in _FULL)]
        if not lines:
            raise
        return max(left, 0.0), lines[0][:300]


def _extended(config: Mapping[str, Any], mesh: Mesh, phase: str) -> Cost:
    """Returns the cost at the configured depth, extrapolated from one and two groups of blocks."""
    model = config["model"]
    depth, group = model.get("depth", 0), len(model.get("mixers", (None,)))
    if depth < 2 * group or depth % group:
        return _cost(config, mesh, phase)
    unrolled = {"scan": False} if "scan" in model else {}
    one, two = (_cost({**config, "model": {**model, **unrolled, "depth": group * times}}, mesh, phase) for times in (1, 2))
    more = depth // group - 1
    nothing = Traffic(0, 0.0)
    traffic = {}
    for kind in {**one.traffic, **two.traffic}:
        first, second = one.traffic.get(kind, nothing), two.traffic.get(kind, nothing)
        calls, moved = (max(a + more * (b - a), 0) for a, b in zip(first, second, strict=True))
        traffic[kind] = Traffic(int(calls), moved)
    return Cost(one.moved + more * (two.moved - one.moved), traffic)


def _cost(config: Mapping[str, Any], mesh: Mesh, phase: str) -> Cost:
    made = assemble(config, ())
    compiled = _compiled(PROGRAMS[phase](made, mesh, _start(made)), mesh)
    return Cost(float(compiled.cost_analysis()["bytes accessed"]), collectives(text_of(compiled)))


def _forward(made: Experiment) -> Callable[..., Any]:
    """Returns the loss for counting operations; a backward pass has twice as many."""
    return lambda params, batch: made.objective.loss(made.model, params, batch, made.key, jnp.int32(0))[0]


def _kept(made: Experiment, phase: str, start: Start) -> float:
    """Returns the bytes that a forward pass keeps for its backward pass, over all devices, without parameters."""
    if phase != "train":
        return 0.0
    params, batch = start.state.params, start.batch
    residuals = jax.eval_shape(lambda params, batch: jax.vjp(lambda p: _forward(made)(p, batch), params)[1], params, batch)
    of_parameters = {(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(params)}
    return float(sum(size_in_bytes(leaf) for leaf in _sized(residuals) if (leaf.shape, leaf.dtype) not in of_parameters))


def _counted(made: Experiment, phase: str, axes: tuple[int, int, int], memory: Mapping[str, float], start: Start) -> Cost:
    """Counts traffic from shapes.

    Parameters are gathered over `fsdp` for each pass, and their gradients are summed. With `tensor`, activations are summed twice per
    block and pass. Saved activations and the optimizer state are written and read once.
    """
    data, fsdp, tensor = axes
    compute = jnp.dtype(DTYPES[made.settings.precision.compute]).itemsize
    params, batch = start.state.params, start.batch
    whole = count(params) * compute / tensor  # parameters in the precision and share that a device computes with
    passes = 1 if phase == "decode" else 2 + (made.settings.model.get("remat", "none") == "full")
    rows = math.prod(batch["inputs"].shape[:2]) if phase == "train" else len(batch["inputs"])
    activations = rows // (data * fsdp) * made.settings.model.get("width", 0) * compute
    sums = 2 * passes * made.settings.model.get("depth", 1) if tensor > 1 else 0
    traffic = {"all-gather": Traffic(passes, passes * whole)} if fsdp > 1 else {}
    if phase == "train" and fsdp > 1:
        traffic["reduce-scatter"] = Traffic(1, whole)
    reduced = (whole / fsdp if data > 1 and phase == "train" else 0.0) + sums * activations
    if reduced:
        traffic["all-reduce"] = Traffic(sums + (data > 1), reduced)
    state = memory["parameters"] + memory.get("optimiser", 0.0)
    moved = passes * whole + memory.get("cache", 0.0) + (2 * state + 2 * memory["temporaries"] if phase == "train" else 0.0)
    return Cost(moved, traffic)


def _tokens(made: Experiment, phase: str, batch: Mapping[str, np.ndarray]) -> int:
    inputs = batch["inputs"]
    return len(inputs) if phase == "decode" or not made.task.vocabulary.inputs else math.prod(inputs.shape)
