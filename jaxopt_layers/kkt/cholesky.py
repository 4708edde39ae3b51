"""The inverse of the Cholesky factor, by block recursion on matrix products.

A triangular solve is the slow step of a batched solver on CPUs, and two independent batched ones in
one compiled program can lock up the thread pool of jaxlib; with the inverse factor every later solve
is a product. For ``H = [[H11, H12], [H12', H22]] = L L'`` and R = L^-1, so that ``R H R' = I``:

    T = L11^-1 H12,     L22 L22' = H22 - T'T,     R21 = -R22 T' R11.

T comes from block substitution with the inverses of small diagonal blocks only: a product with the
whole of R11 would lose the backward stability of Cholesky's method, and with it the last digits of an
interior-point method, whose matrices are ill-conditioned in the end.
"""

from __future__ import annotations

from typing import TypeAlias

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
        return _recurse(matrix)[1]
    return _invert_lower(lax.linalg.cholesky(matrix, symmetrize_input=False))


# A factor L in blocks: the inverse of a small one, or (L11, T, L22) with T' below the diagonal.
_Blocks: TypeAlias = "Array | tuple[_Blocks, Array, _Blocks]"


def _recurse(matrix: Array) -> tuple[_Blocks, Array]:
    """L in blocks, and its inverse."""
    size = matrix.shape[0]
    if size <= _LEAF:
        inverse = _eliminate(matrix)
        return inverse, inverse
    half = _leading(size)
    first, first_inverse = _recurse(matrix[:half, :half])
    above = _substitute_blocks(first, matrix[:half, half:])
    second, second_inverse = _recurse(matrix[half:, half:] - matmul(above.T, above))
    corner = -matmul(second_inverse, matmul(above.T, first_inverse))
    return (first, above, second), _assemble(first_inverse, corner, second_inverse)


def _substitute_blocks(factor: _Blocks, right: Array) -> Array:
    """L^-1 times a matrix."""
    if not isinstance(factor, tuple):
        return matmul(factor, right)
    first, above, second = factor
    top = _substitute_blocks(first, right[: above.shape[0]])
    bottom = _substitute_blocks(second, right[above.shape[0] :] - matmul(above.T, top))
    return jnp.concatenate([top, bottom])


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
