"""Which form a program's KKT systems are factored in."""

from __future__ import annotations

from jax import Array

from jaxopt_layers.cones import Product
from jaxopt_layers.kkt.dual import DualForm
from jaxopt_layers.kkt.gram import GramForm
from jaxopt_layers.kkt.primal import PrimalForm
from jaxopt_layers.kkt.sparse import SparseForm, sparse_plan
from jaxopt_layers.kkt.standard import StandardForm, standard_plan
from jaxopt_layers.kkt.system import Form
from jaxopt_layers.matrix import is_diagonal
from jaxopt_layers.multifrontal import is_available
from jaxopt_layers.problem import Program
from jaxopt_layers.rows import DenseRows, SparseRows
from jaxopt_layers.sparse_matrix import SparseMatrix

# Below this many operations dense matrices always win.
_SMALL = 3e6
# How much slower an operation of a sparse factorization is, and what a step of its loops costs.
_SPARSE_PENALTY, _STEP_PENALTY = 5, 2e5
# Iterations that are expected of a loop; how much slower an operation of a product with a few rows is than
# one of square matrices; what the many small kernels of an inverse factor cost, in operations.
_ITERATIONS, _THIN_PENALTY, _CALL = 10, 7, 5e4
# In single precision a system is condensed to the rows up to so many of them a variable.
_MORE_ROWS = 1.5


def choose_loop_form(program: Program, cone: Product, regularization: float) -> Form:
    """The form for a loop in which only the cone's Hessian changes."""
    if _gram_is_cheaper(program, cone):
        return GramForm.of(program, regularization)
    return choose_form(program, cone)


def choose_form(program: Program, cone: Product) -> Form:
    """The side with fewer operations; only shapes and which parts are absent matter."""
    rows = program.rows
    if isinstance(rows, SparseRows):
        return form_by_pattern(program.quadratic, rows.matrix, cone)
    if _dual_is_cheaper(program):
        return DualForm()
    return PrimalForm()


def _dual_is_cheaper(program: Program) -> bool:
    rows, n = program.rows, program.rows.variables
    # The dual side divides by the diagonal of P and of the bounds: one of the two must be there.
    bounded = rows.lower or rows.upper or program.quadratic is not None
    primal, dual = _operations(n, rows.matrix_count)
    return is_diagonal(program.quadratic) and bounded and dual < primal


def _gram_is_cheaper(program: Program, cone: Product) -> bool:
    rows, quadratic = program.rows, program.quadratic
    if not isinstance(rows, DenseRows) or isinstance(quadratic, SparseMatrix):
        return False
    count, n, p = rows.matrix_count, rows.variables, rows.equalities
    changes = rows.lower or rows.upper or not cone.is_orthant
    if changes or is_diagonal(quadratic) or not count:
        return False
    # In single precision it takes fewer iterations, too: the cone's Hessian is rounded less.
    if rows.dtype.itemsize < 8:
        return count <= _MORE_ROWS * n
    primal = _inversion(n) + 2 * count * n**2
    if p:
        primal += 2 * p * n**2 + 2 * p**2 * n + _inversion(p)
    once = _inversion(n) + 2 * count * n**2 + 2 * count**2 * n
    more_products = 2 * _THIN_PENALTY * 4 * count * n
    return once + _ITERATIONS * (_inversion(count) + more_products) < _ITERATIONS * primal


def _inversion(size: int) -> float:
    """An inverse factor's time, in operations of a matrix product."""
    return 3 * size**3 + _CALL


def _operations(n: int, rows: int) -> tuple[float, float]:
    """Of a dense factorization condensed to the variables, and to the rows."""
    return 2 * rows * n**2 + 1.4 * n**3, 2 * n * rows**2 + 1.4 * rows**3


def dense_operations(n: int, rows: int, diagonal: bool) -> float:
    """Floating-point operations of the dense factorization, about."""
    primal, dual = _operations(n, rows)
    return min(primal, dual) if diagonal else primal


def sparse_is_cheaper(
    quadratic: Array | SparseMatrix | None, matrix: SparseMatrix, cone: Product
) -> bool:
    """Whether factoring by the pattern is expected to be faster than the dense factorization."""
    dense = dense_operations(matrix.shape[1], matrix.shape[0], is_diagonal(quadratic))
    standard = standard_plan(quadratic, matrix, cone)
    if standard is not None and standard.operations < dense:
        return True
    return _multifrontal_is_cheaper(quadratic, matrix, cone, dense)


def form_by_pattern(
    quadratic: Array | SparseMatrix | None, matrix: SparseMatrix, cone: Product
) -> StandardForm | SparseForm:
    """How a sparse program is factored."""
    standard = standard_plan(quadratic, matrix, cone)
    if standard is None or _multifrontal_is_cheaper(quadratic, matrix, cone, standard.operations):
        return SparseForm(sparse_plan(quadratic, matrix, cone))
    return StandardForm(standard)


def _multifrontal_is_cheaper(
    quadratic: Array | SparseMatrix | None, matrix: SparseMatrix, cone: Product, operations: float
) -> bool:
    """Whether the multifrontal factorization is expected to be faster than so many dense operations."""
    if operations < _SMALL or not is_available():
        return False
    plan = sparse_plan(quadratic, matrix, cone).factorization
    return _SPARSE_PENALTY * plan.operations + _STEP_PENALTY * plan.steps < operations
