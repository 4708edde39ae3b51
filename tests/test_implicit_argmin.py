"""`implicit_argmin` and `implicit_kkt`: the derivative of solutions that something else has found."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_layers as jl
from jaxopt_layers.implicit_argmin import KKTPoint, implicit_argmin, implicit_kkt
from tests.helpers.tolerances import F64

RNG = np.random.default_rng(11)
X, Y = RNG.normal(size=(8, 3)), RNG.normal(size=8)
POINT = np.array([3.0, 4.0])


def ridge(w, X, penalty):
    return 0.5 * jnp.sum((X @ w - Y) ** 2) + 0.5 * penalty["l2"] * jnp.sum(w**2)


def ridge_closed(X, penalty):
    K = X.T @ X + penalty["l2"] * jnp.eye(3)
    return jnp.linalg.solve(K, X.T @ Y)


def ridge_by_optax(X, penalty):
    optimizer = optax.adam(0.1)

    def step(carry, _):
        w, state = carry
        change, state = optimizer.update(jax.grad(ridge)(w, X, penalty), state)
        return (optax.apply_updates(w, change), state), None

    start = jnp.zeros(3)
    return jax.lax.scan(step, (start, optimizer.init(start)), length=1500)[0][0]


def ridge_by_callback(X, penalty):
    def solve(X, l2):
        return np.linalg.solve(X.T @ X + l2 * np.eye(3), X.T @ Y)

    result = jax.ShapeDtypeStruct((3,), jnp.float64)
    return jax.pure_callback(solve, result, X, penalty["l2"])


def assert_close(got, want, tolerance=F64.exact):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("solver", [ridge_by_optax, ridge_by_callback], ids=lambda f: f.__name__)
def test_any_solver(solver):
    """Value, both modes, and reverse over reverse against the closed form."""
    fit, penalty = implicit_argmin(ridge)(solver), {"l2": 0.6}
    assert fit.__name__ == solver.__name__

    @jax.jit
    def ours(X, penalty):
        modes = (jax.jacrev(fit, (0, 1))(X, penalty), jax.jacfwd(fit, (0, 1))(X, penalty))
        return fit(X, penalty), modes

    value, modes = ours(X, penalty)
    assert_close(value, ridge_closed(X, penalty), 1e-6)
    want = jax.jacrev(ridge_closed, (0, 1))(X, penalty)
    for got in modes:
        assert_close(got, want, 1e-6)
    assert_close(modes[0], modes[1], 1e-12)


def test_nested_reverse_mode():
    fit, penalty = implicit_argmin(ridge)(ridge_closed), {"l2": 0.6}

    def second(function):
        return jax.jit(jax.jacrev(jax.jacrev(function, 1), 1))(X, penalty)

    assert_close(second(fit), second(ridge_closed))


def entropy(x, scores):
    return jnp.sum(x * jnp.log(x)) - scores @ x


@pytest.mark.parametrize("options", [{}, {"equalities": "direct"}, {"hessian": "cg"}], ids=str)
def test_equality(options):
    """Softmax, whose closed form is the solver, by the derivative of its optimality conditions."""
    layer = implicit_argmin(entropy, equality=lambda x, _: jnp.sum(x) - 1, **options)(
        jax.nn.softmax
    )
    scores = np.array([0.2, -1.0, 0.7, 0.0])
    got = jax.jit(jax.vmap(jax.jacrev(layer)))(np.stack([scores, -scores]))
    assert_close(got, jax.vmap(jax.jacrev(jax.nn.softmax))(np.stack([scores, -scores])))


def nearest(x, point, *_):
    return 0.5 * jnp.sum((x - point) ** 2)


def on_disc(x, *_):
    return jnp.sum(x**2) - 1


def project_closed(point):
    return point / jnp.linalg.norm(point)


def test_curved_equality_and_inequality_need_their_multipliers():
    want = jax.jacrev(project_closed)(POINT)
    for name in ("equality", "inequality"):
        layer = implicit_argmin(nearest, **{name: on_disc})(project_closed)
        assert_close(jax.jit(jax.jacfwd(layer))(POINT), want)
    inner = implicit_argmin(nearest, inequality=on_disc)(lambda point: point)
    assert_close(jax.jit(jax.jacrev(inner))(POINT / 10), np.eye(2))


def test_solver_is_solve_qp():
    """The derivative that solve_qp has of its own, in the projection on a shifted simplex."""
    point, shift = np.array([0.9, 0.5, -0.3, 0.45]), 0.05

    def by_qp(point, shift):
        return jl.solve_qp(
            np.ones(4), -point, np.ones((1, 4)), np.ones(1), lower=shift * jnp.ones(4)
        ).x

    layer = implicit_argmin(
        nearest, equality=lambda x, *_: jnp.sum(x) - 1, inequality=lambda x, _, shift: shift - x
    )(by_qp)
    got = jax.jit(jax.jacrev(layer, (0, 1)))(point, shift)
    assert_close(got, jax.jit(jax.jacrev(by_qp, (0, 1)))(point, shift))


def test_pytree_result_keeps_its_form_and_dtype():
    def objective(x, t):
        return jnp.sum((x["a"] - t) ** 2) + jnp.sum((x["b"] - 2 * t) ** 2)

    layer = implicit_argmin(objective)(
        lambda t: {"a": jnp.full((2, 1), t, jnp.float32), "b": jnp.float32(2 * t)}
    )
    value = layer(np.float32(1.5))
    assert value["a"].shape == (2, 1)
    assert value["b"].dtype == jnp.float32
    slope = jax.jacrev(layer)(np.float32(1.5))
    assert_close(slope, {"a": np.ones((2, 1)), "b": np.float64(2)}, 1e-6)


def test_failures_have_a_zero_gradient():
    """NaN from the solver; a maximum; a singular Hessian: zero, or NaN where that is asked for."""
    curvature = np.array([1.0, np.nan, -1.0, 0.0])

    def objective(x, t):
        return jnp.sum(t * x**2 - x)

    def solver(t):
        return jnp.where(t == 0, 0.5, 0.5 / jnp.where(t == 0, 1, t)) * jnp.ones(2)

    for marked in ("zero", "nan"):
        settings = jl.Settings(failed_gradient=marked)
        layer = implicit_argmin(objective, settings=settings)(solver)
        gradient = jax.jit(jax.vmap(jax.grad(lambda t, layer=layer: jnp.sum(layer(t)))))(curvature)
        assert gradient[0] == pytest.approx(-1.0)
        assert np.all(gradient[1:] == 0 if marked == "zero" else np.isnan(gradient[1:]))


def test_implicit_kkt_on_the_disc():
    def project(point):
        length = jnp.linalg.norm(point)
        return implicit_kkt(
            nearest, point / length, None, (length[None] - 1) / 2, point, inequality=on_disc
        )

    found = jax.jit(project)(POINT)
    assert isinstance(found, KKTPoint)
    assert_close(found.x, POINT / 5)

    def closed(point):
        length = jnp.linalg.norm(point)
        return KKTPoint(point / length, jnp.zeros(0), (length[None] - 1) / 2)

    assert_close(jax.jit(jax.jacrev(project))(POINT), jax.jacrev(closed)(POINT))
    second = jax.jit(jax.jacfwd(jax.jacrev(lambda p: project(p).x)))(POINT)
    assert_close(second, jax.jacfwd(jax.jacrev(lambda p: closed(p).x))(POINT))


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"equalities": "direct"}, marks=pytest.mark.slow)], ids=str
)
def test_implicit_kkt_of_a_quadratic_program(rng, options):
    """Every output in every input agrees with solve_qp's own derivative."""
    n = 4
    root = RNG.normal(size=(n, n))
    args = (
        root @ root.T / n + 0.1 * np.eye(n), rng.normal(size=n), rng.normal(size=(1, n)),
        rng.normal(size=1), rng.normal(size=(3, n)), rng.uniform(-0.5, 1, size=3),
    )  # fmt: skip
    cotangents = [rng.normal(size=size) for size in (n, 1, 3)]

    def ours(Q, q, A, b, G, h):
        at = jax.lax.stop_gradient(jl.solve_qp(Q, q, A, b, G, h))
        return implicit_kkt(
            lambda x, Q, q, G, h: 0.5 * x @ Q @ x + q @ x, at.x, at.y, at.z, Q, q, G, h,
            A=A, b=b, inequality=lambda x, Q, q, G, h: G @ x - h, **options,
        )  # fmt: skip

    def theirs(*args):
        found = jl.solve_qp(*args)
        return found.x, found.y, found.z

    def gradient(function):
        def loss(*args):
            return sum(jnp.sum(c * v) for c, v in zip(cotangents, function(*args), strict=True))

        found = jax.jit(jax.grad(loss, range(6)))(*args)
        return ((found[0] + found[0].T) / 2, *found[1:])

    assert_close(gradient(ours), gradient(theirs), F64.gradient)


def square(x, *_):
    return jnp.sum(x**2)


WRONG = [
    (lambda: implicit_argmin(1.0), TypeError, "`objective`"),
    (lambda: implicit_argmin(square, equality=1.0), TypeError, "`equality`"),
    (lambda: implicit_argmin(square, hessian="sparse"), ValueError, "`hessian`"),
    (lambda: implicit_argmin(square, equalities="x"), ValueError, "`equalities`"),
    (lambda: implicit_argmin(square, settings=3), TypeError, "`settings`"),
    (lambda: implicit_argmin(square)(np.ones(2)), TypeError, "`solver`"),
    (lambda: implicit_argmin(lambda x: x)(lambda: np.ones(2))(), ValueError, "scalar"),
    (lambda: implicit_kkt(square, np.ones(2), np.ones(1), None), ValueError, "`y`"),
    (
        lambda: implicit_kkt(square, np.ones(2), None, None, A=np.ones((1, 2)), b=np.ones(1)),
        TypeError,
        "`y`",
    ),
    (
        lambda: implicit_kkt(square, np.ones(2), None, np.ones(1), inequality=lambda x: -x),
        ValueError,
        "`z`",
    ),
]


@pytest.mark.parametrize(("call", "error", "words"), WRONG)
def test_wrong_input(call, error, words):
    with pytest.raises(error, match=words):
        call()
