"""The KKT system of a program in standard form, condensed to the rows that are left.

Where every row of the curved cones names one variable, and no two name the same, those variables x_v are
in a cone themselves: D x_v + s = b_v with D diagonal. Most semidefinite programs are stated so, and a `PSD`
variable of CVXPY arrives so. With xi = D x_v, R~ = R_v D^-1, q = D^-1 t_v - R~'dw and c = r_v + H D^-1 t_v,

    [ .   .    R_v'  D  ] [dx_v]   [t_v]
    [ .   P    R_f'  .  ] [dx_f] = [t_f]      xi = r_v + H q,    dz_v = q,
    [ R_v R_f  -H_o  .  ] [dw  ]   [r  ]      S dw = R~ c + R_f dx_f - r,    S = R~ H R~' + H_o,
    [ D   .    .     -H ] [dz_v]   [r_v]      (P + R_f'S^-1 R_f) dx_f = t_f - R_f'S^-1 (R~ c - r).

S is the Schur complement of semidefinite programming (Todd, Toh & Tutuncu 1998, section 4). All of this is
written in the coordinates in which H is diagonal. Where a row has the weight w there and x_v's block the
regularization d D^2, the last line of the system and the first are [d w; w -h] (xi, dz_v) = (q, r_v), so that

    xi = (h q + w r_v) / (w^2 + d h),     dz_v = (w q - d r_v) / (w^2 + d h).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.cholesky import inverse_factor
from jaxopt_layers.cones import Product, Rotation
from jaxopt_layers.cones.nonnegative import Nonnegative
from jaxopt_layers.cones.positive_semidefinite import PositiveSemidefinite
from jaxopt_layers.cones.stack import Stack
from jaxopt_layers.cones.zero import Zero
from jaxopt_layers.kkt.regularize import regularize
from jaxopt_layers.kkt.system import System
from jaxopt_layers.matrix import WithTranspose, matmul
from jaxopt_layers.pattern import Pattern, rows_at
from jaxopt_layers.rows import SparseRows
from jaxopt_layers.sparse_matrix import SparseMatrix

# Other rows with more places than this in all are too many for dense matrices.
_MOST_PLACES = 10**8


@dataclass(frozen=True, eq=False)
class StandardPlan:
    """Which variables are in a cone, and where the entries of the matrices are.

    `curved`: the number of the first curved cone, `rows` that of its first row. `conic` and `free` are the
    variables x_v, as their rows come, and x_f; `place` is where each stands in both, joined. The entries of
    the matrices: `scales` make up D; `conic_entries` (rows, x_v), `free_entries` (rows, x_f) and
    `quadratic_entries` (x_f, x_f) stand at those places, one behind the last where there is none.
    """

    curved: int
    rows: int
    conic: np.ndarray
    free: np.ndarray
    place: np.ndarray
    scales: np.ndarray
    conic_entries: np.ndarray
    free_entries: np.ndarray
    quadratic_entries: np.ndarray | None
    operations: float


def standard_plan(
    quadratic: Array | SparseMatrix | None, matrix: SparseMatrix, cone: Product
) -> StandardPlan | None:
    """The plan for a program's patterns, or None where it is not in standard form."""
    if quadratic is not None and not isinstance(quadratic, SparseMatrix):
        return None
    return _plan(None if quadratic is None else quadratic.pattern, matrix.pattern, cone)


@lru_cache(maxsize=64)
def _plan(quadratic: Pattern | None, matrix: Pattern, cone: Product) -> StandardPlan | None:
    m, n = matrix.shape
    flat = [isinstance(block, Zero | Nonnegative) for block in cone.cones]
    if all(flat) or cone.size != m:
        return None
    curved = flat.index(False)
    rows = sum(block.size for block in cone.cones[:curved])
    scales = np.flatnonzero(matrix.rows >= rows)
    conic = matrix.columns[scales]
    one_each = np.array_equal(matrix.rows[scales], np.arange(rows, m))
    if any(flat[curved:]) or not 0 < rows * n <= _MOST_PLACES:
        return None
    if not one_each or len(np.unique(conic)) < len(conic):
        return None
    is_conic = np.zeros(n, bool)
    is_conic[conic] = True
    if quadratic is not None and (is_conic[quadratic.rows] | is_conic[quadratic.columns]).any():
        return None
    free = np.flatnonzero(~is_conic)
    place = np.empty(n, np.int32)
    place[np.concatenate([conic, free])] = np.arange(n)
    where = np.full((rows, n), len(matrix.rows), np.int32)
    others = np.flatnonzero(matrix.rows < rows)
    where[matrix.rows[others], place[matrix.columns[others]]] = others
    quadratic_entries = None
    if quadratic is not None:
        quadratic_entries = np.full((len(free), len(free)), len(quadratic.rows), np.int32)
        own = place[quadratic.rows] - len(conic), place[quadratic.columns] - len(conic)
        quadratic_entries[own] = np.arange(len(quadratic.rows))
    rotations = sum(_rotation_operations(block) for block in cone.cones[curved:])
    f = len(free)
    dense = 2 * rows**2 * (len(conic) + f) + 1.4 * rows**3 + 2 * rows * f**2 + 1.4 * f**3
    return StandardPlan(
        curved=curved,
        rows=rows,
        conic=conic,
        free=free,
        place=place,
        scales=scales.astype(np.int32),
        conic_entries=where[:, : len(conic)],
        free_entries=where[:, len(conic) :],
        quadratic_entries=quadratic_entries,
        operations=rows * rotations + dense,
    )


def _rotation_operations(block: object) -> float:
    """Of the rotation of one vector."""
    assert isinstance(block, Stack)
    if isinstance(block.cone, PositiveSemidefinite):
        return block.count * 4.0 * block.cone.side**3
    return block.count * 2.0 * block.cone.size**2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StandardFactor:
    """`scales` D; `metric` h / (w^2 + d h), `mixed` w / (w^2 + d h) and `leak` d / (w^2 + d h) of the curved
    rows; `coupling` R~; `schur`: the inverse factor of S; `bridge`, it times R_f, and `inverse`, like it, of
    the free variables' matrix."""

    scales: Array
    metric: Array
    mixed: Array
    leak: Array
    coupling: WithTranspose
    schur: WithTranspose
    bridge: WithTranspose | None = None
    inverse: WithTranspose | None = None


@dataclass(frozen=True)
class StandardForm:
    """Condensed to the rows beside those of the curved cones."""

    plan: StandardPlan

    #: How many eliminations follow one another.
    steps = 1

    @property
    def operations(self) -> float:
        return self.plan.operations

    @property
    def entries(self) -> int:
        """How many numbers a factorization has, about."""
        p, free = self.plan.rows, len(self.plan.free)
        return 2 * p * (p + len(self.plan.conic) + free) + 2 * free**2

    def factor(self, system: System) -> StandardFactor:
        plan, program, rows = self.plan, system.program, system.program.rows
        assert isinstance(rows, SparseRows)
        p, dtype, regularization = plan.rows, system.hessian.dtype, system.regularization
        weights = jnp.ones_like(system.hessian) if rows.weights is None else rows.weights
        values = rows.matrix.values
        scales = rows_at(values, plan.scales)
        smallest = jnp.finfo(dtype).eps  # a zero would leave its variable to the other rows
        scales = jnp.where(jnp.abs(scales) < smallest, smallest, scales)

        hessian = system.hessian[p:] + regularization
        inverse = 1 / (weights[p:] ** 2 + regularization * hessian)
        metric = hessian * inverse
        curved = metric, weights[p:] * inverse, regularization * inverse

        padded, weights = jnp.pad(values, (0, 1)), weights[:p, None]
        coupling = weights * (rows_at(padded, plan.conic_entries) / scales[None, :])
        coupling = self._rotation(system).into(coupling)
        gram = matmul(coupling * metric[None, :], coupling.T)
        gram = regularize(gram, system.hessian[:p], regularization)
        schur = inverse_factor(gram)
        coupled = WithTranspose.of(coupling), WithTranspose.of(schur)
        if not len(plan.free):
            return StandardFactor(scales, *curved, *coupled)

        bridge = matmul(schur, weights * rows_at(padded, plan.free_entries))
        matrix = matmul(bridge.T, bridge)
        if isinstance(program.quadratic, SparseMatrix):
            assert plan.quadratic_entries is not None
            quadratic = jnp.pad(program.quadratic.values, (0, 1))
            matrix = matrix + program.quadratic_scale * rows_at(quadratic, plan.quadratic_entries)
        nothing = jnp.zeros(len(plan.free), dtype)
        inverse = inverse_factor(regularize(matrix, nothing, regularization))
        return StandardFactor(
            scales, *curved, *coupled, WithTranspose.of(bridge), WithTranspose.of(inverse)
        )

    def solve(self, system: System, factor: StandardFactor, right: Array) -> Array:
        plan, p, rotation = self.plan, self.plan.rows, self._rotation(system)
        rx, rz = system.program.split(right)
        scales, metric, mixed = (v[None, :] for v in (factor.scales, factor.metric, factor.mixed))
        given = rotation.into(rx[:, plan.conic] / scales)
        known = mixed * rz[:, p:]
        half = matmul(known + metric * given, factor.coupling.transposed) - rz[:, :p]
        half = matmul(half, factor.schur.transposed)
        free = rx[:, :0]
        if factor.bridge is not None:
            assert factor.inverse is not None
            free = rx[:, plan.free] - matmul(half, factor.bridge.matrix)
            free = matmul(matmul(free, factor.inverse.transposed), factor.inverse.matrix)
            half = half + matmul(free, factor.bridge.transposed)
        multipliers = matmul(half, factor.schur.matrix)
        left = given - matmul(multipliers, factor.coupling.matrix)
        moved = rotation.out(known + metric * left) / scales
        dx = jnp.concatenate([moved, free], axis=1)[:, plan.place]
        dz = mixed * left - factor.leak[None, :] * rz[:, p:]
        return jnp.concatenate([dx, multipliers, dz], axis=1)

    def _rotation(self, system: System) -> Rotation:
        """Of the curved cones alone."""
        rotation, first = system.rotation, self.plan.curved
        assert rotation is not None
        return Rotation(rotation.cones[first:], rotation.parts[first:])
