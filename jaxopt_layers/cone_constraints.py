"""Cone constraints, and what is known of parameters, for the problems of `convex_layer`.

At numbers a constraint says whether it holds, and a declared parameter is the parameter itself.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxopt_layers.dpp.marker import as_float as _float
from jaxopt_layers.dpp.marker import atom as _atom
from jaxopt_layers.dpp.marker import matrix as _matrix
from jaxopt_layers.dpp.marker import number as _number


@_atom
def _nonneg(p: Array) -> Array:
    return p


@_atom
def _nonpos(p: Array) -> Array:
    return p


@_atom
def _psd(p: Array) -> Array:
    return p


def nonneg(p: ArrayLike) -> Array:
    """The parameter p, declared to be >= 0, so that it may multiply a convex expression.

    A value that isn't gives the status INVALID_INPUT.

    ```python
    import jaxopt_layers as jl

    layer = jl.convex_layer(lambda x, p: jl.minimize(jl.nonneg(p) * abs(x - 1)), x=())
    layer(p=2.0).variables["x"]  # 1
    ```
    """
    return _nonneg(_float(p))


def nonpos(p: ArrayLike) -> Array:
    """The parameter p, declared to be <= 0; see [`nonneg`][].

    ```python
    import jaxopt_layers as jl

    jl.nonpos(-2.0)  # -2, known to be <= 0
    ```
    """
    return _nonpos(_float(p))


def psd(p: ArrayLike) -> Array:
    """The parameter p (n, n), declared symmetric positive semidefinite; see [`nonneg`][].

    **Raises:** ValueError if it isn't a square matrix.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.psd(jnp.eye(2))  # the same, known to be semidefinite
    ```
    """
    return _psd(_matrix("psd", "p", p))


@_atom
def _second_order(t: Array, x: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=-1)) <= t


@_atom
def _positive_semidefinite(X: Array) -> Array:
    return jnp.linalg.eigvalsh(X)[..., 0] >= 0


@_atom
def _exponential_cone(x: Array, y: Array, z: Array) -> Array:
    inside = y > 0
    curved = jnp.where(inside, y, 1) * jnp.exp(x / jnp.where(inside, y, 1)) <= z
    return jnp.where(inside, curved, (y == 0) & (x <= 0) & (z >= 0))


@_atom
def _power_cone(x: Array, y: Array, z: Array, a: Array) -> Array:
    return (
        (x >= 0) & (y >= 0) & (jnp.abs(z) <= jnp.maximum(x, 0) ** a * jnp.maximum(y, 0) ** (1 - a))
    )


def second_order(t: ArrayLike, x: ArrayLike) -> Array:
    """The constraint ``|x| <= t``: t a scalar and x of any shape, or t (k,) and x (k, d), row by row.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.second_order(5.0, jnp.array([3.0, 4.0]))  # True
    ```
    """
    t, x = _float(t), _float(x)
    x = x.reshape(-1) if t.ndim == 0 else x
    if x.shape[:-1] != t.shape:
        raise ValueError(
            f"second_order: `x` must have shape {(*t.shape, 'd')}, as t has; got {x.shape}."
        )
    return _second_order(t, x)


def positive_semidefinite(X: ArrayLike) -> Array:
    """The constraint that the symmetric part of X (n, n), or of each of X (k, n, n), is semidefinite.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.positive_semidefinite(jnp.eye(2))  # True
    ```
    """
    X = _float(X)
    if X.ndim < 2 or X.shape[-1] != X.shape[-2]:
        raise ValueError(f"positive_semidefinite: `X` must be square; got shape {X.shape}.")
    return _positive_semidefinite(X)


def exponential(x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Array:
    """The constraint ``y exp(x / y) <= z, y > 0`` (closed), elementwise.

    ```python
    import jaxopt_layers as jl

    jl.exponential(0.0, 1.0, 2.0)  # True
    ```
    """
    shape = np.broadcast_shapes(np.shape(x), np.shape(y), np.shape(z))
    return _exponential_cone(*(jnp.broadcast_to(_float(v), shape) for v in (x, y, z)))


def power(x: ArrayLike, y: ArrayLike, z: ArrayLike, a: float) -> Array:
    """The constraint ``x^a y^(1-a) >= |z|, x, y >= 0``, elementwise, a in (0, 1) a Python number.

    ```python
    import jaxopt_layers as jl

    jl.power(1.0, 4.0, 2.0, 0.5)  # True
    ```
    """
    a = _number("power", "a", a)
    if not 0 < a < 1:
        raise ValueError(f"power: `a` must lie between 0 and 1; got {a:g}.")
    shape = np.broadcast_shapes(np.shape(x), np.shape(y), np.shape(z))
    return _power_cone(*(jnp.broadcast_to(_float(v), shape) for v in (x, y, z)), a)
