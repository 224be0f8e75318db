"""Matrix products that are fast in bfloat16 on a CPU.

A product that returns float32 runs at 600 to 1,600 GFLOP/s there, and one that returns bfloat16 at 200 (measured on two cores with AMX),
because XLA widens the arrays of the second first. On a CPU all products therefore return float32, in both passes.

XLA has fast products of a and b, and of a and the transpose of b. It also widens the product with the transpose of a, which computes the
gradient of each matrix. `_turned` transposes beforehand, where XLA cannot see it. Elsewhere, and in float32, the products are XLA's own.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Shaped

from assay.dist.shard import on_one_cpu

Form = Literal["ab", "abt", "atb"]  # a b, a b^T, a^T b over the last two axes; the leading axes of a and b are equal

_EINSUM: dict[Form, str] = {"ab": "...nk,...km->...nm", "abt": "...nk,...mk->...nm", "atb": "...kn,...km->...nm"}


def product(form: Form, a: Shaped[Array, "*batch n k"], b: Shaped[Array, "*batch k2 m"]) -> Shaped[Array, "*batch n2 m2"]:
    """Returns a b, a b^T or a^T b in the arrays' dtype; for bfloat16 on one CPU, in float32 and without a forward-mode derivative."""
    return _wide(form, a, b) if a.dtype == b.dtype == jnp.bfloat16 and on_one_cpu() else jnp.einsum(_EINSUM[form], a, b)


@runtime_checkable
class Kernel(Protocol):
    """A pytree of arrays that replaces the kernel of a `Dense` layer and defines its own product."""

    def product(self, x: Shaped[Array, "rows width"]) -> Shaped[Array, "rows features"]: ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Factors:
    """A low-rank kernel, first @ second: x is multiplied by one factor after the other."""

    first: Shaped[Array, "width rank"]
    second: Shaped[Array, "rank features"]

    def product(self, x: Shaped[Array, "rows width"]) -> Shaped[Array, "rows features"]:
        between = product("ab", x, self.first.astype(x.dtype)).astype(x.dtype)
        return product("ab", between, self.second.astype(x.dtype))


class Dense(nn.Module):
    """x W + b over (rows, features), with the parameters of `nn.Dense`. Uses `product`, or the product of a `Kernel` in place of W."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Shaped[Array | np.ndarray, "rows width"]) -> Shaped[Array, "rows features"]:
        x = jnp.asarray(x, self.dtype)
        found: Any = self.get_variable("params", "kernel")
        if isinstance(found, Kernel):
            out = found.product(x)
        else:
            out = product("ab", x, self.param("kernel", self.kernel_init, (x.shape[1], self.features)).astype(self.dtype))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        return (out if bias is None else out + bias.astype(out.dtype)[None, :]).astype(self.dtype)


# -- private --------------------------------------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _wide(form: Form, a: jax.Array, b: jax.Array) -> Float32[Array, "..."]:
    """Returns the product of two narrower arrays in float32."""
    a = _turned(a) if form == "atb" else a
    in_front = tuple(range(a.ndim - 2))
    summed = ((a.ndim - 1,), (b.ndim - (1 if form == "abt" else 2),))
    found = jax.lax.dot_general(a, b, (summed, (in_front, in_front)), preferred_element_type=jnp.float32)
    return jax.lax.optimization_barrier(
        found
    )  # prevents XLA from moving a transpose of the result into the product, which has no fast kernel


def _turned(a: jax.Array) -> jax.Array:
    """Returns a^T, in the memory order that a product reads."""
    flat = jnp.swapaxes(a, -1, -2).reshape(*a.shape[:-2], -1)
    return jax.lax.optimization_barrier(flat).reshape(*a.shape[:-2], a.shape[-1], a.shape[-2])


def _forward(form: Form, a: jax.Array, b: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _wide(form, a, b), (a, b)


def _backward(form: Form, kept: tuple[jax.Array, jax.Array], grads: jax.Array) -> tuple[jax.Array, jax.Array]:
    a, b = kept
    grads = grads.astype(a.dtype)
    of_a, of_b = {
        "ab": lambda: (_wide("abt", grads, b), _wide("atb", a, grads)),
        "abt": lambda: (_wide("ab", grads, b), _wide("atb", grads, a)),
        "atb": lambda: (_wide("abt", b, grads), _wide("ab", a, grads)),
    }[form]()
    return of_a.astype(a.dtype), of_b.astype(b.dtype)


_wide.defvjp(_forward, _backward)
