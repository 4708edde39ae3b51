"""Symmetric matrices as vectors: `svec` and its inverse `smat`.

The lower triangle is read by columns, off-diagonal entries times sqrt 2, so that both maps keep inner
products, ``svec(X) . svec(Y) = trace(X Y)``: the order and the scaling of SCS and diffcp.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxopt_layers.checks import as_array, common_dtype


def svec(X: ArrayLike) -> Array:
    """Vectorize symmetric matrices: the lower triangle by columns, off-diagonals times sqrt 2.

    Inner products are kept: ``svec(X) @ svec(Y)`` is ``trace(X @ Y)``. Of an X that isn't symmetric the
    symmetric part counts, so that the gradient of a function of ``svec(X)`` is a symmetric matrix.

    **Arguments:**

    - `X`: (..., n, n), any number of leading batch dimensions.

    **Returns:** (..., n (n + 1) / 2), the rows of a positive semidefinite cone of side n.

    **Raises:** ValueError where X isn't square, TypeError where it doesn't hold real numbers.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    X = jnp.array([[1.0, 2.0], [2.0, 3.0]])
    jl.svec(X)  # [1., 2 sqrt 2, 3.]
    jl.smat(jl.svec(X))  # X
    ```
    """
    matrices = as_array("svec", "X", X)
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(
            "svec: `X` must be a square matrix, or a stack of them, of shape (..., n, n);"
            f" got shape {matrices.shape}."
        )
    matrices = matrices.astype(common_dtype([matrices]))
    return pack(0.5 * (matrices + jnp.swapaxes(matrices, -1, -2)))


def smat(v: ArrayLike) -> Array:
    """Symmetric matrices from their vectors: the inverse, and also the adjoint, of [`svec`][].

    **Arguments:**

    - `v`: (..., n (n + 1) / 2), any number of leading batch dimensions.

    **Returns:** (..., n, n), symmetric to the last bit.

    **Raises:** ValueError where the length isn't n (n + 1) / 2 for any n, TypeError where v doesn't hold
    real numbers.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    jl.smat(jnp.array([1.0, 0.0, 3.0]))  # [[1., 0.], [0., 3.]]
    jl.smat(jnp.ones((8, 6))).shape  # (8, 3, 3)
    ```
    """
    vectors = as_array("smat", "v", v)
    if vectors.ndim == 0:
        raise ValueError("smat: `v` must be a vector, or a stack of them; got a scalar.")
    length = vectors.shape[-1]
    side = (isqrt(8 * length + 1) - 1) // 2
    if triangular(side) != length:
        raise ValueError(
            f"smat: the last dimension of `v` must be n (n + 1) / 2 for a matrix of side n; got {length}"
            f" (shape {vectors.shape}), between {triangular(side)} for n = {side} and"
            f" {triangular(side + 1)} for n = {side + 1}."
        )
    return unpack(vectors.astype(common_dtype([vectors])), side)


def triangular(side: int) -> int:
    """Number of entries of the lower triangle."""
    return side * (side + 1) // 2


def pack(matrices: Array) -> Array:
    """`svec` of matrices that are known to be symmetric, perhaps up to rounding: one gather."""
    *batch, side, _ = matrices.shape
    rows, columns = lower_triangle(side)
    flat = matrices.reshape(*batch, side * side)
    entries = flat.at[..., rows * side + columns].get(mode="promise_in_bounds", unique_indices=True)
    return entries * _weights(side, entries)


def unpack(vectors: Array, side: int) -> Array:
    """`smat` of vectors whose length is known to be right."""
    entries = vectors / _weights(side, vectors)
    flat = entries.at[..., _positions(side)].get(mode="promise_in_bounds")
    return flat.reshape(*vectors.shape[:-1], side, side)


@lru_cache
def lower_triangle(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each entry of the vector."""
    columns, rows = (index.astype(np.int32) for index in np.triu_indices(side))
    return rows, columns


@lru_cache
def _positions(side: int) -> np.ndarray:
    """Where each entry of the matrix, read by rows, stands in the vector."""
    rows, columns = lower_triangle(side)
    positions = np.zeros((side, side), np.int32)
    positions[rows, columns] = positions[columns, rows] = np.arange(rows.size)
    return positions.ravel()


def _weights(side: int, like: Array) -> np.ndarray:
    """1 on the diagonal and sqrt 2 off it, in the dtype and with as many dimensions as the vectors."""
    rows, columns = lower_triangle(side)
    weights = np.where(rows == columns, 1, np.sqrt(2)).astype(like.dtype)
    return weights.reshape((1,) * (like.ndim - 1) + weights.shape)
