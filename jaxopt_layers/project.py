"""`project`, `project_dual`: the nearest point of a product of cones."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxopt_layers.checks import as_array, check_shape, common_dtype
from jaxopt_layers.cones import Cones


def project(cones: Cones, v: ArrayLike) -> Array:
    """The Euclidean projection on a product of cones, differentiable to any order.

        minimize  |s - v|   subject to  s in K

    **Arguments:**

    - `cones`: see [`Cones`][].
    - `v`: (m,), in the rows' order of `cones`. A batch is a `jax.vmap`.

    **Returns:** (m,), of the dtype of v. At a kink the derivative is one element of the generalized
    Jacobian, and always finite.

    **Raises:** ValueError or TypeError, naming the argument.

    ```python
    import jax, jax.numpy as jnp, jaxopt_layers as jl

    cones = jl.Cones(nonnegative=1, second_order=(3,))
    jl.project(cones, jnp.array([-1.0, 0.0, 3.0, 4.0]))  # [0, 2.5, 1.5, 2]
    jax.jacobian(lambda v: jl.project(cones, v))(jnp.array([-1.0, 0.0, 3.0, 4.0]))
    ```
    """
    return _project(*_checked("project", cones, v), False)


def project_dual(cones: Cones, v: ArrayLike) -> Array:
    """The same for the dual cone K*: by Moreau's decomposition, v plus the projection of -v on K.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.project_dual(jl.Cones(zero=1, nonnegative=1), jnp.array([-2.0, -2.0]))  # [-2, 0]
    ```
    """
    return _project(*_checked("project_dual", cones, v), True)


def _checked(owner: str, cones: Any, v: Any) -> tuple[Cones, Array]:
    if not isinstance(cones, Cones):
        raise TypeError(f"{owner}: `cones` must be a Cones; got {type(cones).__name__}.")
    array = as_array(owner, "v", v)
    check_shape(owner, "v", array, (cones.size,), "(m,) as `cones` has rows")
    return cones, array.astype(common_dtype([array]))


@partial(jax.jit, static_argnums=(0, 2))
def _project(cones: Cones, v: Array, dual: bool) -> Array:
    order = cones.order
    sorted_v = v if order is None else v[order]
    nearest = _with_derivative(cones, -sorted_v if dual else sorted_v)
    if order is not None:
        nearest = nearest[np.argsort(order)]
    return v + nearest if dual else nearest


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_derivative(cones: Cones, v: Array) -> Array:
    return cones.product.project(v)


@_with_derivative.defjvp
def _with_derivative_jvp(
    cones: Cones, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (v,), (dv,) = primals, tangents
    return _with_derivative(cones, v), jnp.asarray(cones.product.project_product(v, dv))
