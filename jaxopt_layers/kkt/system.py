"""The KKT system of one step or one derivative, and which form it is factored in.

    [ P    R' ] [dx]   [rx]
    [ R   -H  ] [dz] = [rz]          H = diag(hessian) >= 0, zero for equality rows

A form (`PrimalForm`, `DualForm`) eliminates one side and factors what is left by Cholesky after adding
a little to the diagonal; `refine` takes that out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax
from jax import Array

from jaxopt_layers.matrix import is_diagonal
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

    def product(self, dx: Array, dz: Array) -> tuple[Array, Array]:
        """The matrix times stacks of vectors (k, n), (k, rows)."""
        program = self.program
        top = program.quadratic_product(dx) + program.rows.transposed_product(dz)
        return top, program.rows.product(dx) - self.hessian[None, :] * dz


class Form(Protocol):
    """A way to factor a `System`; static, so that it hashes under jit."""

    def factor(self, system: System) -> Any:
        """The factorization, a pytree."""
        ...

    def solve(self, system: System, factor: Any, rx: Array, rz: Array) -> tuple[Array, Array]:
        """An approximate solution for stacks (k, n), (k, rows): exact but for the regularization."""
        ...


def choose_form(program: Program) -> Form:
    """The side with fewer operations; only shapes and which parts are absent matter."""
    from jaxopt_layers.kkt.dual import DualForm
    from jaxopt_layers.kkt.primal import PrimalForm

    rows, n = program.rows, program.rows.variables
    dense = rows.dense_count
    # The dual side divides by the diagonal of P and of the bounds: one of the two must be there.
    bounded = rows.lower or rows.upper or program.quadratic is not None
    primal_cost = 2 * dense * n**2 + 1.4 * n**3
    dual_cost = 2 * n * dense**2 + 1.4 * dense**3
    if is_diagonal(program.quadratic) and bounded and dual_cost < primal_cost:
        return DualForm()
    return PrimalForm()
