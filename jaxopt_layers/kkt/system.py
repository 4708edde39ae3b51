"""The KKT system of one step or one derivative, and which form it is factored in.

    [ P    R' ] [dx]   [rx]
    [ R   -H  ] [dz] = [rz]          H = diag(hessian) >= 0, zero for equality rows

A cone's H is not diagonal, but it is in the coordinates of its eigenvectors: with H = U diag(hessian) U'
the rows are U'R here, and the second part of a vector is U'rz or U'dz (`rotated_system`).

Vectors are joined, u = (dx, dz), and stand as the rows of a stack (k, n + rows). A form (`PrimalForm`,
`DualForm`, `GramForm`, `StandardForm`, `SparseForm`) eliminates one side, or what it can, and factors what is
left after adding a little to the diagonal; `refined_solve` takes that out again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cones import Rotation
from jaxopt_layers.problem import Program


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class System:
    """The matrix above: a program's P and R with the Hessian of the cones' scaling.

    `regularization` is what a factorization adds to the diagonal; it is not part of the matrix.
    """

    program: Program
    hessian: Array
    regularization: Array
    rotation: Rotation | None = None

    def into(self, u: Array) -> Array:
        """A stack of vectors (dx, dz) or right-hand sides, in the system's coordinates."""
        if self.rotation is None or self.rotation.is_identity:
            return u
        x, z = self.program.split(u)
        return jnp.concatenate([x, self.rotation.into(z)], axis=-1)

    def out(self, u: Array) -> Array:
        """Back from the system's coordinates."""
        if self.rotation is None or self.rotation.is_identity:
            return u
        x, z = self.program.split(u)
        return jnp.concatenate([x, self.rotation.out(z)], axis=-1)

    def hessian_product(self, dz: Array) -> Array:
        """H dz in the user's coordinates, for dz in the system's."""
        product = self.hessian * dz
        return product if self.rotation is None else self.rotation.out(product)

    def product(self, u: Array) -> Array:
        """The matrix times a stack of vectors."""
        program = self.program
        dx, dz = program.split(u)
        top = program.quadratic_product(dx) + program.rows.transposed_product(dz)
        bottom = program.rows.product(dx) - self.hessian[None, :] * dz
        return jnp.concatenate([top, bottom], axis=1)


def rotated_system(
    program: Program, hessian: Array, rotation: Rotation, regularization: Array
) -> System:
    """The system of a program with ``H = U diag(hessian) U'``."""
    rotated = replace(program, rows=program.rows.rotated(rotation))
    return System(rotated, hessian, regularization, rotation)


class Form(Protocol):
    """A way to factor a `System`: what it does, and, of a `GramForm`, what of the matrix it knows already."""

    def factor(self, system: System) -> Any:
        """The factorization, a pytree."""
        ...

    def solve(self, system: System, factor: Any, right: Array) -> Array:
        """A solution for a stack of right-hand sides, exact but for the regularization."""
        ...
