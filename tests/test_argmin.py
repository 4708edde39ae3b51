"""`argmin`: values, derivatives of every kind, and what it says when there is no solution."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers import Status
from jaxopt_layers.argmin import argmin
from tests.helpers.compilations import compilations
from tests.helpers.marks import marked
from tests.helpers.tolerances import F32, F64

EXACT = jl.Settings(tolerance=1e-13)
RNG = np.random.default_rng(7)
N = 4


def normal(*shape):
    return RNG.normal(size=shape)


def ridge(w, data, penalty):
    X, y = data["X"], data["y"]
    return 0.5 * jnp.sum((X @ w - y) ** 2) + 0.5 * penalty * jnp.sum(w**2)


def logistic(w, data, penalty):
    X, y = data["X"], data["y"]
    return jnp.sum(jnp.logaddexp(0.0, -y * (X @ w))) + 0.5 * penalty * jnp.sum(w**2)


def log_sum_exp(x, rows, offset):
    return jax.nn.logsumexp(rows @ x + offset) + 0.05 * jnp.sum(x**2)


def entropy(x, scores):
    return jnp.sum(x * jnp.log(x)) - scores @ x


def quadratic(x, root, q):
    return 0.5 * jnp.sum((root @ x) ** 2) + 0.05 * jnp.sum(x**2) + q @ x


def nearest(x, point, _):
    return 0.5 * jnp.sum((x - point) ** 2)


def in_ball(x, _, radius):
    return jnp.sum(x**2) - radius


def softmax(scores, **options):
    n = scores.shape[0]
    ones = jnp.ones((1, n), scores.dtype)
    return argmin(
        entropy, jnp.full(n, 1 / n, scores.dtype), scores, A=ones, b=ones[0, :1], **options
    )


# name: (objective, inequality, start, params, equalities). The params are differentiated, with A and b.
DATA = {"X": normal(9, N), "y": np.sign(normal(9))}
CASES = {
    "ridge": (ridge, None, np.zeros(N), (DATA, 0.7), None),
    "logistic": (logistic, None, np.zeros(N), (DATA, 0.3), None),
    "log-sum-exp": (log_sum_exp, None, np.zeros(N), (normal(6, N), normal(6)), None),
    "softmax": (entropy, None, np.full(N, 0.25), (normal(N),), (np.ones((1, N)), np.ones(1))),
    "equalities": (quadratic, None, normal(N), (normal(N, N), normal(N)), (normal(2, N), normal(2))),
    "ball": (nearest, in_ball, np.full(N, 3.0), (2 * normal(N), 1.5), None),
    "both": (nearest, in_ball, np.full(N, 3.0), (2 * normal(N), 1.5), (normal(1, N), np.array([0.3]))),
}  # fmt: skip


def outputs(case, theta, **options):
    objective, inequality, start, _, equalities = CASES[case]
    params, A, b = theta
    options = {"settings": EXACT} | options
    if equalities is not None:
        options |= {"A": A, "b": b}
    found = argmin(objective, start, *params, inequality=inequality, **options)
    return {"x": found.x, "y": found.y, "objective": found.objective}, found.status


def theta_of(case):
    _, _, _, params, equalities = CASES[case]
    A, b = equalities or (np.zeros((0, N)), np.zeros(0))
    return jax.tree.map(np.asarray, (params, A, b))


def random_like(rng, tree):
    return jax.tree.map(lambda leaf: rng.normal(size=np.shape(leaf)), tree)


def inner(a, b):
    return sum(float(np.sum(x * y)) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.mark.parametrize("case", marked(CASES, {"softmax", "both"}))
def test_derivatives_against_central_differences(rng, case):
    """Forward and reverse mode, every output, along a random direction in everything."""
    theta = theta_of(case)
    direction = random_like(rng, theta)
    if case == "softmax":
        direction = (direction[0], 0 * direction[1], direction[2])  # the row of ones stays
    cotangent = random_like(rng, jax.eval_shape(lambda t: outputs(case, t)[0], theta))

    @jax.jit
    def both_modes(theta, direction, cotangent):
        value, push = jax.linearize(lambda t: outputs(case, t)[0], theta)
        return value, push(direction), jax.linear_transpose(push, theta)(cotangent)[0]

    _, forward, reverse = both_modes(theta, direction, cotangent)
    step = 2e-3
    batch = jax.tree.map(
        lambda t, d: np.stack([t + k * step * d for k in (1, -1, 2, -2)]), theta, direction
    )
    ends, statuses = jax.jit(jax.vmap(lambda t: outputs(case, t)))(batch)
    assert np.all(statuses == Status.SOLVED)
    central = jax.tree.map(lambda e: (8 * (e[0] - e[1]) - (e[2] - e[3])) / (12 * step), ends)
    for name, want in central.items():
        np.testing.assert_allclose(
            forward[name], want, rtol=F64.exact, atol=F64.exact, err_msg=name
        )
    assert inner(cotangent, forward) == pytest.approx(inner(reverse, direction), rel=1e-9, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["equalities", "both"])
def test_forms_agree(rng, case):
    theta = theta_of(case)
    cotangent = random_like(rng, jax.eval_shape(lambda t: outputs(case, t)[0], theta))

    def result(theta, **options):
        value, pull = jax.vjp(lambda t: outputs(case, t, **options)[0], theta)
        return value, pull(cotangent)

    want = jax.jit(lambda t: result(t))(theta)
    for options in ({"equalities": "direct"}, {"hessian": "cg"}):
        got = jax.jit(lambda t, options=options: result(t, **options))(theta)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=F64.exact)


@pytest.mark.slow
def test_softmax_closed_form(rng):
    """Values, Jacobians in both modes, and second derivatives in every order of the modes."""
    scores, weights = normal(5), normal(5)

    def ours(s):
        return weights @ jnp.sin(softmax(s).x)

    def theirs(s):
        return weights @ jnp.sin(jax.nn.softmax(s))

    jacobian = jax.jit(lambda s: (jax.jacfwd(ours)(s), jax.jacrev(ours)(s)))(scores)
    want = jax.grad(theirs)(scores)
    for got in jacobian:
        np.testing.assert_allclose(got, want, rtol=0, atol=F64.exact)
    want = jax.hessian(theirs)(scores)
    for outer, nested in (
        (jax.jacrev, jax.jacrev),
        (jax.jacfwd, jax.jacrev),
        (jax.jacrev, jax.jacfwd),
    ):
        np.testing.assert_allclose(
            jax.jit(outer(nested(ours)))(scores), want, rtol=0, atol=F64.exact
        )


@pytest.mark.slow
def test_quadratic_program_by_barrier_and_by_solve_qp(rng):
    n, m = 6, 5
    root = normal(n, n)
    Q = root @ root.T / n + 0.1 * np.eye(n)
    args = (Q, normal(n), normal(2, n), normal(2), normal(m, n), RNG.uniform(-0.5, 1, m))

    def by_argmin(Q, q, A, b, G, h):
        return argmin(
            lambda x, Q, q, G, h: 0.5 * x @ Q @ x + q @ x, np.zeros(n), Q, q, G, h, A=A, b=b,
            inequality=lambda x, Q, q, G, h: G @ x - h,
        )  # fmt: skip

    cx, cy = normal(n), normal(2)

    def loss(solve):
        def function(*args):
            found = solve(*args)
            return cx @ found.x + cy @ found.y + found.objective, found.status

        return jax.jit(jax.value_and_grad(function, range(6), has_aux=True))

    (got, status), gradient = loss(by_argmin)(*args)
    (want, _), reference = loss(jl.solve_qp)(*args)
    assert status == Status.SOLVED
    assert abs(got - want) < F64.value
    gradient = ((gradient[0] + gradient[0].T) / 2, *gradient[1:])
    for a, b in zip(gradient, reference, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=F64.gradient)


@pytest.mark.slow
def test_logistic_regression_by_exponential_cones(rng):
    """The same classifier as a cone program: log(1 + e^u) <= t as e^(u - t) + e^-t <= 1."""
    k, d, penalty = 6, 2, 0.5
    X, y = normal(k, d), np.sign(normal(k))
    weights = normal(d)

    def by_cones(X):
        # Variables (w, t, p, q); s = b - A v in the cones.
        zero, one = np.zeros((k, k)), np.eye(k)
        nothing = np.zeros((k, d))
        u = -y[:, None] * X
        budget = jnp.concatenate([nothing, zero, one, one], axis=1)
        first = (jnp.concatenate([u, -one, zero, zero], axis=1), np.zeros((k, d + 3 * k)))
        first = (*first, jnp.concatenate([nothing, zero, one, zero], axis=1))
        second = (jnp.concatenate([nothing, -one, zero, zero], axis=1), np.zeros((k, d + 3 * k)))
        second = (*second, jnp.concatenate([nothing, zero, zero, one], axis=1))
        triples = [jnp.stack(part, axis=1).reshape(3 * k, -1) for part in (first, second)]
        A = jnp.concatenate([budget, *(-t for t in triples)])
        b = jnp.concatenate([jnp.ones(k), *([jnp.tile(jnp.array([0.0, 1.0, 0.0]), k)] * 2)])
        P = jnp.diag(jnp.concatenate([jnp.full(d, penalty), jnp.zeros(3 * k)]))
        c = jnp.concatenate([jnp.zeros(d), jnp.ones(k), jnp.zeros(2 * k)])
        cones = jl.Cones(nonnegative=k, exponential=2 * k)
        found = jl.solve_cone(A, b, c, cones, P=P)
        return weights @ found.x[:d], found.status

    def by_argmin(X):
        found = argmin(logistic, np.zeros(d), {"X": X, "y": y}, penalty)
        return weights @ found.x, found.status

    (got, s1), gradient = jax.jit(jax.value_and_grad(by_argmin, has_aux=True))(X)
    (want, s2), reference = jax.jit(jax.value_and_grad(by_cones, has_aux=True))(X)
    assert s1 == s2 == Status.SOLVED
    assert abs(got - want) < F64.value
    np.testing.assert_allclose(gradient, reference, rtol=0, atol=F64.gradient)


def test_large_barrier_smooths():
    """Projection on x >= 0 at barrier mu: x - p = mu / x, whatever the start."""
    points, mu = np.array([-1.0, 0.0, 2.0]), 0.25

    def project(p):
        return argmin(
            lambda x, p: 0.5 * jnp.sum((x - p) ** 2), np.full(3, -1.0), p,
            inequality=lambda x, p: -x, barrier=mu,
        ).x  # fmt: skip

    want = (points + np.sqrt(points**2 + 4 * mu)) / 2
    np.testing.assert_allclose(jax.jit(project)(points), want, rtol=0, atol=1e-8)
    slope = (1 + points / np.sqrt(points**2 + 4 * mu)) / 2
    jacobian = jax.jit(jax.jacrev(project))(points)
    np.testing.assert_allclose(jacobian, np.diag(slope), rtol=0, atol=1e-8)


def test_conjugate_gradients_for_many_variables():
    """n = 1000 without its Hessian; the closed form is that of ridge regression."""
    n, k = 1000, 20
    X, y, direction = normal(k, n) / 10, normal(k), normal(n)

    def ours(y):
        return argmin(ridge, np.zeros(n), {"X": X, "y": y}, 1.0)

    found = jax.jit(ours)(y)
    K = X.T @ X + np.eye(n)
    assert found.status == Status.SOLVED
    np.testing.assert_allclose(found.x, np.linalg.solve(K, X.T @ y), rtol=0, atol=F64.exact)
    gradient = jax.jit(jax.grad(lambda y: direction @ ours(y).x))(y)
    np.testing.assert_allclose(gradient, X @ np.linalg.solve(K, direction), rtol=0, atol=F64.exact)


# name: (function of one number or array, a batch of them, statuses)
S = Status


def bounded(t):
    """min (x - 3)^2 subject to 2 <= x <= t."""
    return argmin(
        lambda x, t: jnp.sum((x - 3) ** 2), np.full(1, 5.0), t,
        inequality=lambda x, t: jnp.concatenate([x - t, 2.0 - x]),
    )  # fmt: skip


FAILURES = {
    "curvature": (
        lambda t: argmin(lambda x, t: jnp.sum(t * x**2 - x), np.zeros(2), t),
        np.array([[1.0, 1], [1, 0], [1, -1], [np.nan, 1]]),
        (S.SOLVED, S.DUAL_INFEASIBLE, S.DUAL_INFEASIBLE, S.INVALID_INPUT),
    ),
    "maximum": (
        lambda t: argmin(lambda x, t: jnp.sum(t * x**2) + t[0], np.zeros(2), t),
        np.array([[1.0, 1], [-1, -1], [1, -1], [1, 0], [np.nan, 1]]),
        (S.SOLVED, *[S.NUMERICAL_ERROR] * 3, S.INVALID_INPUT),
    ),
    "singular": (
        lambda t: argmin(
            lambda x, t: (x[0] + t[0] * x[1] - 1) ** 2 + t[1] * (x[1] - 1) ** 2, np.zeros(2), t
        ),
        np.array([[1.0, 1], [1, 0], [2, 0], [np.nan, 1]]),
        (S.SOLVED, S.NUMERICAL_ERROR, S.NUMERICAL_ERROR, S.INVALID_INPUT),
    ),
    "domain": (
        lambda t: argmin(lambda x, t: jnp.sum(x - jnp.log(x - t)), np.zeros(2), t),
        np.array([[-1.0, -30], [1, -1], [0, -1], [np.nan, -1]]),
        (S.SOLVED, *[S.INVALID_INPUT] * 3),
    ),
    "equalities": (
        lambda b: argmin(
            lambda x: jnp.sum(x**2), np.zeros(2), A=np.array([[1.0, 1], [2, 2]]), b=b
        ),
        np.array([[1.0, 2], [1, 3], [np.nan, 2]]),
        (S.SOLVED, S.PRIMAL_INFEASIBLE, S.INVALID_INPUT),
    ),
    "inequalities": (
        bounded,
        np.array([[2.5], [9], [1], [-50], [np.nan]]),
        (S.SOLVED, S.SOLVED, S.PRIMAL_INFEASIBLE, S.PRIMAL_INFEASIBLE, S.INVALID_INPUT),
    ),
}  # fmt: skip


@pytest.mark.parametrize("failure", marked(FAILURES, {"domain", "inequalities"}))
def test_failures_have_a_status_and_a_finite_gradient(failure):
    solve, batch, statuses = FAILURES[failure]

    def loss(t):
        found = solve(t)
        return jnp.sum(found.x) + found.objective, found

    function = jax.jit(jax.vmap(jax.grad(loss, has_aux=True)))
    gradient, found = function(batch)
    assert [Status(int(status)) for status in found.status] == list(statuses)
    failed = found.status > Status.ALMOST_SOLVED
    assert np.all(gradient[failed] == 0)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient[~failed] != 0)
    # The others are bit for bit what they are beside their own copies.
    alone, kept = function(np.stack([batch[0]] * len(batch)))
    np.testing.assert_array_equal(alone[0], gradient[0])
    np.testing.assert_array_equal(kept.x[0], found.x[0])

    nested = jax.jit(jax.vmap(jax.jacrev(jax.grad(lambda t: loss(t)[0]))))(batch)
    assert np.all(np.isfinite(nested))


def test_failed_gradient_may_be_nan():
    def solve(t):
        settings = jl.Settings(failed_gradient="nan")
        return argmin(lambda x, t: jnp.sum(t * x**2 - x), np.zeros(2), t, settings=settings)

    batch = np.array([[1.0, 2], [1, -1]])
    for pick in (lambda found: found.x[0], lambda found: found.objective):
        gradient = jax.jit(jax.vmap(jax.grad(lambda t, pick=pick: pick(solve(t)))))(batch)
        assert np.all(np.isfinite(gradient[0]))
        assert np.all(np.isnan(gradient[1]))


def test_singular_with_least_squares():
    """min (x1 + x2 - t)^2: a line of minima; the derivative of least norm is (1/2, 1/2)."""
    settings = jl.Settings(derivative=jl.Derivative(solver="least_squares"))

    def solve(t):
        return argmin(lambda x, t: (x[0] + x[1] - t) ** 2, np.zeros(2), t, settings=settings)

    found = jax.jit(solve)(1.0)
    assert found.status == Status.SOLVED
    np.testing.assert_allclose(found.x, 0.5, atol=1e-6)
    jacobian = jax.jit(jax.jacrev(lambda t: solve(t).x))(1.0)
    np.testing.assert_allclose(jacobian, 0.5, rtol=0, atol=F64.exact)


def test_leaves_a_maximum_beside_the_start():
    """A double well from beside its peak: the nearer valley, by descent."""
    found = jax.jit(lambda: argmin(lambda x: jnp.sum((x**2 - 1) ** 2), np.full(2, 0.01)))()
    assert found.status == Status.SOLVED
    np.testing.assert_allclose(found.x, 1, atol=1e-9)


def test_float32():
    scores = np.float32([0.3, -1, 2, 0.5])
    found = jax.jit(softmax)(scores)
    assert found.status == Status.SOLVED
    assert found.x.dtype == found.y.dtype == found.objective.dtype == np.float32
    np.testing.assert_allclose(found.x, jax.nn.softmax(scores), atol=F32.value)
    jacobian = jax.jit(jax.jacrev(lambda s: softmax(s).x))(scores)
    assert jacobian.dtype == np.float32
    np.testing.assert_allclose(jacobian, jax.jacrev(jax.nn.softmax)(scores), atol=F32.exact)

    def project(p):
        return argmin(
            lambda x, p: 0.5 * jnp.sum((x - p) ** 2), np.zeros(4, np.float32), p,
            inequality=lambda x, p: x - 1.0,
        )  # fmt: skip

    found = jax.jit(project)(scores)
    assert found.status == Status.SOLVED
    np.testing.assert_allclose(found.x, np.minimum(scores, 1), atol=F32.value)


def test_pytree_point_and_parameters():
    """A linear model with an intercept, as a dictionary; an integer among the parameters."""
    X, y = normal(8, 2), normal(8)

    def fit(penalties, power):
        def loss(model, penalties, power):
            error = X @ model["weights"] + model["intercept"] - y
            rough = penalties[0] * jnp.sum(model["weights"] ** power)
            return jnp.sum(error**2) + rough + penalties[1] * model["intercept"] ** 2

        start = {"weights": np.zeros(2), "intercept": np.zeros(())}
        return argmin(loss, start, penalties, power).x

    def closed(penalties, _):
        Z = jnp.concatenate([X, np.ones((8, 1))], axis=1)
        K = Z.T @ Z + jnp.diag(jnp.stack([penalties[0], penalties[0], penalties[1]]))
        w = jnp.linalg.solve(K, Z.T @ y)
        return {"weights": w[:2], "intercept": w[2]}

    penalties = (0.5, 0.1)
    for function in (lambda f: f, jax.jacrev):
        got, want = (jax.jit(function(f), static_argnums=())(penalties, 2) for f in (fit, closed))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=F64.exact)


def test_what_the_functions_close_over_is_differentiated():
    def loss(center):
        bound = 2 * center[0]
        found = argmin(
            lambda x: jnp.sum((x - center) ** 2), np.zeros(2), inequality=lambda x: x[1] - bound
        )
        return found.x[0] + 3 * found.x[1]

    gradient = jax.jit(jax.grad(loss))(np.array([1.0, 5.0]))
    np.testing.assert_allclose(gradient, [7, 0], rtol=0, atol=F64.exact)


def test_compilations():
    """Without `jax.jit`, too, a second call compiles nothing, and a changed closure is seen."""
    center = {"now": np.array([1.0, 2.0])}

    def objective(x, weight):
        return jnp.sum(weight * (x - center["now"]) ** 2)

    argmin(objective, np.zeros(2), np.ones(2))
    with compilations() as compiled:
        center["now"] = np.array([3.0, 4.0])
        second = argmin(objective, np.zeros(2), np.full(2, 2.0))
    assert not compiled
    np.testing.assert_allclose(second.x, [3, 4])


def square(x):
    return jnp.sum(x**2)


WRONG = [
    (lambda: argmin(3, np.zeros(2)), TypeError, "`objective`"),
    (lambda: argmin(lambda x: x, np.zeros(2)), ValueError, "`objective` must return a scalar"),
    (lambda: argmin(lambda x: (x[0], x[1]), np.zeros(2)), TypeError, "`objective`"),
    (lambda: argmin(square, None), ValueError, "`x0`"),
    (lambda: argmin(square, np.zeros(0)), ValueError, "`x0`"),
    (lambda: argmin(square, np.zeros(2, complex)), TypeError, "`x0`"),
    (lambda: argmin(square, np.zeros(2), A=np.ones((1, 2))), ValueError, "`b`"),
    (lambda: argmin(square, np.zeros(2), A=np.ones((1, 3)), b=np.ones(1)), ValueError, "`A`"),
    (lambda: argmin(square, np.zeros(2), A=np.ones((1, 2)), b=np.ones(2)), ValueError, "`b`"),
    (lambda: argmin(square, np.zeros(2), inequality=1.0), TypeError, "`inequality`"),
    (lambda: argmin(square, np.zeros(2), inequality=lambda x: "a"), TypeError, "`inequality`"),
    (lambda: argmin(square, np.zeros(2), barrier=0.0), ValueError, "`barrier`"),
    (lambda: argmin(square, np.zeros(2), barrier="small"), TypeError, "`barrier`"),
    (lambda: argmin(square, np.zeros(2), hessian="sparse"), ValueError, "`hessian`"),
    (lambda: argmin(square, np.zeros(2), equalities="dual"), ValueError, "`equalities`"),
    (lambda: argmin(square, np.zeros(2), settings=None), TypeError, "`settings`"),
    (
        lambda: argmin(
            square, np.zeros(2), settings=jl.Settings(derivative=jl.Derivative(smoothing=0.1))
        ),
        ValueError,
        "smoothing",
    ),
    (lambda: argmin(lambda x, p: square(x), np.zeros(2), "name"), TypeError, "`params`"),
]


@pytest.mark.parametrize(("call", "error", "words"), WRONG)
def test_wrong_input(call, error, words):
    with pytest.raises(error, match=words):
        call()
