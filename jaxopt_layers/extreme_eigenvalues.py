"""The smallest and the largest eigenvalue of a symmetric matrix, without the others or any vector.

The library reduces the matrix to a tridiagonal T with diagonal d and off-diagonal e; the smallest root of
its characteristic polynomial p comes by Laguerre's method (Parlett 1998, "The symmetric eigenvalue problem",
section 4.9). From the left of all roots l_i of a real polynomial of degree n that has n of them,

    t <- t + n / (S1 + sqrt((n - 1) (n S2 - S1^2))),   S1 = sum 1 / (l_i - t),   S2 = sum 1 / (l_i - t)^2,

rises to the smallest one and never beyond it: cubically where it is single, linearly in a cluster. S1 and
S2 are sums over the pivots of T - t I, all of which are positive left of the smallest root,

    q_i = d_i - t - e_i^2 / q_(i-1),   S1 = -sum q_i' / q_i,   S2 = sum (q_i' / q_i)^2 - q_i'' / q_i.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.lapack import eigvalsh, tridiagonal
from jaxopt_layers.matrix import constant_like

# Passes end with a step of this power of rounding, relative to the matrix's norm: of a single eigenvalue
# the rest is then below rounding, of a cluster about as large. A pass costs a microsecond.
_SHORTEST, _MOST_PASSES = 0.75, 256
# Pivots that are written out one after the other, as one kernel: more take longer to compile.
_WRITTEN_OUT = 64


def smallest_eigenvalue(matrix: Array) -> Array:
    """Of a symmetric matrix, whose lower triangle is read; NaN where the matrix is not finite."""
    return _extremes(matrix, largest=False)[0]


def extreme_eigenvalues(matrix: Array) -> tuple[Array, Array]:
    """The smallest and the largest one."""
    smallest, largest = _extremes(matrix, largest=True)
    return smallest, largest


def _extremes(matrix: Array, largest: bool) -> Array:
    side = matrix.shape[0]
    if (
        side == 1 or jax.default_backend() != "cpu"
    ):  # an accelerator would pay for each small kernel
        values = matrix[0] if side == 1 else eigvalsh(matrix)
        return jnp.stack([values[0], values[-1]])
    diagonal, off_diagonal = tridiagonal(matrix)
    signs = (1, -1) if largest else (1,)
    diagonals = jnp.stack([sign * diagonal for sign in signs])
    roots = jax.vmap(partial(_smallest_root, off_diagonal=off_diagonal))(diagonals)
    return jnp.stack([sign * root for sign, root in zip(signs, roots, strict=True)])


def _smallest_root(diagonal: Array, off_diagonal: Array) -> Array:
    size, rounding = diagonal.shape[0], jnp.finfo(diagonal.dtype)
    # Gershgorin's discs
    radius = jnp.abs(off_diagonal)
    radius = jnp.pad(radius, (0, 1)) + jnp.pad(radius, (1, 0))
    left, right = jnp.min(diagonal - radius), jnp.max(diagonal + radius)
    norm = jnp.maximum(jnp.abs(left), jnp.abs(right)) + rounding.tiny
    shortest = float(rounding.eps) ** _SHORTEST * norm
    squares = off_diagonal * off_diagonal

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        _, step, passes = state
        return (step > shortest) & (passes < _MOST_PASSES)

    def advance(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        # The step is taken a pass later than it is made: then the pivots are one kernel's.
        point, step, passes = state
        point = point + step
        first, second, smallest_pivot = _sums(diagonal - point, squares)
        spread = jnp.maximum((size - 1) * (size * second - first * first), 0)
        step = size / (first + jnp.sqrt(spread))
        return point, jnp.where(smallest_pivot > 0, step, 0), passes + 1

    zero = constant_like(0, norm, jnp.int32)
    margin = 2 * shortest
    return lax.while_loop(unfinished, advance, (left - 2 * margin, margin, zero))[0]


def _sums(diagonal: Array, squares: Array) -> tuple[Array, Array, Array]:
    """S1, S2 and the smallest pivot of the tridiagonal matrix with this diagonal."""
    inverse = 1 / diagonal[0]
    slope = -inverse

    def eliminate(
        state: tuple[Array, ...], entries: tuple[Array, Array]
    ) -> tuple[tuple[Array, ...], None]:
        first, second, smallest, inverse, slope, curvature = state
        shifted, square = entries
        ratio = square * inverse
        pivot = shifted - ratio
        inverse = 1 / pivot
        curvature = ratio * (curvature - 2 * slope * slope) * inverse
        slope = (ratio * slope - 1) * inverse
        sums = first - slope, second + (slope * slope - curvature)
        return (*sums, jnp.minimum(smallest, pivot), inverse, slope, curvature), None

    start = (inverse, inverse * inverse, diagonal[0], inverse, slope, 0 * inverse)
    final, _ = lax.scan(eliminate, start, (diagonal[1:], squares), unroll=_WRITTEN_OUT)
    return final[0], final[1], final[2]
