"""Trees by path: two leaves whose names coincide when they are joined are told apart or refused."""

import jax.numpy as jnp
import pytest

from assay.core.errors import UserError
from assay.core.tree import by_path, differing


def tree(nested: int, joined: int):
    return {"a": {"b": jnp.ones(nested)}, "a/b": jnp.zeros(joined)}


def test_trees_differ_where_one_of_two_leaves_of_one_path_does():
    assert differing(tree(2, 2), tree(2, 2)) == ""
    for other in (tree(3, 2), tree(2, 3)):
        assert differing(tree(2, 2), other).startswith("a/b is float32[2] and float32[2] here and float32[")
    assert differing(tree(2, 3), tree(3, 2)) != ""
    assert differing(tree(2, 2), {"a": {"b": jnp.ones(2)}}) == "a/b is float32[2] and float32[2] here and float32[2] there"
    assert differing({"a/b": jnp.ones(2)}, {"a": {"b": jnp.ones(2)}}) == "", "trees are compared by path, not by node"


def test_leaves_of_one_path_are_refused_by_name():
    assert list(by_path({"a": {"b": 1}, "c": [2, 3]}).items()) == [("a/b", 1), ("c/0", 2), ("c/1", 3)]
    with pytest.raises(UserError, match="two parameters have the path 'a/b': rename one of them"):
        by_path(tree(2, 2))
