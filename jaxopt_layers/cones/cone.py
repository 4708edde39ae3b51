"""What the solver asks of a cone."""

from __future__ import annotations

from typing import Any, Protocol

from jax import Array
from jax.typing import ArrayLike, DTypeLike


class Cone(Protocol):
    """One cone K, or a stack of equal ones; pure functions of arrays of length `size`.

    Every method is total: it returns arrays of the right shape for a cone of any size, zero included.
    `scaling` returns what the other methods need at a pair (s, z), as a pytree, so that a cone holds
    no arrays and hashes by its dimensions.

    The linearized complementarity that every method serves (Goulart & Chen 2024, section 4) is
    ``H dz + ds = -shift``, with H the Hessian of the scaling and `shift` the affine or the combined
    right-hand side. The linear algebra sees H, and the derivatives of projections, as a spectrum:
    eigenvalues and an orthogonal U that `rotate` and `unrotate` apply, so that every matrix between
    the rows of a KKT system is diagonal.
    """

    @property
    def size(self) -> int:
        """Number of rows."""
        ...

    @property
    def degree(self) -> int:
        """Degree of the barrier: the value of s'z / mu on the central path."""
        ...

    @property
    def symmetric(self) -> bool:
        """Whether the cone is self-dual and homogeneous, with a Nesterov-Todd scaling."""
        ...

    def unit(self, dtype: DTypeLike) -> Array:
        """The central point e with s = z = e, mu = 1; zero where the cone has no interior."""
        ...

    def margin(self, v: Array) -> Array:
        """Largest t with ``v - t e`` in the cone; infinite where no step can leave it."""
        ...

    def rectify_scaling(self, rows: Array) -> Array:
        """The nearest row scaling under which the cone maps onto itself."""
        ...

    def scaling(self, s: Array, z: Array, mu: Array) -> Any:
        """The scaling at an interior pair."""
        ...

    def hessian_product(self, scaling: Any, v: Array) -> Array:
        """H v."""
        ...

    def spectrum(self, scaling: Any) -> tuple[Array, Any]:
        """Eigenvalues of H and the rotation U of ``H = U diag(values) U'``."""
        ...

    def rotate(self, rotation: Any, v: Array) -> Array:
        """U'v."""
        ...

    def unrotate(self, rotation: Any, v: Array) -> Array:
        """U v."""
        ...

    def affine_shift(self, scaling: Any, s: Array) -> Array:
        """Right-hand side of the affine (predictor) step."""
        ...

    def combined_shift(
        self, scaling: Any, s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        """Right-hand side of the centring and correcting step: aims at ``s o z = target e``."""
        ...

    def max_step(
        self, scaling: Any, s: Array, z: Array, ds: Array, dz: Array, affine: bool = False
    ) -> Array:
        """Largest step, possibly infinite, that keeps s + step ds in K and z + step dz in K*.

        `affine`: the direction is the affine one, ``H dz + ds = -s``, of which a cone may know more.

        Infinite for a cone that isn't symmetric, which has a method `interior` to tell where it ends.
        """
        ...

    def distance(self, s: Array, z: Array) -> Array:
        """How far a pair is from the cone's own central path, whatever its mu; infinite outside.

        The sum of both barriers and ``degree log(s'z / degree)``, at least zero. Cones that are symmetric
        give zero.
        """
        ...

    def project(self, v: Array) -> Array:
        """The nearest point of K."""
        ...

    def project_spectrum(self, v: Array) -> tuple[Array, Any]:
        """Eigenvalues and rotation of the projection's (generalized) derivative."""
        ...

    def project_product(self, v: Array, u: Array) -> Array:
        """The projection's derivative times u, itself differentiable."""
        ...

    def central_pair(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        """The pair (s, z) with ``s - z = v`` and ``s o z = mu e``: the projection, smoothed by mu."""
        ...

    def central_spectrum(self, v: Array, mu: ArrayLike) -> tuple[Array, Any]:
        """Eigenvalues and rotation of ds/dv of the central pair."""
        ...

    def central_product(self, v: Array, mu: ArrayLike, u: Array) -> Array:
        """(ds/dv) u, itself differentiable."""
        ...
