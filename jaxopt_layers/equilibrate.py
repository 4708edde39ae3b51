"""Ruiz equilibration: the KKT matrix scaled so that its rows and columns have norms near one.

With x = D x^, s = E^-1 s^ and z = E z^ / c, the scaled problem has P^ = c DPD, q^ = c Dq,
R^ = ERD and b^ = Eb (Ruiz 2001; Stellato et al. 2020, section 5.1).

P is measured in units of its own mean norm, since the passes balance it against R, whose rows may have any
norm: an objective in other units gives the same D and E.

D, E and c have one more factor each, which leaves R^ as it is: with `size` times D, E / size and c / size,
b^ is divided by it. So x, s and z are all of about size one, and with them what a barrier adds to the
diagonals of the KKT matrix, against which its regularization must be small.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.cones import Product
from jaxopt_layers.matrix import constant_like, norm_inf, symmetric_norms, symmetric_scaled
from jaxopt_layers.problem import Program
from jaxopt_layers.rows import ConstraintRows
from jaxopt_layers.sparse_matrix import SparseMatrix

# A row or column whose norm lies within this factor of one counts as balanced.
_BALANCED = 2.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scaling:
    """The factors without `size`: of the matrices' columns (n,) and of all rows, and of the objective.

    Those of the matrices depend on the matrices alone, so a batch that shares its matrices shares them, too.
    Entries of rows belong to absent rows as well; `active` masks those. `size` and `slope` are the mean
    entries of Eb and Dq, or one: how large primal and dual solutions may be expected.
    """

    matrix_columns: Array
    matrix_rows: Array
    cost: Array
    size: Array
    slope: Array

    @property
    def columns(self) -> Array:
        """D (n,)."""
        return self.size * self.matrix_columns

    @property
    def rows(self) -> Array:
        """E (rows,)."""
        return self.matrix_rows / self.size

    @property
    def objective(self) -> Array:
        """c."""
        return self.cost / self.size

    def unscale_primal(self, x: Array) -> Array:
        return self.columns * x

    def unscale_slack(self, s: Array) -> Array:
        return s / self.rows

    def unscale_dual(self, z: Array) -> Array:
        return z * self.rows / self.objective

    def scale_primal(self, x: Array) -> Array:
        return x / self.columns

    def scale_slack(self, s: Array) -> Array:
        return s * self.rows

    def scale_dual(self, z: Array) -> Array:
        return z / self.rows * self.objective


def equilibrate(program: Program, cone: Product, passes: int) -> Scaling:
    """The scaling of a program; a cone's rows are scaled so that it maps onto itself."""
    rows = program.rows
    unit = _power_of_two(
        1 / _mean(symmetric_norms(program.quadratic, jnp.ones_like(program.linear)))
    )
    columns, matrix_rows = _ruiz(program.quadratic, unit, rows, passes)
    # A bound row is scaled back to an entry of one, so that bounds stay plain vectors.
    bounds = [1 / columns] * (int(rows.lower) + int(rows.upper))
    scale = cone.rectify_scaling(jnp.concatenate([matrix_rows, *bounds]))
    if not cone.degree:  # without a barrier there is nothing to balance against
        one = jnp.ones_like(unit)
        return Scaling(columns, scale, unit, one, one)
    linear, offset = columns * program.linear, scale * program.offset
    if rows.active is not None:
        offset = jnp.where(rows.active > 0, offset, 0)
    size = _size(offset)
    curvature = symmetric_norms(program.quadratic, columns)
    norm = jnp.maximum(size * jnp.mean(curvature), norm_inf(linear))
    return Scaling(columns, scale, 1 / jnp.where(norm > 0, norm, 1), size, _size(linear))


def _size(vector: Array) -> Array:
    """Its mean entry where that is more than one: a smaller b^ says little of x, which then is as large
    as the objective makes it."""
    mean = _mean(vector)
    return _power_of_two(jnp.clip(mean, 1, jnp.finfo(mean.dtype).max ** 0.25))


def _mean(vector: Array) -> Array:
    """The mean magnitude of the entries that aren't zero; one where all are."""
    vector = jnp.abs(vector)
    entries = jnp.sum(jnp.where(vector > 0, jnp.ones_like(vector), 0))
    return jnp.where(entries > 0, jnp.sum(vector) / jnp.maximum(entries, 1), 1)


def _power_of_two(value: Array) -> Array:
    """The nearest one, so that scaling by it rounds nothing."""
    exponent_bits = jnp.finfo(value.dtype).nexp
    return lax.reduce_precision(value, exponent_bits=exponent_bits, mantissa_bits=0)


def scale(program: Program, scaling: Scaling) -> Program:
    """The scaled program."""
    rows, columns = program.rows, scaling.matrix_columns
    offset = program.offset * scaling.rows
    if rows.active is not None:  # an absent row reads 0'x + s = 1 at any scale
        offset = jnp.where(rows.active > 0, offset, program.offset)
    return Program(
        quadratic=symmetric_scaled(program.quadratic, columns),
        quadratic_scale=scaling.cost * scaling.size * program.quadratic_scale,
        linear=scaling.cost * columns * program.linear,
        rows=rows.scaled(columns, scaling.matrix_rows[: rows.matrix_count]),
        offset=offset,
        constant=program.constant,
    )


def _ruiz(
    quadratic: Array | SparseMatrix | None, unit: Array, rows: ConstraintRows, passes: int
) -> tuple[Array, Array]:
    """D and the matrix rows' part of E: at most `passes` passes, fewer once all is balanced."""
    dtype = rows.dtype
    matrices = [jnp.ravel(leaf)[:1] for leaf in [*jax.tree.leaves(quadratic), *rows.anchors]]
    anchor = jnp.sum(jnp.concatenate(matrices)) if matrices else jnp.zeros((), dtype)
    start = _Balance(
        columns=constant_like(jnp.ones(rows.variables, dtype), anchor, dtype),
        matrix_rows=constant_like(jnp.ones(rows.matrix_count, dtype), anchor, dtype),
        imbalance=constant_like(jnp.inf, anchor, dtype),
        passes=constant_like(0, anchor, jnp.int32),
    )

    def unbalanced(state: _Balance) -> Array:
        return (state.imbalance > _BALANCED) & (state.passes < passes)

    def balance(state: _Balance) -> _Balance:
        by_row = rows.row_norms(state.columns)
        by_column = rows.column_norms(state.matrix_rows) * state.columns
        columns = jnp.maximum(unit * symmetric_norms(quadratic, state.columns), by_column)
        matrix_rows = state.matrix_rows * by_row
        columns = jnp.where(columns > 0, columns, 1)
        matrix_rows = jnp.where(matrix_rows > 0, matrix_rows, 1)
        norms = jnp.concatenate([columns, matrix_rows])
        return _Balance(
            columns=state.columns / jnp.sqrt(columns),
            matrix_rows=state.matrix_rows / jnp.sqrt(matrix_rows),
            imbalance=jnp.max(jnp.maximum(norms, 1 / norms), initial=1),
            passes=state.passes + 1,
        )

    end = lax.while_loop(unbalanced, balance, start)
    return end.columns, end.matrix_rows


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Balance:
    columns: Array
    matrix_rows: Array
    imbalance: Array
    passes: Array
