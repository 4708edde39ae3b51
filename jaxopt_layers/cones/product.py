"""The product of cones, which is all that the solver sees of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxopt_layers.cones.cone import Cone
from jaxopt_layers.cones.nonnegative import Nonnegative
from jaxopt_layers.cones.zero import Zero


@dataclass(frozen=True)
class Product:
    """``K = K_1 x K_2 x ...``: the interface of one cone over the concatenated rows."""

    cones: tuple[Cone, ...]

    @property
    def size(self) -> int:
        return sum(cone.size for cone in self.cones)

    @property
    def degree(self) -> int:
        return sum(cone.degree for cone in self.cones)

    def split(self, v: Array) -> list[Array]:
        """The rows of each cone."""
        parts, start = [], 0
        for cone in self.cones:
            parts.append(v[start : start + cone.size])
            start += cone.size
        return parts

    def unit(self, dtype: DTypeLike) -> Array:
        return _join([cone.unit(dtype) for cone in self.cones], dtype)

    def margin(self, v: Array) -> Array:
        smallest = jnp.array(jnp.inf, v.dtype)
        for cone, part in zip(self.cones, self.split(v), strict=True):
            smallest = jnp.minimum(smallest, cone.margin(part))
        return smallest

    def rectify_scaling(self, rows: Array) -> Array:
        parts = zip(self.cones, self.split(rows), strict=True)
        return _join([cone.rectify_scaling(part) for cone, part in parts], rows.dtype)

    def scaling(self, s: Array, z: Array) -> list[Any]:
        parts = zip(self.cones, self.split(s), self.split(z), strict=True)
        return [cone.scaling(s_part, z_part) for cone, s_part, z_part in parts]

    def hessian_diagonal(self, scaling: list[Any], dtype: DTypeLike) -> Array:
        parts = zip(self.cones, scaling, strict=True)
        return _join([cone.hessian_diagonal(part, dtype) for cone, part in parts], dtype)

    def affine_shift(self, scaling: list[Any], s: Array) -> Array:
        parts = zip(self.cones, scaling, self.split(s), strict=True)
        return _join([cone.affine_shift(part, s_part) for cone, part, s_part in parts], s.dtype)

    def combined_shift(
        self, scaling: list[Any], s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        vectors = zip(*(self.split(v) for v in (s, z, ds, dz)), strict=True)
        shifts = [
            cone.combined_shift(part, s_part, z_part, ds_part, dz_part, target)
            for cone, part, (s_part, z_part, ds_part, dz_part) in zip(
                self.cones, scaling, vectors, strict=True
            )
        ]
        return _join(shifts, s.dtype)

    def max_step(self, s: Array, z: Array, ds: Array, dz: Array) -> Array:
        vectors = zip(*(self.split(v) for v in (s, z, ds, dz)), strict=True)
        longest = jnp.array(jnp.inf, s.dtype)
        for cone, (s_part, z_part, ds_part, dz_part) in zip(self.cones, vectors, strict=True):
            longest = jnp.minimum(longest, cone.max_step(s_part, z_part, ds_part, dz_part))
        return longest

    def central_pair(self, v: Array, mu: Array) -> tuple[Array, Array]:
        pairs = [
            cone.central_pair(part, mu)
            for cone, part in zip(self.cones, self.split(v), strict=True)
        ]
        return _join([s for s, _ in pairs], v.dtype), _join([z for _, z in pairs], v.dtype)


def orthant_product(equalities: int, inequalities: int) -> Product:
    """The cone of a quadratic program: the zero cone, then the nonnegative orthant."""
    cones = [Zero(equalities), Nonnegative(inequalities)]
    return Product(tuple(cone for cone in cones if cone.size))


def _join(parts: list[Array], dtype: DTypeLike) -> Array:
    if len(parts) == 1:
        return parts[0]
    return jnp.concatenate(parts) if parts else jnp.zeros(0, dtype)
