"""The factorization of a front's pivot block: ``R M R' = diag(signs)`` with R lower triangular.

The inverse of the factor rather than the factor, as in `kkt.cholesky`: every later solve is a product.
With signs that are known, a quasi-definite matrix has such a factor in every order of its rows
(Vanderbei 1995, "Symmetric quasidefinite matrices"). For blocks, with S = diag(signs),

    T = S1 R11 M12,     R22 (M22 - M12' R11' T) R22' = S2,     R21 = -R22 T' R11.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.matrix import constant_like, matmul

# Largest block that is eliminated column by column.
_LEAF = 16


def signed_inverse_factor(matrix: Array, signs: Array) -> Array:
    """R; NaN where a pivot does not have its sign."""
    size = matrix.shape[0]
    if size <= _LEAF:
        return _eliminate(matrix, signs)
    half = (size + 1) // 2
    if size > 2 * _LEAF:
        half = -(-half // _LEAF) * _LEAF
    first = signed_inverse_factor(matrix[:half, :half], signs[:half])
    above = matmul(first, matrix[:half, half:])
    signed = signs[:half, None] * above
    rest = matrix[half:, half:] - matmul(signed.T, above)
    second = signed_inverse_factor(rest, signs[half:])
    corner = -matmul(second, matmul(signed.T, first))
    zeros = jnp.zeros((half, size - half), matrix.dtype)
    return jnp.block([[first, zeros], [corner, second]])


def _eliminate(matrix: Array, signs: Array) -> Array:
    """Column elimination of ``[matrix, I]``; what is left on the right is R.

    Rows that are done are left out by a mask.
    """
    size = matrix.shape[0]
    index = jnp.arange(size)

    def step(column: Array, work: Array) -> Array:
        scale = lax.rsqrt(signs[column] * work[column, column])
        pivot_row = work[column] * scale
        pivot_column = jnp.where(index > column, work[:, column] * (scale * signs[column]), 0)
        work = work - pivot_column[:, None] * pivot_row[None, :]
        return work.at[column].set(pivot_row)

    identity = constant_like(jnp.eye(size, dtype=matrix.dtype), matrix, matrix.dtype)
    work = jnp.concatenate([matrix, identity], axis=1)
    return lax.fori_loop(0, size, step, work)[:, size:]
