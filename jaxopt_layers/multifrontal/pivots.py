"""The factorization of a front's pivot block: ``R M R' = diag(signs)`` with R lower triangular.

The inverse of the factor rather than the factor, as in `cholesky`: every later solve is a product.
With signs that are known, a quasi-definite matrix has such a factor in every order of its rows
(Vanderbei 1995, "Symmetric quasidefinite matrices").

The elimination takes a few rows at a time and works in place: left of the pivots stands what is
known of R, right of them what is left of M. With r the factor's inverse of the pivots' own block, S their
signs and P their rows,

    rows of the pivots:  r P, with r itself in their own columns,
    rows i below:        minus (r P)_i' S times those.

Every step is one pass over the block, which is what it costs: the arithmetic hides behind the memory.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.matrix import constant_like

#: Pivots that are eliminated in one pass; a block's size is a multiple of it.
TOGETHER = 4


def signed_inverse_factor(matrix: Array, signs: Array) -> Array:
    """R; NaN where a pivot does not have its sign. The upper triangle of `matrix` counts."""
    size = matrix.shape[0]
    index = jnp.arange(size)

    def step(number: Array, work: Array) -> Array:
        start, first = number * TOGETHER, jnp.zeros_like(number)
        pivots = lax.dynamic_slice(work, (start, first), (TOGETHER, size))
        own = lax.dynamic_slice(pivots, (first, start), (TOGETHER, TOGETHER))
        own_signs = lax.dynamic_slice(signs, (start,), (TOGETHER,))
        inverse = _small_inverse_factor(own, own_signs)
        rows = _outer_sum(inverse.T, pivots)
        rows = lax.dynamic_update_slice(rows, inverse, (first, start))
        below = index >= start + TOGETHER
        columns = jnp.where(below[None, :], own_signs[:, None] * rows, 0)
        done = (index >= start) & ~below
        kept = jnp.where(done[None, :], 0, work)
        return lax.dynamic_update_slice(kept - _outer_sum(columns, rows), rows, (start, first))

    start = matrix + constant_like(0, matrix, matrix.dtype)
    return lax.fori_loop(0, size // TOGETHER, step, start)


def _outer_sum(left: Array, right: Array) -> Array:
    """``left' right`` for a few rows: written out, it is one pass together with what uses it."""
    total = left[0][:, None] * right[0][None, :]
    for k in range(1, left.shape[0]):
        total = total + left[k][:, None] * right[k][None, :]
    return total


def _small_inverse_factor(matrix: Array, signs: Array) -> Array:
    """The same for one step's pivots, number by number, so that it is a single kernel."""
    size = matrix.shape[0]
    left = [[matrix[min(i, j), max(i, j)] for j in range(size)] for i in range(size)]
    zero, one = jnp.zeros_like(matrix[0, 0]), jnp.ones_like(matrix[0, 0])
    right = [[one if i == j else zero for j in range(size)] for i in range(size)]
    for c in range(size):
        scale = lax.rsqrt(signs[c] * left[c][c])
        left[c] = [value * scale for value in left[c]]
        right[c] = [value * scale for value in right[c]]
        for i in range(c + 1, size):
            factor = signs[c] * left[c][i]
            left[i] = [
                a - factor * b if j > c else a
                for j, (a, b) in enumerate(zip(left[i], left[c], strict=True))
            ]
            right[i] = [
                a - factor * b if j <= c else a
                for j, (a, b) in enumerate(zip(right[i], right[c], strict=True))
            ]
    return jnp.stack([jnp.stack(row) for row in right])
