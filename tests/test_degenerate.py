"""Derivatives where the optimality conditions are singular: redundant rows, ties, flat faces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers import Status
from tests.helpers import compiled
from tests.helpers.active_set import active_set_map
from tests.helpers.gradients import random_cotangents
from tests.helpers.oracles import clarabel_qp
from tests.helpers.problems import CASES, KnownQP
from tests.helpers.tolerances import F64

LEAST_SQUARES = jl.Settings(derivative=jl.Derivative(solver="least_squares"))
SOLVERS = {"direct": jl.Settings(), "least_squares": LEAST_SQUARES}
each_solver = pytest.mark.parametrize("solver", SOLVERS)
LP_COST = -np.ones(3)


def assert_finite(tree):
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


@each_solver
def test_redundant_equality(solver, rng):
    """A repeated equality row changes neither x's gradients nor, both rows moved together, b's.

    The gradients without that row are exact ones, of the active set's equations.
    """
    data = CASES["redundant"].data
    factors = data["b"] / data["b"][0]
    cotangents = random_cotangents(rng, compiled.shapes(data))
    primal = cotangents | {"y": np.zeros_like(cotangents["y"])}
    got = compiled.pull(data, primal, SOLVERS[solver])[1]

    single = data | {"A": data["A"][:1], "b": data["b"][:1]}
    found = {name: np.where(v > 1e-6, v, 0) for name, v in clarabel_qp(**single).items()}
    exact = active_set_map(KnownQP(single, found))
    pullback = jax.jit(jax.vmap(lambda cotangent: jax.vjp(exact, single)[1](cotangent)[0]))
    want = pullback(primal | {"y": primal["y"][:, :1]})
    for name in ("Q", "q", "G", "h", "lower", "upper"):
        np.testing.assert_allclose(got[name], want[name], rtol=F64.exact, atol=F64.exact)
    np.testing.assert_allclose(got["b"] @ factors, want["b"][:, 0], rtol=0, atol=F64.exact)
    assert_finite(compiled.pull(data, cotangents, SOLVERS[solver])[1])


@each_solver
def test_small_multipliers_and_slacks_count_in_full(solver):
    """minimize (x - a)^2 / 2 s.t. x <= 0: x moves with a where a < 0 and not at all where a > 0.

    An interior point in between, where slack and multiplier are alike, would give any share of it.
    """
    sizes = 10.0 ** -np.arange(3, 7)
    ends = np.concatenate([sizes, -sizes])

    def optimum(end):
        return jl.solve_qp(
            jnp.eye(1), -end[None], None, None, jnp.eye(1), jnp.zeros(1), settings=SOLVERS[solver]
        ).x[0]

    slopes = jax.jit(jax.vmap(jax.grad(optimum)))(ends)
    np.testing.assert_allclose(slopes, ends < 0, rtol=0, atol=1e-7)


def test_repeated_row_shares_its_gradient(rng):
    """The minimum-norm solution splits the gradient of two equal rows equally; any other, up to their sum."""
    data = dict(CASES["redundant"].data)
    data |= {"A": np.stack([data["A"][0]] * 2), "b": np.stack([data["b"][0]] * 2)}
    cotangents = random_cotangents(rng, compiled.shapes(data))
    direct, split = (
        {k: np.asarray(v)[:3] for k, v in compiled.pull(data, cotangents, s)[1].items()}
        for s in SOLVERS.values()
    )
    assert_finite((direct, split))
    assert np.max(np.abs(split["b"])) > 0.01
    np.testing.assert_allclose(split["b"][:, 0], split["b"][:, 1], rtol=0, atol=F64.exact)
    sums = direct["b"].sum(axis=1), split["b"].sum(axis=1)
    np.testing.assert_allclose(*sums, rtol=0, atol=F64.exact)


def test_least_squares_is_direct_where_regular(rng):
    """On a well-posed problem both solvers give one derivative, of every output in every input."""
    data = CASES["full"].data
    cotangents = random_cotangents(rng, compiled.shapes(data))
    direct = compiled.pull(data, cotangents)[1]
    least_squares = compiled.pull(data, cotangents, LEAST_SQUARES)[1]
    for name in data:
        np.testing.assert_allclose(
            least_squares[name], direct[name], rtol=F64.exact, atol=F64.exact
        )


@pytest.fixture(scope="module")
def corner():
    """Projection Jacobians by solver, with one bound active, one inactive and one weakly active."""

    def project(point, settings):
        return jl.solve_qp(jnp.ones(3), -point, lower=0, settings=settings).x

    point = np.array([-1.0, 2.0, 0.0])
    jacobian = jax.jit(jax.jacrev(project), static_argnums=1)
    return {name: jacobian(point, settings) for name, settings in SOLVERS.items()}


@each_solver
def test_weakly_active(solver, corner):
    """At a tie the derivative is one of Clarke's: between those of the two sides."""
    jacobian = np.asarray(corner[solver])
    np.testing.assert_allclose(jacobian[:2, :2], np.diag([0.0, 1.0]), rtol=0, atol=1e-6)
    np.testing.assert_allclose(jacobian - np.diag(np.diag(jacobian)), 0, rtol=0, atol=1e-6)
    assert -1e-6 <= jacobian[2, 2] <= 1 + 1e-6


@each_solver
def test_several_solutions(solver):
    """A linear program with a face of solutions: gradients finite, the value's exact."""

    @jax.jit
    def solve_and_differentiate(q, h):
        def outputs(q, h):
            solution = jl.solve_qp(
                None, q, G=np.ones((1, 3)), h=h, lower=0, settings=SOLVERS[solver]
            )
            return jnp.append(solution.x, solution.objective), solution

        jacobian, solution = jax.jacrev(outputs, argnums=(0, 1), has_aux=True)(q, h)
        return solution, jacobian

    solution, (by_q, by_h) = solve_and_differentiate(LP_COST, np.ones(1))
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(np.sum(solution.x), 1, rtol=1e-8)
    assert_finite((by_q, by_h))
    np.testing.assert_allclose(by_q[3], solution.x, rtol=0, atol=F64.exact)
    np.testing.assert_allclose(by_h[3], -1, rtol=0, atol=F64.exact)


def test_flat_direction():
    """Where Q leaves a direction undecided, least squares gives its pseudo-inverse."""
    factor = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    Q = factor.T @ factor
    q = Q @ np.array([1.0, -2.0, 0.5])

    @jax.jit
    @jax.jacrev
    def jacobian(q):
        return jl.solve_qp(Q, q, settings=LEAST_SQUARES).x

    np.testing.assert_allclose(jacobian(q), -np.linalg.pinv(Q), rtol=0, atol=1e-7)


def test_coinciding_bounds_move_together(rng):
    """Both bounds moved at once move the variable: finite, and summing to the derivative of x."""
    data = CASES["coinciding"].data
    fixed = np.flatnonzero(data["lower"] == data["upper"])
    cotangents = random_cotangents(rng, compiled.shapes(data))
    cotangents = {name: np.zeros_like(rows) for name, rows in cotangents.items()}
    cotangents["x"][:6] = np.eye(6)
    gradients = compiled.pull(data, cotangents)[1]
    assert_finite(gradients)
    total = (gradients["lower"] + gradients["upper"])[:6]
    np.testing.assert_allclose(total[np.ix_(fixed, fixed)], np.eye(2), rtol=0, atol=F64.exact)
