"""Equal cones behind one another, mapped together: the trace does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxopt_layers.cones.cone import Cone


@dataclass(frozen=True)
class Stack:
    """`count` copies of a cone. `exponents`: one for each copy of a power cone, which differ in it."""

    cone: Any
    count: int
    exponents: tuple[float, ...] | None = None

    @property
    def size(self) -> int:
        return self.count * self.cone.size

    @property
    def degree(self) -> int:
        return self.count * self.cone.degree

    @property
    def symmetric(self) -> bool:
        return self.cone.symmetric

    def unit(self, dtype: DTypeLike) -> Array:
        if self.exponents is None:
            return jnp.tile(self.cone.unit(dtype), self.count)
        return self._map(lambda cone: cone.unit(dtype), [], dtype).reshape(self.size)

    def margin(self, v: Array) -> Array:
        return jnp.min(self._map(lambda cone, v: cone.margin(v), [self._rows(v)], v.dtype))

    def rectify_scaling(self, rows: Array) -> Array:
        return self._vectors(lambda cone, v: cone.rectify_scaling(v), rows)

    def scaling(self, s: Array, z: Array, mu: Array) -> Any:
        pair = [self._rows(s), self._rows(z)]
        return self._map(lambda cone, s, z: cone.scaling(s, z, mu), pair, s.dtype)

    def hessian_product(self, scaling: Any, v: Array) -> Array:
        arguments = [scaling, self._rows(v)]
        return self._map(lambda cone, w, v: cone.hessian_product(w, v), arguments, v.dtype).ravel()

    def spectrum(self, scaling: Any) -> tuple[Array, Any]:
        dtype = jax.tree.leaves(scaling)[0].dtype
        values, rotation = self._map(lambda cone, w: cone.spectrum(w), [scaling], dtype)
        return values.ravel(), rotation

    def rotate(self, rotation: Any, v: Array) -> Array:
        arguments = [rotation, self._rows(v)]
        return self._map(lambda cone, u, v: cone.rotate(u, v), arguments, v.dtype).ravel()

    def unrotate(self, rotation: Any, v: Array) -> Array:
        arguments = [rotation, self._rows(v)]
        return self._map(lambda cone, u, v: cone.unrotate(u, v), arguments, v.dtype).ravel()

    def affine_shift(self, scaling: Any, s: Array) -> Array:
        return s

    def combined_shift(
        self, scaling: Any, s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        arguments = [scaling, *map(self._rows, (s, z, ds, dz))]
        return self._map(
            lambda cone, w, s, z, ds, dz: cone.combined_shift(w, s, z, ds, dz, target),
            arguments,
            s.dtype,
        ).ravel()

    def max_step(
        self, scaling: Any, s: Array, z: Array, ds: Array, dz: Array, affine: bool = False
    ) -> Array:
        if not self.symmetric:
            return jnp.array(jnp.inf, s.dtype)
        arguments = [scaling, *map(self._rows, (s, z, ds, dz))]
        steps = self._map(lambda cone, *values: cone.max_step(*values, affine), arguments, s.dtype)
        return jnp.min(steps)

    def interior(self, s: Array, z: Array) -> Array:
        """Of every copy, (count,); none of cones that are symmetric."""
        if self.symmetric:
            return jnp.ones(0, bool)
        pair = [self._rows(s), self._rows(z)]
        return self._map(lambda cone, s, z: cone.interior(s, z), pair, s.dtype)

    def distance(self, s: Array, z: Array) -> Array:
        """Of every copy, (count,)."""
        if self.symmetric:
            return jnp.zeros(0, s.dtype)
        pair = [self._rows(s), self._rows(z)]
        return self._map(lambda cone, s, z: cone.distance(s, z), pair, s.dtype)

    def project(self, v: Array) -> Array:
        return self._vectors(lambda cone, v: cone.project(v), v)

    def project_spectrum(self, v: Array) -> tuple[Array, Any]:
        rows = [self._rows(v)]
        values, rotation = self._map(lambda cone, v: cone.project_spectrum(v), rows, v.dtype)
        return values.ravel(), rotation

    def project_product(self, v: Array, u: Array) -> Array:
        return self._vectors(lambda cone, v, u: cone.project_product(v, u), v, u)

    def central_pair(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        rows = [self._rows(v)]
        s, z = self._map(lambda cone, v: cone.central_pair(v, mu), rows, v.dtype)
        return s.ravel(), z.ravel()

    def central_spectrum(self, v: Array, mu: ArrayLike) -> tuple[Array, Any]:
        rows = [self._rows(v)]
        values, rotation = self._map(lambda cone, v: cone.central_spectrum(v, mu), rows, v.dtype)
        return values.ravel(), rotation

    def central_product(self, v: Array, mu: ArrayLike, u: Array) -> Array:
        return self._vectors(lambda cone, v, u: cone.central_product(v, mu, u), v, u)

    def _rows(self, v: Array) -> Array:
        return v.reshape(self.count, self.cone.size)

    def _vectors(self, function: Callable[..., Array], *vectors: Array) -> Array:
        rows = [self._rows(v) for v in vectors]
        return self._map(function, rows, vectors[0].dtype).reshape(self.size)

    def _map(self, function: Callable[..., Any], arguments: list[Any], dtype: DTypeLike) -> Any:
        """`function(cone, *arguments)` for every copy."""
        if self.exponents is None:
            return jax.vmap(lambda *values: function(self.cone, *values))(*arguments)
        exponents = jnp.array(self.exponents, dtype)
        return jax.vmap(lambda exponent, *values: function(self._member(exponent), *values))(
            exponents, *arguments
        )

    def _member(self, exponent: Array) -> Cone:
        return replace(self.cone, exponent=exponent)
