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

from jaxopt_layers.cholesky import inverse_factor
from jaxopt_layers.kkt.regularize import regularize
from jaxopt_layers.kkt.system import System
from jaxopt_layers.matrix import WithTranspose, matmul
from jaxopt_layers.rows import DenseRows
from jaxopt_layers.sparse_matrix import SparseMatrix

# Weight of the equality rows in C, in equilibrated units.
_RHO = 1.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PrimalFactor:
    """`weights` (rows,): rho, then W; `inverse`: R with R C R' = I; `coupling`: R A'; `schur`: like
    `inverse`, of the Schur complement."""

    weights: Array
    inverse: WithTranspose
    coupling: WithTranspose | None = None
    schur: WithTranspose | None = None


@dataclass(frozen=True)
class PrimalForm:
    """Condensed to the variables."""

    def factor(self, system: System) -> PrimalFactor:
        program, rows = system.program, system.program.rows
        assert isinstance(rows, DenseRows)
        p, n = rows.equalities, rows.variables
        dtype = system.hessian.dtype
        weights = jnp.concatenate(
            [jnp.full(p, _RHO, dtype), 1 / (system.hessian[p:] + system.regularization)]
        )

        diagonal = rows.bound_diagonal(weights)
        matrix, quadratic = None, program.quadratic
        assert not isinstance(quadratic, SparseMatrix)
        if quadratic is not None and quadratic.ndim == 2:
            matrix = program.quadratic_scale * quadratic
        elif quadratic is not None:
            diagonal = diagonal + program.quadratic_scale * quadratic
        if rows.dense is not None:
            assert rows.dense_transposed is not None
            active = weights if rows.active is None else weights * rows.active
            weighted = rows.dense_transposed * active[None, : rows.matrix_count]
            gram = matmul(weighted, rows.dense)
            matrix = gram if matrix is None else matrix + gram
        if matrix is None:
            matrix = jnp.zeros((n, n), dtype)
        if rows.free is not None:
            matrix = matrix * rows.free[:, None] * rows.free[None, :]
            diagonal = jnp.where(rows.free > 0, diagonal, 1)
        inverse = inverse_factor(regularize(matrix, diagonal, system.regularization))
        if not p:
            return PrimalFactor(weights, WithTranspose.of(inverse))

        equality = rows.equality_transposed
        if rows.free is not None:
            equality = equality * rows.free[:, None]
        coupling = matmul(inverse, equality)
        gram = (1 - _RHO * system.regularization) * matmul(coupling.T, coupling)
        schur = inverse_factor(
            regularize(gram, jnp.zeros(p, dtype), system.regularization),
        )
        return PrimalFactor(weights, *map(WithTranspose.of, (inverse, coupling, schur)))

    def solve(self, system: System, factor: PrimalFactor, right: Array) -> Array:
        rows = system.program.rows
        assert isinstance(rows, DenseRows)
        p = rows.equalities
        rx, rz = system.program.split(right)
        reduced = rx + rows.transposed_product(factor.weights[None, :] * rz)
        half = matmul(reduced, factor.inverse.transposed)
        multipliers = rz[:, :0]
        if factor.coupling is not None:
            assert factor.schur is not None
            residual = matmul(half, factor.coupling.matrix) - rz[:, :p]
            multipliers = matmul(matmul(residual, factor.schur.transposed), factor.schur.matrix)
            damping = 1 - _RHO * system.regularization
            half = half - damping * matmul(multipliers, factor.coupling.transposed)
        dx = matmul(half, factor.inverse.matrix)
        dz = factor.weights[None, p:] * (rows.product(dx) - rz)[:, p:]
        return jnp.concatenate([dx, multipliers, dz], axis=1)
