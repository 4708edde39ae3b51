"""The KKT system condensed to the variables: one Cholesky of order n, one of order p.

With the inequality rows G eliminated, ``W = diag(1 / (hessian + reg))`` on them, and a multiple of the
equality rows added to themselves (an augmented Lagrangian, exact for any rho, so that directions which
only the equality rows see are not left to the regularization alone),

    C = P + G'WG + rho A'A + reg I,      [C   A'  ] [dx]   [t ]
                                         [A  -reg ] [dy] = [ry],

and dy follows from the Schur complement ``A C^-1 A' + reg I`` (Boyd & Vandenberghe 2004, App. C.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.kkt.cholesky import inverse_factor
from jaxopt_layers.kkt.system import System
from jaxopt_layers.matrix import matmul

# Weight of the equality rows in C, in equilibrated units.
_RHO = 1.0
# Up to this order a product of two rows with a transposed matrix is as fast as two single ones.
_THIN_PRODUCT = 24


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PrimalFactor:
    """`weights` (rows,): rho, then W; `inverse`: C = inv(R) inv(R)'; `coupling`: R A'; `schur`: alike."""

    weights: Array
    inverse: Array
    coupling: Array | None
    schur: Array | None


@dataclass(frozen=True)
class PrimalForm:
    """Condensed to the variables."""

    def factor(self, system: System, unroll: bool = True) -> PrimalFactor:
        program, rows = system.program, system.program.rows
        p, n = rows.equalities, rows.variables
        dtype = system.hessian.dtype
        weights = jnp.concatenate(
            [jnp.full(p, _RHO, dtype), 1 / (system.hessian[p:] + system.regularization)]
        )

        diagonal = rows.bound_diagonal(weights)
        matrix = None
        if program.quadratic is not None and program.quadratic.ndim == 2:
            matrix = program.quadratic_scale * program.quadratic
        elif program.quadratic is not None:
            diagonal = diagonal + program.quadratic_scale * program.quadratic
        if rows.dense is not None:
            assert rows.dense_transposed is not None
            active = weights if rows.active is None else weights * rows.active
            weighted = rows.dense_transposed * active[None, : rows.dense_count]
            gram = matmul(weighted, rows.dense)
            matrix = gram if matrix is None else matrix + gram
        if matrix is None:
            matrix = jnp.zeros((n, n), dtype)
        if rows.free is not None:
            matrix = matrix * rows.free[:, None] * rows.free[None, :]
            diagonal = jnp.where(rows.free > 0, diagonal, 1)
        inverse = inverse_factor(regularize(matrix, diagonal, system.regularization), unroll)
        if not p:
            return PrimalFactor(weights, inverse, None, None)

        transposed = rows.equality_transposed
        if rows.free is not None:
            transposed = transposed * rows.free[:, None]
        coupling = matmul(inverse, transposed)
        gram = (1 - _RHO * system.regularization) * matmul(coupling.T, coupling)
        schur = inverse_factor(regularize(gram, jnp.zeros(p, dtype), system.regularization), unroll)
        return PrimalFactor(weights, inverse, coupling, schur)

    def solve(self, system: System, factor: PrimalFactor, right: Array) -> Array:
        rows = system.program.rows
        p = rows.equalities
        rx, rz = system.program.split(right)
        reduced = rx + rows.transposed_product(factor.weights[None, :] * rz)
        half = times_transposed(reduced, factor.inverse)
        multipliers = rz[:, :0]
        if factor.coupling is not None:
            assert factor.schur is not None
            residual = matmul(half, factor.coupling) - rz[:, :p]
            multipliers = matmul(times_transposed(residual, factor.schur), factor.schur)
            damping = 1 - _RHO * system.regularization
            half = half - damping * times_transposed(multipliers, factor.coupling)
        dx = matmul(half, factor.inverse)
        dz = factor.weights[None, p:] * (rows.product(dx) - rz)[:, p:]
        return jnp.concatenate([dx, multipliers, dz], axis=1)


def regularize(matrix: Array, diagonal: Array, regularization: Array) -> Array:
    """Add `diagonal`, the regularization, and the rounding error of the diagonal's own entries."""
    size = matrix.shape[0]
    rounding = 2 * (size + 8) * jnp.finfo(matrix.dtype).eps
    row = diagonal[:, None]
    shift = row + regularization + rounding * jnp.abs(matrix + row)
    return matrix + jnp.where(jnp.eye(size, dtype=bool), shift, 0)


def times_transposed(stack: Array, matrix: Array) -> Array:
    """``stack @ matrix.T``; a vector at a time for larger matrices, which CPUs do faster."""
    if stack.shape[0] == 1:
        return matmul(matrix, stack[0])[None, :]
    if matrix.shape[0] <= _THIN_PRODUCT:
        return matmul(stack, matrix.T)
    return jnp.stack([matmul(matrix, row) for row in stack])
