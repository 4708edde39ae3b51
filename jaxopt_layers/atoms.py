"""The atoms: convex and concave functions for the objectives and constraints of `convex_layer`.

Each is also a plain differentiable JAX function of the same value. Inside, each is a jitted call whose name
says which atom it is; the analysis of the jaxpr recognizes it by that name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxopt_layers.dpp.marker import PREFIX
from jaxopt_layers.dpp.marker import as_float as _float
from jaxopt_layers.dpp.marker import atom as _atom
from jaxopt_layers.dpp.marker import last as _last
from jaxopt_layers.dpp.marker import matrix as _matrix
from jaxopt_layers.dpp.marker import number as _number
from jaxopt_layers.dpp.perspective import INNER
from jaxopt_layers.elementwise_atoms import entropy as entropy
from jaxopt_layers.elementwise_atoms import huber as huber
from jaxopt_layers.elementwise_atoms import inv_pos as inv_pos
from jaxopt_layers.elementwise_atoms import kl_div as kl_div
from jaxopt_layers.elementwise_atoms import logistic as logistic
from jaxopt_layers.elementwise_atoms import relative_entropy as relative_entropy
from jaxopt_layers.matrix_atoms import lambda_max as lambda_max
from jaxopt_layers.matrix_atoms import lambda_min as lambda_min
from jaxopt_layers.matrix_atoms import log_det as log_det
from jaxopt_layers.matrix_atoms import matrix_frac as matrix_frac
from jaxopt_layers.matrix_atoms import nuclear_norm as nuclear_norm
from jaxopt_layers.matrix_atoms import sigma_max as sigma_max

# ---- norms and squares


@_atom
def _norm2(x: Array) -> Array:
    square = jnp.sum(jnp.square(x), axis=-1)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


@_atom
def _p_norm(x: Array, p: Array) -> Array:
    size = jnp.abs(x)
    positive = size > 0
    total = jnp.sum(jnp.where(positive, jnp.where(positive, size, 1) ** p, 0 * size), axis=-1)
    some = total > 0
    return jnp.where(some, jnp.where(some, total, 1) ** (1 / p), 0)


@_atom
def _concave_p_norm(x: Array, p: Array) -> Array:
    return jnp.sum(x**p, axis=-1) ** (1 / p)


@_atom
def _sum_squares(x: Array) -> Array:
    return jnp.sum(jnp.square(x), axis=-1)


@_atom
def _quad_form(x: Array, P: Array) -> Array:
    return x @ (P @ x)


@_atom
def _quad_over_lin(x: Array, y: Array) -> Array:
    return jnp.sum(jnp.square(x), axis=-1) / y


def norm1(x: ArrayLike, axis: int | None = None) -> Array:
    """Sum of absolute values: of all entries, or along an axis.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.norm1(jnp.array([1.0, -2.0]))  # 3
    ```
    """
    return jnp.sum(jnp.abs(_last(x, axis)), axis=-1)


def norm2(x: ArrayLike, axis: int | tuple[int, ...] | None = None) -> Array:
    """Euclidean norm of all entries (of a matrix: Frobenius), or along an axis. Its gradient at 0 is 0.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.norm2(jnp.array([3.0, -4.0]))  # 5
    ```
    """
    return _norm2(_last(x, axis))


def norm_inf(x: ArrayLike, axis: int | None = None) -> Array:
    """Largest absolute value: of all entries, or along an axis.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.norm_inf(jnp.array([1.0, -2.0]))  # 2
    ```
    """
    return jnp.max(jnp.abs(_last(x, axis)), axis=-1)


def p_norm(x: ArrayLike, p: float = 2, axis: int | None = None) -> Array:
    """``sum(|x|^p)^(1/p)``: convex for p >= 1; concave for p < 1, p != 0, where x >= 0 is implied.

    **Raises:** TypeError if p isn't a Python number, ValueError for p = 0.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.p_norm(jnp.array([1.0, -2.0]), 3)  # 9^(1/3)
    ```
    """
    p = _number("p_norm", "p", p)
    if p == 0:
        raise ValueError("p_norm: `p` must not be 0; for p -> 0 there is geo_mean.")
    if p == 1:
        return norm1(x, axis)
    if p == 2:
        return norm2(x, axis)
    if np.isinf(p):
        return norm_inf(x, axis)
    return _p_norm(_last(x, axis), p)


def sum_squares(x: ArrayLike, axis: int | None = None) -> Array:
    """Sum of squares: of all entries, or along an axis.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.sum_squares(jnp.array([1.0, -2.0]))  # 5
    ```
    """
    return _sum_squares(_last(x, axis))


def quad_form(x: ArrayLike, P: ArrayLike) -> Array:
    """x'Px, with P a semidefinite constant, or a parameter as ``jl.psd(P)`` or ``F @ F.T``.

    **Raises:** ValueError if the shapes aren't (n,) and (n, n).

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.quad_form(jnp.array([1.0, 2.0]), jnp.eye(2))  # 5
    ```
    """
    x, P = _float(x), _matrix("quad_form", "P", P)
    if x.shape != P.shape[:1]:
        raise ValueError(f"quad_form: `x` must have shape ({P.shape[0]},), as P; got {x.shape}.")
    return _quad_form(x, P)


def quad_over_lin(x: ArrayLike, y: ArrayLike, axis: int | None = None) -> Array:
    """``sum(x^2) / y``, convex in both, y > 0.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.quad_over_lin(jnp.array([1.0, 3.0]), 2.0)  # 5
    ```
    """
    return _quad_over_lin(_last(x, axis), _float(y))


# ---- of vectors


@_atom
def _log_sum_exp(x: Array) -> Array:
    return jax.nn.logsumexp(x, axis=-1)


@_atom
def _geo_mean(x: Array, weights: Array) -> Array:
    inside = jnp.all((x > 0) | (weights == 0), axis=-1)
    logs = jnp.log(jnp.where(x > 0, x, 1)) @ weights
    return jnp.where(inside, jnp.exp(logs), 0)


@_atom
def _harmonic_mean(x: Array) -> Array:
    inside = jnp.all(x > 0, axis=-1, keepdims=True)
    mean = x.shape[-1] / jnp.sum(1 / jnp.where(inside, x, 1), axis=-1)
    return jnp.where(inside[..., 0], mean, 0)


@_atom
def _sum_largest(x: Array, k: Array) -> Array:
    ordered = -jnp.sort(-x, axis=-1)
    return ordered @ jnp.clip(k - jnp.arange(x.shape[-1]), 0, 1).astype(x.dtype)


def log_sum_exp(x: ArrayLike, axis: int | None = None) -> Array:
    """``log(sum(exp(x)))``: of all entries, or along an axis.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.log_sum_exp(jnp.zeros(2))  # log 2
    ```
    """
    return _log_sum_exp(_last(x, axis))


def geo_mean(x: ArrayLike, p: Any = None) -> Array:
    """Geometric mean ``prod(x_i^(p_i / sum(p)))`` of x (n,) with weights p (n,) >= 0; equal ones if None.

    **Raises:** ValueError for weights that don't fit.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.geo_mean(jnp.array([1.0, 4.0]))  # 2
    ```
    """
    x = _last(x, None)
    weights = np.ones(x.shape[0]) if p is None else np.asarray(p, float)
    if weights.shape != x.shape or np.any(weights < 0) or not weights.sum() > 0:
        raise ValueError(
            f"geo_mean: `p` must hold {x.shape[0]} numbers >= 0, not all 0; got {p!r}."
        )
    return _geo_mean(x, jnp.asarray(weights / weights.sum(), x.dtype))


def harmonic_mean(x: ArrayLike) -> Array:
    """``n / sum(1 / x)`` for x > 0 (concave).

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.harmonic_mean(jnp.array([1.0, 0.5]))  # 2/3
    ```
    """
    return _harmonic_mean(_last(x, None))


def sum_largest(x: ArrayLike, k: float) -> Array:
    """Sum of the k largest entries; k > 0 may be a fraction.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.sum_largest(jnp.array([1.0, 5.0, 3.0]), 2)  # 8
    ```
    """
    k = _number("sum_largest", "k", k)
    if k <= 0:
        raise ValueError(f"sum_largest: `k` must be positive; got {k:g}.")
    return _sum_largest(_last(x, None), k)


def total_variation(x: ArrayLike) -> Array:
    """Of a signal (n,) the sum of ``|x[i+1] - x[i]|``; of an image (m, n) the sum over pixels of the
    Euclidean norm of the two differences (isotropic, as CVXPY's tv).

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.total_variation(jnp.array([0.0, 2.0, 1.0]))  # 3
    ```
    """
    x = _float(x)
    if x.ndim == 1:
        return norm1(jnp.diff(x))
    if x.ndim != 2:
        raise ValueError(f"total_variation: `x` must be a signal or an image; got shape {x.shape}.")
    down = x[1:, :-1] - x[:-1, :-1]
    right = x[:-1, 1:] - x[:-1, :-1]
    return jnp.sum(norm2(jnp.stack([down.reshape(-1), right.reshape(-1)], axis=1), axis=1))


def perspective(f: Callable[..., Array], s: ArrayLike, *x: ArrayLike) -> Array:
    """``s f(x / s)`` for s > 0: convex in (s, x) where the scalar function f is convex.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.perspective(jnp.square, 2.0, 3.0)  # 3^2 / 2 = 4.5
    ```
    """

    def inner(*arguments: Array) -> Array:
        return f(*arguments)

    inner.__name__ = inner.__qualname__ = INNER

    def outer(s: Array, *x: Array) -> Array:
        return s * jax.jit(inner)(*(v / s for v in x))

    outer.__name__ = outer.__qualname__ = PREFIX + "perspective"
    return jax.jit(outer)(_float(s), *(_float(v) for v in x))
