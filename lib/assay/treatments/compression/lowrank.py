"""Low-rank factorization: replaces a matrix with its best rank-r approximation, by singular values (Eckart and Young 1936).

    W [n, m] = U S V'  ~  A B,   A = U_r sqrt(S_r) [n, r],  B = sqrt(S_r) V_r' [r, m];   |W - A B|^2 = the sum of the other S^2

    --config.treatments=inherit:from=runs/trained,lowrank:rank=16,paths=kernel$

Dense layers multiply by A, then by B: r (n + m) multiplications instead of n m. Recurrent matrices and convolutions (input axes flattened
into rows of W) are reconstructed before use. They become smaller but not faster. Further training updates A and B.
"""

import math
from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from assay.core.errors import UserError
from assay.core.tree import PyTree, widened
from assay.models.model import Model
from assay.nn.product import Factors
from assay.train.treatment import Treatment
from assay.treatments.compression.record import FACTOR, chosen, inapplicable, multiplies, parameters, reading, record, rewritten, shape_of
from assay.treatments.option import KEY, check

PATHS = r"/(kernel|recurrent)$"


def lowrank(rank: int = 8, paths: str = PATHS) -> Treatment:
    """Returns the low-rank treatment. Matrices that the factorization would not make smaller are unchanged.

    Args:
        rank: rank of the approximation; at least 1.
        paths: regex of the factorized parameter paths.
    """
    check(rank >= 1, "lowrank", "rank", rank, "it must be at least 1")
    return Treatment(model=partial(factorised, rank=rank, paths=paths), name="lowrank")


def factorised(model: Model, params: PyTree, rank: int, paths: str = PATHS, always: bool = False) -> tuple[Model, PyTree]:
    """Returns the factorized model and its parameters.

    Raises UserError if there is no matrix to factorize, if one is no longer a plain matrix, or if none would become smaller.

    Args:
        model: the model.
        params: its parameters.
        rank: rank of the approximation.
        paths: regex of the factorized parameter paths.
        always: factorizes every matching matrix, at its maximum rank if that is lower.
    """
    if model.fit is not None:
        raise inapplicable("lowrank", model, "has no matrices to factorize: the model is fitted by counting")
    at, shapes = frozenset(chosen("lowrank", params, paths)), {path: shape_of(node) for path, node in parameters(params)}
    for path, node in parameters(params):
        if path in at and record(node):
            raise UserError(f"{path} is no longer a plain matrix. List 'lowrank' only once, before lora and quantize. {KEY}")
    at = at if always else frozenset(path for path in at if _smaller(shapes[path], rank))
    if not at:
        raise UserError(f"the treatment 'lowrank' has rank={rank}, which makes no chosen matrix smaller. Lower it, or change paths. {KEY}")

    dense = frozenset(path for path, node in parameters(params) if path in at and multiplies(model, path, node))

    def change(path: str, node: Any) -> Any:
        if path not in at:
            return node
        first, second = factors(node.reshape(-1, node.shape[-1]), rank)
        return {FACTOR: first, "factor_b": second}

    def read(path: str, node: Any) -> Any:
        if path not in at or not record(node, (FACTOR,)):
            return node
        if path in dense:
            return Factors(node[FACTOR], node["factor_b"])
        return (widened(node[FACTOR]) @ widened(node["factor_b"])).reshape(shapes[path])

    return reading(model, lambda params: rewritten(params, read, (FACTOR,)), "lowrank"), rewritten(params, change)


def factors(matrix: Float[Array, "rows columns"], rank: int) -> tuple[Float[Array, "rows rank"], Float[Array, "rank columns"]]:
    """Returns the two factors whose product is closest to the matrix, at its maximum rank if that is lower."""
    left, values, right = jnp.linalg.svd(widened(matrix), full_matrices=False)
    rank = min(rank, len(values))
    root = jnp.sqrt(values[:rank])
    return (left[:, :rank] * root[None, :]).astype(matrix.dtype), (root[:, None] * right[:rank]).astype(matrix.dtype)


# -- private --------------------------------------------------------------------------------------------------------------


def _smaller(shape: tuple[int, ...], rank: int) -> bool:
    rows, columns = math.prod(shape[:-1]), shape[-1]
    return rank * (rows + columns) < rows * columns
