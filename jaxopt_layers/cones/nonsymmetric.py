"""The two kinds of cones that aren't symmetric: a cone with its barrier, and the dual of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxopt_layers.cones.three_dimensional import (
    Barrier,
    correction,
    factor_product,
    factor_spectrum,
    finite_or_zero,
    scaling_factors,
    times,
)
from jaxopt_layers.matrix import dot


class Projection(NamedTuple):
    """The Euclidean projection on the primal cone, and its derivative."""

    project: Callable[[Array], Array]
    spectrum: Callable[[Array], tuple[Array, Array]]
    product: Callable[[Array, Array], Array]


class ThreeDimensional:
    """The part of the interface that a primal cone and its dual have in common.

    The scaling is the factor B of ``H = B B'``; a rotation is an orthogonal matrix.
    """

    symmetric = False
    size = 3
    degree = 3

    @property
    def functions(self) -> Barrier:
        """The barriers; of the primal cone for a dual one as well."""
        raise NotImplementedError

    @property
    def projection(self) -> Projection:
        """The projection; on the primal cone for a dual one as well."""
        raise NotImplementedError

    def unit(self, dtype: DTypeLike) -> Array:
        """The point with ``e = -grad f*(e)``."""
        raise NotImplementedError

    def rectify_scaling(self, rows: Array) -> Array:
        return jnp.full_like(rows, jnp.exp(jnp.mean(jnp.log(rows))))

    def hessian_product(self, scaling: Array, v: Array) -> Array:
        return factor_product(scaling, v)

    def spectrum(self, scaling: Array) -> tuple[Array, Array]:
        return factor_spectrum(scaling)

    def rotate(self, rotation: Array, v: Array) -> Array:
        return times(rotation.T, v)

    def unrotate(self, rotation: Array, v: Array) -> Array:
        return times(rotation, v)

    def affine_shift(self, scaling: Array, s: Array) -> Array:
        return s

    def max_step(
        self, scaling: Array, s: Array, z: Array, ds: Array, dz: Array, affine: bool = False
    ) -> Array:
        """Infinite: `interior` tells how far a step may go."""
        return jnp.full_like(s[0], jnp.inf)

    def project(self, v: Array) -> Array:
        return self.projection.project(v)

    def project_spectrum(self, v: Array) -> tuple[Array, Array]:
        return self.projection.spectrum(v)

    def project_product(self, v: Array, u: Array) -> Array:
        return self.projection.product(v, u)

    def central_pair(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        raise NotImplementedError

    def central_product(self, v: Array, mu: ArrayLike, u: Array) -> Array:
        """``(ds/dv) u``, itself differentiable."""
        return jax.jvp(lambda v: self.central_pair(v, mu)[0], (v,), (u,))[1]

    def interior(self, s: Array, z: Array) -> Array:
        """Whether s is inside the cone and z inside its dual: a few logarithms, unlike `distance`."""
        raise NotImplementedError

    def _interior(self, s: Array, z: Array) -> Array:
        """Of a pair in K x K*. The product is positive there, but for rounding."""
        inside = self.functions.interior(s) & self.functions.dual_interior(z)
        return inside & (dot(s, z) > 0)

    def _distance(self, s: Array, z: Array) -> Array:
        """``f(s) + f*(z) + 3 + 3 log(s'z / 3)`` of a pair in K x K*, infinite outside."""
        inside = self._interior(s, z)
        value = self.functions.value(s) + self.functions.dual_value(z) + 3
        value = value + 3 * jnp.log(jnp.where(inside, dot(s, z) / 3, 1))
        return jnp.where(inside, value, jnp.inf)

    def _central(self, v: Array, mu: ArrayLike) -> tuple[Array, Array, Array, Array]:
        """s and z of the pair in K x K*, and the spectrum of ``mu grad^2 f*(z)``."""
        unit = jnp.sqrt(mu)
        s, z, distance = self.functions.central(v / unit)
        return s * unit, z * unit, *factor_spectrum(self.functions.dual_factor(z, distance))


class PrimalCone(ThreeDimensional):
    """s in K and z in K*."""

    def margin(self, v: Array) -> Array:
        """Infinite in the interior and minus infinite elsewhere."""
        return jnp.where(self.functions.interior(v), jnp.inf, -jnp.inf).astype(v.dtype)

    def interior(self, s: Array, z: Array) -> Array:
        return self._interior(s, z)

    def distance(self, s: Array, z: Array) -> Array:
        return self._distance(s, z)

    def scaling(self, s: Array, z: Array, mu: Array) -> Array:
        """The factor at an interior pair; the pair's own s'z / 3 stands for mu."""
        return scaling_factors(self.functions, s, z)[0]

    def combined_shift(
        self, scaling: Array, s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        """From ``s + ds + target grad f*(z + dz) = 0``, to second order."""
        gradient, eta = correction(self.functions, z, ds, dz)
        return s + target * gradient + eta

    def central_pair(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        s, z, _, _ = self._central(v, mu)
        return s, z

    def central_spectrum(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        """Of ``ds/dv = H (I + H)^-1``."""
        _, _, values, rotation = self._central(v, mu)
        return 1 / (1 + 1 / values), rotation


class DualCone(ThreeDimensional):
    """s in K* and z in K, the barriers being those of K: everything with s and z swapped."""

    def margin(self, v: Array) -> Array:
        """Infinite in the interior and minus infinite elsewhere."""
        return jnp.where(self.functions.dual_interior(v), jnp.inf, -jnp.inf).astype(v.dtype)

    def interior(self, s: Array, z: Array) -> Array:
        return self._interior(z, s)

    def distance(self, s: Array, z: Array) -> Array:
        return self._distance(z, s)

    def scaling(self, s: Array, z: Array, mu: Array) -> Array:
        """The factor at an interior pair; the pair's own s'z / 3 stands for mu."""
        return scaling_factors(self.functions, z, s)[1]

    def combined_shift(
        self, scaling: Array, s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        """H times the shift of the swapped pair, ``z + target grad f*(s) + eta``.

        The scaling maps z to s and the shadow -grad f*(s) to -grad f(z), which leaves only eta to
        be multiplied.
        """
        _, eta = correction(self.functions, s, dz, ds)
        gradient = finite_or_zero(self.functions.gradient(z))
        return s + target * gradient + finite_or_zero(factor_product(scaling, eta))

    def project(self, v: Array) -> Array:
        """Moreau's decomposition: v plus the projection of -v on the primal cone."""
        return v + self.projection.project(-v)

    def project_spectrum(self, v: Array) -> tuple[Array, Array]:
        values, rotation = self.projection.spectrum(-v)
        return 1 - values, rotation

    def project_product(self, v: Array, u: Array) -> Array:
        return u - self.projection.product(-v, u)

    def central_pair(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        z, s, _, _ = self._central(-v, mu)
        return s, z

    def central_spectrum(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        """Of ``ds/dv = (I + H)^-1``, H being that of the swapped pair."""
        _, _, values, rotation = self._central(-v, mu)
        return 1 / (1 + values), rotation
