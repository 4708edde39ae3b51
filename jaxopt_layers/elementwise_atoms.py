"""Elementwise atoms; see `jaxopt_layers.atoms`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxopt_layers.dpp.marker import as_float as _float
from jaxopt_layers.dpp.marker import atom as _atom


@_atom
def _huber(x: Array, M: Array) -> Array:
    size = jnp.abs(x)
    return jnp.where(size <= M, jnp.square(x), M * (2 * size - M))


@_atom
def _entropy(x: Array) -> Array:
    positive = x > 0
    value = -x * jnp.log(jnp.where(positive, x, 1))
    return jnp.where(positive, value, jnp.where(x < 0, -jnp.inf, 0))


@_atom
def _relative_entropy(x: Array, y: Array) -> Array:
    return _rel_entr(x, y)


def _rel_entr(x: Array, y: Array) -> Array:
    inside = (x > 0) & (y > 0)
    value = x * jnp.log(jnp.where(inside, x, 1) / jnp.where(inside, y, 1))
    return jnp.where(inside, value, jnp.where((x == 0) & (y >= 0), 0, jnp.inf))


@_atom
def _kl_div(x: Array, y: Array) -> Array:
    return _rel_entr(x, y) - x + y


@_atom
def _logistic(x: Array) -> Array:
    return jax.nn.softplus(x)


@_atom
def _inv_pos(x: Array) -> Array:
    positive = x > 0
    return jnp.where(positive, 1 / jnp.where(positive, x, 1), jnp.inf)


def _pair(x: ArrayLike, y: ArrayLike) -> list[Array]:
    x, y = _float(x), _float(y)
    dtype = jnp.promote_types(x.dtype, y.dtype)
    shape = np.broadcast_shapes(x.shape, y.shape)
    return [jnp.broadcast_to(v.astype(dtype), shape) for v in (x, y)]


def huber(x: ArrayLike, M: ArrayLike = 1.0) -> Array:
    """Elementwise ``x^2`` where ``|x| <= M``, else ``2 M |x| - M^2``; M > 0 may be a parameter.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.huber(jnp.array([0.5, 3.0]))  # [0.25, 5]
    ```
    """
    return _huber(_float(x), _float(M))


def entropy(x: ArrayLike) -> Array:
    """Elementwise ``-x log x`` (concave).

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.entropy(jnp.array([0.0, 1.0]))  # [0, 0]
    ```
    """
    return _entropy(_float(x))


def relative_entropy(x: ArrayLike, y: ArrayLike) -> Array:
    """Elementwise ``x log(x / y)``, convex in both.

    ```python
    import jaxopt_layers as jl

    jl.relative_entropy(1.0, 1.0)  # 0
    ```
    """
    return _relative_entropy(*_pair(x, y))


def kl_div(x: ArrayLike, y: ArrayLike) -> Array:
    """Elementwise ``x log(x / y) - x + y``, convex in both and nonnegative.

    ```python
    import jaxopt_layers as jl

    jl.kl_div(1.0, 2.0)  # 1 - log 2
    ```
    """
    return _kl_div(*_pair(x, y))


def logistic(x: ArrayLike) -> Array:
    """Elementwise ``log(1 + exp(x))``.

    ```python
    import jaxopt_layers as jl

    jl.logistic(0.0)  # log 2
    ```
    """
    return _logistic(_float(x))


def inv_pos(x: ArrayLike) -> Array:
    """Elementwise ``1 / x`` for x > 0 (infinite elsewhere).

    ```python
    import jaxopt_layers as jl

    jl.inv_pos(4.0)  # 0.25
    ```
    """
    return _inv_pos(_float(x))
