"""A change of coordinates of symmetric matrices that need not be orthogonal."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Congruence:
    """``V = C X C'`` of coordinates X, for the matrix C or a stack of them; their inverses come along."""

    matrix: Array
    inverse: Array

    @property
    def dual(self) -> Congruence:
        """The congruence by the inverse transpose; an orthogonal matrix is its own."""
        return Congruence(jnp.swapaxes(self.inverse, -1, -2), jnp.swapaxes(self.matrix, -1, -2))
