"""The KKT system factored by its pattern: no array of n x n anywhere.

Bounds are eliminated into the diagonal. What is left has a node for every variable and every row of the
matrix, in the rows' own coordinates (a rotation would fill in the pattern):

    [ P + bounds + reg      A'     ]
    [ A                -(H + reg)  ]        H = U diag(hessian / weights^2) U'

H is a block for each cone. A second-order cone of more than a few rows would make its block dense, so
two more nodes carry it (Domahidi, Chu & Boyd 2013, "ECOS", section 4): its H is a multiple of the identity
and two terms of rank one, ``H = h I + (h+ - h) a a' - (h - h-) b b'`` with a, b = U e0, U e1, and

    -H  =  Schur complement of [ 1/(h+ - h)  0 ; 0  -1/(h - h-) ]  in  [ -h I  (a, b); (a, b)'  ... ].

Every block is quasi-definite, so that the pivots' signs are known in every order of elimination.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers import multifrontal
from jaxopt_layers.cones import Product
from jaxopt_layers.cones.nonnegative import Nonnegative
from jaxopt_layers.cones.second_order import SecondOrder
from jaxopt_layers.cones.stack import Stack
from jaxopt_layers.kkt.bounds import bound_multipliers, bound_weights, fold_bounds
from jaxopt_layers.kkt.system import System
from jaxopt_layers.matrix import is_diagonal
from jaxopt_layers.pattern import Pattern
from jaxopt_layers.rows import SparseRows
from jaxopt_layers.sparse_matrix import SparseMatrix

# Second-order cones of more rows than this are expanded.
_DENSE_BLOCK = 4
# Ratios beyond this say no more than active or inactive.
_LARGEST_RATIO = {8: 1e9, 4: 1e5}


@dataclass(frozen=True, eq=False)
class SparsePlan:
    """The plan for one pattern: of the joined entries (P, A, blocks, expansions) and their nodes.

    `quadratic_entries`: which entries of P are off-diagonal and named here; `diagonal_entries` of
    them are the diagonal ones, which stand at `diagonal_nodes`.
    """

    cone: Product
    variables: int
    rows: int
    quadratic_entries: np.ndarray
    diagonal_entries: np.ndarray
    diagonal_nodes: np.ndarray
    factorization: multifrontal.Plan


def sparse_plan(
    quadratic: Array | SparseMatrix | None, matrix: SparseMatrix, cone: Product
) -> SparsePlan:
    """The plan for a program's patterns, made once for each."""
    assert is_diagonal(quadratic) or isinstance(quadratic, SparseMatrix)
    pattern = quadratic.pattern if isinstance(quadratic, SparseMatrix) else None
    has_diagonal = quadratic is not None and quadratic.ndim == 1
    bounded = cone.size > matrix.shape[0]
    return _plan(pattern, matrix.pattern, cone, has_diagonal or bounded)


@lru_cache(maxsize=64)
def _plan(quadratic: Pattern | None, matrix: Pattern, cone: Product, bounded: bool) -> SparsePlan:
    m, n = matrix.shape
    none = np.zeros(0, np.int64)
    upper = diagonal = none
    rows, columns = [], []
    if quadratic is not None:
        upper = np.flatnonzero(quadratic.rows < quadratic.columns)
        diagonal = np.flatnonzero(quadratic.rows == quadratic.columns)
        rows.append(quadratic.rows[upper])
        columns.append(quadratic.columns[upper])
    rows.append(n + matrix.rows)
    columns.append(matrix.columns)
    start, extra = n, n + m
    signs = [np.ones(n), -np.ones(m)]
    safe_rows = np.zeros(m, int)
    for block in cone.cones:
        if start >= n + m:
            break  # the rest are bounds
        if _is_expanded(block):
            assert isinstance(block, Stack)
            count, size = block.count, block.cone.size
            places = start + np.arange(count * size)
            owner = np.repeat(np.arange(count), size)
            rows += [extra + owner, extra + count + owner]
            columns += [places, places]
            signs += [np.ones(count), -np.ones(count)]
            extra += 2 * count
        elif isinstance(block, Nonnegative | Stack):
            safe_rows[start - n : start - n + block.size] = 1
            if isinstance(block, Stack):
                first, second = _pairs(block)
                rows.append(start + first)
                columns.append(start + second)
        start += block.size
    # A row whose block of H is held as it is makes a good pivot, H being definite; a variable is one if it
    # has curvature or bounds, which may be zero and absent.
    curved = np.full(n, int(bounded))
    curved[none if quadratic is None else quadratic.rows[diagonal]] = 1
    safe = [curved, 2 * safe_rows, np.zeros(extra - n - m, int)]
    return SparsePlan(
        cone=cone,
        variables=n,
        rows=m,
        quadratic_entries=upper,
        diagonal_entries=diagonal,
        diagonal_nodes=none if quadratic is None else quadratic.rows[diagonal],
        factorization=multifrontal.make_plan(
            extra, *map(np.concatenate, (rows, columns, signs, safe))
        ),
    )


def _is_expanded(block: Any) -> bool:
    return (
        isinstance(block, Stack)
        and isinstance(block.cone, SecondOrder)
        and block.cone.size > _DENSE_BLOCK
    )


def _pairs(block: Stack) -> tuple[np.ndarray, np.ndarray]:
    """The places below the diagonal of every copy's block, a copy after the other."""
    size = block.cone.size
    first, second = np.tril_indices(size, -1)
    offsets = size * np.arange(block.count)[:, None]
    return (offsets + first[None, :]).ravel(), (offsets + second[None, :]).ravel()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SparseFactor:
    """`weights` of the bound rows (zero on the matrix's), and the factored rest."""

    weights: Array
    numbers: multifrontal.Factor


@dataclass(frozen=True)
class SparseForm:
    """Factored by its pattern."""

    plan: SparsePlan

    @property
    def operations(self) -> float:
        return self.plan.factorization.operations

    @property
    def entries(self) -> int:
        return self.plan.factorization.entries

    @property
    def steps(self) -> int:
        return self.plan.factorization.steps

    def factor(self, system: System) -> SparseFactor:
        plan, program, rows = self.plan, system.program, system.program.rows
        assert isinstance(rows, SparseRows)
        dtype, regularization = system.hessian.dtype, system.regularization
        weights = bound_weights(system)
        diagonal = rows.bound_diagonal(weights)
        quadratic = program.quadratic
        entries = []
        if isinstance(quadratic, SparseMatrix):
            values = program.quadratic_scale * quadratic.values
            if rows.free is not None:
                pattern = quadratic.pattern
                values = values * rows.free[pattern.rows] * rows.free[pattern.columns]
            entries.append(values[plan.quadratic_entries])
            on_diagonal = jnp.zeros(plan.variables, dtype)
            on_diagonal = on_diagonal.at[plan.diagonal_nodes].set(
                values[plan.diagonal_entries], unique_indices=True, indices_are_sorted=True
            )
            diagonal = diagonal + on_diagonal
        elif quadratic is not None:
            diagonal = diagonal + program.quadratic_scale * quadratic
        matrix = rows.matrix
        values = matrix.values
        if rows.free is not None:
            diagonal = jnp.where(rows.free > 0, diagonal, 1)
            values = values * rows.free[matrix.pattern.columns]
        if rows.active is not None:
            values = values * rows.active[matrix.pattern.rows]
        entries.append(values)

        hessian, blocks, extra = self._blocks(system, rows)
        rounding = 16 * jnp.finfo(dtype).eps
        first = diagonal * (1 + rounding) + regularization
        second = -(hessian * (1 + rounding) + regularization)
        numbers = multifrontal.factor(
            plan.factorization,
            jnp.concatenate([first, second, *extra]),
            jnp.concatenate([*entries, *blocks]),
        )
        return SparseFactor(weights, numbers)

    def solve(self, system: System, factor: SparseFactor, right: Array) -> Array:
        plan, rows = self.plan, system.program.rows
        assert isinstance(rows, SparseRows)
        n, m = plan.variables, plan.rows
        rx, rz = system.program.split(right)
        first = fold_bounds(rows, factor.weights, rx, rz)
        second = rz[:, :m]
        scale = None if rows.weights is None else 1 / self._weights(rows)
        if scale is not None:
            second = second * scale[None, :]
        if rows.rotation is not None:
            second = rows.rotation.out(second)
        none = jnp.zeros((right.shape[0], plan.factorization.size - n - m), right.dtype)
        joined = jnp.concatenate([first, second, none], axis=1)
        found = multifrontal.solve(plan.factorization, factor.numbers, joined)
        dx, dz = found[:, :n], found[:, n : n + m]
        if rows.rotation is not None:
            dz = rows.rotation.into(dz)
        if scale is not None:
            dz = dz * scale[None, :]
        bounds = bound_multipliers(rows, factor.weights, dx, rz)
        return jnp.concatenate([dx, dz, bounds], axis=1)

    def _weights(self, rows: SparseRows) -> Array:
        """The rows' weights, none of them too small to divide by."""
        assert rows.weights is not None
        return jnp.maximum(rows.weights, _LARGEST_RATIO[rows.weights.dtype.itemsize] ** -0.5)

    def _blocks(self, system: System, rows: SparseRows) -> tuple[Array, list[Array], list[Array]]:
        """The diagonal of H, the entries of -H beside it, and the diagonal of the expansions' nodes."""
        m, dtype = self.plan.rows, system.hessian.dtype
        values = system.hessian[:m]
        if rows.weights is not None:
            values = values / self._weights(rows) ** 2
        rotation = system.rotation
        if rotation is None or rotation.is_identity:
            return values, [], []
        diagonal, entries, extra = [], [], []
        start = 0
        for block, part in zip(self.plan.cone.cones, rotation.parts, strict=True):
            if start >= m:
                break
            own = values[start : start + block.size]
            start += block.size
            if not isinstance(block, Stack):
                diagonal.append(own)
                continue
            count, size = block.count, block.cone.size
            if _is_expanded(block):
                upper, lower, rest = own.reshape(count, size)[:, :3].T
                shift = jnp.finfo(dtype).eps * (rest + system.regularization)
                for place, pivot in (
                    (0, jnp.maximum(upper - rest, shift)),
                    (1, -jnp.maximum(rest - lower, shift)),
                ):
                    unit = jnp.tile(jnp.zeros(size, dtype).at[place].set(1), count)
                    entries.append(block.unrotate(part, unit))
                    extra.append(1 / pivot)
                diagonal.append(jnp.repeat(rest, size))
                continue

            def column(
                unit: Array, block: Stack = block, part: Any = part, own: Array = own
            ) -> Array:
                return block.unrotate(part, own * block.rotate(part, jnp.tile(unit, block.count)))

            columns = jax.vmap(column)(jnp.eye(size, dtype=dtype)).reshape(size, count, size)
            diagonal.append(jnp.diagonal(columns, axis1=0, axis2=2).ravel())
            first, second = np.tril_indices(size, -1)
            entries.append(-columns[second, :, first].T.ravel())
        return jnp.concatenate(diagonal), entries, extra
