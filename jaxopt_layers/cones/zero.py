"""The zero cone {0}: equality rows. Its dual is the whole space, so z is free."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike


@dataclass(frozen=True)
class Zero:
    """``s = 0``, H = 0, and no step of z leaves the dual cone."""

    size: int

    @property
    def degree(self) -> int:
        return 0

    @property
    def symmetric(self) -> bool:
        return True

    def unit(self, dtype: DTypeLike) -> Array:
        return jnp.zeros(self.size, dtype)

    def margin(self, v: Array) -> Array:
        return jnp.array(jnp.inf, v.dtype)

    def rectify_scaling(self, rows: Array) -> Array:
        return rows

    def scaling(self, s: Array, z: Array, mu: Array) -> Array:
        return jnp.zeros_like(s)

    def hessian_product(self, scaling: Array, v: Array) -> Array:
        return jnp.zeros_like(v)

    def spectrum(self, scaling: Array) -> tuple[Array, None]:
        return scaling, None

    def rotate(self, rotation: None, v: Array) -> Array:
        return v

    def unrotate(self, rotation: None, v: Array) -> Array:
        return v

    def affine_shift(self, scaling: Array, s: Array) -> Array:
        return jnp.zeros_like(s)

    def combined_shift(
        self, scaling: Array, s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        return jnp.zeros_like(s)

    def max_step(
        self, scaling: Array, s: Array, z: Array, ds: Array, dz: Array, affine: bool = False
    ) -> Array:
        return jnp.array(jnp.inf, s.dtype)

    def distance(self, s: Array, z: Array) -> Array:
        return jnp.zeros((), s.dtype)

    def project(self, v: Array) -> Array:
        return jnp.zeros_like(v)

    def project_spectrum(self, v: Array) -> tuple[Array, None]:
        return jnp.zeros_like(v), None

    def project_product(self, v: Array, u: Array) -> Array:
        return jnp.zeros_like(u)

    def central_pair(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        return jnp.zeros_like(v), -v

    def central_spectrum(self, v: Array, mu: ArrayLike) -> tuple[Array, None]:
        return jnp.zeros_like(v), None

    def central_product(self, v: Array, mu: ArrayLike, u: Array) -> Array:
        return jnp.zeros_like(u)
