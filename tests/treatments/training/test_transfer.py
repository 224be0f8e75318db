"""Transfer between runs: what is loaded, what is not, and what the report says of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.core.errors import UserError
from assay.core.tree import paths
from assay.treatments.training.transfer import match, parse_rules, transfer


def tree(value: float, **shapes):
    return {"model": {name: {"kernel": jnp.full(shape, value)} for name, shape in shapes.items()}}


def test_every_parameter_is_accounted_for():
    target, source = (
        tree(0.0, embed=(4, 3), block=(3, 3), head=(3, 2), fresh=(2,)),
        tree(1.0, embed=(4, 3), trunk=(3, 3), head=(3, 9), old=(1,)),
    )
    params, report = transfer(target, source, [(r"/trunk/", "/block/")])
    assert report.loaded == (("model/block/kernel", "model/trunk/kernel"), ("model/embed/kernel", "model/embed/kernel"))
    assert report.initial == ("model/fresh/kernel",) and report.unused == ("model/old/kernel",)
    assert [(bad.target, bad.expected, bad.found) for bad in report.refused] == [("model/head/kernel", "float32[3,2]", "float32[3,9]")]
    assert report.numbers == 21
    values = {path: float(leaf.ravel()[0]) for path, leaf in zip(paths(params), jax.tree.leaves(params), strict=True)}
    assert values == {"model/block/kernel": 1, "model/embed/kernel": 1, "model/fresh/kernel": 0, "model/head/kernel": 0}
    text = str(report)
    for part in (
        "2 of 4 parameters loaded (21 numbers)",
        "model/block/kernel <- model/trunk/kernel",
        "model/fresh/kernel",
        "model/old/kernel",
    ):
        assert part in text
    assert "model/head/kernel is float32[3,2], model/head/kernel in the source float32[3,9]" in text


def test_coinciding_paths_are_refused_and_names_with_a_slash_are_kept():
    both = {"a": {"b": jnp.zeros(2)}, "a/b": jnp.zeros(2)}
    one = {"a": {"b": jnp.ones(2)}, "c": jnp.ones(2)}
    for target, source in ((both, one), (one, both), (both, both)):
        with pytest.raises(UserError, match="two parameters have the path 'a/b': rename one of them"):
            transfer(target, source)
    params, report = transfer({"mlp/linear": {"w": jnp.zeros(2)}}, {"mlp": {"linear": {"w": jnp.ones(2)}}})
    assert list(params) == ["mlp/linear"] and params["mlp/linear"]["w"].tolist() == [1, 1] and report.numbers == 2


def test_the_first_rule_that_is_found_wins():
    target, source = tree(0.0, a=(2,), b=(2,)), tree(1.0, x=(2,))
    assert transfer(target, source, [("/x/", "/b/"), ("x", "a")])[1].loaded == (("model/b/kernel", "model/x/kernel"),)
    assert transfer(target, source, parse_rules("nothing->b;/x/->/a/"))[1].loaded == (("model/a/kernel", "model/x/kernel"),)
    assert transfer(target, source, parse_rules(r"^(\w+)/x->\1/b"))[1].loaded == (("model/b/kernel", "model/x/kernel"),)


def test_shapes_are_enough_of_the_target_and_dtypes_are_its_own():
    source = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree(1.5, a=(2,)))
    shapes = jax.eval_shape(lambda: tree(0.0, a=(2,), b=(2,)))
    found, report = match(shapes, source)
    assert (
        found["model"]["a"]["kernel"].dtype == jnp.float32 and paths(found) == ["model/a/kernel"] and report.initial == ("model/b/kernel",)
    )
    with pytest.raises(UserError, match=r"int32\[2\]"):
        match(shapes, {"model": {"a": {"kernel": np.zeros(2, np.int32)}}})


def test_what_cannot_be_meant_is_refused():
    target, source = tree(0.0, a=(2,)), tree(1.0, x=(2,), y=(2,))
    with pytest.raises(UserError, match=r"(?s)no parameter of the source matches.*model/a/kernel.*model/x/kernel"):
        transfer(target, source)
    with pytest.raises(UserError, match="model/x/kernel and model/y/kernel of the source both map to model/a/kernel"):
        transfer(target, source, [("/x/", "/a/"), ("/y/", "/a/")])
    for text in ("a", "->b", "a(->b"):
        with pytest.raises(UserError):
            parse_rules(text)
    with pytest.raises(UserError, match="not possible"):
        transfer(target, source, [("/x/", r"/\3/")])
