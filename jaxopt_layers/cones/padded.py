"""Second-order cones of different sizes, mapped together as cones of the largest size.

A vector (t, x) is in the cone where (t, x, 0, ..., 0) is, and all that the larger cone does to such a vector
keeps its last entries at zero. So several sizes share one compiled function; the zeros cost operations, of
which small cones take few.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxopt_layers.cones.second_order import SecondOrder
from jaxopt_layers.cones.stack import Stack

# Sizes go together as long as the zeros don't make the vectors longer than this many times.
_MOST_PADDING = 2


@dataclass(frozen=True)
class PaddedSecondOrder:
    """Cones of the sizes `sizes`, each at least 2: the half line has no second coordinate to turn into."""

    sizes: tuple[int, ...]

    symmetric = True

    @property
    def size(self) -> int:
        return sum(self.sizes)

    @property
    def degree(self) -> int:
        return len(self.sizes)

    @property
    def stack(self) -> Stack:
        """The equal cones that these are parts of."""
        return Stack(SecondOrder(max(self.sizes)), len(self.sizes))

    def unit(self, dtype: DTypeLike) -> Array:
        return self._out(self.stack.unit(dtype))

    def margin(self, v: Array) -> Array:
        return self.stack.margin(self._into(v))

    def rectify_scaling(self, rows: Array) -> Array:
        """The geometric mean of each cone's rows."""
        padded = self._into(jnp.log(rows)).reshape(len(self.sizes), -1)
        means = jnp.sum(padded, axis=1) / np.array(self.sizes, rows.dtype)
        return self._out(jnp.repeat(jnp.exp(means), padded.shape[1]))

    def scaling(self, s: Array, z: Array, mu: Array) -> Any:
        return self.stack.scaling(self._into(s), self._into(z), mu)

    def hessian_product(self, scaling: Any, v: Array) -> Array:
        return self._out(self.stack.hessian_product(scaling, self._into(v)))

    def spectrum(self, scaling: Any) -> tuple[Array, Any]:
        return self._spectrum(self.stack.spectrum(scaling))

    def rotate(self, rotation: Any, v: Array) -> Array:
        return self._out(self.stack.rotate(rotation, self._into(v)))

    def unrotate(self, rotation: Any, v: Array) -> Array:
        return self._out(self.stack.unrotate(rotation, self._into(v)))

    def affine_shift(self, scaling: Any, s: Array) -> Array:
        return s

    def combined_shift(
        self, scaling: Any, s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        s, z, ds, dz = (self._into(v) for v in (s, z, ds, dz))
        return self._out(self.stack.combined_shift(scaling, s, z, ds, dz, target))

    def max_step(
        self, scaling: Any, s: Array, z: Array, ds: Array, dz: Array, affine: bool = False
    ) -> Array:
        s, z, ds, dz = (self._into(v) for v in (s, z, ds, dz))
        return self.stack.max_step(scaling, s, z, ds, dz, affine)

    def distance(self, s: Array, z: Array) -> Array:
        return jnp.zeros(0, s.dtype)

    def project(self, v: Array) -> Array:
        return self._out(self.stack.project(self._into(v)))

    def project_spectrum(self, v: Array) -> tuple[Array, Any]:
        return self._spectrum(self.stack.project_spectrum(self._into(v)))

    def project_product(self, v: Array, u: Array) -> Array:
        return self._out(self.stack.project_product(self._into(v), self._into(u)))

    def central_pair(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        s, z = self.stack.central_pair(self._into(v), mu)
        return self._out(s), self._out(z)

    def central_spectrum(self, v: Array, mu: ArrayLike) -> tuple[Array, Any]:
        return self._spectrum(self.stack.central_spectrum(self._into(v), mu))

    def central_product(self, v: Array, mu: ArrayLike, u: Array) -> Array:
        return self._out(self.stack.central_product(self._into(v), mu, self._into(u)))

    def _spectrum(self, padded: tuple[Array, Any]) -> tuple[Array, Any]:
        """The zeros have eigenvalues of their own, and a rotation leaves them where they are."""
        values, rotation = padded
        return self._out(values), rotation

    def _into(self, v: Array) -> Array:
        """The vector with its zeros."""
        sources = _sources(self.sizes)
        padded = jnp.concatenate([v, jnp.zeros(1, v.dtype)])
        return padded.at[sources].get(mode="promise_in_bounds")

    def _out(self, padded: Array) -> Array:
        """Without them."""
        return padded.at[_places(self.sizes)].get(mode="promise_in_bounds", unique_indices=True)


def grouped(sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Split sizes, equal ones standing together, into runs that are worth mapping together."""
    groups: list[list[int]] = []
    for _, run in groupby(sizes):
        equal = list(run)
        joined = [*groups[-1], *equal] if groups else []
        if min(joined, default=0) > 1 and max(joined) * len(joined) <= _MOST_PADDING * sum(joined):
            groups[-1] = joined
        else:
            groups.append(equal)
    return [tuple(group) for group in groups]


@lru_cache
def _sources(sizes: tuple[int, ...]) -> np.ndarray:
    """The row of each padded entry, one behind the last row for a zero."""
    starts = np.cumsum([0, *sizes[:-1]])[:, None]
    place = np.arange(max(sizes))[None, :]
    inside = place < np.array(sizes)[:, None]
    return np.where(inside, starts + place, sum(sizes)).ravel().astype(np.int32)


@lru_cache
def _places(sizes: tuple[int, ...]) -> np.ndarray:
    """The padded entry of each row."""
    return np.flatnonzero(_sources(sizes) < sum(sizes)).astype(np.int32)
