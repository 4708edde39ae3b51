"""Which form a program's KKT systems are factored in."""

from __future__ import annotations

from jaxopt_layers.kkt.dual import DualForm
from jaxopt_layers.kkt.primal import PrimalForm
from jaxopt_layers.kkt.system import Form
from jaxopt_layers.matrix import is_diagonal
from jaxopt_layers.problem import Program


def choose_form(program: Program) -> Form:
    """The side with fewer operations; only shapes and which parts are absent matter."""
    rows, n = program.rows, program.rows.variables
    dense = rows.dense_count
    # The dual side divides by the diagonal of P and of the bounds: one of the two must be there.
    bounded = rows.lower or rows.upper or program.quadratic is not None
    primal_cost = 2 * dense * n**2 + 1.4 * n**3
    dual_cost = 2 * n * dense**2 + 1.4 * dense**3
    if is_diagonal(program.quadratic) and bounded and dual_cost < primal_cost:
        return DualForm()
    return PrimalForm()
