"""Operation count of a function from its jaxpr. Only matrix products and convolutions are counted; their count is exact.

A multiply-add is two operations. A loop of known length counts as often as it runs; a conditional counts as its most expensive branch.
XLA's own report counts a loop once.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax

HIDDEN = ("pallas_call", "ffi_call", "pure_callback", "io_callback", "custom_call")
SOLVERS = (  # as costly as products, by algorithms that JAX does not show
    *("fft", "cholesky", "cholesky_update", "lu", "qr", "geqrf", "geqp3", "householder_product", "triangular_solve", "tridiagonal_solve"),
    *("eig", "eigh", "svd", "schur", "hessenberg", "tridiagonal", "symmetric_product"),
)


def flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Counts the operations of one call on arrays or shapes. Raises ValueError where they are not known: for a loop whose length depends on
    data, for kernels and calls whose work JAX does not see, and for Fourier transforms, decompositions and solvers."""
    return by_kind(function, *arguments).total()


def by_kind(function: Callable[..., Any], *arguments: Any) -> Counter[str]:
    """Counts operations by kind: products with a matrix, products of two batches of matrices (attention), convolutions."""
    return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


# -- private --------------------------------------------------------------------------------------------------------------


def _of(jaxpr: Any) -> Counter[str]:
    return sum((_equation(equation) for equation in jaxpr.eqns), Counter())


def _equation(equation: Any) -> Counter[str]:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), (batched, _) = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        count = 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
        return Counter({"products of batches" if batched else "products": count})
    if name == "conv_general_dilated":
        kernel, numbers = equation.invars[1].aval.shape, params["dimension_numbers"]
        inputs = kernel[numbers.rhs_spec[1]]  # channels that one output channel reads
        window = math.prod(kernel[i] for i in numbers.rhs_spec[2:])
        dilation = math.prod(params["lhs_dilation"])  # zeros between inputs (gradient of a strided convolution) cost no operations
        return Counter({"convolutions": 2 * math.prod(equation.outvars[0].aval.shape) * inputs * window // dilation})
    if name.startswith("ragged_dot"):
        return Counter({"products": _ragged(equation)})
    if name in HIDDEN or name in SOLVERS:
        raise ValueError(f"the operations of {name} are not known")
    if name == "scan":
        return Counter({kind: params["length"] * count for kind, count in _of(params["jaxpr"].jaxpr).items()})
    if name == "while":
        if _of(params["body_jaxpr"].jaxpr).total():
            raise ValueError("a loop whose length depends on data contains matrix products, which cannot be counted")
        return Counter()
    if name == "cond":
        return max((_of(branch.jaxpr) for branch in params["branches"]), key=Counter.total)
    return sum((_of(getattr(inner, "jaxpr", inner)) for value in params.values() for inner in _jaxprs(value)), Counter())


def _ragged(equation: Any) -> int:
    """Counts a product with several matrices, of which each row reads one (experts), or whose sum is cut into parts."""
    left, right = (variable.aval.shape for variable in equation.invars[:2])
    numbers = equation.params["ragged_dot_dimension_numbers"]
    (_, contracted), (_, batched) = numbers.dot_dimension_numbers
    shared = {*contracted, *batched, *numbers.rhs_group_dimensions}
    return 2 * math.prod(left) * math.prod(size for i, size in enumerate(right) if i not in shared)


def _jaxprs(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [inner for one in value for inner in _jaxprs(one)]
    return [value] if hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns") else []
