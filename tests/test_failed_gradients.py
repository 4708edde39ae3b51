"""Gradients of problems that have no solution: zero, or NaN where that is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers import Status
from tests.helpers import compiled
from tests.helpers.marks import marked
from tests.helpers.problems import Data

FORWARD = jl.Derivative(mode="forward")
MARKED_BY_NAN = jl.Settings(failed_gradient="nan")
NAN = np.nan


def rows(*members: tuple[list[float], ...]) -> tuple[np.ndarray, ...]:
    """Arguments of one member after another as batched arrays."""
    return tuple(np.array(column, float) for column in zip(*members, strict=True))


def inequality_batch() -> Data:
    """Solvable; contradictory; unbounded; not a number. Two inequalities and bounds."""
    q, h, lower = rows(
        ([1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]),
        ([1.0, -1.0], [1.0, -5.0], [-1.0, -1.0]),
        ([1.0, -1.0], [1.0, 1.0], [-np.inf, -1.0]),
        ([NAN, -1.0], [1.0, 1.0], [-1.0, -1.0]),
    )
    G = np.stack([np.array([[0.0, 1.0], [1.0, 1.0]])] * 4)
    return {"Q": np.zeros((4, 2, 2)), "q": q, "G": G, "h": h, "lower": lower}


def equality_batch() -> Data:
    """The same with nothing but equalities."""
    q, b, diagonal = rows(
        ([1.0, -1.0], [1.0, 2.0], [1.0, 1.0]),
        ([1.0, -1.0], [1.0, 3.0], [1.0, 1.0]),
        ([1.0, -1.0], [1.0, 2.0], [0.0, 0.0]),
        ([1.0, -1.0], [NAN, 2.0], [1.0, 1.0]),
    )
    A = np.stack([np.array([[1.0, 1.0], [2.0, 2.0]])] * 4)
    return {"Q": diagonal, "q": q, "A": A, "b": b}


def unconstrained_batch() -> Data:
    """The same with nothing but Q and q, so that none is infeasible."""
    q, diagonal = rows(
        ([1.0, -1.0], [1.0, 2.0]),
        ([1.0, -1.0], [1.0, 0.0]),
        ([1.0, -1.0], [0.0, 0.0]),
        ([1.0, NAN], [1.0, 2.0]),
    )
    return {"Q": diagonal, "q": q}


SOLVED, INFEASIBLE, UNBOUNDED, INVALID = (
    Status.SOLVED,
    Status.PRIMAL_INFEASIBLE,
    Status.DUAL_INFEASIBLE,
    Status.INVALID_INPUT,
)
BATCHES = {
    "inequalities": (inequality_batch(), (SOLVED, INFEASIBLE, UNBOUNDED, INVALID)),
    "equalities": (equality_batch(), (SOLVED, INFEASIBLE, UNBOUNDED, INVALID)),
    "unconstrained": (unconstrained_batch(), (SOLVED, UNBOUNDED, UNBOUNDED, INVALID)),
}


def all_cotangents(data: Data) -> dict[str, np.ndarray]:
    """One for every entry of every output."""
    one = {name: array[0] for name, array in data.items()}
    return {name: np.ones((1, *shape)) for name, shape in compiled.shapes(one).items()}


def assert_marked(tree, value):
    """The solved member's are finite and not all zero; the failed ones' are `value`."""
    assert any(np.any(leaf[0] != 0) for leaf in jax.tree.leaves(tree))
    for leaf in jax.tree.leaves(tree):
        assert np.all(np.isfinite(leaf[0]))
        np.testing.assert_array_equal(leaf[1:], np.full_like(leaf[1:], value))


@pytest.mark.parametrize("kind", BATCHES)
def test_zero(kind):
    """For every cause, and in every input."""
    data, statuses = BATCHES[kind]
    solution, gradients = compiled.pull_batch(data, all_cotangents(data))
    np.testing.assert_array_equal(solution.status, statuses)
    assert sorted(gradients) == sorted(data)
    assert_marked(gradients, 0)


@pytest.mark.parametrize("kind", marked(BATCHES, {"unconstrained"}))
def test_nan(kind):
    """NaN in every entry of the data that is finite; the others count as absent."""
    data, _ = BATCHES[kind]
    _, gradients = compiled.pull_batch(data, all_cotangents(data), MARKED_BY_NAN)
    present = {
        name: np.where(np.isfinite(data[name])[:, None], gradient, NAN)
        for name, gradient in gradients.items()
    }
    assert all(np.all(np.isnan(gradient[1:])) for gradient in present.values())
    assert all(np.all(np.isfinite(gradient[0])) for gradient in gradients.values())


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["zero", "nan"])
def test_forward(choice):
    """Tangents of every output, slacks and multipliers included."""
    data, _ = BATCHES["equalities"]
    settings = jl.Settings(derivative=FORWARD, failed_gradient=choice)

    @jax.jit
    @jax.vmap
    def push(data, tangent):
        def outputs(data):
            found = compiled.solve_named(data, settings)
            return {name: found[name] for name in ("x", "y", "objective", "dual_objective")}

        return jax.jvp(outputs, (data,), (tangent,))[1]

    tangents = push(data, {name: np.ones_like(array) for name, array in data.items()})
    assert_marked(tangents, {"zero": 0, "nan": NAN}[choice])


@pytest.mark.slow
@pytest.mark.parametrize("derivative", ["least_squares", "smoothing"])
def test_other_derivatives(derivative):
    """The other kinds of derivative mark failures the same way."""
    data, _ = BATCHES["inequalities"]
    choice = {"least_squares": {"solver": "least_squares"}, "smoothing": {"smoothing": 1e-3}}
    settings = jl.Settings(derivative=jl.Derivative(**choice[derivative]))
    _, gradients = compiled.pull_batch(data, all_cotangents(data), settings)
    assert_marked(gradients, 0)


@pytest.mark.slow
def test_second_order_is_finite():
    """Differentiating the gradient again, failed members give zeros and no NaN."""
    data, _ = BATCHES["inequalities"]

    @jax.jit
    @jax.vmap
    def second(data):
        def gradient_norm(data):
            gradient = jax.grad(lambda data: jnp.sum(compiled.solve_named(data)["x"] ** 2))(data)
            return sum(jnp.sum(part**2) for part in jax.tree.leaves(gradient))

        return jax.grad(gradient_norm)(data)

    for leaf in jax.tree.leaves(second(data)):
        assert np.all(np.isfinite(leaf))
        np.testing.assert_array_equal(leaf[1:], 0)
