"""Projections on the exponential and the power cone: optimal, with true first and second derivatives."""

from typing import NamedTuple

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from jaxopt_layers.cones.project_exponential import (
    derivative_exponential,
    project_exponential,
    project_product_exponential,
    spectrum_exponential,
)
from jaxopt_layers.cones.project_power import (
    derivative_power,
    project_power,
    project_product_power,
    spectrum_power,
)

EXPONENTS = np.array([0.5, 0.3, 0.9, 0.01, 0.999, 1 / 3, 2 / 3, 0.1])
POINTS = 800  # at most in a test: all are padded to it, and each cone compiles once a dtype
ROUNDING = {np.float64: 1e-14, np.float32: 4e-6}  # relative to |v|
SEPARATE = 1e-3  # from kinks, relative to |v|
TINY = 1e-150  # for v = 0
LATTICE = np.array(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1])).reshape(3, -1).T


class Results(NamedTuple):
    """Of a cone at points v, with directions u and w."""

    project: Array
    derivative: Array
    values: Array
    vectors: Array
    product: Array  # of the derivative and u
    second: Array  # derivative of the product along w, by forward mode
    second_reverse: Array  # gradient of w'product
    gradient: Array  # of half the squared length of the projection
    hessian_product: Array  # and its Hessian times u


def evaluation(project, derivative, product, spectrum):
    """All of a cone's functions in one program."""

    def evaluate(a, v, u, w):
        gradient = jax.grad(lambda v: 0.5 * jnp.sum(project(a, v) ** 2))
        product_at = lambda v: product(a, v, u)  # noqa: E731
        return Results(
            project(a, v),
            derivative(a, v),
            *spectrum(a, v),
            product_at(v),
            jax.jvp(product_at, (v,), (w,))[1],
            jax.grad(lambda v: jnp.sum(w * product_at(v)))(v),
            *jax.jvp(gradient, (v,), (u,)),
        )

    return jax.jit(jax.vmap(evaluate))


EVALUATE = {
    "exponential": evaluation(
        lambda a, v: project_exponential(v),
        lambda a, v: derivative_exponential(v),
        lambda a, v, u: project_product_exponential(v, u),
        lambda a, v: spectrum_exponential(v),
    ),
    "power": evaluation(project_power, derivative_power, project_product_power, spectrum_power),
}


def evaluate(name, a, v, u=None, w=None):
    """As NumPy arrays, for at most `POINTS` points."""
    v = np.asarray(v)
    count = len(v)
    a = np.broadcast_to(np.asarray(a, v.dtype), count)
    u, w = (np.ones_like(v) if array is None else array for array in (u, w))
    padded = [
        np.concatenate([x, np.ones((POINTS - count, *x.shape[1:]), v.dtype)]) for x in (a, v, u, w)
    ]
    results = EVALUATE[name](*padded)
    for result in results:
        assert result.dtype == v.dtype
    return Results(*(np.asarray(result)[:count] for result in results))


every_cone = pytest.mark.parametrize("name", EVALUATE)
every_size = pytest.mark.parametrize("size", [1.0, 1e8, 1e-8])
both_dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def scattered(rng, decades, dtype=np.float64):
    """Exponents and points near and far from every edge: entries over `decades`, some zero."""
    v = rng.normal(size=(POINTS, 3))
    small = rng.random((POINTS, 3)) < 0.5
    v = v * np.where(small, 10.0 ** (-decades * rng.random((POINTS, 3))), 1)
    v[rng.random((POINTS, 3)) < 0.08] = 0
    return EXPONENTS[np.arange(POINTS) % EXPONENTS.size].astype(dtype), v.astype(dtype)


def ordinary(rng):
    """Exponents and points of size about 1, not within `SEPARATE` of z = 0, x = 0 or y = 0."""
    v = rng.normal(size=(POINTS, 3))
    v /= np.linalg.norm(v, axis=1)[:, None]
    v = np.where(np.abs(v) < SEPARATE, SEPARATE, v)
    return EXPONENTS[np.arange(POINTS) % EXPONENTS.size], v


def in_exponential(p):
    x, y, z = p.T
    safe = np.where(y > 0, y, 1)
    with np.errstate(over="ignore", under="ignore"):
        curved = (y > 0) & (y * np.exp(np.where(y > 0, x / safe, 0)) <= z)
    return curved | ((y == 0) & (x <= 0) & (z >= 0))


def in_dual_exponential(q):
    """``-u exp(v/u) <= e w`` is membership of (u - v, -u, w) in the exponential cone."""
    u, v, w = q.T
    return in_exponential(np.stack([u - v, -u, w], axis=1))


def in_power(a, p):
    x, y, z = p.T
    mean = np.maximum(x, 0) ** a * np.maximum(y, 0) ** (1 - a)
    return (x >= 0) & (y >= 0) & (mean >= np.abs(z))


def memberships(name, a, p, q, slack):
    """p in K and q in K*, up to `slack` along an interior direction of each."""
    slack = slack[:, None]
    if name == "exponential":
        primal = in_exponential(p + slack * np.array([-1.0, 1.0, 1.0]))
        return primal, in_dual_exponential(q + slack * np.array([-1.0, 0.0, 1.0]))
    raised = np.array([1.0, 1.0, 0.0])
    weights = np.stack([a, 1 - a, np.ones_like(a)], axis=1)
    return in_power(a, p + slack * raised), in_power(a, (q + slack * raised) / weights)


def central_difference(field, name, a, v, u, w, step=1e-5):
    """Derivative of a field along w to fourth order, its scale, and where two steps agree on it."""

    def difference(step):
        ahead, behind = (evaluate(name, a, v + move * w, u) for move in (step, -step))
        return (getattr(ahead, field) - getattr(behind, field)) / (2 * step)

    coarse, fine = difference(step), difference(step / 2)
    slope = (4 * fine - coarse) / 3
    scale = 1 + np.abs(slope).max(axis=1)
    return slope, scale, np.abs(fine - coarse).max(axis=1) < 1e-6 * scale


@every_cone
@both_dtypes
@every_size
@pytest.mark.parametrize("decades", [1, 12])
def test_projection_is_optimal(name, dtype, size, decades, rng):
    a, v = scattered(rng, decades, dtype)
    v = v * dtype(size)
    p = evaluate(name, a, v).project
    a, v, p = (array.astype(np.float64) for array in (a, v, p))
    norm = np.maximum(np.linalg.norm(v, axis=1), TINY)
    primal, dual = memberships(name, a, p, p - v, norm * ROUNDING[dtype])
    assert primal.all()
    assert dual.all()
    np.testing.assert_array_less(np.abs(np.sum(p * (p - v), axis=1)) / norm**2, ROUNDING[dtype])


@every_cone
def test_every_region_is_met(name, rng):
    a, v = scattered(rng, 12)
    values = evaluate(name, a, v).values
    for region in (values.sum(axis=1) == 0, values.sum(axis=1) == 3):
        assert region.sum() > POINTS // 25
    assert ((values[:, 1] > 0.01) & (values[:, 1] < 0.99)).sum() > POINTS // 25


@every_cone
def test_projection_agrees_with_clarabel(name):
    a, points = 0.3, np.array([[1.0, -2.0, 0.5], [0.7, 1.2, 1.5], [-1.0, 0.3, -2.0], [-1.0, -1, 1]])
    projections = evaluate(name, a, points).project
    for v, p in zip(points, projections, strict=True):
        x = cp.Variable(3)
        cone = cp.PowCone3D(x[0], x[1], x[2], a)
        if name == "exponential":
            cone = cp.ExpCone(x[0], x[1], x[2])
        problem = cp.Problem(cp.Minimize(cp.sum_squares(x - v)), [cone])
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        np.testing.assert_allclose(p, x.value, atol=2e-5)


@every_cone
def test_projection_is_idempotent(name, rng):
    a, v = scattered(rng, 12)
    p = evaluate(name, a, v).project
    np.testing.assert_allclose(evaluate(name, a, p).project, p, atol=1e-13)


def test_exponential_closed_forms():
    points = {
        (-1.0, -2.0, 3.0): (-1.0, 0.0, 3.0),
        (-1.0, -2.0, -3.0): (-1.0, 0.0, 0.0),
        (-1.0, 0.0, -1.0): (-1.0, 0.0, 0.0),
        (0.0, 0.0, 1.0): (0.0, 0.0, 1.0),
        (0.0, -1.0, 0.0): (0.0, 0.0, 0.0),
        (-1.0, 1e-3, -1.0): (-1.0, 1e-3, 0.0),
        (1e-3, -1.0, 2.0): (0.0, 0.0, 2.0),
        (1.0, 0.0, -np.exp(-1)): (0.0, 0.0, 0.0),
        (0.0, 1.0, 1.0): (0.0, 1.0, 1.0),
    }
    p = evaluate("exponential", 0, list(points)).project
    np.testing.assert_allclose(p, list(points.values()), rtol=0, atol=1e-15)


@pytest.mark.parametrize("exponent", [0.2, 0.5, 0.8])
def test_power_closed_forms(exponent):
    """On z = 0, and by reflection and exchange."""
    v = np.array([[2.0, -1.0, 0.0], [-2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [-2.0, -1.0, 0.0]])
    p = evaluate("power", exponent, v).project
    np.testing.assert_allclose(p, np.maximum(v, 0), rtol=0, atol=1e-15)
    v = np.array([[0.3, -0.2, 1.0], [-0.2, 0.3, 1.0]])
    (p,) = evaluate("power", exponent, v[:1]).project
    (reflected,) = evaluate("power", exponent, v[:1] * [1, 1, -1]).project
    (exchanged,) = evaluate("power", 1 - exponent, v[1:]).project
    np.testing.assert_array_equal(reflected, p * [1, 1, -1])
    np.testing.assert_allclose(exchanged, p[[1, 0, 2]], atol=1e-15)


def test_power_of_one_half_is_smooth_at_zero_height():
    """There ``x y >= z^2``: a second-order cone but for a scaling of z, without a kink at z = 0."""
    v = np.array([[1.0, -0.7, 0.0]])
    at_zero = evaluate("power", 0.5, v)
    np.testing.assert_allclose(at_zero.values, [[1, 1 / (1 + 2 * 0.7), 0]], atol=1e-14)
    np.testing.assert_allclose(np.abs(at_zero.vectors), [np.eye(3)[:, [0, 2, 1]]], atol=1e-14)
    for u in np.eye(3):
        for w in np.eye(3):
            u_row, w_row = u[None, :], w[None, :]
            slope, _, smooth = central_difference("product", "power", 0.5, v, u_row, w_row)
            assert smooth.all()
            second = evaluate("power", 0.5, v, u_row, w_row).second
            np.testing.assert_allclose(second, slope, atol=1e-8)


@every_cone
@both_dtypes
@every_size
def test_derivative_is_a_contraction_that_reproduces_the_projection(name, dtype, size, rng):
    """DPi(v) v = Pi(v), as the projection is homogeneous; at kinks too."""
    a, v = scattered(rng, 12, dtype)
    v = v * dtype(size)
    results = evaluate(name, a, v, u=v)
    derivative = results.derivative.astype(np.float64)
    np.testing.assert_array_equal(derivative, derivative.swapaxes(1, 2))
    eigenvalues = np.linalg.eigvalsh(derivative)
    assert eigenvalues.min() > -ROUNDING[dtype]
    assert eigenvalues.max() < 1 + ROUNDING[dtype]
    norm = np.maximum(np.linalg.norm(v.astype(np.float64), axis=1), TINY)
    for product in (np.einsum("nij,nj->ni", derivative, v), results.product):
        error = np.linalg.norm(product - results.project, axis=1)
        np.testing.assert_array_less(error / norm, ROUNDING[dtype])


@every_cone
def test_spectrum_matrix_and_product_are_one_derivative(name, rng):
    a, v = scattered(rng, 12)
    u = rng.normal(size=v.shape)
    results = evaluate(name, a, v, u)
    derivative, values, vectors = results.derivative, results.values, results.vectors
    assert values.min() >= 0
    assert values.max() <= 1
    identity = np.einsum("nik,nij->nkj", vectors, vectors)
    np.testing.assert_allclose(identity, np.tile(np.eye(3), (POINTS, 1, 1)), atol=1e-14)
    rebuilt = np.einsum("nik,nk,njk->nij", vectors, values, vectors)
    np.testing.assert_allclose(rebuilt, derivative, atol=1e-14)
    product = np.einsum("nij,nj->ni", derivative, u)
    np.testing.assert_allclose(results.product, product, atol=1e-13)


@every_cone
def test_derivative_is_that_of_the_projection(name, rng):
    a, v = ordinary(rng)
    w = rng.normal(size=v.shape)
    slope, _, smooth = central_difference("project", name, a, v, w, w)
    assert smooth.mean() > 0.98
    product = evaluate(name, a, v, w).product
    np.testing.assert_allclose(product[smooth], slope[smooth], atol=1e-8)


@every_cone
def test_second_derivative_is_that_of_the_product(name, rng):
    a, v = ordinary(rng)
    u, w = rng.normal(size=v.shape), rng.normal(size=v.shape)
    slope, scale, smooth = central_difference("product", name, a, v, u, w)
    assert smooth.mean() > 0.95
    results = evaluate(name, a, v, u, w)
    error = np.abs(results.second - slope).max(axis=1) / scale
    np.testing.assert_array_less(error[smooth], 1e-7)


@every_cone
def test_second_derivative_is_symmetric_and_zero_along_the_point(name, rng):
    a, v = ordinary(rng)
    u, w = rng.normal(size=v.shape), rng.normal(size=v.shape)
    results, exchanged = evaluate(name, a, v, u, w), evaluate(name, a, v, w, u)
    scale = 1 + np.abs(results.second).max(axis=1)
    error = np.abs(results.second - exchanged.second).max(axis=1) / scale
    np.testing.assert_array_less(error, 1e-9)
    forward, reverse = (
        np.sum(w * results.second, axis=1),
        np.sum(w * results.second_reverse, axis=1),
    )
    np.testing.assert_array_less(np.abs(forward - reverse) / scale, 1e-9)
    along = evaluate(name, a, v, u, v).second
    np.testing.assert_array_less(np.abs(along).max(axis=1) / scale, 1e-9)


@every_cone
def test_half_the_squared_length_has_the_projection_as_gradient(name, rng):
    """And the derivative as its Hessian: the projection itself is differentiable, twice."""
    a, v = scattered(rng, 3)
    results = evaluate(name, a, v, u=rng.normal(size=v.shape))
    np.testing.assert_allclose(results.gradient, results.project, atol=1e-13)
    a, v = ordinary(rng)
    results = evaluate(name, a, v, u=rng.normal(size=v.shape))
    np.testing.assert_allclose(results.hessian_product, results.product, atol=1e-9)


@every_cone
@both_dtypes
@every_size
def test_everything_is_finite_everywhere(name, dtype, size, rng):
    a, v = scattered(rng, 30, dtype)
    edges = np.concatenate([LATTICE, [[1, 1, np.e], [1, -1, -np.exp(-2)]]])
    v[: len(edges)] = edges
    u, w = rng.normal(size=v.shape).astype(dtype), rng.normal(size=v.shape).astype(dtype)
    for field, result in evaluate(name, a, v * dtype(size), u, w)._asdict().items():
        assert np.isfinite(result).all(), field


@pytest.mark.parametrize(
    ("name", "kink"),
    [
        ("exponential", (-1.0, 0.0, 1.0)),
        ("exponential", (-1.0, -1.0, 0.0)),
        ("exponential", (0.0, -1.0, 1.0)),
        ("exponential", (1.0, 1.0, np.e)),
        ("exponential", (0.0, 0.0, 0.0)),
        ("power", (1.0, 1.0, 1.0)),
        ("power", (-1.0, -1.0, 2.0)),
        ("power", (0.0, 0.0, 0.0)),
    ],
)
def test_derivative_at_a_kink_is_that_of_a_neighbour(name, kink):
    at_kink = evaluate(name, 0.5, [kink]).derivative
    near = evaluate(name, 0.5, np.array(kink) + 1e-9 * LATTICE[np.any(LATTICE != 0, axis=1)])
    assert np.min(np.abs(near.derivative - at_kink).max(axis=(1, 2))) < 1e-4
