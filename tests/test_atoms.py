"""Atoms and JAX's own functions: in a problem and at numbers they are the same functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from tests.helpers import convex_problems as problems
from tests.helpers.jax_expressions import EXPRESSIONS, PARAMETERS, POINT

SHAPES = {"x": (3,), "X": (3, 4), "S": jl.variable((3, 3), symmetric=True)}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_held_at_a_point_the_optimum_is_the_functions_value(name):
    expression = EXPRESSIONS[name]

    def function(x, X, S, **parameters):
        held = [x == POINT["x"], X == POINT["X"], S == POINT["S"]]
        return jl.minimize(expression(x, X, S, parameters), held)

    value = problems.optimum(function, SHAPES, PARAMETERS)
    at = jax.tree_util.tree_map(jnp.asarray, POINT)
    expected = expression(at["x"], at["X"], at["S"], PARAMETERS)
    assert value == pytest.approx(float(expected), rel=1e-6, abs=1e-6)


PLAIN = {
    "norm1": (jl.norm1, "x"),
    "norm2": (jl.norm2, "x"),
    "norm_inf": (jl.norm_inf, "x"),
    "p_norm 3": (lambda x: jl.p_norm(x, 3), "x"),
    "p_norm 0.5": (lambda x: jl.p_norm(x, 0.5), "x"),
    "sum_squares": (jl.sum_squares, "x"),
    "quad_form": (lambda x: jl.quad_form(x, POINT["S"]), "x"),
    "quad_over_lin": (lambda x: jl.quad_over_lin(x, x[0]), "x"),
    "huber": (lambda x: jnp.sum(jl.huber(x)), "x"),
    "log_sum_exp": (jl.log_sum_exp, "x"),
    "entropy": (lambda x: jnp.sum(jl.entropy(x)), "x"),
    "relative_entropy": (lambda x: jnp.sum(jl.relative_entropy(x, x[::-1])), "x"),
    "kl_div": (lambda x: jnp.sum(jl.kl_div(x, 1.0)), "x"),
    "logistic": (lambda x: jnp.sum(jl.logistic(x)), "x"),
    "geo_mean": (jl.geo_mean, "x"),
    "harmonic_mean": (jl.harmonic_mean, "x"),
    "inv_pos": (lambda x: jnp.sum(jl.inv_pos(x)), "x"),
    "sum_largest": (lambda x: jl.sum_largest(x, 1.5), "x"),
    "total_variation": (jl.total_variation, "x"),
    "total_variation image": (jl.total_variation, "X"),
    "lambda_max": (jl.lambda_max, "S"),
    "lambda_min": (jl.lambda_min, "S"),
    "nuclear_norm": (jl.nuclear_norm, "X"),
    "sigma_max": (jl.sigma_max, "X"),
    "log_det": (jl.log_det, "S"),
    "matrix_frac": (lambda S: jl.matrix_frac(POINT["x"], S), "S"),
    "perspective": (lambda x: jl.perspective(jnp.square, x[0], x[1]), "x"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_gradients_at_numbers(name, rng):
    function, place = PLAIN[name]
    at = jnp.asarray(POINT[place])
    direction = rng.normal(size=at.shape)
    direction = direction + direction.T if place == "S" else direction
    gradient = float(jnp.sum(jax.grad(function)(at) * direction))
    step = 1e-6
    difference = (function(at + step * direction) - function(at - step * direction)) / (2 * step)
    assert gradient == pytest.approx(float(difference), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["norm1", "norm2", "norm_inf", "p_norm 3", "huber", "geo_mean"])
def test_gradients_at_zero_are_numbers(name):
    function, _ = PLAIN[name]
    assert np.all(np.isfinite(jax.grad(function)(jnp.zeros(3))))


def test_boundaries():
    np.testing.assert_array_equal(jl.entropy(np.array([0.0, 1.0, -1.0])), [0, 0, -np.inf])
    np.testing.assert_array_equal(jl.relative_entropy(np.array([0.0, 1.0]), 0.0), [0, np.inf])
    assert jl.inv_pos(-1.0) == np.inf
    assert jl.geo_mean(np.array([1.0, 0.0])) == 0
    assert jl.log_det(-np.eye(2)) == -np.inf


WRONG = {
    "p_norm": (lambda: jl.p_norm(np.ones(3), 0), ValueError, "`p`"),
    "p_norm text": (lambda: jl.p_norm(np.ones(3), "2"), TypeError, "`p`"),
    "sum_largest": (lambda: jl.sum_largest(np.ones(3), -1), ValueError, "`k`"),
    "geo_mean": (lambda: jl.geo_mean(np.ones(3), [1, 2]), ValueError, "`p`"),
    "quad_form": (lambda: jl.quad_form(np.ones(3), np.eye(2)), ValueError, "`x`"),
    "psd": (lambda: jl.psd(np.ones(3)), ValueError, "`p`"),
    "log_det": (lambda: jl.log_det(np.ones((2, 3))), ValueError, "`X`"),
    "matrix_frac": (lambda: jl.matrix_frac(np.ones(2), np.eye(3)), ValueError, "`X`"),
    "second_order": (lambda: jl.second_order(np.ones(2), np.ones((3, 2))), ValueError, "`x`"),
    "power": (lambda: jl.power(1.0, 1.0, 1.0, 2.0), ValueError, "`a`"),
    "total_variation": (lambda: jl.total_variation(1.0), ValueError, "`x`"),
    "positive_semidefinite": (
        lambda: jl.positive_semidefinite(np.ones((2, 3))),
        ValueError,
        "`X`",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    call, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        call()


def test_cone_constraints_at_numbers():
    assert bool(jl.second_order(5.0, np.array([3.0, 4.0])))
    assert not bool(jl.positive_semidefinite(-np.eye(2)))
    assert bool(jl.exponential(0.0, 1.0, 1.5))
    assert bool(jl.power(1.0, 4.0, 2.0, 0.5))
