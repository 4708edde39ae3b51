"""Derivatives smoothed along the central path: those of an independently computed point of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from tests.helpers import compiled
from tests.helpers.central_path import central_path_qp
from tests.helpers.gradients import DIRECTIONS, random_cotangents, random_direction
from tests.helpers.oracles import central_difference
from tests.helpers.problems import CASES, OUTPUTS
from tests.helpers.tolerances import F64

MU = 1e-2
POINTS = ("x", "y", "z", "s", "z_lower", "z_upper")
DATA = CASES["full"].data


def smoothed(mu, **choices):
    return jl.Settings(derivative=jl.Derivative(smoothing=mu, **choices))


@pytest.fixture(scope="module")
def cotangents():
    """Random cotangents of each output in turn."""
    return random_cotangents(np.random.default_rng(0), compiled.shapes(DATA))


def rows_of(cotangents, output):
    """The rows of a stack of cotangents that ask for one output."""
    return np.flatnonzero(
        np.any(cotangents[output] != 0, axis=tuple(range(1, cotangents[output].ndim)))
    )


def test_gradients_are_the_central_paths(rng, cotangents):
    """Every part of the point in every input, against differences of a Newton method in NumPy."""
    gradients = compiled.pull(DATA, cotangents, smoothed(MU))[1]
    for name, array in DATA.items():
        for _ in range(DIRECTIONS):
            direction = random_direction(rng, name, array)
            differences = central_difference(
                lambda data: central_path_qp(data, MU), DATA, {name: direction}
            )
            for output in POINTS:
                for row in rows_of(cotangents, output):
                    got = np.sum(gradients[name][row] * direction)
                    want = np.sum(cotangents[output][row] * differences[output])
                    np.testing.assert_allclose(
                        got, want, rtol=F64.gradient, atol=F64.zero, err_msg=f"{output} in {name}"
                    )


def test_objective_is_the_barriers(cotangents):
    """The value's gradient is the Lagrangian's at the point: the barrier problem's value's."""
    gradients = compiled.pull(DATA, cotangents, smoothed(MU))[1]
    point = central_path_qp(DATA, MU)
    want = {"q": point["x"], "b": -point["y"], "h": -point["z"], "lower": point["z_lower"]}
    row = rows_of(cotangents, "objective")[0]
    for name, expected in want.items():
        got = gradients[name][row] / cotangents["objective"][row]
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9)


def test_values_stay_exact(cotangents):
    """Smoothing changes derivatives only."""
    values = compiled.named(compiled.pull(DATA, cotangents, smoothed(MU))[0])
    exact = compiled.named(compiled.solve(DATA))
    for name in OUTPUTS:
        np.testing.assert_allclose(values[name], exact[name], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_converges_to_the_exact_gradient(cotangents):
    """The difference to the exact derivative falls in proportion to the barrier parameter."""
    exact = compiled.pull(DATA, cotangents)[1]

    def difference(mu):
        gradients = compiled.pull(DATA, cotangents, smoothed(mu))[1]
        pairs = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), gradients, exact)
        return max(pairs.values())

    coarse, fine = difference(MU), difference(MU * 1e-4)
    assert coarse > 0.01
    assert fine < 1e-3 * coarse


def closed_form(point, mu):
    """Projection on x >= 0 at barrier mu: x - mu / x = point. Its value and two derivatives."""
    root = jnp.sqrt(point**2 + 4 * mu)
    return (point + root) / 2, (1 + point / root) / 2, 2 * mu / root**3


@pytest.mark.parametrize("mode", ["reverse", pytest.param("forward", marks=pytest.mark.slow)])
def test_ties_and_second_order(mode):
    """First and second derivatives of a projection, on both sides of its kink and on it."""
    points = np.array([-1.0, -0.05, 0.0, 0.05, 1.0])

    @jax.jit
    @partial(jax.vmap, out_axes=(-1, -1))
    def derivatives(direction):
        def project(point):
            return jl.solve_qp(jnp.ones(5), -point, lower=0, settings=smoothed(MU, mode=mode)).x

        def pulled(point):
            return jax.vjp(project, point)[1](direction)[0]

        first, second = jax.vjp(pulled, points)
        return first, second(jnp.ones(5))[0]

    first, second = derivatives(np.eye(5))
    _, want_first, want_second = closed_form(points, MU)
    np.testing.assert_allclose(first, np.diag(want_first), rtol=0, atol=1e-9)
    np.testing.assert_allclose(second, np.diag(want_second), rtol=0, atol=1e-7)


@pytest.mark.slow
def test_no_inequalities(rng):
    """Without inequalities there is no path: smoothing changes nothing."""
    data = CASES["equalities"].data
    given = random_cotangents(rng, compiled.shapes(data))
    got, want = compiled.pull(data, given, smoothed(MU))[1], compiled.pull(data, given)[1]
    for name in data:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-10, atol=1e-12)


def test_redundant_rows(rng):
    """Where equality rows repeat, x, z and s are unique, and so are their gradients."""
    data = CASES["redundant"].data
    given = random_cotangents(rng, compiled.shapes(data))
    gradients = compiled.pull(data, given, smoothed(MU))[1]
    for name in ("Q", "q", "G", "h"):
        direction = random_direction(rng, name, data[name])
        differences = central_difference(
            lambda moved: central_path_qp(moved, MU), data, {name: direction}
        )
        for output in ("x", "z", "s", "z_lower", "z_upper"):
            row = rows_of(given, output)[0]
            got = np.sum(gradients[name][row] * direction)
            want = np.sum(given[output][row] * differences[output])
            np.testing.assert_allclose(got, want, rtol=F64.gradient, atol=F64.zero)
