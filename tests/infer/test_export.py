"""Exported parameters: every type comes back bit for bit, the size that is told is that on disk, and what is damaged is refused."""

import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.core.errors import UserError
from assay.core.tree import paths
from assay.infer.export import INDEX, VALUES, as_tree, export, exported_bytes, load_exported

WHOLE = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "int8": 1, "uint8": 1, "int32": 4, "bool": 1}
NARROW = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2, "float4_e2m1fn": 4}  # bits


@jax.tree_util.register_dataclass
@dataclass
class Quantised:
    """A node of the tree that is no dict, as those of qwix are, and whose leaves are not in the order of their names."""

    scale: jax.Array
    qvalue: jax.Array


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random bits of a type, so that all its numbers come up, those that are none included."""
    dtype, random, size = jnp.dtype(name), np.random.default_rng(0), int(np.prod(shape))
    if name == "bool":
        return random.random(shape) < 0.5
    if name in NARROW:
        if name.startswith("float"):
            return random.integers(0, 16, shape, np.uint8).view(dtype)
        low = -(2 ** (NARROW[name] - 1)) if name.startswith("int") else 0
        return random.integers(low, low + 2 ** NARROW[name], shape).astype(dtype)
    return np.frombuffer(random.bytes(size * dtype.itemsize), dtype).reshape(shape)


def bits(array) -> bytes:
    return np.asarray(array).tobytes()


def tree() -> dict:
    scale = jnp.full((1, 5), 0.5, jnp.bfloat16)
    block = {"kernel": Quantised(scale, jnp.asarray(numbers("int4", (3, 5)))), "bias": jnp.arange(5.0)}
    return {"block_0": block, "head": {"mask": jnp.array([True, False, True]), "scale": jnp.float32(3.0), "none": jnp.zeros((0, 4))}}


@pytest.mark.parametrize("name", [*WHOLE, *NARROW])
@pytest.mark.parametrize("shape", [(7, 3), (), (1,), (0, 4), (2, 2, 2)])
def test_every_type_comes_back_bit_for_bit(tmp_path, name, shape):
    array = numbers(name, shape)
    export({"a": {"b": array}}, tmp_path)
    found = load_exported(tmp_path)["a"]["b"]
    assert (found.dtype, found.shape, bits(found)) == (array.dtype, shape, bits(array))
    size = int(np.prod(shape))
    expected = size * WHOLE[name] if name in WHOLE else -(-size * NARROW[name] // 8)
    assert (tmp_path / VALUES).stat().st_size == exported_bytes({"a": {"b": array}}) == expected


def test_what_is_exported_from_a_device_is_the_same_there_again(tmp_path):
    for name in ("int4", "uint4", "int8", "bfloat16", "float8_e4m3fn"):
        array = numbers(name, (5, 3))
        export({"x": jnp.asarray(array)}, tmp_path)
        again = jnp.asarray(load_exported(tmp_path)["x"])
        assert again.dtype == array.dtype and bits(again) == bits(array)


def test_a_tree_with_other_nodes_goes_by_its_paths(tmp_path):
    params = tree()
    export(params, tmp_path / "new" / "folder")
    found = load_exported(tmp_path / "new" / "folder")
    assert set(paths(found)) == set(paths(params)) and "block_0/kernel/qvalue" in paths(found)
    again = as_tree(found, jax.eval_shape(tree))
    assert jax.tree.structure(again) == jax.tree.structure(params) and isinstance(again["block_0"]["kernel"], Quantised)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True):
        assert one.dtype == other.dtype and bits(one) == bits(other)


def test_the_size_is_the_sum_of_whole_bytes_of_each_array(tmp_path):
    export(tree(), tmp_path)
    expected = 8 + 5 * 2 + 5 * 4 + 3 + 4 + 0  # fifteen int4 are eight bytes
    assert exported_bytes(tree()) == exported_bytes(jax.eval_shape(tree)) == (tmp_path / VALUES).stat().st_size == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == [INDEX, VALUES], "nothing else is left"


def test_zeros_are_no_saving():
    assert exported_bytes({"kernel": jnp.zeros((8, 8))}) == exported_bytes({"kernel": jnp.ones((8, 8))}) == 256


def test_an_export_replaces_another(tmp_path):
    export({"a": jnp.ones(100)}, tmp_path)
    export({"b": jnp.zeros(3)}, tmp_path)
    assert paths(load_exported(tmp_path)) == ["b"]


def test_another_model_is_refused(tmp_path):
    export(tree(), tmp_path)
    like = jax.eval_shape(tree)
    like["block_0"]["bias"] = jax.ShapeDtypeStruct((6,), jnp.float32)
    with pytest.raises(UserError, match=r"block_0/bias is float32\[6\] here and float32\[5\] there.*--config.model"):
        as_tree(load_exported(tmp_path), like)


def test_what_is_missing_or_damaged_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no exported parameters"):
        load_exported(tmp_path)
    export(tree(), tmp_path)
    index, values = (tmp_path / INDEX).read_text(), (tmp_path / VALUES).read_bytes()
    (tmp_path / VALUES).write_bytes(values[:-1])
    with pytest.raises(UserError, match="44 bytes where the index says 45"):
        load_exported(tmp_path)
    (tmp_path / VALUES).write_bytes(values)
    for name, broken in {
        "cannot be read": "{",
        "unknown schema": json.dumps({**json.loads(index), "schema": 2}),
        "not a numeric type": index.replace('"float32"', '"object"'),
        "damaged": index.replace('"bytes": 20,', '"bytes": 21,').replace('"bytes": 20\n', '"bytes": 21\n'),
        "the supported one is 1": "[]",
    }.items():
        (tmp_path / INDEX).write_text(broken)
        with pytest.raises(UserError, match=name):
            load_exported(tmp_path)
    (tmp_path / INDEX).write_text(index)
    assert load_exported(tmp_path)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the parameters"):
        export(tree(), tmp_path / "file")


def test_what_is_no_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not an array of numbers"):
        export({"key": jax.random.key(0)}, tmp_path)
    with pytest.raises(ValueError, match="two parameters have the path"):
        export({"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, tmp_path)
    with pytest.raises(ValueError, match="'a/b' would lie inside 'a', which is a parameter itself"):  # it would save, and not load
        export({"a": jnp.ones(1), "a/b": jnp.ones(1)}, tmp_path)
