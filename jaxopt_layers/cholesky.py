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

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.lapack import cholesky
from jaxopt_layers.matrix import constant_like, matmul

# Largest block that is eliminated column by column.
_LEAF = 12
# Up to this order the elimination is unrolled, which runs faster and compiles more slowly.
_UNROLL_LIMIT = 24
# Above this order one LAPACK Cholesky and a product inverse compile and run faster.
_RECURSION_LIMIT = 128


def inverse_factor(matrix: Array, unroll: bool = True) -> Array:
    """R, lower triangular, with ``R matrix R' = I``; NaN where `matrix` is not positive definite.

    `unroll` trades compile time for speed; it pays inside a loop.
    """
    if matrix.shape[0] <= _RECURSION_LIMIT:
        small = unroll and matrix.shape[0] <= _UNROLL_LIMIT
        eliminate = _eliminate if small else _eliminate_in_loop
        return _recurse(matrix, eliminate)[1]
    return _invert_lower(cholesky(matrix))


# A factor L in blocks: the inverse of a small one, or (L11, T, L22) with T' below the diagonal.
_Blocks: TypeAlias = "Array | tuple[_Blocks, Array, _Blocks]"


def _recurse(matrix: Array, eliminate: Callable[[Array], Array]) -> tuple[_Blocks, Array]:
    """L in blocks, and its inverse."""
    size = matrix.shape[0]
    if size <= _LEAF:
        inverse = eliminate(matrix)
        return inverse, inverse
    half = _leading(size)
    first, first_inverse = _recurse(matrix[:half, :half], eliminate)
    above = _substitute_blocks(first, matrix[:half, half:])
    rest = matrix[half:, half:] - matmul(above.T, above)
    second, second_inverse = _recurse(rest, eliminate)
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


def _eliminate_in_loop(matrix: Array) -> Array:
    """The same as a loop over whole rows: rows that are done are left out by a mask."""
    size, dtype = matrix.shape[0], matrix.dtype
    index = jnp.arange(size)

    def step(column: Array, work: Array) -> Array:
        scale = lax.rsqrt(work[column, column])
        pivot_row = work[column] * scale
        pivot_column = jnp.where(index > column, work[:, column] * scale, 0)
        work = work - pivot_column[:, None] * pivot_row[None, :]
        return work.at[column].set(pivot_row)

    work = jnp.concatenate([matrix, jnp.eye(size, dtype=dtype)], axis=1)
    return lax.fori_loop(0, size, step, work)[:, size:]


def _invert_lower(factor: Array) -> Array:
    """Inverse of a lower-triangular matrix: diagonal blocks first, then pairs, all of a level at once."""
    size, dtype = factor.shape[0], factor.dtype
    levels = max(0, (-(-size // _LEAF) - 1).bit_length())
    blocks = 2**levels
    width = -(-size // blocks)
    padding = width * blocks - size
    identity = jnp.where(
        (jnp.arange(size + padding) < size)[None, :], 0, jnp.eye(size + padding, dtype=dtype)
    )
    padded = jnp.pad(factor, ((0, padding), (0, padding))) + identity

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
    """Inverse of a small lower-triangular matrix, a column at a time: ``L = (I + N) diag(L)``."""
    size = factor.shape[0]
    diagonal = jnp.sum(factor * jnp.eye(size, dtype=factor.dtype), axis=1)
    strict = jnp.tril(factor / diagonal[None, :], -1)

    def step(column: Array, work: Array) -> Array:
        return work - strict[:, column][:, None] * work[column][None, :]

    identity = constant_like(jnp.eye(size, dtype=factor.dtype), factor, factor.dtype)
    work = lax.fori_loop(0, size - 1, step, identity)
    return work / diagonal[:, None]


def _assemble(first: Array, corner: Array, second: Array) -> Array:
    above = jnp.zeros((first.shape[0], second.shape[0]), first.dtype)
    return jnp.block([[first, above], [corner, second]])
