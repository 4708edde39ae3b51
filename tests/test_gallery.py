"""Problems of CVXPY's documentation gallery as JAX functions: the same optimum.

Each entry makes its data, and gives the function with its variables' shapes and the problem in CVXPY.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from tests.helpers import convex_problems as problems

cp = pytest.importorskip("cvxpy")
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)


def least_squares(rng):
    A, b = rng.normal(size=(8, 4)), rng.normal(size=8)
    x = cp.Variable(4)
    return (
        lambda x, A, b: jl.minimize(jl.sum_squares(A @ x - b)),
        {"x": (4,)},
        {"A": A, "b": b},
        cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b))),
    )


def linear_program(rng):
    A, x0 = rng.normal(size=(8, 4)), rng.normal(size=4)
    b, c = A @ x0 + rng.uniform(size=8), -A.T @ rng.uniform(size=8)
    x = cp.Variable(4)
    return (
        lambda x, A, b, c: jl.minimize(c @ x, [A @ x <= b]),
        {"x": (4,)},
        {"A": A, "b": b, "c": c},
        cp.Problem(cp.Minimize(c @ x), [A @ x <= b]),
    )


def quadratic_program(rng):
    F, q, G, h = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=(6, 4)), np.ones(6)
    P = F.T @ F
    x = cp.Variable(4)
    return (
        lambda x, F, q, G, h: jl.minimize(
            0.5 * jl.quad_form(x, F.T @ F) + q @ x, [G @ x <= h, jnp.sum(x) == 0.1]
        ),
        {"x": (4,)},
        {"F": F, "q": q, "G": G, "h": h},
        cp.Problem(
            cp.Minimize(0.5 * cp.quad_form(x, cp.psd_wrap(P)) + q @ x),
            [G @ x <= h, cp.sum(x) == 0.1],
        ),
    )


def second_order_cone_program(rng):
    A, b, c, d = (
        rng.normal(size=(2, 3, 4)),
        rng.normal(size=(2, 3)),
        rng.normal(size=(2, 4)),
        [4, 5],
    )
    f = c[0] + c[1]
    x = cp.Variable(4)

    def function(x, f):
        cones = [jl.second_order(c[i] @ x + d[i], A[i] @ x + b[i]) for i in range(2)]
        return jl.minimize(f @ x, [*cones, jl.norm2(x) <= 3])

    constraints = [cp.SOC(c[i] @ x + d[i], A[i] @ x + b[i]) for i in range(2)]
    constraints.append(cp.norm2(x) <= 3)
    return function, {"x": (4,)}, {"f": f}, cp.Problem(cp.Minimize(f @ x), constraints)


def semidefinite_program(rng):
    C, A = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    C, A = C @ C.T, A + A.T
    X = cp.Variable((3, 3), PSD=True)
    return (
        lambda X, C: jl.minimize(jnp.trace(C @ X), [jnp.trace(A @ X) == 1.0]),
        {"X": jl.variable((3, 3), psd=True)},
        {"C": C},
        cp.Problem(cp.Minimize(cp.trace(C @ X)), [cp.trace(A @ X) == 1.0]),
    )


def portfolio(rng):
    mean, F = rng.normal(size=5), rng.normal(size=(5, 3))
    sigma = F @ F.T + np.eye(5) * 0.1
    w = cp.Variable(5)
    return (
        lambda w, mean, sigma, gamma: jl.maximize(
            mean @ w - jl.nonneg(gamma) * jl.quad_form(w, jl.psd(sigma)),
            [jnp.sum(w) == 1, jl.norm1(w) <= 1.6],
        ),
        {"w": (5,)},
        {"mean": mean, "sigma": sigma, "gamma": 0.7},
        cp.Problem(
            cp.Maximize(mean @ w - 0.7 * cp.quad_form(w, sigma)),
            [cp.sum(w) == 1, cp.norm1(w) <= 1.6],
        ),
    )


def worst_case_risk(rng):
    w, F = np.full(4, 0.25), rng.normal(size=(4, 4))
    nominal = F @ F.T
    S, D = cp.Variable((4, 4), PSD=True), cp.Variable((4, 4), symmetric=True)
    return (
        lambda S, D, w: jl.maximize(
            w @ S @ w, [S == nominal + D, jnp.diag(D) == 0, jnp.abs(D) <= 0.2]
        ),
        {"S": jl.variable((4, 4), psd=True), "D": jl.variable((4, 4), symmetric=True)},
        {"w": w},
        cp.Problem(
            cp.Maximize(cp.quad_form(w, S)), [S == nominal + D, cp.diag(D) == 0, cp.abs(D) <= 0.2]
        ),
    )


def logistic_regression(rng):
    X, y = rng.normal(size=(12, 3)), np.sign(rng.normal(size=12))
    w = cp.Variable(3)
    return (
        lambda w, weight: jl.minimize(
            jnp.mean(jax.nn.softplus(-y * (X @ w))) + jl.nonneg(weight) * jl.norm1(w)
        ),
        {"w": (3,)},
        {"weight": 0.1},
        cp.Problem(
            cp.Minimize(cp.sum(cp.logistic(-cp.multiply(y, X @ w))) / 12 + 0.1 * cp.norm1(w))
        ),
    )


def support_vector_machine(rng):
    X, y = rng.normal(size=(12, 3)), np.sign(rng.normal(size=12))
    w, v = cp.Variable(3), cp.Variable()
    return (
        lambda w, v, weight: jl.minimize(
            jnp.sum(jax.nn.relu(1 - y * (X @ w - v))) / 12 + jl.nonneg(weight) * jl.norm1(w)
        ),
        {"w": (3,), "v": ()},
        {"weight": 0.1},
        cp.Problem(
            cp.Minimize(cp.sum(cp.pos(1 - cp.multiply(y, X @ w - v))) / 12 + 0.1 * cp.norm1(w))
        ),
    )


def huber_regression(rng):
    X, y = rng.normal(size=(12, 3)), 3 * rng.normal(size=12)
    w = cp.Variable(3)
    return (
        lambda w, y: jl.minimize(jnp.sum(jl.huber(X @ w - y, 1.0))),
        {"w": (3,)},
        {"y": y},
        cp.Problem(cp.Minimize(cp.sum(cp.huber(X @ w - y, 1)))),
    )


def quantile_regression(rng):
    X, y = rng.normal(size=(12, 3)), rng.normal(size=12)
    w = cp.Variable(3)

    def function(w, y, tau):
        r = X @ w - y
        return jl.minimize(jnp.sum(0.5 * jnp.abs(r) + (tau - 0.5) * r))

    r = X @ w - y
    return (
        function,
        {"w": (3,)},
        {"y": y, "tau": 0.3},
        cp.Problem(cp.Minimize(cp.sum(0.5 * cp.abs(r) - 0.2 * r))),
    )


def trend_filtering(rng):
    y = np.cumsum(rng.normal(size=15))
    x = cp.Variable(15)
    return (
        lambda x, y, weight: jl.minimize(
            0.5 * jl.sum_squares(y - x) + jl.nonneg(weight) * jl.norm1(jnp.diff(x, 2))
        ),
        {"x": (15,)},
        {"y": y, "weight": 0.8},
        cp.Problem(cp.Minimize(0.5 * cp.sum_squares(y - x) + 0.8 * cp.norm1(cp.diff(x, 2)))),
    )


def inpainting(rng):
    image, known = rng.uniform(size=(5, 5)), rng.uniform(size=(5, 5)) > 0.4
    U = cp.Variable((5, 5))
    return (
        lambda U, image: jl.minimize(jl.total_variation(U), [known * U == known * image]),
        {"U": (5, 5)},
        {"image": image},
        cp.Problem(cp.Minimize(cp.tv(U)), [cp.multiply(known, U) == known * image]),
    )


def optimal_control(rng):
    A, B, start = 0.3 * rng.normal(size=(3, 3)) + np.eye(3), rng.normal(size=(3, 2)), np.ones(3)
    x, u = cp.Variable((6, 3)), cp.Variable((5, 2))

    def function(x, u, start):
        dynamics = x[1:] == x[:-1] @ A.T + u @ B.T
        constraints = [dynamics, x[0] == start, jnp.abs(u) <= 0.8]
        return jl.minimize(jl.sum_squares(x) + 0.1 * jl.sum_squares(u), constraints)

    constraints = [x[1:] == x[:-1] @ A.T + u @ B.T, x[0] == start, cp.abs(u) <= 0.8]
    objective = cp.sum_squares(x) + 0.1 * cp.sum_squares(u)
    return (
        function,
        {"x": (6, 3), "u": (5, 2)},
        {"start": start},
        cp.Problem(cp.Minimize(objective), constraints),
    )


def water_filling(rng):
    alpha = rng.uniform(0.2, 1, size=5)
    x = cp.Variable(5)
    return (
        lambda x, alpha: jl.maximize(jnp.sum(jnp.log(alpha + x)), [x >= 0, jnp.sum(x) == 1]),
        {"x": (5,)},
        {"alpha": alpha},
        cp.Problem(cp.Maximize(cp.sum(cp.log(alpha + x))), [x >= 0, cp.sum(x) == 1]),
    )


def maximum_entropy(rng):
    A = rng.normal(size=(2, 6))
    b = A @ np.full(6, 1 / 6) + 0.05
    x = cp.Variable(6)
    return (
        lambda x, b: jl.maximize(jnp.sum(jl.entropy(x)), [A @ x == b, jnp.sum(x) == 1]),
        {"x": (6,)},
        {"b": b},
        cp.Problem(cp.Maximize(cp.sum(cp.entr(x))), [A @ x == b, cp.sum(x) == 1]),
    )


def channel_capacity(rng):
    P = rng.uniform(size=(3, 3))
    P = P / P.sum(axis=0)
    c = np.sum(P * np.log2(P), axis=0)
    x = cp.Variable(3)
    return (
        lambda x, c: jl.maximize(
            c @ x + jnp.sum(jl.entropy(P @ x)) / np.log(2), [x >= 0, jnp.sum(x) == 1]
        ),
        {"x": (3,)},
        {"c": c},
        cp.Problem(
            cp.Maximize(c @ x + cp.sum(cp.entr(P @ x)) / np.log(2)), [x >= 0, cp.sum(x) == 1]
        ),
    )


def sparse_inverse_covariance(rng):
    samples = rng.normal(size=(20, 3))
    Y = np.cov(samples.T)
    S = cp.Variable((3, 3), PSD=True)
    return (
        lambda S, Y, alpha: jl.maximize(
            jl.log_det(S) - jnp.trace(S @ Y), [jnp.sum(jnp.abs(S)) <= alpha]
        ),
        {"S": jl.variable((3, 3), psd=True)},
        {"Y": Y, "alpha": 2.5},
        cp.Problem(cp.Maximize(cp.log_det(S) - cp.trace(S @ Y)), [cp.sum(cp.abs(S)) <= 2.5]),
    )


def smallest_ellipsoid(rng):
    points = rng.normal(size=(6, 2))
    A, b = cp.Variable((2, 2), symmetric=True), cp.Variable(2)
    return (
        lambda A, b, points: jl.maximize(
            jl.log_det(A), [jl.norm2(points @ A + b[None], axis=1) <= 1]
        ),
        {"A": jl.variable((2, 2), symmetric=True), "b": (2,)},
        {"points": points},
        cp.Problem(cp.Maximize(cp.log_det(A)), [cp.norm2(A @ p + b) <= 1 for p in points]),
    )


def fastest_mixing_chain(rng):
    allowed = np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1]], bool)
    P = cp.Variable((4, 4), symmetric=True)
    return (
        lambda P, n: jl.minimize(
            jl.sigma_max(P - 1 / n),
            [jnp.sum(P, axis=1) == 1, P >= 0, jnp.where(allowed, 0.0, P) == 0],
        ),
        {"P": jl.variable((4, 4), symmetric=True)},
        {"n": 4},
        cp.Problem(
            cp.Minimize(cp.sigma_max(P - 0.25)),
            [cp.sum(P, axis=1) == 1, P >= 0, cp.multiply(~allowed, P) == 0],
        ),
    )


def chebyshev_centre(rng):
    A = rng.normal(size=(6, 2))
    b = np.ones(6)
    lengths = np.linalg.norm(A, axis=1)
    x, r = cp.Variable(2), cp.Variable()
    return (
        lambda x, r, A, b: jl.maximize(
            r, [A @ x + r * jnp.linalg.norm(A, axis=1) <= b, jnp.abs(x) <= 5]
        ),
        {"x": (2,), "r": ()},
        {"A": A, "b": b},
        cp.Problem(cp.Maximize(r), [A @ x + r * lengths <= b, cp.abs(x) <= 5]),
    )


def kelly_gambling(rng):
    returns = rng.uniform(0.3, 2.0, size=(6, 3))
    probabilities = np.full(6, 1 / 6)
    b = cp.Variable(3)
    return (
        lambda b, returns: jl.maximize(
            probabilities @ jnp.log(returns @ b), [jnp.sum(b) == 1, b >= 0]
        ),
        {"b": (3,)},
        {"returns": returns},
        cp.Problem(cp.Maximize(probabilities @ cp.log(returns @ b)), [cp.sum(b) == 1, b >= 0]),
    )


def matrix_completion(rng):
    M, known = rng.normal(size=(4, 1)) @ rng.normal(size=(1, 3)), rng.uniform(size=(4, 3)) > 0.3
    X = cp.Variable((4, 3))
    return (
        lambda X, M: jl.minimize(jl.nuclear_norm(X), [jnp.where(known, X - M, 0.0) == 0]),
        {"X": (4, 3)},
        {"M": M},
        cp.Problem(cp.Minimize(cp.normNuc(X)), [cp.multiply(known, X - M) == 0]),
    )


GALLERY = [
    least_squares,
    linear_program,
    quadratic_program,
    second_order_cone_program,
    semidefinite_program,
    portfolio,
    worst_case_risk,
    logistic_regression,
    support_vector_machine,
    huber_regression,
    quantile_regression,
    trend_filtering,
    inpainting,
    optimal_control,
    water_filling,
    maximum_entropy,
    channel_capacity,
    sparse_inverse_covariance,
    smallest_ellipsoid,
    fastest_mixing_chain,
    chebyshev_centre,
    kelly_gambling,
    matrix_completion,
]


@pytest.mark.parametrize("make", GALLERY, ids=lambda make: make.__name__)
def test_optimum_is_cvxpys(make, rng):
    function, shapes, parameters, theirs = make(rng)
    value = problems.optimum(function, shapes, parameters)
    expected = problems.cvxpy_optimum(cp, theirs)
    assert value == pytest.approx(expected, rel=1e-6, abs=1e-6)
