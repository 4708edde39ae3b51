"""The KKT system condensed to the dense rows, where P is dense and no bounds add to it.

With M the rows and a multiple of the equality rows A added to P (as in `PrimalForm`),

    C = P + rho A'A + reg I,      dx = C^-1 (t - M'dw),      (M C^-1 M' + H + reg I) dw = M C^-1 t - rw.

Only H changes from iteration to iteration: C is factored and the Gram matrix of the rows in the metric of
C^-1 is made once, before the loop, and each iteration is left with one Cholesky of the rows' order, without
the product of order rows n^2 that a condensation to the variables takes (Amos & Kolter 2017, section 3.1).
In double precision a batch that shares P and the rows shares all that is made before the loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cholesky import inverse_factor
from jaxopt_layers.kkt.regularize import regularize
from jaxopt_layers.kkt.robust import first_finite
from jaxopt_layers.kkt.system import System
from jaxopt_layers.matrix import WithTranspose, matmul
from jaxopt_layers.problem import Program
from jaxopt_layers.rows import DenseRows
from jaxopt_layers.sparse_matrix import SparseMatrix


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GramFactor:
    """`scale`: what C is multiplied with; `schur`: R with R S R' = I for scale times the rows' matrix S."""

    scale: Array
    schur: WithTranspose


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GramForm:
    """Condensed to the rows; made for the matrices of one program.

    `inverse`: R with R C R' = I, for P multiplied with `unit`; `coupling`: M R'; `gram`: M C^-1 M'. Rows that
    are absent are masked where these are used, since they may differ in a batch that shares M.
    """

    unit: Array
    inverse: WithTranspose
    coupling: WithTranspose
    gram: Array

    @classmethod
    def of(cls, program: Program, regularization: float) -> GramForm:
        rows, quadratic = program.rows, program.quadratic
        assert isinstance(rows, DenseRows)
        assert quadratic is not None
        assert not isinstance(quadratic, SparseMatrix)
        assert rows.dense is not None
        assert rows.dense_transposed is not None
        if quadratic.dtype.itemsize < 8:  # too few digits for P in a unit in which it is small
            unit = program.quadratic_scale
        else:
            size = jnp.max(jnp.abs(quadratic))
            unit = 1 / jnp.where(size > 0, size, 1)
        matrix = unit * quadratic
        if rows.equalities:
            transposed = rows.equality_transposed
            matrix = matrix + matmul(transposed, rows.dense[: rows.equalities])
        nothing = jnp.zeros(rows.variables, matrix.dtype)
        _, inverse = first_finite(
            lambda added: inverse_factor(regularize(matrix, nothing, added)),
            jnp.full((), regularization, matrix.dtype),
            matrix[0, 0],
        )
        half = matmul(inverse, rows.dense_transposed)
        coupling = WithTranspose.of(half.T)
        return cls(unit, WithTranspose.of(inverse), coupling, matmul(coupling.matrix, half))

    def factor(self, system: System) -> GramFactor:
        program, rows = system.program, system.program.rows
        # A certificate is sought without P (`Focus`): with next to none of it here.
        least = float(jnp.finfo(self.gram.dtype).eps) ** 0.4
        scale = jnp.maximum(program.quadratic_scale / self.unit, least)
        gram = self.gram
        if rows.active is not None:
            gram = gram * rows.active[:, None] * rows.active[None, :]
        matrix = regularize(gram, scale * system.hessian, scale * system.regularization)
        return GramFactor(scale, WithTranspose.of(inverse_factor(matrix)))

    def solve(self, system: System, factor: GramFactor, right: Array) -> Array:
        rows = system.program.rows
        assert isinstance(rows, DenseRows)
        assert rows.dense is not None
        p, scale, schur = rows.equalities, factor.scale, factor.schur

        def present(vectors: Array) -> Array:
            return vectors if rows.active is None else vectors * rows.active[None, :]

        rx, rz = system.program.split(right)
        if p:
            rx = rx + scale * matmul(present(rz)[:, :p], rows.dense[:p])
        half = matmul(rx, self.inverse.transposed)
        residual = present(matmul(half, self.coupling.transposed)) - scale * rz
        dz = matmul(matmul(residual, schur.transposed), schur.matrix)
        half = half - matmul(present(dz), self.coupling.matrix)
        dx = matmul(half, self.inverse.matrix) / scale
        return jnp.concatenate([dx, dz], axis=1)
