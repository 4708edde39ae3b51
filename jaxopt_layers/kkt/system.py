"""The KKT system of one step or one derivative, and which form it is factored in.

    [ P    R' ] [dx]   [rx]
    [ R   -H  ] [dz] = [rz]          H = diag(hessian) >= 0, zero for equality rows

Vectors are joined, u = (dx, dz), and stand as the rows of a stack (k, n + rows). A form (`PrimalForm`,
`DualForm`) eliminates one side and factors what is left by Cholesky after adding a little to the
diagonal; `refined_solve` takes that out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

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

    def product(self, u: Array) -> Array:
        """The matrix times a stack of vectors."""
        program = self.program
        dx, dz = program.split(u)
        top = program.quadratic_product(dx) + program.rows.transposed_product(dz)
        bottom = program.rows.product(dx) - self.hessian[None, :] * dz
        return jnp.concatenate([top, bottom], axis=1)


class Form(Protocol):
    """A way to factor a `System`; static, so that it hashes under jit."""

    def factor(self, system: System, unroll: bool = True) -> Any:
        """The factorization, a pytree; `unroll` trades compile time for speed."""
        ...

    def solve(self, system: System, factor: Any, right: Array) -> Array:
        """A solution for a stack of right-hand sides, exact but for the regularization."""
        ...
