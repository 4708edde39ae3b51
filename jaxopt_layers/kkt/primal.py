"""The KKT system condensed to the variables: one Cholesky of order n, one of order p.

With the inequality rows G eliminated, ``W = diag(1 / hessian)`` on them and a multiple of the equality
rows added to themselves (an augmented Lagrangian, exact for any rho, so that directions which only the
equality rows see are not left to the regularization alone),

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

    def factor(self, system: System) -> PrimalFactor:
        program, rows = system.program, system.program.rows
        p, n = rows.equalities, rows.variables
        dtype = system.hessian.dtype
        weights = jnp.concatenate([jnp.full(p, _RHO, dtype), row_weights(system.hessian[p:])])

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
        inverse = inverse_factor(_regularize(matrix, diagonal, system.regularization))
        if not p:
            return PrimalFactor(weights, inverse, None, None)

        transposed = rows.equality_transposed
        if rows.free is not None:
            transposed = transposed * rows.free[:, None]
        coupling = matmul(inverse, transposed)
        gram = (1 - _RHO * system.regularization) * matmul(coupling.T, coupling)
        schur = inverse_factor(_regularize(gram, jnp.zeros(p, dtype), system.regularization))
        return PrimalFactor(weights, inverse, coupling, schur)

    def solve(
        self, system: System, factor: PrimalFactor, rx: Array, rz: Array
    ) -> tuple[Array, Array]:
        rows = system.program.rows
        p = rows.equalities
        right = rx + rows.transposed_product(factor.weights[None, :] * rz)
        half = _times_transposed(right, factor.inverse)
        multipliers = None
        if factor.coupling is not None:
            assert factor.schur is not None
            residual = matmul(half, factor.coupling) - rz[:, :p]
            multipliers = matmul(_times_transposed(residual, factor.schur), factor.schur)
            damping = 1 - _RHO * system.regularization
            half = half - damping * _times_transposed(multipliers, factor.coupling)
        dx = matmul(half, factor.inverse)
        dz = factor.weights[None, p:] * (rows.product(dx) - rz)[:, p:]
        if multipliers is not None:
            dz = jnp.concatenate([multipliers, dz], axis=1)
        return dx, dz


def row_weights(hessian: Array) -> Array:
    """1 / hessian, bounded so that active rows don't drown the others in rounding errors."""
    return 1 / (hessian + jnp.finfo(hessian.dtype).eps ** 0.75)


def _regularize(matrix: Array, diagonal: Array, regularization: Array) -> Array:
    """Add `diagonal`, the regularization, and the rounding error of the entries themselves."""
    size = matrix.shape[0]
    entries = jnp.diagonal(matrix) + diagonal
    rounding = 2 * (size + 8) * jnp.finfo(matrix.dtype).eps
    shift = diagonal + regularization + rounding * jnp.abs(entries)
    return matrix + jnp.diag(shift)


def _times_transposed(stack: Array, matrix: Array) -> Array:
    """``stack @ matrix.T`` a vector at a time, which CPUs do faster than a thin matrix product."""
    return jnp.stack([matmul(matrix, row) for row in stack])
