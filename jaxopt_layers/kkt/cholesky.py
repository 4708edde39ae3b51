"""The inverse of the Cholesky factor, by block recursion on matrix products.

A triangular solve is the slow step of a batched solver on CPUs, and two independent batched ones in
one compiled program can lock up the thread pool of jaxlib; with the inverse factor every later solve
is a product. For ``H = [[H11, H21'], [H21, H22]]`` and R = L^-1, so that ``R H R' = I``:

    R11 = inverse factor of H11,     T = R11 H21',     R22 = inverse factor of H22 - T'T,
    R21 = -R22 T' R11.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.matrix import matmul

# Largest block that is eliminated column by column, unrolled.
_LEAF = 12
# Above this order one LAPACK Cholesky and a product inverse compile and run faster.
_RECURSION_LIMIT = 256


def inverse_factor(matrix: Array) -> Array:
    """R, lower triangular, with ``R matrix R' = I``; NaN where `matrix` is not positive definite."""
    if matrix.shape[0] <= _RECURSION_LIMIT:
        return _recurse(matrix)
    return _invert_lower(lax.linalg.cholesky(matrix, symmetrize_input=False))


def _recurse(matrix: Array) -> Array:
    size = matrix.shape[0]
    if size <= _LEAF:
        return _eliminate(matrix)
    half = _leading(size)
    first = _recurse(matrix[:half, :half])
    coupling = matmul(first, matrix[:half, half:])
    second = _recurse(matrix[half:, half:] - matmul(coupling.T, coupling))
    corner = -matmul(second, matmul(coupling.T, first))
    return _assemble(first, corner, second)


def _leading(size: int) -> int:
    """Half, rounded up to whole leaves' worth, so that few different shapes are compiled."""
    leaves = -(-size // _LEAF)
    leaf = -(-size // leaves)
    return (leaves + 1) // 2 * leaf


def _eliminate(matrix: Array) -> Array:
    """Column elimination of ``[matrix, I]``; what is left on the right is R."""
    size = matrix.shape[0]
    work = jnp.concatenate([matrix, jnp.eye(size, dtype=matrix.dtype)], axis=1)
    rows = []
    for column in range(size):
        pivot_row = work[0] * lax.rsqrt(work[0, 0])
        rows.append(pivot_row[size - column :])
        work = work[1:, 1:] - pivot_row[1 : size - column, None] * pivot_row[None, 1:]
    return jnp.stack(rows)


def _invert_lower(factor: Array) -> Array:
    """Inverse of a lower-triangular matrix: diagonal blocks first, then pairs, all of a level at once."""
    size, dtype = factor.shape[0], factor.dtype
    levels = max(0, (-(-size // _LEAF) - 1).bit_length())
    blocks = 2**levels
    width = -(-size // blocks)
    padding = width * blocks - size
    identity = jnp.concatenate([jnp.zeros(size, dtype), jnp.ones(padding, dtype)])
    padded = jnp.pad(factor, ((0, padding), (0, padding))) + jnp.diag(identity)

    def block(row: int, column: int) -> Array:
        return padded[row * width : (row + 1) * width, column * width : (column + 1) * width]

    inverse = jax.vmap(_substitute)(jnp.stack([block(i, i) for i in range(blocks)]))
    while blocks > 1:
        blocks //= 2
        below = jnp.stack([block(2 * i + 1, 2 * i) for i in range(blocks)])
        first, second = inverse[0::2], inverse[1::2]
        inverse = jax.vmap(_assemble)(first, -matmul(second, matmul(below, first)), second)
        width *= 2
    return inverse[0, :size, :size]


def _substitute(factor: Array) -> Array:
    """Inverse of a small lower-triangular matrix by forward substitution on the identity."""
    size = factor.shape[0]
    work = jnp.eye(size, dtype=factor.dtype)
    rows = []
    for row in range(size):
        solved = work[0] / factor[row, row]
        rows.append(solved)
        work = work[1:] - factor[row + 1 :, row, None] * solved[None, :]
    return jnp.stack(rows)


def _assemble(first: Array, corner: Array, second: Array) -> Array:
    above = jnp.zeros((first.shape[0], second.shape[0]), first.dtype)
    return jnp.block([[first, above], [corner, second]])
