"""Equilibration: balanced norms, exact scaling and unscaling, nothing changed in the problem."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_layers.cones import orthant_product
from jaxopt_layers.equilibrate import equilibrate, scale
from jaxopt_layers.implicit.data import Data, Layout, Marks

N, P, M = 6, 2, 4


def make_program(rng, spread=4.0, quadratic="dense", bounds=True, dense=True):
    """A problem whose rows and columns are spread over 10**-spread to 10**spread."""
    columns, rows = 10 ** rng.uniform(-spread, spread, N), 10 ** rng.uniform(-spread, spread, P + M)
    factor = rng.normal(size=(N, N))
    matrices = {
        "dense": columns[:, None] * (factor @ factor.T) * columns,
        "diagonal": columns**2 * rng.uniform(0.5, 2, N),
        None: None,
    }
    p, m = (P, M) if dense else (0, 0)
    count = p + m + (2 * N if bounds else 0)
    layout = Layout(equalities=p, lower=bounds, upper=bounds, cone=orthant_product(p, count - p))
    P_matrix = matrices[quadratic]
    if P_matrix is not None:  # P's unit is one, so that it is compared with R as it is
        P_matrix = P_matrix / np.abs(np.atleast_2d(P_matrix)).max(axis=0).mean()
    data = Data(
        quadratic=None if P_matrix is None else jnp.asarray(P_matrix),
        linear=jnp.asarray(columns * rng.normal(size=N)),
        matrix=jnp.asarray(rows[:, None] * rng.normal(size=(P + M, N)) * columns)
        if dense
        else None,
        offset=jnp.asarray(rng.normal(size=count)),
    )
    marks = Marks(active=jnp.ones(count), valid=jnp.ones(()))
    return layout.program(data, marks), layout.cone


scaling_of = jax.jit(equilibrate, static_argnames=("cone", "passes"))


def column_norms(program):
    """Largest entries of the columns of [P; R], and of the dense rows."""
    parts = []
    if program.quadratic is not None:
        q = np.asarray(program.quadratic)
        parts.append(np.abs(np.diag(q) if q.ndim == 1 else q))
    if program.rows.dense is not None:
        parts.append(np.abs(np.asarray(program.rows.dense)))
    rows = parts[-1].max(axis=1) if program.rows.dense is not None else np.ones(0)
    return np.concatenate(parts).max(axis=0), rows


KINDS = {
    "dense": dict(quadratic="dense"),
    "diagonal": dict(quadratic="diagonal"),
    "linear": dict(quadratic=None),
    "without bounds": dict(bounds=False),
    "bounds only": dict(quadratic="diagonal", dense=False),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@every_kind
def test_norms_are_near_one(kind, rng):
    program, cone = make_program(rng, **kind)
    before = np.concatenate(column_norms(program))
    assert before.max() / before.min() > 1e4
    scaled = scale(program, scaling_of(program, cone=cone, passes=12))
    norms = np.concatenate(column_norms(scaled))
    assert np.all(norms < 2.5)
    assert np.all(norms > 0.4)


@every_kind
def test_the_scaled_problem_is_the_same_problem(kind, rng):
    """P^ = c DPD, q^ = c Dq, R^ = ERD, b^ = Eb; bound rows keep entries of one."""
    program, cone = make_program(rng, **kind)
    scaling = scaling_of(program, cone=cone, passes=12)
    scaled = scale(program, scaling)
    D, E, c = (np.asarray(v) for v in (scaling.columns, scaling.rows, scaling.objective))
    x, z = rng.normal(size=N), rng.normal(size=len(E))
    close = dict(rtol=1e-12, atol=0)
    for name, found, expected in (
        ("P", scaled.quadratic_product(jnp.asarray(x)), c * D * program.quadratic_product(D * x)),
        ("q", scaled.linear, c * D * program.linear),
        ("R", scaled.rows.product(jnp.asarray(x)), E * program.rows.product(jnp.asarray(D * x))),
        ("b", scaled.offset, E * program.offset),
    ):
        np.testing.assert_allclose(found, expected, err_msg=name, rtol=1e-11, atol=1e-13)
    transposed = D * program.rows.transposed_product(jnp.asarray(E * z))
    np.testing.assert_allclose(
        scaled.rows.transposed_product(jnp.asarray(z)), transposed, rtol=1e-9
    )
    bounds = E[program.rows.matrix_count :]
    np.testing.assert_allclose(bounds, np.tile(1 / D, len(bounds) // N), **close)


def test_units_are_undone_exactly(rng):
    program, cone = make_program(rng)
    scaling = scaling_of(program, cone=cone, passes=12)
    x, s, z = rng.normal(size=N), *rng.uniform(0.1, 2, size=(2, cone.size))
    for there, back, v in (
        (scaling.scale_primal, scaling.unscale_primal, x),
        (scaling.scale_slack, scaling.unscale_slack, s),
        (scaling.scale_dual, scaling.unscale_dual, z),
    ):
        np.testing.assert_allclose(back(there(v)), v, rtol=4 * np.finfo(float).eps)
        assert np.all(np.sign(there(v)) == np.sign(v))
    # Complementarity and the objective scale by c alone.
    product = np.sum(scaling.scale_slack(s) * scaling.scale_dual(z))
    np.testing.assert_allclose(product, scaling.objective * np.sum(s * z), rtol=1e-12)


def test_a_balanced_problem_is_left_alone(rng):
    """One pass finds that nothing is to do; the number of passes allowed doesn't matter then."""
    program, cone = make_program(rng, spread=0)
    few, many = (scaling_of(program, cone=cone, passes=passes) for passes in (12, 40))
    for one, other in zip(jax.tree.leaves(few), jax.tree.leaves(many), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.all(np.abs(np.log10(few.columns)) < 1)


def test_no_passes_leave_the_matrices(rng):
    program, cone = make_program(rng)
    scaling = scaling_of(program, cone=cone, passes=0)
    np.testing.assert_array_equal(scaling.matrix_columns, np.ones(N))
    np.testing.assert_array_equal(scaling.matrix_rows, np.ones(cone.size))
    assert scaling.objective > 0


@pytest.mark.parametrize("units", [1e-6, 1.0, 1e3, 1e12])
def test_the_right_hand_side_comes_to_size_one(units, rng):
    """From above: a small one leaves x as large as the objective makes it. A factor two is not told apart."""
    program, cone = make_program(rng)
    program = replace(program, offset=units * program.offset)
    scaling = scaling_of(program, cone=cone, passes=12)
    offset = np.abs(scale(program, scaling).offset)
    assert offset[offset > 0].mean() < 2
    assert scaling.size == 1 or offset[offset > 0].mean() > 0.5
    assert np.log2(scaling.size) == np.round(np.log2(scaling.size))


@pytest.mark.parametrize("units", [2.0**-30, 2.0**40])
def test_the_objectives_unit_changes_nothing(units, rng):
    program, cone = make_program(rng)
    moved = replace(program, linear=units * program.linear, quadratic=units * program.quadratic)
    one, other = (scaling_of(each, cone=cone, passes=12) for each in (program, moved))
    for name in ("matrix_columns", "matrix_rows", "size"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.objective, units * other.objective, rtol=1e-14)


@pytest.mark.parametrize("factor", [1e-8, 1e-4, 1e4, 1e8])
def test_multiples_of_rows_end_in_the_same_scaled_problem(factor, rng):
    """Up to the factor two within which norms count as balanced."""
    program, cone = make_program(rng, spread=0)
    rows = np.ones(P + M)
    rows[[0, -1]] = factor
    dense = program.rows.dense * rows[:, None]
    moved = replace(program, rows=replace(program.rows, dense=dense, dense_transposed=dense.T))
    one, other = (scale(each, scaling_of(each, cone=cone, passes=30)) for each in (program, moved))
    ratio = np.asarray(other.rows.dense / one.rows.dense)
    assert np.all(ratio > 0.2)
    assert np.all(ratio < 5)


def test_the_matrices_scaling_does_not_depend_on_right_hand_sides(rng):
    """So that a batch that shares its matrices shares the scaled ones too."""
    program, cone = make_program(rng)
    moved = replace(program, linear=100 * program.linear, offset=program.offset - 7)
    one, other = (scaling_of(each, cone=cone, passes=12) for each in (program, moved))
    np.testing.assert_array_equal(one.matrix_columns, other.matrix_columns)
    np.testing.assert_array_equal(one.matrix_rows, other.matrix_rows)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_rows_and_columns_stay_finite(dtype, rng):
    program, cone = make_program(rng, spread=0)
    dense = program.rows.dense.at[1].set(0).at[:, 2].set(0)
    quadratic = program.quadratic.at[2].set(0).at[:, 2].set(0)
    program = replace(
        program, quadratic=quadratic, linear=0 * program.linear,
        rows=replace(program.rows, dense=dense, dense_transposed=dense.T),
    )  # fmt: skip
    program = jax.tree.map(lambda v: v.astype(dtype), program)
    program = replace(program, rows=replace(program.rows, dtype=np.dtype(dtype)))
    scaling = scaling_of(program, cone=cone, passes=12)
    for leaf in jax.tree.leaves(scaling):
        assert leaf.dtype == dtype
        assert np.all(np.isfinite(leaf))
        assert np.all(np.asarray(leaf) > 0)


def test_an_absent_row_keeps_its_offset(rng):
    """It reads 0'x + s = 1 at any scale."""
    program, cone = make_program(rng)
    active = jnp.ones(cone.size).at[P].set(0).at[-1].set(0)
    program = replace(
        program, rows=replace(program.rows, active=active),
        offset=jnp.where(active > 0, program.offset, 1),
    )  # fmt: skip
    scaled = scale(program, scaling_of(program, cone=cone, passes=12))
    assert scaled.offset[P] == scaled.offset[-1] == 1
