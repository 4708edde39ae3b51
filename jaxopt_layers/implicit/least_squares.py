"""The minimum-norm least-squares solution of the derivative's system, for where it is singular."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.kkt import System
from jaxopt_layers.lapack import eigh
from jaxopt_layers.matrix import matmul

# Eigenvalues below this, relative to the largest, count as zero.
_RANK_TOLERANCE = {8: 1e-8, 4: 1e-4}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PseudoInverse:
    """``K^+ = T (T K T)^+ T``, the dual variables scaled by T = diag(min(1, H^-1/2)).

    T keeps active rows as they are and gives inactive ones, whose H is huge, a diagonal of -1, so that
    eigenvalues tell rank from scaling.
    """

    vectors: Array
    inverse_values: Array
    scale: Array

    def solve(self, right: Array) -> Array:
        coordinates = matmul(self.scale * right, self.vectors)
        return self.scale * matmul(self.vectors, self.inverse_values * coordinates)


def pseudo_inverse(system: System) -> PseudoInverse:
    """Eigendecomposition of the dense symmetric system, O((n + rows)^3)."""
    program, hessian = system.program, system.hessian
    n = program.linear.shape[0]
    row_scale = 1 / jnp.sqrt(jnp.maximum(hessian, 1))
    scaled_hessian = jnp.minimum(hessian, 1)
    identity = jnp.eye(n, dtype=hessian.dtype)
    rows = program.rows.product(identity) * row_scale[None, :]
    top = jnp.concatenate([program.quadratic_product(identity), rows], axis=1)
    bottom = jnp.concatenate([rows.T, -jnp.diag(scaled_hessian)], axis=1)
    values, vectors = eigh(jnp.concatenate([top, bottom]))
    threshold = _RANK_TOLERANCE[hessian.dtype.itemsize] * jnp.max(jnp.abs(values), initial=0)
    kept = jnp.abs(values) > threshold
    inverse_values = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    scale = jnp.concatenate([jnp.ones(n, hessian.dtype), row_scale])
    return PseudoInverse(vectors, inverse_values, scale)
