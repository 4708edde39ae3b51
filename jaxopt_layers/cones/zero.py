"""The zero cone {0}: equality rows. Its dual is the whole space, so z is free."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


@dataclass(frozen=True)
class Zero:
    """``s = 0``, H = 0, and no step of z leaves the dual cone."""

    size: int

    @property
    def degree(self) -> int:
        return 0

    def unit(self, dtype: DTypeLike) -> Array:
        return jnp.zeros(self.size, dtype)

    def margin(self, v: Array) -> Array:
        return jnp.array(jnp.inf, v.dtype)

    def rectify_scaling(self, rows: Array) -> Array:
        return rows

    def scaling(self, s: Array, z: Array) -> None:
        return None

    def hessian_diagonal(self, scaling: None, dtype: DTypeLike) -> Array:
        return jnp.zeros(self.size, dtype)

    def affine_shift(self, scaling: None, s: Array) -> Array:
        return jnp.zeros_like(s)

    def combined_shift(
        self, scaling: None, s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        return jnp.zeros_like(s)

    def max_step(self, s: Array, z: Array, ds: Array, dz: Array) -> Array:
        return jnp.array(jnp.inf, s.dtype)

    def central_pair(self, v: Array, mu: Array) -> tuple[Array, Array]:
        return jnp.zeros_like(v), -v
