"""The nonnegative orthant: inequality rows. Self-dual; everything is elementwise."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike


@dataclass(frozen=True)
class Nonnegative:
    """``s >= 0``; the Nesterov-Todd scaling is ``W = diag(sqrt(s / z))``, so H = W'W = diag(s / z)."""

    size: int

    @property
    def degree(self) -> int:
        return self.size

    @property
    def symmetric(self) -> bool:
        return True

    def unit(self, dtype: DTypeLike) -> Array:
        return jnp.ones(self.size, dtype)

    def margin(self, v: Array) -> Array:
        return jnp.min(v, initial=jnp.inf)

    def rectify_scaling(self, rows: Array) -> Array:
        return rows

    def scaling(self, s: Array, z: Array, mu: Array) -> Array:
        """The diagonal of H, kept finite where z underflows."""
        return s / jnp.maximum(z, jnp.finfo(z.dtype).tiny)

    def hessian_product(self, scaling: Array, v: Array) -> Array:
        return scaling * v

    def spectrum(self, scaling: Array) -> tuple[Array, None]:
        return scaling, None

    def rotate(self, rotation: None, v: Array) -> Array:
        return v

    def unrotate(self, rotation: None, v: Array) -> Array:
        return v

    def affine_shift(self, scaling: Array, s: Array) -> Array:
        return s

    def combined_shift(
        self, scaling: Array, s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        """From ``(s + ds)(z + dz) = target``, the product of the affine steps taken as known."""
        return s + (ds * dz - target) / jnp.maximum(z, jnp.finfo(z.dtype).tiny)

    def max_step(
        self, scaling: Array, s: Array, z: Array, ds: Array, dz: Array, affine: bool = False
    ) -> Array:
        return jnp.min(jnp.minimum(step_to_zero(s, ds), step_to_zero(z, dz)), initial=jnp.inf)

    def distance(self, s: Array, z: Array) -> Array:
        return jnp.zeros((), s.dtype)

    def project(self, v: Array) -> Array:
        return jnp.maximum(v, 0)

    def project_spectrum(self, v: Array) -> tuple[Array, None]:
        return jnp.where(v > 0, jnp.ones_like(v), 0), None

    def project_product(self, v: Array, u: Array) -> Array:
        return jnp.where(v > 0, u, 0)

    def central_pair(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        # The larger root is exact; the smaller one follows from the product without cancellation.
        larger = 0.5 * (jnp.abs(v) + jnp.sqrt(v * v + 4 * mu))
        smaller = jnp.where(larger > 0, mu / jnp.where(larger > 0, larger, 1), 0)
        return jnp.where(v > 0, larger, smaller), jnp.where(v > 0, smaller, larger)

    def central_spectrum(self, v: Array, mu: ArrayLike) -> tuple[Array, None]:
        s, z = self.central_pair(v, mu)
        return s / (s + z), None

    def central_product(self, v: Array, mu: ArrayLike, u: Array) -> Array:
        return self.central_spectrum(v, mu)[0] * u


def step_to_zero(v: Array, dv: Array) -> Array:
    """The step at which each positive entry of v reaches zero; infinite where it doesn't fall."""
    return jnp.where(dv < 0, -v / jnp.where(dv < 0, dv, -1), jnp.inf)
