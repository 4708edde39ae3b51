"""What is added to a matrix before its Cholesky factorization, so that it has one."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def regularize(matrix: Array, diagonal: Array, regularization: Array) -> Array:
    """Add `diagonal`, the regularization, and the rounding error of the diagonal's own entries."""
    size = matrix.shape[0]
    rounding = 2 * (size + 8) * jnp.finfo(matrix.dtype).eps
    row = diagonal[:, None]
    shift = row + regularization + rounding * jnp.abs(matrix + row)
    return matrix + jnp.where(jnp.eye(size, dtype=bool), shift, 0)
