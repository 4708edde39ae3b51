"""The KKT system condensed to the dense rows: for a diagonal P, one Cholesky of order p + m.

With the bound rows eliminated into the diagonal ``D = P + bounds + reg I`` and M the dense rows,

    dx = D^-1 (t - M' dw),      (M D^-1 M' + H + reg I) dw = M D^-1 t - rw.

Projection on a simplex of n variables costs O(n) an iteration this way.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cholesky import inverse_factor
from jaxopt_layers.kkt.bounds import bound_multipliers, bound_weights, fold_bounds
from jaxopt_layers.kkt.regularize import regularize
from jaxopt_layers.kkt.system import System
from jaxopt_layers.matrix import WithTranspose, matmul
from jaxopt_layers.rows import DenseRows
from jaxopt_layers.sparse_matrix import SparseMatrix


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DualFactor:
    """`weights` of the bound rows (zero on dense rows), `diagonal` D, `schur`: inverse factor."""

    weights: Array
    diagonal: Array
    schur: WithTranspose | None = None


@dataclass(frozen=True)
class DualForm:
    """Condensed to the dense rows; P must be diagonal or absent."""

    def factor(self, system: System) -> DualFactor:
        program, rows = system.program, system.program.rows
        assert isinstance(rows, DenseRows)
        count = rows.matrix_count
        weights = bound_weights(system)
        diagonal = rows.bound_diagonal(weights)
        quadratic = program.quadratic
        assert not isinstance(quadratic, SparseMatrix)
        if quadratic is not None:
            diagonal = diagonal + program.quadratic_scale * quadratic
        if rows.free is not None:
            diagonal = jnp.where(rows.free > 0, diagonal, 1)
        diagonal = diagonal + system.regularization
        if not count:
            return DualFactor(weights, diagonal)
        dense, dense_transposed = rows.dense, rows.dense_transposed
        assert dense is not None
        assert dense_transposed is not None
        column_weights = 1 / diagonal if rows.free is None else rows.free / diagonal
        gram = matmul(dense * column_weights[None, :], dense_transposed)
        if rows.active is not None:
            active = rows.active[:count]
            gram = gram * active[:, None] * active[None, :]
        matrix = regularize(gram, system.hessian[:count], system.regularization)
        schur = inverse_factor(matrix)
        return DualFactor(weights, diagonal, WithTranspose.of(schur))

    def solve(self, system: System, factor: DualFactor, right: Array) -> Array:
        rows = system.program.rows
        assert isinstance(rows, DenseRows)
        count = rows.matrix_count
        rx, rz = system.program.split(right)
        reduced = fold_bounds(rows, factor.weights, rx, rz)
        dx = reduced / factor.diagonal[None, :]
        multipliers = rz[:, :0]
        if factor.schur is not None:
            residual = (rows.product(dx) - rz)[:, :count]
            multipliers = matmul(matmul(residual, factor.schur.transposed), factor.schur.matrix)
            padding = jnp.zeros((right.shape[0], rows.count - count), right.dtype)
            padded = jnp.concatenate([multipliers, padding], axis=1)
            dx = (reduced - rows.transposed_product(padded)) / factor.diagonal[None, :]
        dz = bound_multipliers(rows, factor.weights, dx, rz)
        return jnp.concatenate([dx, multipliers, dz], axis=1)
