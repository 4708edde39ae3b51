"""CVXPY layers: values against CVXPY, gradients against central differences, calls and errors.

One compiled function of a batch serves values and gradients of each problem of the table.
"""

from __future__ import annotations

import copy
import pickle
from functools import cache, partial
from typing import Any

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers.cvxpy_layer import CvxpyLayer, CvxpySolution, with_settings
from tests.helpers.compilations import compilations
from tests.helpers.cvxpy_problems import CASES, Case

SLOW = (
    "second_order",
    "exponential",
    "semidefinite",
    "power",
    "geometric",
    "structured",
    "quadratic_form",
)
TABLE = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES]
MEMBERS, STEP = 3, 1e-4


@cache
def _layer(name: str) -> tuple[Case, CvxpyLayer]:
    case = CASES[name]()
    return case, CvxpyLayer(case.problem, case.parameters, case.variables, gp=case.gp)


def _weights(case: Case) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=variable.shape) for variable in case.variables]


@cache
def _compiled(name: str) -> Any:
    """jit of vmap of value and gradient: a weighted sum of the variables, and the whole record."""
    case, layer = _layer(name)
    weights = _weights(case)

    def value(params: list[jax.Array]) -> tuple[jax.Array, CvxpySolution]:
        solution = layer.solve(*params)
        pairs = zip(weights, solution.variables, strict=True)
        return sum((jnp.sum(w * v) for w, v in pairs), jnp.zeros(())), solution

    return jax.jit(jax.vmap(jax.value_and_grad(value, has_aux=True)))


@pytest.mark.parametrize("name", TABLE)
def test_values_are_those_of_cvxpy(name: str):
    case, layer = _layer(name)
    batch = case.batch(MEMBERS)
    (_, solution), _ = _compiled(name)(batch)
    np.testing.assert_array_equal(solution.status, jl.Status.SOLVED)
    for i in range(MEMBERS):
        want = case.solve([values[i] for values in batch])
        for got, value in zip(solution.variables, want, strict=True):
            np.testing.assert_allclose(got[i], value, rtol=0, atol=3e-6 if name in SLOW else 1e-6)
        assert abs(solution.objective[i] - case.problem.value) < 1e-6
        for constraint, duals in zip(case.problem.constraints, solution.duals, strict=True):
            for dual, got in zip(constraint.dual_variables, duals, strict=True):
                np.testing.assert_allclose(got[i], dual.value, rtol=0, atol=1e-5)
    assert layer.nbytes == layer.canonical.program.nbytes


@pytest.mark.parametrize("name", TABLE)
def test_gradients_are_central_differences(name: str):
    case, _ = _layer(name)
    _, gradients = _compiled(name)(case.batch(MEMBERS))
    rng = np.random.default_rng(6)
    directions = []
    for parameter, value in zip(case.parameters, case.values, strict=True):
        direction = rng.normal(size=value.shape) * (value != 0)
        if value.ndim == 2 and parameter.is_symmetric():
            direction = (direction + direction.T) / 2
        directions.append(direction)
    moved = [
        np.stack([value, value + STEP * direction, value - STEP * direction])
        for value, direction in zip(case.values, directions, strict=True)
    ]
    (values, _), _ = _compiled(name)(moved)
    want = (values[1] - values[2]) / (2 * STEP)
    got = sum(np.sum(g[0] * d) for g, d in zip(gradients, directions, strict=True))
    assert abs(got - want) < 1e-5 * max(1, abs(want))
    for parameter, gradient in zip(case.parameters, gradients, strict=True):
        assert np.all(np.isfinite(gradient))
        if gradient.ndim == 3 and parameter.is_symmetric():
            np.testing.assert_allclose(gradient, np.swapaxes(gradient, 1, 2), atol=1e-12)


def test_calls_batch_by_a_leading_dimension():
    case, layer = _layer("quadratic")
    batch = case.batch(MEMBERS)
    (_, want), _ = _compiled("quadratic")(batch)
    for got, value in zip(layer(*batch), want.variables, strict=True):
        np.testing.assert_allclose(got, value, rtol=0, atol=1e-8)
    shared = [case.values[0], *batch[1:]]
    mixed = layer(*shared)
    alone = layer(*(array[:1] if i else array for i, array in enumerate(shared)))
    single = layer(*case.values)
    assert [value.shape for value in alone] == [(1, *value.shape) for value in single]
    for one, several, first in zip(single, mixed, alone, strict=True):
        np.testing.assert_allclose(several[0], one, rtol=0, atol=1e-8)
        np.testing.assert_allclose(first[0], one, rtol=0, atol=1e-8)


@pytest.mark.slow
def test_jacobian_forward_mode_and_hessian():
    case, layer = _layer("quadratic")
    params = [jnp.asarray(value) for value in case.values]
    forward = with_settings(layer, derivative=jl.Derivative(mode="forward"))

    def variables(q: jax.Array, layer: CvxpyLayer) -> jax.Array:
        return layer(params[0], q, *params[2:])[0]

    reverse = jax.jit(jax.jacrev(partial(variables, layer=layer)))(params[1])
    np.testing.assert_allclose(
        jax.jit(jax.jacfwd(partial(variables, layer=forward)))(params[1]), reverse, atol=1e-7
    )

    def value(q: jax.Array) -> jax.Array:
        return forward.solve(params[0], q, *params[2:]).objective

    hessian = jax.jit(jax.hessian(value))(params[1])
    np.testing.assert_allclose(hessian, reverse, atol=1e-6)  # by the envelope theorem


def test_new_values_do_not_compile():
    case, _ = _layer("quadratic_form")
    layer = CvxpyLayer(case.problem, case.parameters, case.variables)
    layer(*case.values)
    moved = [1.1 * value for value in case.values]
    with compilations() as compiled:
        layer(*moved)
    assert not compiled


def test_layers_copy_pickle_and_hash():
    case, layer = _layer("quadratic_form")
    want = layer(*case.values)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other(*case.values)[0], want[0])
    assert {layer: 1}[layer] == 1
    assert jax.jit(lambda layer, p: layer(*p), static_argnums=0)(layer, case.values)[0].shape == (
        3,
    )


def test_single_precision_in_single_precision_out():
    case, layer = _layer("quadratic_form")
    params = [jnp.asarray(value, jnp.float32) for value in case.values]
    value, gradient = jax.jit(jax.value_and_grad(lambda p: jnp.sum(layer(*p)[0] ** 2)))(params)
    want = sum(np.sum(v**2) for v in case.solve())
    assert value.dtype == jnp.float32
    assert all(g.dtype == jnp.float32 for g in gradient)
    np.testing.assert_allclose(value, want, rtol=1e-4)


def test_failed_members_are_nan_and_leave_the_others_alone():
    x, low, high = cp.Variable(2), cp.Parameter(2), cp.Parameter(2)
    problem = cp.Problem(cp.Minimize(cp.sum(x)), [x >= low, x <= high])
    layer = CvxpyLayer(problem, [low, high], [x])
    lows = jnp.array([[0.0, 1.0], [0.0, 5.0], [jnp.nan, 0.0]])
    highs = jnp.array([3.0, 2.0])
    solution = layer.solve(lows, highs)
    wanted = [jl.Status.SOLVED, jl.Status.PRIMAL_INFEASIBLE, jl.Status.INVALID_INPUT]
    np.testing.assert_array_equal(solution.status, wanted)
    np.testing.assert_allclose(solution.variables[0][0], [0, 1], atol=1e-8)
    assert np.all(np.isnan(solution.variables[0][1:]))
    assert solution.objective[1] == np.inf

    gradient = jax.grad(lambda lows: jnp.sum(layer(lows, highs)[0]))(lows)
    np.testing.assert_allclose(gradient, [[1, 1], [0, 0], [0, 0]], atol=1e-7)
    with pytest.raises(jl.SolverError, match=r"member \[1\]: PRIMAL_INFEASIBLE"):
        layer(lows, highs, raise_on_failure=True)
    assert np.all(np.isnan(jax.jit(partial(layer, raise_on_failure=True))(lows[1], highs)[0]))


@pytest.mark.slow
def test_warm_start_and_options_of_a_call():
    case, layer = _layer("quadratic")
    cold = layer.solve(*case.values)
    warm = layer.solve(*case.values, init=cold)
    assert warm.iterations < cold.iterations
    np.testing.assert_allclose(warm.variables[0], cold.variables[0], atol=1e-8)
    loose = layer.solve(*case.values, solver_args={"eps": 1e-3, "verbose": False})
    assert loose.iterations < cold.iterations
    stopped = layer.solve(*case.values, solver_args={"max_iterations": 2})
    assert stopped.status == jl.Status.MAX_ITERATIONS
    assert np.all(np.isnan(stopped.variables[0]))
    with pytest.raises(ValueError, match="unknown key 'epsilon'"):
        layer(*case.values, solver_args={"epsilon": 1})


def test_construction_leaves_the_problem_alone():
    case = CASES["quadratic"]()
    case.solve()
    values = [con.dual_value for con in case.problem.constraints]
    CvxpyLayer(case.problem, case.parameters, case.variables)
    for con, value in zip(case.problem.constraints, values, strict=True):
        np.testing.assert_array_equal(con.dual_value, value)
    case.solve()


def test_large_dense_parameter_is_one_entry_for_each_number():
    A, x = cp.Parameter((2000, 50)), cp.Variable(50)
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.norm1(A @ x - 1))), [A], [x])
    assert layer.nbytes < 60 * A.size


X, LAM = cp.Variable(2), cp.Parameter(2, nonneg=True)


@pytest.mark.parametrize(
    ("problem", "parameters", "variables", "options", "message"),
    [
        (cp.Minimize(LAM @ cp.square(X)), [], [X], {}, "must exactly match problem.parameters"),
        (
            cp.Minimize(LAM @ cp.square(X)),
            [LAM, cp.Parameter()],
            [X],
            {},
            "must exactly match problem.parameters",
        ),
        (
            cp.Minimize(LAM @ cp.square(X)),
            [LAM],
            [X, cp.Variable()],
            {},
            "must be a subset of problem.variables",
        ),
        (
            cp.Minimize(cp.sum_squares(cp.multiply(LAM, cp.multiply(LAM, X)))),
            [LAM],
            [X],
            {},
            r"Problem must be DPP.*breaks the rules: param",
        ),
        (cp.Minimize(-cp.sum_squares(X) + LAM[0]), [LAM], [X], {}, "Problem must be DPP"),
        (cp.Minimize(LAM[0]), [LAM], [X], {}, "no variables"),
        (
            cp.Minimize(cp.sum(cp.Variable(2, boolean=True)) + LAM[0]),
            [LAM],
            [X],
            {},
            "integer variable",
        ),
        (cp.Minimize(LAM @ X), [LAM], [X], {"gp": True}, "DPP for geometric programming"),
    ],
)
def test_problems_that_do_not_fit(problem, parameters, variables, options, message):
    with pytest.raises(ValueError, match=message):
        CvxpyLayer(cp.Problem(problem), parameters, variables, **options)


def test_arrays_that_do_not_fit():
    _, layer = _layer("quadratic_form")
    P, q = np.eye(3), np.ones(3)
    with pytest.raises(ValueError, match="A tensor must be provided for each CVXPY parameter"):
        layer(P)
    with pytest.raises(ValueError, match="Invalid parameter shape for parameter 1"):
        layer(P, np.ones(4))
    with pytest.raises(ValueError, match="Invalid parameter dimensionality for parameter 0"):
        layer(q, q)
    with pytest.raises(ValueError, match="Inconsistent batch sizes"):
        layer(np.ones((2, 3, 3)), np.ones((5, 3)))
    with pytest.raises(TypeError, match="parameter 1"):
        layer(P, None)
    with pytest.raises(TypeError, match="parameter 0"):
        layer("P", q)
    with pytest.raises(TypeError, match="`init`"):
        layer.solve(P, q, init=3)  # pyright: ignore[reportArgumentType]
