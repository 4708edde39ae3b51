"""The symmetric root of a positive semidefinite matrix, differentiable where eigenvalues are equal."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


@jax.custom_jvp
def psd_root(matrix: Array) -> Array:
    """S symmetric with S S = matrix; eigenvalues that are negative by rounding count as zero."""
    return _root(matrix)[0]


def _root(matrix: Array) -> tuple[Array, Array, Array]:
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    roots = jnp.sqrt(jnp.maximum(values, 0))
    return (vectors * roots[None, :]) @ vectors.T, roots, vectors


@psd_root.defjvp
def _psd_root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """dS S + S dS = dP: entries of V'dP V over sums of roots."""
    root, roots, vectors = _root(primals[0])
    rotated = vectors.T @ ((tangents[0] + tangents[0].T) / 2) @ vectors
    sums = roots[:, None] + roots[None, :]
    size = jnp.maximum(jnp.max(roots), jnp.finfo(roots.dtype).tiny)
    safe = sums > jnp.finfo(roots.dtype).eps * size
    change = jnp.where(safe, rotated / jnp.where(safe, sums, 1), 0)
    return root, vectors @ change @ vectors.T
