"""Programs whose variables are in cones: the condensed system against NumPy, the programs as dense ones."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers import Cones, SparseMatrix, Status
from jaxopt_layers.implicit.data import Data, Layout, Marks
from jaxopt_layers.kkt import System, choose_form
from jaxopt_layers.kkt.standard import StandardForm, standard_plan

DENSE = jl.Settings(factorization="dense")
CONES = Cones(zero=4, nonnegative=2, second_order=(4,), psd=(3,), exponential=1)
SYMMETRIC = Cones(zero=3, nonnegative=1, psd=(3,))


def make_program(rng, cones=CONES, free=2, quadratic=True):
    """A program with interior points, so that it has one solution.

    Its variables are the curved cones' and free ones, in a random order. The other rows are dense; P, of
    the free variables alone, is singular.
    """
    product = cones.product
    first = cones.zero + cones.nonnegative
    conic = cones.size - first
    n = conic + free
    order = rng.permutation(n)
    A = np.zeros((cones.size, n))
    A[:first] = rng.normal(size=(first, n))
    A[np.arange(first, cones.size), order[:conic]] = -rng.uniform(0.5, 2, conic)
    mixed = rng.normal(size=cones.size)
    s, interior = (
        np.asarray(v) for v in (product.project(jnp.asarray(mixed)), product.unit(float))
    )
    y, s, x = s - mixed + interior, s + product.has_slack * interior, rng.normal(size=n)
    L = rng.normal(size=(free, max(1, free - 1)))
    P = np.zeros((n, n))
    P[np.ix_(order[conic:], order[conic:])] = L @ L.T
    c = -A.T @ y - (P @ x if quadratic else 0)
    return dict(P=P if quadratic else None, A=A, b=A @ x + s, c=c)


def sparse(data):
    return {
        name: SparseMatrix.from_dense(v) if name in "PA" and v is not None else v
        for name, v in data.items()
    }


@pytest.mark.parametrize("free", [0, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_system(free, weighted, rng):
    """The solve of [P R'; R -H] with H of the cones' scaling; where rows have weights, some zero."""
    data = make_program(rng, free=free, quadratic=free > 0)
    given = sparse(data)
    cone = CONES.product
    data_in_form = Data(given["P"], jnp.asarray(data["c"]), given["A"], jnp.asarray(data["b"]))
    program = Layout(CONES.zero, False, False, cone).program(
        data_in_form, Marks(active=None, valid=jnp.ones(()))
    )
    values, rotation = cone.project_spectrum(jnp.asarray(rng.normal(size=cone.size)))
    weights = np.ones(cone.size)
    hessian = np.where(cone.has_slack, rng.uniform(0.1, 10, cone.size), 0)
    if weighted:
        hessian = np.asarray(values)
        weights = np.sqrt(1 - hessian)
    rows = program.rows.rotated(rotation).scaled(
        jnp.ones_like(program.linear), jnp.asarray(weights)
    )
    reg = 1e-9
    system = System(replace(program, rows=rows), jnp.asarray(hessian), jnp.asarray(reg), rotation)
    form = choose_form(system.program, cone)
    assert isinstance(form, StandardForm)
    assert len(form.plan.free) == free

    right = rng.normal(size=(2, system.program.linear.shape[0] + cone.size))
    found = jax.jit(lambda r: form.solve(system, form.factor(system), r))(right)
    columns = np.asarray(system.product(jnp.eye(right.shape[1])))
    expected = np.linalg.solve(columns, right.T).T
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def loss(data, settings):
    """Of the whole solution, and without a symmetry in it."""
    A, b, c, P = (data[name] for name in "AbcP")
    solution = jl.solve_cone(A, b, c, SYMMETRIC, P=P, settings=settings)
    weight = jnp.cos(jnp.arange(solution.s.shape[0]))
    value = jnp.sum(jnp.sin(solution.x)) + weight @ solution.y + weight @ solution.s**2
    return value, solution


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2))])
def test_like_the_dense_program(seed):
    """Values, and the gradients of all data, each of whose entries is in its pattern."""
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    data = make_program(np.random.default_rng(seed), SYMMETRIC)
    (_, solution), found = gradient(sparse(data), jl.Settings())
    (_, reference), expected = gradient(data, DENSE)
    assert solution.status == Status.SOLVED
    for name in ("x", "y", "s"):
        np.testing.assert_allclose(getattr(solution, name), getattr(reference, name), atol=1e-9)
    for name, value in found.items():
        wanted = np.asarray(expected[name])
        if isinstance(value, SparseMatrix):
            wanted = wanted[value.pattern.rows, value.pattern.columns]
            value = value.values
        np.testing.assert_allclose(value, wanted, atol=1e-8 * max(1, np.abs(wanted).max()))


def test_members_that_fail_and_entries_that_are_zero():
    """Infeasible, unbounded and NaN members beside good ones; a variable that its cone does not hold."""
    cones = Cones(zero=2, psd=(3,))
    A = np.concatenate([np.stack([np.eye(6)[0] + np.eye(6)[5], np.eye(6)[1]]), -np.eye(6)])
    matrix = SparseMatrix.from_dense(A)
    x = np.asarray(jl.svec(jnp.eye(3) + 0.1))
    b = np.stack([A @ x + np.r_[np.zeros(2), x]] * 5)
    c = np.stack([np.asarray(jl.svec(jnp.diag(jnp.array([1.0, 2.0, 3.0]))))] * 5)
    b[1, 0] = -1.0  # the sum of two diagonal entries
    c[2] = -np.eye(6)[3]  # an entry of the diagonal that no equation bounds
    A_values = np.stack([np.asarray(matrix.values)] * 5)
    place = np.flatnonzero((matrix.pattern.rows == 2) & (matrix.pattern.columns == 0))
    c[3, 0] = np.nan
    A_values[4, place] = 0.0

    def solve(values, b, c):
        return jl.solve_cone(SparseMatrix(values, matrix.pattern), b, c, cones)

    solution = jax.jit(jax.vmap(solve))(A_values, b, c)
    assert standard_plan(None, matrix, cones.product) is not None
    assert list(solution.status[:4]) == [
        Status.SOLVED,
        Status.PRIMAL_INFEASIBLE,
        Status.DUAL_INFEASIBLE,
        Status.INVALID_INPUT,
    ]
    # The last one has a zero on its slack's diagonal beside an entry that is not: weakly infeasible.
    assert solution.status[4] > Status.ALMOST_SOLVED
    chex.assert_tree_all_finite((solution.x, solution.y, solution.s))


def test_what_is_not_in_standard_form():
    """Two rows that name one variable, a row with two, a quadratic objective in a conic variable."""
    cones = Cones(zero=1, psd=(2,))
    eye, row = -np.eye(3), np.ones((1, 3))
    good = SparseMatrix.from_dense(np.concatenate([row, eye]))
    assert standard_plan(None, good, cones.product) is not None
    twice = SparseMatrix.from_dense(np.concatenate([row, eye[[0, 0, 2]]]))
    two = SparseMatrix.from_dense(np.concatenate([row, eye + np.eye(3, k=1)]))
    for matrix in (twice, two):
        assert standard_plan(None, matrix, cones.product) is None
    quadratic = SparseMatrix.from_dense(np.diag([1.0, 0, 0]))
    assert standard_plan(quadratic, good, cones.product) is None
    alone = SparseMatrix.from_dense(eye)
    assert standard_plan(None, alone, Cones(psd=(2,)).product) is None
