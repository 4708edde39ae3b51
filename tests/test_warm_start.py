"""A previous solution saves iterations, and changes neither the result nor the gradient."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers import Status
from tests.helpers.problems import random_qp, stack

BATCH = 32


def _batch():
    rng = np.random.default_rng(0)
    return stack([random_qp(rng, 5, 4, 1, bounds=True) for _ in range(BATCH)])


KNOWN = _batch()
PROBLEMS = KNOWN.data
NOISE = np.random.default_rng(1).normal(size=PROBLEMS["q"].shape)


def loss(data, init):
    """Touches every output; returns the solution with it."""
    s = jl.solve_qp(**data, init=init)
    duals = sum(jnp.sum(v) for v in (s.y, s.z, s.s, s.z_lower, s.z_upper))
    return jnp.sum(s.x**2) + 0.1 * duals + s.objective, s


# One compiled program for all tests: a start that has failed is the same as none.
solve = jax.jit(jax.vmap(jax.value_and_grad(loss, has_aux=True)))


def neighbour(size):
    return PROBLEMS | {"q": PROBLEMS["q"] + size * NOISE}


def failed(solution, status=Status.MAX_ITERATIONS):
    return replace(solution, status=jnp.full_like(solution.status, status))


@pytest.fixture(scope="module")
def start():
    """The solutions of the unchanged problems, without a start of their own."""
    x, duals = PROBLEMS["q"], KNOWN.solution
    empty = jl.QPSolution(
        **{name: jnp.asarray(duals[name]) for name in ("y", "z", "s", "z_lower", "z_upper")},
        **{name: jnp.zeros(BATCH) for name in ("objective", "dual_objective", "primal_residual")},
        **{name: jnp.zeros(BATCH) for name in ("dual_residual", "gap")},
        x=jnp.zeros_like(x),
        status=jnp.full(BATCH, Status.NUMERICAL_ERROR, jnp.int32),
        iterations=jnp.zeros(BATCH, jnp.int32),
    )
    (_, solution), _ = solve(PROBLEMS, empty)
    jl.raise_if_failed(solution)
    np.testing.assert_allclose(solution.x, KNOWN.solution["x"], atol=1e-7)
    return solution


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-3, 1e-2])
def test_fewer_iterations_on_a_neighbouring_problem(start, size):
    (_, cold), _ = solve(neighbour(size), failed(start))
    (_, warm), _ = solve(neighbour(size), start)
    assert np.all(warm.status == Status.SOLVED)
    assert np.all(cold.status == Status.SOLVED)
    assert np.mean(warm.iterations) < np.mean(cold.iterations) - 1
    if size <= 1e-6:
        assert np.mean(warm.iterations <= cold.iterations) > 0.95
        assert np.mean(warm.iterations) < 0.6 * np.mean(cold.iterations)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 100.0])
def test_the_result_is_the_same(start, size):
    (_, cold), _ = solve(neighbour(size), failed(start))
    (_, warm), _ = solve(neighbour(size), start)
    good = np.asarray(cold.status) == Status.SOLVED
    np.testing.assert_array_equal(warm.status, cold.status)
    assert good.all()
    scale = 1 + size
    for name in ("x", "y", "z", "s", "z_lower", "z_upper"):
        np.testing.assert_allclose(
            getattr(warm, name), getattr(cold, name), atol=1e-6 * scale, err_msg=name
        )
    np.testing.assert_allclose(warm.objective, cold.objective, rtol=1e-8, atol=1e-8 * scale)


def test_the_gradient_is_the_same(start):
    data = neighbour(1e-3)
    _, cold = solve(data, failed(start))
    _, warm = solve(data, start)
    for name in PROBLEMS:
        np.testing.assert_allclose(warm[name], cold[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_no_gradient_goes_into_the_start(start):
    one = jax.tree.map(lambda v: v[0], start)
    data = {name: array[0] for name, array in neighbour(1e-2).items()}

    def of_start(x, z):
        return loss(data, replace(one, x=x, z=z))[0]

    gradients = jax.jit(jax.grad(of_start, (0, 1)))(one.x, one.z)
    chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, gradients))


@pytest.mark.parametrize("status", list(Status)[2:], ids=lambda status: status.name)
def test_a_failed_start_is_ignored(start, status):
    """Whatever it holds: NaN, infinity, or a certificate."""
    data = neighbour(1e-3)
    expected = solve(data, failed(start))
    broken = replace(start, x=start.x * jnp.nan, z=start.z * jnp.inf, y=start.y + 1e300)
    chex.assert_trees_all_equal(solve(data, failed(broken, status)), expected)


def test_a_start_that_claims_to_be_solved_but_is_not_finite(start):
    data = neighbour(1e-3)
    broken = replace(start, x=start.x.at[0].set(jnp.nan), z=start.z.at[1, 0].set(jnp.inf))
    (_, solution), gradient = solve(data, broken)
    np.testing.assert_array_equal(solution.status, Status.SOLVED)
    chex.assert_tree_all_finite(gradient)
    (_, cold), _ = solve(data, failed(start))
    np.testing.assert_array_equal(solution.iterations[:2], cold.iterations[:2])


def test_a_wrong_start_does_no_harm(start):
    """A solution of something else altogether, far away and outside every constraint."""
    wild = replace(
        start, x=1e3 * (1 + start.x), y=-1e3 * start.y, z=1e4 * start.z + 5, s=1e-9 * start.s
    )
    (_, solution), _ = solve(PROBLEMS, wild)
    np.testing.assert_array_equal(solution.status, Status.SOLVED)
    np.testing.assert_allclose(solution.x, KNOWN.solution["x"], atol=1e-6)


def test_a_start_does_not_hide_infeasibility(start):
    """From a solved neighbour to problems whose bounds cross, and back from their certificates."""
    crossed = PROBLEMS | {"upper": PROBLEMS["lower"] - 0.1}
    (_, infeasible), gradient = solve(crossed, start)
    np.testing.assert_array_equal(infeasible.status, Status.PRIMAL_INFEASIBLE)
    chex.assert_trees_all_equal(gradient, jax.tree.map(jnp.zeros_like, gradient))
    (_, back), _ = solve(PROBLEMS, infeasible)
    np.testing.assert_array_equal(back.status, Status.SOLVED)
    np.testing.assert_allclose(back.x, KNOWN.solution["x"], atol=1e-7)


def test_members_do_not_share_their_start(start):
    """A start that fails for one member leaves the others as they were."""
    data = neighbour(1e-3)
    expected = solve(data, start)
    statuses = start.status.at[3].set(Status.MAX_ITERATIONS)
    mixed = solve(data, replace(start, status=statuses))
    others = np.arange(BATCH) != 3
    for one, other in zip(jax.tree.leaves(mixed), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(one)[others], np.asarray(other)[others])
    assert mixed[0][1].iterations[3] > expected[0][1].iterations[3]


def test_without_inequalities_there_is_nothing_to_start():
    Q, q = np.diag([1.0, 2.0]), np.array([1.0, 1.0])
    first = jax.jit(jl.solve_qp)(Q, q)
    again = jax.jit(lambda q, init: jl.solve_qp(Q, q, init=init))(2 * q, first)
    np.testing.assert_allclose(again.x, [-2, -1], rtol=1e-12)


def test_scan_over_a_drifting_problem(start):
    """Each step starts from the one before: fewer iterations in all, the same path."""
    data = {name: array[0] for name, array in PROBLEMS.items()}
    first = jax.tree.map(lambda v: v[0], start)
    ignored = failed(first)

    def path(warm):
        def step(carry, t):
            solution = jl.solve_qp(**(data | {"q": data["q"] + t * NOISE[0]}), init=carry)
            following = solution if warm else ignored
            return following, (solution.x, solution.iterations, solution.status)

        return jax.lax.scan(step, first if warm else ignored, jnp.linspace(0, 0.1, 8))[1]

    cold, warm = jax.jit(lambda: (path(False), path(True)))()
    for _, _, status in (cold, warm):
        np.testing.assert_array_equal(status, Status.SOLVED)
    np.testing.assert_allclose(warm[0], cold[0], atol=1e-6)
    assert np.sum(warm[1]) < np.sum(cold[1])
