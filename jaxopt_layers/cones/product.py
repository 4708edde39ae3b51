"""The product of cones, which is all that the solver sees of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxopt_layers.cones.cone import Cone
from jaxopt_layers.cones.nonnegative import Nonnegative
from jaxopt_layers.cones.nonsymmetric import ThreeDimensional
from jaxopt_layers.cones.rotation import Rotation
from jaxopt_layers.cones.stack import Stack
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

    @property
    def symmetric(self) -> bool:
        return all(cone.symmetric for cone in self.cones)

    @property
    def is_orthant(self) -> bool:
        """Whether all is diagonal: the cone of a linear or quadratic program."""
        return all(isinstance(cone, Zero | Nonnegative) for cone in self.cones)

    @property
    def has_slack(self) -> np.ndarray:
        """Marks the rows of cones other than the zero cone."""
        parts = [np.full(cone.size, not isinstance(cone, Zero)) for cone in self.cones]
        return np.concatenate([np.zeros(0, bool), *parts])

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
        for margin in self._each(lambda cone, part: cone.margin(part), v):
            smallest = jnp.minimum(smallest, margin)
        return smallest

    def rectify_scaling(self, rows: Array) -> Array:
        return self._vector(lambda cone, part: cone.rectify_scaling(part), rows)

    def scaling(self, s: Array, z: Array, mu: Array) -> list[Any]:
        return self._each(lambda cone, s, z: cone.scaling(s, z, mu), s, z)

    def hessian_product(self, scaling: list[Any], v: Array) -> Array:
        parts = zip(self.cones, scaling, self.split(v), strict=True)
        return _join([cone.hessian_product(part, v) for cone, part, v in parts], v.dtype)

    def spectrum(self, scaling: list[Any], dtype: DTypeLike) -> tuple[Array, Rotation]:
        pairs = [cone.spectrum(part) for cone, part in zip(self.cones, scaling, strict=True)]
        return self._spectra(pairs, dtype)

    def affine_shift(self, scaling: list[Any], s: Array) -> Array:
        parts = zip(self.cones, scaling, self.split(s), strict=True)
        return _join([cone.affine_shift(part, s_part) for cone, part, s_part in parts], s.dtype)

    def combined_shift(
        self, scaling: list[Any], s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        vectors = zip(*(self.split(v) for v in (s, z, ds, dz)), strict=True)
        shifts = [
            cone.combined_shift(part, s, z, ds, dz, target)
            for cone, part, (s, z, ds, dz) in zip(self.cones, scaling, vectors, strict=True)
        ]
        return _join(shifts, s.dtype)

    def max_step(
        self, scaling: list[Any], s: Array, z: Array, ds: Array, dz: Array, affine: bool = False
    ) -> Array:
        longest = jnp.array(jnp.inf, s.dtype)
        vectors = zip(*(self.split(v) for v in (s, z, ds, dz)), strict=True)
        for cone, part, (s, z, ds, dz) in zip(self.cones, scaling, vectors, strict=True):
            longest = jnp.minimum(longest, cone.max_step(part, s, z, ds, dz, affine))
        return longest

    def interior(self, s: Array, z: Array) -> Array:
        """Whether the pairs of all cones that aren't symmetric are interior; the others have `max_step`."""
        inside = jnp.ones((), bool)
        vectors = zip(self.cones, self.split(s), self.split(z), strict=True)
        for cone, s, z in vectors:
            if isinstance(cone, ThreeDimensional | Stack):
                inside = inside & jnp.all(cone.interior(s, z))
        return inside

    def distance(self, s: Array, z: Array) -> Array:
        """Of every cone that isn't symmetric, joined."""
        vectors = zip(self.cones, self.split(s), self.split(z), strict=True)
        parts = [cone.distance(s, z) for cone, s, z in vectors if not cone.symmetric]
        return _join(parts, s.dtype)

    def project(self, v: Array) -> Array:
        return self._vector(lambda cone, v: cone.project(v), v)

    def project_spectrum(self, v: Array) -> tuple[Array, Rotation]:
        pairs = self._each(lambda cone, v: cone.project_spectrum(v), v)
        return self._spectra(pairs, v.dtype)

    def project_product(self, v: Array, u: Array) -> Array:
        return self._vector(lambda cone, v, u: cone.project_product(v, u), v, u)

    def central_pair(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        pairs = self._each(lambda cone, v: cone.central_pair(v, mu), v)
        return _join([s for s, _ in pairs], v.dtype), _join([z for _, z in pairs], v.dtype)

    def central_spectrum(self, v: Array, mu: ArrayLike) -> tuple[Array, Rotation]:
        pairs = self._each(lambda cone, v: cone.central_spectrum(v, mu), v)
        return self._spectra(pairs, v.dtype)

    def central_product(self, v: Array, mu: ArrayLike, u: Array) -> Array:
        return self._vector(lambda cone, v, u: cone.central_product(v, mu, u), v, u)

    def _each(self, function: Callable[..., Any], *vectors: Array) -> list[Any]:
        split = zip(*(self.split(v) for v in vectors), strict=True)
        return [function(cone, *parts) for cone, parts in zip(self.cones, split, strict=True)]

    def _vector(self, function: Callable[..., Array], *vectors: Array) -> Array:
        return _join(self._each(function, *vectors), vectors[0].dtype)

    def _spectra(self, pairs: list[tuple[Array, Any]], dtype: DTypeLike) -> tuple[Array, Rotation]:
        values = _join([values for values, _ in pairs], dtype)
        return values, Rotation(self.cones, [rotation for _, rotation in pairs])


def orthant_product(equalities: int, inequalities: int) -> Product:
    """The cone of a quadratic program: the zero cone, then the nonnegative orthant."""
    cones = [Zero(equalities), Nonnegative(inequalities)]
    return Product(tuple(cone for cone in cones if cone.size))


def _join(parts: list[Array], dtype: DTypeLike) -> Array:
    if len(parts) == 1:
        return parts[0]
    return jnp.concatenate(parts) if parts else jnp.zeros(0, dtype)
