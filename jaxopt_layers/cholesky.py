"""The inverse of the Cholesky factor, on CPUs by block recursion on matrix products.

A triangular solve is the slow step of a batched solver on CPUs, and two independent batched ones in
one compiled program can lock up the thread pool of jaxlib; with the inverse factor every later solve
is a product. For ``H = [[H11, .], [H21, H22]] = L L'`` and R = L^-1, so that ``R H R' = I``:

    L21 = H21 L11'^-1,     L22 L22' = H22 - L21 L21',     R21 = -R22 L21 R11.

L21 comes from block substitution with the inverses of diagonal blocks only: a product with the whole of
R11 would lose the backward stability of Cholesky's method, and with it the last digits of an
interior-point method, whose matrices are ill-conditioned in the end. All of these products read their
matrices by rows; those of an upper factor don't, and take twice as long on CPUs. The blocks themselves are
eliminated a few rows at a time (`pivots`), which is faster than any product up to a few dozen rows, and a
fraction of what a recursion down to smaller blocks would compile.

An accelerator has batched factorizations of its own, and each of the recursion's many small kernels would
cost it a launch: there the library's are used.
"""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.matrix import matmul
from jaxopt_layers.pivots import signed_inverse_factor

# Largest block that is eliminated, and that of a large matrix, whose recursion has to be compiled.
_LEAF, _LARGE_LEAF = 52, 128
# Above this order leaves are large.
_SMALL_LIMIT = 256


def inverse_factor(matrix: Array) -> Array:
    """R, lower triangular, with ``R matrix R' = I``; NaN where `matrix` is not positive definite."""
    if jax.default_backend() != "cpu":
        return _by_library(matrix)
    return _recurse(matrix, _LEAF if matrix.shape[0] <= _SMALL_LIMIT else _LARGE_LEAF)[1]


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
        inverse = signed_inverse_factor(matrix)
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


def _assemble(first: Array, corner: Array, second: Array) -> Array:
    above = jnp.zeros((first.shape[0], second.shape[0]), first.dtype)
    return jnp.block([[first, above], [corner, second]])
