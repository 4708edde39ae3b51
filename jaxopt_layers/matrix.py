"""Products with matrices that may be dense, sparse, diagonal or absent, for stacks of row vectors.

Vectors stand as the rows of an array of shape (k, n): on CPUs the product of a few rows with a
matrix from the right reads the matrix once and is about twice as fast as a product from the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxopt_layers.sparse_matrix import SparseMatrix

# Sums of up to so many terms are written out.
_WRITTEN_OUT = 3

#: Matrix product in full precision also where the hardware has a faster, less exact one.
matmul = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def constant_like(value: Array | float, reference: Array, dtype: DTypeLike) -> Array:
    """A constant that varies over a mesh, and over the members of a batch, as a reference does.

    Under `jax.shard_map` the carry of a loop must vary over the mesh as its body makes it vary: a bare
    constant does not. Under `jax.vmap` one that does not vary from the start is traced once more. So the
    constant depends on the reference, in no value, which the compiler sees at once.
    """
    constant = jnp.asarray(value, dtype)
    anchor = reference if reference.ndim == 0 else jnp.ravel(reference)[:1].sum()
    zero = jnp.zeros((), dtype)
    nothing = lax.select(lax.eq(anchor, anchor), zero, zero)
    return lax.add(constant, lax.broadcast(nothing, constant.shape))


def varying_axes(array: Array) -> frozenset[str]:
    """The mesh axes over which an array varies, under `jax.shard_map`."""
    kind: Any = jax.typeof(array)
    if hasattr(kind, "manual_axis_type"):
        return kind.manual_axis_type.varying
    return getattr(kind, "vma", frozenset())  # before jax 0.10


def dot(a: Array, b: Array) -> Array:
    """Inner product of two vectors, or of matching rows; a few terms are written out.

    A sum along an axis is a kernel of its own, at least ten times as slow as three products in another.
    """
    products = a * b
    count = products.shape[-1]
    if 0 < count <= _WRITTEN_OUT:
        return reduce(jnp.add, [products[..., i] for i in range(count)])
    return jnp.sum(products, axis=-1)


def norm_inf(v: Array) -> Array:
    """Largest absolute entry of a vector; 0 for an empty one."""
    return jnp.max(jnp.abs(v), axis=-1, initial=0)


def transposed(matrix: Array) -> Array:
    """The transpose as an array of its own, for products with a stack of rows from the left.

    The barrier keeps the compiler from folding it into the product, whose thin form with the matrix
    read by columns is several times slower on CPUs. Flat, it has one layout, and is copied once: a matrix
    would be, to the layout of rows, for a product and again for each loop that takes it.
    """
    return lax.optimization_barrier(matrix.T.reshape(-1)).reshape(matrix.shape[::-1])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WithTranspose:
    """A matrix that stacks of rows are multiplied with, and so is its transpose: both by rows."""

    matrix: Array
    transposed: Array

    @classmethod
    def of(cls, matrix: Array) -> WithTranspose:
        return cls(matrix, transposed(matrix))


def symmetric_product(matrix: Array | SparseMatrix | None, rows: Array) -> Array:
    """``rows @ matrix`` for a symmetric matrix: (n, n), its diagonal (n,), or None for zero."""
    if matrix is None:
        return jnp.zeros_like(rows)
    if isinstance(matrix, SparseMatrix):
        return matrix.product(rows) if rows.ndim == 1 else jax.vmap(matrix.product)(rows)
    if matrix.ndim == 1:
        return rows * (matrix if rows.ndim == 1 else matrix[None, :])
    return matmul(rows, matrix)


def is_diagonal(matrix: Array | SparseMatrix | None) -> bool:
    """Whether the matrix is absent or held as its diagonal."""
    return matrix is None or matrix.ndim == 1


def symmetric_scaled(
    matrix: Array | SparseMatrix | None, factors: Array
) -> Array | SparseMatrix | None:
    """``diag(factors) matrix diag(factors)``."""
    if matrix is None:
        return None
    if isinstance(matrix, SparseMatrix):
        return matrix.scaled(factors, factors)
    if matrix.ndim == 1:
        return matrix * factors * factors
    return matrix * (factors[:, None] * factors[None, :])


def symmetric_norms(matrix: Array | SparseMatrix | None, factors: Array) -> Array:
    """The largest entry of each column of ``diag(factors) matrix diag(factors)``."""
    if matrix is None:
        return jnp.zeros_like(factors)
    if isinstance(matrix, SparseMatrix):
        return factors * matrix.row_norms(factors)
    if matrix.ndim == 1:
        return jnp.abs(matrix) * factors * factors
    return factors * jnp.max(jnp.abs(matrix) * factors[None, :], axis=1, initial=0)


def outer_like(matrix: Array | SparseMatrix, a: Array, b: Array) -> Array | SparseMatrix:
    """``a b'``, of which the entries that the matrix holds: all, its pattern's, or the diagonal."""
    if isinstance(matrix, SparseMatrix):
        return matrix.outer(a, b)
    if matrix.ndim == 1:
        return a * b
    return a[:, None] * b[None, :]


def column_product(matrix: Array | SparseMatrix, x: Array) -> Array:
    """``matrix @ x``."""
    return matrix.product(x) if isinstance(matrix, SparseMatrix) else matmul(matrix, x)


def row_product(z: Array, matrix: Array | SparseMatrix) -> Array:
    """``z @ matrix``."""
    return matrix.transposed_product(z) if isinstance(matrix, SparseMatrix) else matmul(z, matrix)


def symmetric_part(matrix: Array | SparseMatrix | None) -> Array | SparseMatrix | None:
    """``(matrix + matrix') / 2``; a diagonal is left as it is."""
    if isinstance(matrix, SparseMatrix):
        return matrix.symmetrized()
    if matrix is None or matrix.ndim == 1:
        return matrix
    return 0.5 * (matrix + matrix.T)
