"""Products with matrices that may be dense, diagonal or absent, for stacks of row vectors.

Vectors stand as the rows of an array of shape (k, n): on CPUs the product of a few rows with a
matrix from the right reads the matrix once and is about twice as fast as a product from the left.
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

#: Matrix product in full precision also where the hardware has a faster, less exact one.
matmul = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def constant_like(value: Array | float, reference: Array, dtype: DTypeLike) -> Array:
    """A constant that depends on a reference (in no value, unless it is NaN).

    Under `jax.shard_map` the carry of a loop must vary over the mesh as its body makes it vary: a bare
    constant does not.
    """
    anchor = jnp.ravel(reference)[:1].sum()
    zero = jnp.where(anchor == anchor, 0, 0).astype(dtype)
    return jnp.asarray(value, dtype) + zero


def dot(a: Array, b: Array) -> Array:
    """Inner product of two vectors, or of matching rows."""
    return jnp.sum(a * b, axis=-1)


def norm_inf(v: Array) -> Array:
    """Largest absolute entry of a vector; 0 for an empty one."""
    return jnp.max(jnp.abs(v), axis=-1, initial=0)


def transposed(matrix: Array) -> Array:
    """The transpose as an array of its own, for products with a stack of rows from the left.

    The barrier keeps the compiler from folding it into the product, whose thin form with the matrix
    read by columns is several times slower on CPUs.
    """
    return lax.optimization_barrier(matrix.T)


def symmetric_product(matrix: Array | None, rows: Array) -> Array:
    """``rows @ matrix`` for a symmetric matrix: (n, n), its diagonal (n,), or None for zero."""
    if matrix is None:
        return jnp.zeros_like(rows)
    if matrix.ndim == 1:
        return rows * (matrix if rows.ndim == 1 else matrix[None, :])
    return matmul(rows, matrix)


def is_diagonal(matrix: Array | None) -> bool:
    """Whether the matrix is absent or held as its diagonal."""
    return matrix is None or matrix.ndim == 1
