"""The factorization of a block of pivots: ``R M R' = diag(signs)`` with R lower triangular.

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
import numpy as np
from jax import Array, lax

from jaxopt_layers.matrix import constant_like, matmul

#: Pivots that are eliminated in one pass; a block whose size is a multiple of it needs no padding.
TOGETHER = 4
# Up to this size a step's rows are written out; a matrix product costs more.
_WRITTEN_OUT = 16


def signed_inverse_factor(matrix: Array, signs: Array | None = None) -> Array:
    """R; NaN where a pivot does not have its sign (by default +1). The upper triangle of `matrix` counts."""
    size = matrix.shape[0]
    more = -size % TOGETHER
    if more:
        unit = jnp.diag((np.arange(size + more) >= size).astype(matrix.dtype))
        matrix = jnp.pad(matrix, ((0, more), (0, more))) + unit
        signs = None if signs is None else jnp.pad(signs, (0, more), constant_values=1)
    return _eliminate(matrix, signs)[:size, :size]


def _eliminate(matrix: Array, signs: Array | None) -> Array:
    size = matrix.shape[0]
    index = jnp.arange(size)

    def step(number: Array, work: Array) -> Array:
        start, first = number * TOGETHER, jnp.zeros_like(number)
        pivots = lax.dynamic_slice(work, (start, first), (TOGETHER, size))
        own = lax.dynamic_slice(pivots, (first, start), (TOGETHER, TOGETHER))
        own_signs = None if signs is None else lax.dynamic_slice(signs, (start,), (TOGETHER,))
        inverse = _small_inverse_factor(own, own_signs)
        rows = matmul(inverse, pivots) if size > _WRITTEN_OUT else _outer_sum(inverse.T, pivots)
        rows = lax.dynamic_update_slice(rows, inverse, (first, start))
        below = index >= start + TOGETHER
        signed = rows if own_signs is None else own_signs[:, None] * rows
        columns = jnp.where(below[None, :], signed, 0)
        done = (index >= start) & ~below
        kept = jnp.where(done[None, :], 0, work)
        return lax.dynamic_update_slice(kept - _outer_sum(columns, rows), rows, (start, first))

    start = matrix + constant_like(0, matrix, matrix.dtype)
    return lax.fori_loop(0, size // TOGETHER, step, start)


def unit_inverse_factor(matrix: Array) -> tuple[Array, Array]:
    """The inverse of D, and R with ones on its diagonal, of ``R M R' = D``, for matrices (k, k, ...).

    Written out number by number, so that it is a single kernel. The upper triangle of `matrix` counts.
    """
    inverse, rows = _unit_rows(matrix)
    return jnp.stack(inverse), jnp.stack([jnp.stack(row) for row in rows])


def _small_inverse_factor(matrix: Array, signs: Array | None) -> Array:
    """R with ``R M R' = diag(signs)`` of one step's pivots: the same, scaled, and a single kernel, too."""
    inverse, rows = _unit_rows(matrix)
    if signs is not None:
        inverse = [sign * value for sign, value in zip(signs, inverse, strict=True)]
    scales = [jnp.sqrt(value) for value in inverse]
    scaled = [[scale * entry for entry in row] for scale, row in zip(scales, rows, strict=True)]
    return jnp.stack([jnp.stack(row) for row in scaled])


def _unit_rows(matrix: Array) -> tuple[list[Array], list[list[Array]]]:
    """The numbers of D^-1, and those of R by rows."""
    size = matrix.shape[0]
    left = [[matrix[min(i, j), max(i, j)] for j in range(size)] for i in range(size)]
    zero, one = jnp.zeros_like(matrix[0, 0]), jnp.ones_like(matrix[0, 0])
    right = [[one if i == j else zero for j in range(size)] for i in range(size)]
    inverse = []
    for c in range(size):
        inverse.append(1 / left[c][c])
        for i in range(c + 1, size):
            factor = inverse[c] * left[c][i]
            left[i] = [a - factor * b for a, b in zip(left[i], left[c], strict=True)]
            right[i] = [
                a - factor * b if j <= c else a
                for j, (a, b) in enumerate(zip(right[i], right[c], strict=True))
            ]
    return inverse, right


def _outer_sum(left: Array, right: Array) -> Array:
    """``left' right`` for a few rows: written out, it is one pass together with what uses it."""
    total = left[0][:, None] * right[0][None, :]
    for k in range(1, left.shape[0]):
        total = total + left[k][:, None] * right[k][None, :]
    return total
