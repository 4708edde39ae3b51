"""What the solver asks of a cone."""

from __future__ import annotations

from typing import Any, Protocol

from jax import Array
from jax.typing import DTypeLike


class Cone(Protocol):
    """One factor K of the product in ``A x + s = b, s in K``; pure functions of arrays of length `size`.

    Every method is total: it returns arrays of the right shape for a cone of any size, zero included.
    `scaling` returns what the other methods need at a pair (s, z), as a pytree, so that a cone holds
    no arrays and hashes by its dimensions.

    The linearized complementarity that every method serves (Goulart & Chen 2024, section 4) is
    ``H dz + ds = -shift``, with H the Hessian of the scaling and `shift` the affine or the combined
    right-hand side.
    """

    @property
    def size(self) -> int:
        """Number of rows."""
        ...

    @property
    def degree(self) -> int:
        """Degree of the barrier: the value of s'z / mu on the central path."""
        ...

    def unit(self, dtype: DTypeLike) -> Array:
        """The unit element e; zero where the cone has no interior."""
        ...

    def margin(self, v: Array) -> Array:
        """Largest t with ``v - t e`` in the cone; infinite where no step can leave it."""
        ...

    def rectify_scaling(self, rows: Array) -> Array:
        """The nearest row scaling under which the cone maps onto itself."""
        ...

    def scaling(self, s: Array, z: Array) -> Any:
        """The scaling at an interior pair."""
        ...

    def hessian_diagonal(self, scaling: Any, dtype: DTypeLike) -> Array:
        """The diagonal of H, for the cones whose H is diagonal."""
        ...

    def affine_shift(self, scaling: Any, s: Array) -> Array:
        """Right-hand side of the affine (predictor) step."""
        ...

    def combined_shift(
        self, scaling: Any, s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        """Right-hand side of the centring and correcting step: aims at ``s o z = target e``."""
        ...

    def max_step(self, s: Array, z: Array, ds: Array, dz: Array) -> Array:
        """Largest step, possibly infinite, that keeps s + step ds in K and z + step dz in K*."""
        ...

    def central_pair(self, v: Array, mu: Array) -> tuple[Array, Array]:
        """The pair (s, z) with ``s - z = v`` and ``s o z = mu e``: the projection, smoothed by mu."""
        ...
