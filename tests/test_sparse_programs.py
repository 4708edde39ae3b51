"""Programs with sparse matrices, factored by their pattern, against the same programs as dense ones."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers import Cones, SparseMatrix, Status

SPARSE, DENSE = (jl.Settings(factorization=kind) for kind in ("sparse", "dense"))


def sparse(matrix):
    return SparseMatrix.from_dense(matrix)


def scattered(rng, shape, density):
    """A matrix with at least one entry in each row."""
    matrix = np.where(rng.uniform(size=shape) < density, rng.normal(size=shape), 0)
    matrix[np.arange(shape[0]), rng.integers(shape[1], size=shape[0])] = rng.normal(size=shape[0])
    return matrix


def random_qp(rng, n=30, p=6, m=20):
    L = scattered(rng, (n, n), 0.03)
    A, G = scattered(rng, (p, n), 0.2), scattered(rng, (m, n), 0.1)
    x = rng.normal(size=n)
    return dict(
        Q=L @ L.T + 0.1 * np.eye(n),
        q=rng.normal(size=n),
        A=A,
        b=A @ x,
        G=G,
        h=G @ x + rng.uniform(size=m),
        lower=x - 1,
        upper=x + 1,
    )


MATRICES = ("Q", "A", "G")


def qp_loss(data, settings):
    s = jl.solve_qp(**data, settings=settings)
    loss = jnp.sum(jnp.sin(s.x)) + jnp.sum(s.y**2) + jnp.sum(s.z**3) + s.objective
    return loss + jnp.sum(s.z_upper * s.x) + jnp.sum(jnp.cos(s.s)), s


def with_sparse(data):
    return {k: sparse(v) if k in MATRICES else jnp.asarray(v) for k, v in data.items()}


def check_gradients(found, expected, tolerance):
    """Those of sparse matrices have the pattern of the dense ones' entries, and all have their values."""
    for name, value in found.items():
        wanted = np.asarray(expected[name])
        if isinstance(value, SparseMatrix):
            wanted, value = wanted[value.pattern.rows, value.pattern.columns], value.values
        np.testing.assert_allclose(value, wanted, atol=tolerance * max(1, np.abs(wanted).max()))


def test_quadratic_program(rng):
    """Values and the gradients of all data, whose matrices come back in their own pattern."""
    data = random_qp(rng)
    gradient = jax.jit(jax.value_and_grad(qp_loss, has_aux=True), static_argnums=1)
    (loss, solution), found = gradient(with_sparse(data), SPARSE)
    (expected_loss, expected_solution), expected = gradient(data, DENSE)
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-8)
    np.testing.assert_allclose(solution.x, expected_solution.x, atol=1e-8)
    for name in MATRICES:
        assert found[name].pattern == sparse(data[name]).pattern
    check_gradients(found, expected, 1e-7)


def test_every_member_has_its_status(rng):
    """Infeasible, unbounded and NaN members beside good ones, which stay what they are alone."""
    data = with_sparse(random_qp(rng))
    del data["lower"], data["upper"]
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), data)
    batch["h"] = batch["h"].at[1].add(-1e3)
    batch["A"] = SparseMatrix(batch["A"].values.at[1].set(0), data["A"].pattern)
    batch["b"] = batch["b"].at[1].set(1)
    batch["q"] = batch["q"].at[2].set(np.nan)
    solve = jax.jit(jax.vmap(lambda data: jl.solve_qp(**data, settings=SPARSE)))
    found = solve(batch)
    S = Status
    assert found.status.tolist() == [S.SOLVED, S.PRIMAL_INFEASIBLE, S.INVALID_INPUT, S.SOLVED]
    good = solve(jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), data))
    np.testing.assert_array_equal(found.x[0], good.x[0])
    chex.assert_tree_all_finite(found.x)


@pytest.mark.parametrize("case", ["bounds only", "one variable", "linear"])
def test_edges(case):
    cases = {
        "bounds only": (sparse(np.eye(3)), -jnp.array([2.0, 0.5, -1.0]), {"lower": 0, "upper": 1}),
        "one variable": (sparse(np.array([[2.0]])), jnp.array([-1.0]), {}),
        "linear": (None, -jnp.ones(2), {"G": sparse(np.eye(2)), "h": jnp.array([1.0, 2.0])}),
    }
    expected = {"bounds only": [1, 0.5, 0], "one variable": [0.5], "linear": [1, 2]}
    Q, q, rest = cases[case]
    solution = jax.jit(lambda: jl.solve_qp(Q, q, **rest, settings=SPARSE))()
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(solution.x, expected[case], atol=1e-8)


def test_float32(rng):
    data = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), with_sparse(random_qp(rng)))
    solution = jax.jit(lambda data: jl.solve_qp(**data, settings=SPARSE))(data)
    chex.assert_type([solution.x, solution.y], jnp.float32)
    assert solution.status <= Status.ALMOST_SOLVED
    assert max(solution.primal_residual, solution.dual_residual) < 1e-4


def test_the_choice_follows_the_cost():
    """A banded program is factored by its pattern, a full one as dense, and settings can force it."""
    n = 400
    difference = np.eye(n)[1:] - np.eye(n)[:-1]
    banded, full = sparse(difference), sparse(np.ones((20, n)))
    for matrix, settings, kind in (
        (banded, jl.Settings(), "sparse"),
        (full, jl.Settings(), "dense"),
        (banded, DENSE, "dense"),
        (full, SPARSE, "sparse"),
        (difference, jl.Settings(), "dense"),
    ):
        cost = jl.factorization_cost(np.ones(n), G=matrix, settings=settings)
        assert cost.factorization == kind
        assert cost.operations > 0
        assert cost.bytes > 0


CONES = {
    "second order": Cones(nonnegative=2, second_order=(6, 3, 6)),
    "semidefinite": Cones(zero=1, psd=(3, 3)),
    "exponential": Cones(exponential=3, dual_exponential=1),
    "power": Cones(power=(0.3, 0.6, -0.4)),
    "mixed": Cones(2, 4, (3, 6), (3,), 1, 1, (0.4, -0.7)),
}


def cone_program(rng, cones, places=None):
    """Feasible with complementary (s, y), and more variables than rows, so that y is unique.

    `places` marks the entries of A; None: new ones.
    """
    m = cones.size
    n = m + 2
    A, v, x = scattered(rng, (m, n), 0.3), rng.normal(size=m), rng.normal(size=n)
    if places is not None:
        A = np.where(places, rng.normal(size=places.shape), 0)
    s = np.asarray(jl.project(cones, v))
    P = np.diag(rng.uniform(0.1, 1, n))
    return dict(A=A, b=A @ x + s, c=-P @ x - A.T @ (s - v), P=P)


def cone_loss(data, cones, settings):
    s = jl.solve_cone(**data, cones=cones, settings=settings)
    return jnp.sum(jnp.sin(s.x)) + jnp.sum(s.y**2) + jnp.sum(s.s**3) + s.objective, s


cone_gradient = jax.jit(jax.value_and_grad(cone_loss, has_aux=True), static_argnums=(1, 2))


def compare_cone_program(data, cones):
    given = {k: sparse(v) if k in "AP" else v for k, v in data.items()}
    (loss, solution), found = cone_gradient(given, cones, SPARSE)
    (expected_loss, _), expected = cone_gradient(data, cones, DENSE)
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-8)
    check_gradients(found, expected, 1e-8)


@pytest.mark.parametrize(
    "name", [pytest.param(k, marks=[pytest.mark.slow] * (k != "second order")) for k in CONES]
)
def test_cone_programs(name, rng):
    compare_cone_program(cone_program(rng, CONES[name]), CONES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", CONES)
def test_twenty_programs_of_each_kind(name, rng):
    """Of one pattern, so that they compile once."""
    cones = CONES[name]
    places = cone_program(rng, cones)["A"] != 0
    for _ in range(20):
        compare_cone_program(cone_program(rng, cones, places), cones)


@pytest.mark.slow
def test_a_long_chain_of_second_differences():
    """A concave signal's nearest convex one: multipliers of 2e4, and a matrix whose condition is n^4.

    The regularization must shrink, or steps don't do what they should; and an iterate next to a bad one that
    is on its way to the solution must not be given up.
    """
    n = 1000
    signal = np.sin(np.linspace(0, np.pi, n))
    index = np.arange(n - 2)
    G = np.zeros((n - 2, n))
    G[index, index], G[index, index + 1], G[index, index + 2] = -1, 2, -1
    solve = jax.jit(lambda q: jl.solve_qp(jnp.ones(n), q, G=sparse(G), h=np.zeros(n - 2)))
    solution = solve(-signal)
    assert solution.status == Status.SOLVED
    assert solution.iterations <= 25
    # The nearest convex function to a concave one is affine, and by symmetry constant.
    np.testing.assert_allclose(solution.x, np.full(n, signal.mean()), atol=1e-7)
