"""The layer as users call it: values, duals, gradients, transformations, dtypes, wrong arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl

Status = jl.Status


def total_variation(x, y, weight):
    squares = 0.5 * jl.sum_squares(y - x)
    return jl.minimize(squares + jl.nonneg(weight) * jnp.sum(jnp.abs(jnp.diff(x))))


def portfolio(w, mean, factors, risk_aversion):
    risk = jl.nonneg(risk_aversion) * jl.sum_squares(factors @ w)
    return jl.maximize(mean @ w - risk, subject_to=[jnp.sum(w) == 1, w >= 0, w[:3] <= 0.2])


@pytest.fixture(scope="module")
def denoise():
    return jl.convex_layer(total_variation, x=(12,))


@pytest.fixture
def noisy(rng):
    return np.repeat(rng.normal(size=3), 4) + 0.1 * rng.normal(size=12)


def central_difference(function, at, direction, step=1e-5):
    return (function(at + step * direction) - function(at - step * direction)) / (2 * step)


@pytest.mark.slow
def test_denoising_in_every_transformation(denoise, noisy):
    def loss(weight, y):
        return jnp.sum(denoise(y=y, weight=weight).variables["x"] ** 3)

    solution = denoise(y=noisy, weight=0.3)
    assert solution.status == Status.SOLVED
    assert solution.variables["x"].shape == (12,)
    assert solution.value == pytest.approx(
        float(total_variation(solution.variables["x"], noisy, 0.3).objective), abs=1e-8
    )
    gradient = jax.grad(loss)(0.3, noisy)
    difference = central_difference(lambda w: loss(w, noisy), 0.3, 1.0)
    assert gradient == pytest.approx(float(difference), rel=1e-5, abs=1e-7)
    weights = jnp.array([0.1, 0.3, 1.0])
    batch = jax.jit(jax.vmap(jax.grad(loss), in_axes=(0, None)))(weights, noisy)
    assert batch[1] == pytest.approx(float(gradient), abs=1e-8)

    def step(y, weight):
        return denoise(y=y, weight=weight).variables["x"], None

    scanned = jax.lax.scan(step, jnp.asarray(noisy), weights[:2])[0]
    looped = denoise(
        y=denoise(y=noisy, weight=0.1).variables["x"], weight=jnp.asarray(0.3)
    ).variables["x"]
    np.testing.assert_allclose(scanned, looped, atol=1e-7)


def test_new_values_do_not_compile(denoise, noisy):
    denoise(y=noisy, weight=0.3)
    programs = [compiled for _, compiled in denoise._programs.values()]
    before = [compiled._cache_size() for compiled in programs]
    denoise(y=2 * noisy, weight=0.1)
    assert [compiled for _, compiled in denoise._programs.values()] == programs
    assert [compiled._cache_size() for compiled in programs] == before


@pytest.mark.slow
def test_portfolio_has_cvxpys_values_and_duals(rng):
    cp = pytest.importorskip("cvxpy")
    mean, factors = rng.normal(size=6), rng.normal(size=(3, 6))
    layer = jl.convex_layer(portfolio, w=(6,))
    solution = layer(mean=mean, factors=factors, risk_aversion=2.0)
    w = cp.Variable(6)
    constraints = [cp.sum(w) == 1, w >= 0, w[:3] <= 0.2]
    problem = cp.Problem(cp.Maximize(mean @ w - 2 * cp.sum_squares(factors @ w)), constraints)
    problem.solve(solver=cp.CLARABEL)
    assert solution.value == pytest.approx(problem.value, abs=1e-7)
    for dual, constraint in zip(solution.duals, constraints, strict=True):
        np.testing.assert_allclose(dual, constraint.dual_value, atol=1e-6)

    def loss(factors):
        found = layer(mean=mean, factors=factors, risk_aversion=2.0).variables["w"]
        return found @ jnp.arange(6.0)

    direction = rng.normal(size=factors.shape)
    gradient = jnp.sum(jax.grad(loss)(factors) * direction)
    difference = central_difference(loss, factors, direction)
    assert gradient == pytest.approx(float(difference), rel=1e-5, abs=1e-6)
    negative = layer(mean=mean, factors=factors, risk_aversion=-2.0)
    assert negative.status == Status.INVALID_INPUT
    strict = jl.convex_layer(portfolio, strict_dpp=True, w=(6,))
    with pytest.raises(jl.DPPError, match="risk_aversion"):
        strict(mean=mean, factors=factors, risk_aversion=2.0)


@pytest.mark.slow
def test_products_of_parameters_are_differentiated(rng):
    """Beyond DPP: exp(theta), a b, F F', a root of it in a cone, pytrees, integers."""

    def function(x, model, count, F):
        a, b = model["scales"]
        bound = jnp.maximum(jl.quad_form(x, F @ F.T + 0.1 * jnp.eye(3)), 0.2)
        linear = (a * b) * jnp.sum(x) / count
        return jl.minimize(bound + jnp.exp(model["theta"]) * jl.norm2(x - a) + linear)

    layer = jl.convex_layer(function, x=(3,))
    F = rng.normal(size=(3, 2))
    model = {"scales": (0.5, jnp.asarray(0.3)), "theta": jnp.asarray(0.2)}

    def loss(theta, F):
        solution = layer(model={**model, "theta": theta}, count=2, F=F)
        return jnp.sum(solution.variables["x"] ** 2) + solution.value

    assert layer(model=model, count=2, F=F).status == Status.SOLVED
    gradients = jax.grad(loss, argnums=(0, 1))(model["theta"], F)
    difference = central_difference(lambda t: loss(t, F), model["theta"], 1.0)
    assert gradients[0] == pytest.approx(float(difference), rel=1e-5, abs=1e-7)
    direction = rng.normal(size=F.shape)
    difference = central_difference(lambda F: loss(model["theta"], F), F, direction)
    gradient = jnp.sum(gradients[1] * direction)
    assert gradient == pytest.approx(float(difference), rel=1e-5, abs=1e-7)


@pytest.mark.slow
def test_matrix_variables_and_cone_constraints():
    """The nearest correlation matrix, with the duals of a semidefinite and a second-order cone."""

    def function(X, t, C):
        constraints = [
            jnp.diag(X) == 1,
            jl.positive_semidefinite(X),
            jl.second_order(t, X - C),
        ]
        return jl.minimize(t, constraints)

    layer = jl.convex_layer(function, X=jl.variable((3, 3), symmetric=True), t=())
    C = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    solution = layer(C=C)
    X = np.asarray(solution.variables["X"])
    assert solution.status == Status.SOLVED
    assert np.linalg.eigvalsh(X)[0] > -1e-8
    np.testing.assert_array_equal(X, X.T)
    assert solution.value == pytest.approx(np.linalg.norm(X - C), abs=1e-7)
    dual = np.asarray(solution.duals[1])
    assert dual.shape == (3, 3)
    assert abs(np.sum(dual * X)) < 1e-7
    t, x = solution.duals[2]
    assert (t.shape, x.shape) == ((), (9,))
    assert t == pytest.approx(1.0, abs=1e-7)


@pytest.mark.slow
def test_single_precision():
    layer = jl.convex_layer(
        lambda x, p: jl.minimize(jl.sum_squares(x - p), [jnp.sum(x) == 1, x >= 0]), x=(3,)
    )
    p = jnp.array([0.2, 1.0, -0.3], jnp.float32)
    solution = layer(p=p)
    assert solution.variables["x"].dtype == jnp.float32
    np.testing.assert_allclose(solution.variables["x"], [0.1, 0.9, 0.0], atol=1e-4)


def test_values_at_numbers():
    """The defining function can be evaluated at a point: objective, and which constraints hold."""
    at = portfolio(np.full(8, 0.125), np.ones(8), np.eye(8), 2.0)
    assert at.objective == pytest.approx(0.75)
    assert [bool(np.all(held)) for held in at.constraints] == [True, True, True]


WRONG = {
    "missing parameter": (
        lambda: jl.convex_layer(total_variation, x=(3,))(y=np.ones(3)),
        TypeError,
        "`weight`",
    ),
    "unknown parameter": (
        lambda: jl.convex_layer(total_variation, x=(3,))(y=np.ones(3), weight=1.0, z=1.0),
        TypeError,
        "`z`",
    ),
    "unknown variable": (lambda: jl.convex_layer(total_variation, u=(3,)), TypeError, "`u`"),
    "no variable": (lambda: jl.convex_layer(total_variation), ValueError, "at least one variable"),
    "not callable": (lambda: jl.convex_layer(3, x=(3,)), TypeError, "`function`"),
    "no shape": (lambda: jl.convex_layer(total_variation, x="3"), TypeError, "`x`"),
    "text": (
        lambda: jl.convex_layer(total_variation, x=(3,))(y="abc", weight=1.0),
        TypeError,
        "`y`",
    ),
    "not a problem": (
        lambda: jl.convex_layer(lambda x: jnp.sum(x), x=(3,))(),
        TypeError,
        "jl.minimize",
    ),
    "vector objective": (
        lambda: jl.convex_layer(lambda x: jl.minimize(x), x=(3,))(),
        ValueError,
        "`objective`",
    ),
    "not a constraint": (
        lambda: jl.convex_layer(lambda x: jl.minimize(jnp.sum(x), [x]), x=(3,))(),
        TypeError,
        "`subject_to`",
    ),
    "one constraint": (
        lambda: jl.convex_layer(lambda x: jl.minimize(jnp.sum(x), x >= 0), x=(3,))(),
        TypeError,
        "`subject_to`",
    ),
    "settings": (
        lambda: jl.convex_layer(total_variation, settings=3, x=(3,)),
        TypeError,
        "`settings`",
    ),
    "rectangle": (lambda: jl.variable((2, 3), symmetric=True), ValueError, "square"),
    "false": (
        lambda: jl.convex_layer(lambda x: jl.minimize(jnp.sum(x), [jnp.ones(2) == 0]), x=(3,))(),
        jl.DCPError,
        "false",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    call, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        call()


def test_closing_over_a_traced_value_is_an_error():
    def solve(y):
        return jl.convex_layer(lambda x: jl.minimize(jl.sum_squares(x - y)), x=(3,))().value

    with pytest.raises(TypeError, match="pass it as a parameter"):
        jax.grad(solve)(jnp.ones(3))
