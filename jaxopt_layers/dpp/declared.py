"""Parameters that aren't what the user declared become NaN, so that the status is INVALID_INPUT.

The sign of a traced value can't raise an error, and a wrong one would make the problem another problem.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def _nonneg(value: Array) -> list[Any]:
    return [jnp.where(value >= 0, value, jnp.nan)]


def _nonpos(value: Array) -> list[Any]:
    return [jnp.where(value <= 0, value, jnp.nan)]


def _psd(value: Array) -> list[Any]:
    """Semidefinite up to rounding: a Cholesky factor of the matrix slightly lifted exists."""
    fixed = jax.lax.stop_gradient(value)
    n = value.shape[-1]
    size = jnp.max(jnp.abs(fixed))
    lift = 10 * n * jnp.finfo(value.dtype).eps * size + jnp.finfo(value.dtype).tiny
    factor = jnp.linalg.cholesky((fixed + fixed.T) / 2 + lift * jnp.eye(n, dtype=value.dtype))
    symmetric = jnp.max(jnp.abs(fixed - fixed.T)) <= jnp.sqrt(jnp.finfo(value.dtype).eps) * size
    return [jnp.where(jnp.all(jnp.isfinite(factor)) & symmetric, value, jnp.nan)]


CHECKED = {"nonneg": _nonneg, "nonpos": _nonpos, "psd": _psd}
