"""The affine-solver-affine object: its maps, its solver and the recognition of quadratic programs."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers.asa import AffineSolverAffine
from jaxopt_layers.sparse_map import SparseMap


def _random_program(cones: jl.Cones) -> AffineSolverAffine:
    """n = 3 with a sum constraint, a general row, bounds from two scaled rows and a second bound."""
    # Parameters: 0..2 the linear cost, 3 the sum, 4 an entry of the general row, 5 the upper bound.
    rows = [0, 0, 0, 1, 1, 2, 3, 4, 5]
    columns = [0, 1, 2, 0, 1, 2, 0, 1, 1]
    parameter = [6, 6, 6, 4, 6, 6, 6, 6, 6]
    values = [1.0, 1, 1, 1, 2, 4, -2, 1, 0.5]
    return AffineSolverAffine.from_coo(
        variables=3,
        parameters=6,
        cones=cones,
        A=(rows, columns, parameter, values),
        b=([0, 1, 2, 3, 4, 5], [3, 6, 5, 6, 6, 6], [1.0, 2, 1, 1, 0.8, 0.2]),
        c=([0, 1, 2], [0, 1, 2], [1.0, 1, 1]),
        P=([0, 1, 1, 2, 0], [0, 1, 1, 2, 1], [6, 6, 6, 6, 6], [1.0, 1, 1, 3, 0.4]),
        constant=([0, 6], [2.0, 5.0]),
    )


THETA = np.array([1.0, -2.0, 0.5, 1.0, 0.7, 3.0])


def _dense(theta: np.ndarray) -> tuple[np.ndarray, ...]:
    P = np.array([[1, 0.2, 0], [0.2, 2, 0], [0, 0, 3]])
    A = np.array(
        [[1, 1, 1], [theta[4], 2, 0], [0, 0, 4], [-2, 0, 0], [0, 1, 0], [0, 0.5, 0]], float
    )
    b = np.array([theta[3], 2, theta[5], 1, 0.8, 0.2])
    return P, A, b, theta[:3], 2 * theta[0] + 5


def _array(part: Any) -> np.ndarray:
    return np.asarray(part.todense() if isinstance(part, jl.SparseMatrix) else part)


def test_sparse_map_adds_up_entries_of_equal_place():
    map_ = SparseMap.from_entries([1, 0, 1, 1], [0, 2, 0, 1], [2.0, 5.0, 3.0, -1.0], 3, 2)
    theta = jnp.array([10.0, 100.0])
    np.testing.assert_array_equal(map_(theta), [5, 5 * 10 - 100, 0])
    assert map_.nbytes == 3 * 16
    np.testing.assert_array_equal(map_.varying, [False, True, False])
    np.testing.assert_array_equal(
        map_.take(np.array([1, 0]), np.array([2.0, 1.0]))(theta), [-100, 5]
    )


def test_sparse_map_is_linear_under_every_transformation():
    map_ = SparseMap.from_entries([0, 1, 1], [1, 0, 2], [2.0, 3.0, 1.0], 2, 2)
    jacobian = np.array([[0, 2.0], [3.0, 0]])
    theta = jnp.array([1.0, -1.0])
    np.testing.assert_array_equal(jax.jacrev(map_)(theta), jacobian)
    np.testing.assert_array_equal(jax.jacfwd(map_)(theta), jacobian)
    np.testing.assert_array_equal(
        jax.jit(jax.vmap(map_))(jnp.stack([theta, theta]))[1], map_(theta)
    )
    assert map_(theta.astype(jnp.float32)).dtype == jnp.float32


def test_data_are_those_of_the_entries():
    program = _random_program(jl.Cones(zero=1, nonnegative=5))
    for got, want in zip(program.data(jnp.asarray(THETA)), _dense(THETA), strict=True):
        np.testing.assert_allclose(_array(got), want, rtol=0, atol=1e-15)


def test_a_map_that_does_not_vary_is_a_constant_of_the_trace():
    program = _random_program(jl.Cones(zero=1, nonnegative=5))
    assert program.P is not None
    assert program.P.entries.is_constant
    assert not jax.make_jaxpr(program.P)(jnp.asarray(THETA)).eqns


def test_quadratic_program_agrees_with_the_cone_program():
    program = _random_program(jl.Cones(zero=1, nonnegative=5))
    rows = program.qp
    assert rows is not None
    np.testing.assert_array_equal(rows.inequality, [1, 5])
    np.testing.assert_array_equal(rows.lower.rows, [3])
    np.testing.assert_array_equal(rows.upper.rows, [2, 4])
    solution = jax.jit(program.solve)(jnp.asarray(THETA))
    P, A, b, c, constant = _dense(THETA)
    x, y, s = (np.asarray(part) for part in (solution.x, solution.y, solution.s))
    assert solution.status == jl.Status.SOLVED
    np.testing.assert_allclose(P @ x + c + A.T @ y, 0, atol=1e-8)
    np.testing.assert_allclose(A @ x + s, b, atol=1e-8)
    assert y[1:].min() >= -1e-12
    assert s[1:].min() >= -1e-12
    assert abs(y @ s) < 1e-7
    assert abs(solution.objective - (x @ P @ x / 2 + c @ x + constant)) < 1e-8
    again = program.solve(jnp.asarray(THETA), init=solution)
    np.testing.assert_allclose(again.x, x, atol=1e-8)
    assert again.iterations < solution.iterations


def test_gradients_of_data_solution_and_constant():
    program = _random_program(jl.Cones(zero=1, nonnegative=5))
    weights = np.random.default_rng(0).normal(size=9)

    @jax.jit
    @jax.value_and_grad
    def value(theta):
        solution = program.solve(theta)
        return weights[:3] @ solution.x + weights[3:] @ solution.y + solution.objective

    gradient, step = value(jnp.asarray(THETA))[1], 1e-5
    for i in range(6):
        up, down = (value(jnp.asarray(THETA + sign * step * np.eye(6)[i]))[0] for sign in (1, -1))
        assert abs(gradient[i] - (up - down) / (2 * step)) < 1e-5


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_certificates_stay_certificates(sign):
    """x <= theta and x >= 1, minimizing x: infeasible for theta < 1; the ray of -x has no bound."""
    infeasible = AffineSolverAffine.from_coo(
        variables=1,
        parameters=1,
        cones=jl.Cones(nonnegative=2 if sign > 0 else 1),
        A=([0, 1], [0, 0], [1, 1], [2.0, -4.0]) if sign > 0 else ([0], [0], [1], [2.0]),
        b=([0, 1], [0, 1], [2.0, -4.0]) if sign > 0 else ([0], [0], [2.0]),
        c=([0], [1], [1.0]),
    )
    solution = infeasible.solve(jnp.zeros(1))
    if sign > 0:
        assert solution.status == jl.Status.PRIMAL_INFEASIBLE
        np.testing.assert_allclose(2 * solution.y[0] - 4 * solution.y[1], 0, atol=1e-7)
        np.testing.assert_allclose(-4 * solution.y[1], -1, atol=1e-7)
        assert solution.objective == np.inf
    else:
        assert solution.status == jl.Status.DUAL_INFEASIBLE
        np.testing.assert_allclose(solution.x, -1, atol=1e-7)
        np.testing.assert_allclose(2 * solution.x + solution.s, 0, atol=1e-7)


def test_static_copies_and_sizes():
    program = _random_program(jl.Cones(zero=1, nonnegative=5))
    assert hash(program) == hash(program)
    for other in (copy.deepcopy(program), pickle.loads(pickle.dumps(program))):
        for got, want in zip(other.data(jnp.asarray(THETA)), _dense(THETA), strict=True):
            np.testing.assert_allclose(_array(got), want, rtol=0, atol=1e-15)
    entries = 100_000
    big = AffineSolverAffine.from_coo(
        variables=100,
        parameters=entries,
        cones=jl.Cones(nonnegative=1000),
        A=(np.repeat(np.arange(1000), 100), np.tile(np.arange(100), 1000), np.arange(entries),
           np.ones(entries)),
        b=([], [], []),
        c=([], [], []),
    )  # fmt: skip
    assert big.nbytes == AffineSolverAffine.bytes_needed(entries) == 24 * entries


def test_wrong_input_is_named():
    make = partial(AffineSolverAffine.from_coo, variables=1, parameters=1)
    good = {"cones": jl.Cones(nonnegative=1), "b": ([], [], []), "c": ([], [], [])}
    with pytest.raises(ValueError, match="`A` has an index out of range"):
        make(A=([1], [0], [1], [1.0]), **good)
    with pytest.raises(ValueError, match="`A` must hold arrays of one length"):
        make(A=([0], [0], [1], [1.0, 2.0]), **good)
    program = make(A=([0], [0], [1], [1.0]), **good)
    with pytest.raises(ValueError, match="`theta` must have shape"):
        program.solve(jnp.zeros(2))
    with pytest.raises(TypeError, match="`theta` must hold floats"):
        program.solve(jnp.zeros(1, int))
    with pytest.raises(TypeError, match="`settings` must be"):
        program.solve(jnp.zeros(1), settings=3)  # pyright: ignore[reportArgumentType]
