"""Two ways to train a logistic regression, one classifier: `argmin` by Newton, `convex_layer` by cones.

They share no solver and no derivative: one differentiates the stationarity of a smooth function, the other a
program of exponential cones.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from tests.helpers.tolerances import F64

POINTS, FEATURES = 8, 2
RNG = np.random.default_rng(5)
LABELS = np.repeat([1.0, -1.0], POINTS // 2)
X = RNG.normal(size=(POINTS, FEATURES)) + 0.5 * LABELS[:, None]
COTANGENT = np.array([0.7, -1.1, 0.4])  # of the coefficients and the intercept
EXACT = jl.Settings(tolerance=1e-12)


def smooth(coefficients, X, weight):
    margins = LABELS * (X @ coefficients["w"] + coefficients["b"])
    return jnp.mean(jnp.logaddexp(0.0, -margins)) + weight * jnp.sum(coefficients["w"] ** 2)


def conic(w, b, X, weight):
    loss = jnp.mean(jl.logistic(-LABELS * (X @ w + b)))
    return jl.minimize(loss + jl.nonneg(weight) * jl.sum_squares(w))


def by_argmin(X, weight):
    start = {"w": jnp.zeros(FEATURES), "b": jnp.zeros(())}
    found = jl.argmin(smooth, start, X, weight, settings=EXACT)
    return found.x["w"], found.x["b"], found.objective, found.status


LAYER = jl.convex_layer(conic, w=(FEATURES,), b=())


def by_layer(X, weight):
    found = LAYER(X=X, weight=weight)
    return found.variables["w"], found.variables["b"], found.value, found.status


def outcome(train):
    """Coefficients, optimal value, status, and the gradients of a function of all in X and the weight."""

    def loss(X, weight):
        w, b, value, status = train(X, weight)
        reading = COTANGENT[:2] @ w + COTANGENT[2] * b + jnp.sin(w[0] * w[1])
        return reading + 0.3 * value, (w, b, value, status)

    differentiate = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, outputs), gradients = differentiate(X, 0.07)
    *values, status = outputs
    assert status == jl.Status.SOLVED
    return values, gradients


@pytest.fixture(scope="module")
def both():
    return outcome(by_argmin), outcome(by_layer)


def test_values_agree(both):
    (by_newton, _), (by_cones, _) = both
    for name, one, other in zip(("w", "b", "value"), by_newton, by_cones, strict=True):
        np.testing.assert_allclose(one, other, rtol=F64.value, atol=F64.value, err_msg=name)


def test_gradients_agree(both):
    (_, by_newton), (_, by_cones) = both
    for name, one, other in zip(("X", "weight"), by_newton, by_cones, strict=True):
        assert np.max(np.abs(one)) > 0.05
        np.testing.assert_allclose(one, other, rtol=F64.gradient, atol=F64.gradient, err_msg=name)
