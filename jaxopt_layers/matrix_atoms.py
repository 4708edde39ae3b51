"""Atoms of matrices: eigenvalues, singular values, determinants; see `jaxopt_layers.atoms`."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_layers.dpp.marker import as_float as _float
from jaxopt_layers.dpp.marker import atom as _atom
from jaxopt_layers.dpp.marker import matrix as _matrix


@_atom
def _lambda_max(X: Array) -> Array:
    return jnp.linalg.eigvalsh(X)[-1]


@_atom
def _lambda_min(X: Array) -> Array:
    return jnp.linalg.eigvalsh(X)[0]


@_atom
def _nuclear_norm(X: Array) -> Array:
    return jnp.sum(jnp.linalg.svd(X, compute_uv=False))


@_atom
def _sigma_max(X: Array) -> Array:
    return jnp.max(jnp.linalg.svd(X, compute_uv=False))


@_atom
def _log_det(X: Array) -> Array:
    values = jnp.linalg.eigvalsh(X)
    inside = values[0] > 0
    return jnp.where(inside, jnp.sum(jnp.log(jnp.where(inside, values, 1))), -jnp.inf)


@_atom
def _matrix_frac(X: Array, P: Array) -> Array:
    values, vectors = jnp.linalg.eigh(P)
    rotated = vectors.T @ X.reshape(P.shape[0], -1)
    return jnp.sum(jnp.square(rotated) / values[:, None])


def lambda_max(X: ArrayLike) -> Array:
    """Largest eigenvalue of a symmetric matrix; in a problem X must be, or becomes, symmetric.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.lambda_max(jnp.diag(jnp.array([1.0, 3.0])))  # 3
    ```
    """
    return _lambda_max(_matrix("lambda_max", "X", X))


def lambda_min(X: ArrayLike) -> Array:
    """Smallest eigenvalue of a symmetric matrix (concave).

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.lambda_min(jnp.diag(jnp.array([1.0, 3.0])))  # 1
    ```
    """
    return _lambda_min(_matrix("lambda_min", "X", X))


def nuclear_norm(X: ArrayLike) -> Array:
    """Sum of the singular values.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.nuclear_norm(jnp.diag(jnp.array([1.0, -3.0])))  # 4
    ```
    """
    return _nuclear_norm(_matrix("nuclear_norm", "X", X, square=False))


def sigma_max(X: ArrayLike) -> Array:
    """Largest singular value.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.sigma_max(jnp.diag(jnp.array([1.0, -3.0])))  # 3
    ```
    """
    return _sigma_max(_matrix("sigma_max", "X", X, square=False))


def log_det(X: ArrayLike) -> Array:
    """Logarithm of the determinant of a positive definite matrix (concave).

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.log_det(jnp.eye(3))  # 0
    ```
    """
    return _log_det(_matrix("log_det", "X", X))


def matrix_frac(X: ArrayLike, P: ArrayLike) -> Array:
    """``trace(X' inverse(P) X)``, convex in both, for X (n,) or (n, k) and P positive definite.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.matrix_frac(jnp.ones(2), 2 * jnp.eye(2))  # 1
    ```
    """
    X, P = _float(X), _matrix("matrix_frac", "P", P)
    if X.ndim not in (1, 2) or X.shape[0] != P.shape[0]:
        raise ValueError(
            f"matrix_frac: `X` must have {P.shape[0]} rows, as P has; got shape {X.shape}."
        )
    return _matrix_frac(X, P)
