"""The inverse of the Cholesky factor, on CPUs by block recursion on matrix products.

A triangular solve is the slow step of a batched solver on CPUs, and two independent batched ones in
one compiled program can lock up the thread pool of jaxlib; with the inverse factor every later solve
is a product. For ``H = [[H11, .], [H21, H22]] = L L'`` and R = L^-1, so that ``R H R' = I``:

    L21 = H21 L11'^-1,     L22 L22' = H22 - L21 L21',     R21 = -R22 L21 R11.

L21 comes from block substitution with the inverses of small diagonal blocks only: a product with the
whole of R11 would lose the backward stability of Cholesky's method, and with it the last digits of an
interior-point method, whose matrices are ill-conditioned in the end. All of these products read their
matrices by rows; those of an upper factor don't, and take twice as long on CPUs.

An accelerator has batched factorizations of its own, and each of the recursion's many small kernels would
cost it a launch: there the library's are used.
"""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.lapack import cholesky
from jaxopt_layers.matrix import constant_like, matmul

# Largest block that is eliminated column by column, and that of a large matrix, which compiles faster.
_LEAF, _LARGE_LEAF = 12, 16
# Above this order leaves are large.
_SMALL_LIMIT = 128
# Above this order one LAPACK Cholesky and a product inverse compile and run faster.
_RECURSION_LIMIT = 256


def inverse_factor(matrix: Array, repeated: bool = True) -> Array:
    """R, lower triangular, with ``R matrix R' = I``; NaN where `matrix` is not positive definite.

    One that is not `repeated`, but done once for a solve, had better compile fast.
    """
    if jax.default_backend() != "cpu":
        return _by_library(matrix)
    size = matrix.shape[0]
    if size > _RECURSION_LIMIT or (size > _LEAF and not repeated):
        return _invert_lower(cholesky(matrix))
    return _recurse(matrix, _LEAF if size <= _SMALL_LIMIT else _LARGE_LEAF)[1]


def _by_library(matrix: Array) -> Array:
    """By a Cholesky factorization and a triangular solve."""
    factor = lax.linalg.cholesky(matrix, symmetrize_input=False)
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    return lax.linalg.triangular_solve(factor, identity, left_side=True, lower=True)


# A factor L in blocks: the inverse of a small one, or (L11, L21, L22).
_Blocks: TypeAlias = "Array | tuple[_Blocks, Array, _Blocks]"


def _recurse(matrix: Array, leaf: int) -> tuple[_Blocks, Array]:
    """L in blocks, and its inverse."""
    size = matrix.shape[0]
    if size <= leaf:
        inverse = _eliminate(matrix)
        return inverse, inverse
    half = _leading(size, leaf)
    first, first_inverse = _recurse(matrix[:half, :half], leaf)
    below = _substitute_blocks(first, matrix[half:, :half])
    rest = matrix[half:, half:] - matmul(below, below.T)
    second, second_inverse = _recurse(rest, leaf)
    corner = -matmul(second_inverse, matmul(below, first_inverse))
    return (first, below, second), _assemble(first_inverse, corner, second_inverse)


def _substitute_blocks(factor: _Blocks, right: Array) -> Array:
    """A matrix times L'^-1."""
    if not isinstance(factor, tuple):
        return matmul(right, factor.T)
    first, below, second = factor
    middle = below.shape[1]
    left = _substitute_blocks(first, right[:, :middle])
    return jnp.concatenate(
        [left, _substitute_blocks(second, right[:, middle:] - matmul(left, below.T))], axis=1
    )


def _leading(size: int, leaf: int) -> int:
    """Half, rounded up to whole leaves' worth, so that few different shapes are compiled."""
    leaves = -(-size // leaf)
    block = -(-size // leaves)
    return (leaves + 1) // 2 * block


def _eliminate(matrix: Array) -> Array:
    """Elimination of ``[matrix, I]`` column by column; what is left on the right is R."""
    size, dtype = matrix.shape[0], matrix.dtype
    index = jnp.arange(size)[:, None]

    def step(column: Array, work: Array) -> Array:
        pivot_row = lax.dynamic_index_in_dim(work, column, 0)
        pivot_column = lax.dynamic_index_in_dim(work, column, 1)
        scale = lax.rsqrt(lax.dynamic_index_in_dim(pivot_row, column, 1))
        pivot_row = pivot_row * scale
        # Chosen instead of written in place: the fewer kernels, the faster.
        left = work - jnp.where(index > column, pivot_column * scale, 0) * pivot_row
        return jnp.where(index == column, pivot_row, left)

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
