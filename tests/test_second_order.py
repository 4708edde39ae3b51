"""Second derivatives and forward mode: against those of the active set, and each other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from tests.helpers.active_set import active_set_map
from tests.helpers.compiled import pull, shapes, solve_named
from tests.helpers.gradients import random_cotangents, random_direction
from tests.helpers.oracles import central_difference, clarabel_qp
from tests.helpers.problems import CASES, KnownQP, random_qp
from tests.helpers.tolerances import F64

REVERSE = jl.Settings()
FORWARD = jl.Settings(derivative=jl.Derivative(mode="forward"))
MODES = {"reverse": REVERSE, "forward": FORWARD}
DATA = CASES["full"].data
WEIGHTS = {
    name: np.random.default_rng(7).normal(size=shape)
    for name, shape in shapes(DATA).items()
    if name != "dual_objective"
}


def weighted(outputs):
    """A scalar function of all outputs, not linear in them."""
    return sum(
        jnp.sum(weight * outputs[name]) + jnp.sum(jnp.sin(outputs[name]))
        for name, weight in WEIGHTS.items()
    )


def known():
    """The full problem with the solution that tells its active set."""
    return KnownQP(DATA, {n: np.where(v > 1e-6, v, 0) for n, v in clarabel_qp(**DATA).items()})


def loss(data, settings):
    """The scalar that is differentiated twice."""
    return weighted(solve_named(data, settings))


def exact_loss(data):
    """The same by the linear equations of the active set."""
    return weighted(active_set_map(known())(data))


def direction(rng):
    """A direction in all data at once."""
    return {name: random_direction(rng, name, array) for name, array in DATA.items()}


@partial(jax.jit, static_argnames="settings")
def gradient_and_hessian_product(data, tangent, settings):
    """The gradient, and the Hessian times a direction by reverse over reverse."""
    gradient = jax.grad(loss)

    def slope(data):
        parts = jax.tree.map(lambda g, t: jnp.sum(g * t), gradient(data, settings), tangent)
        return sum(jax.tree.leaves(parts))

    return gradient(data, settings), jax.grad(slope)(data)


@jax.jit
def exact_gradient_and_hessian_product(data, tangent):
    """The oracle's, by forward over reverse."""
    return jax.jvp(jax.grad(exact_loss), (data,), (tangent,))


def assert_trees_near(got, want, tolerance):
    """Each array to the tolerance relative to its own norm."""
    assert sorted(got) == sorted(want)
    for name, expected in want.items():
        size = 1 + np.linalg.norm(expected)
        difference = np.linalg.norm(np.asarray(got[name]) - expected)
        assert difference <= tolerance * size, (name, difference, size)


@pytest.mark.parametrize("mode", ["reverse", pytest.param("forward", marks=pytest.mark.slow)])
def test_reverse_over_reverse(mode, rng):
    """The Hessian in all data, along a random direction, is that of the active set's equations."""
    tangent = direction(rng)
    gradient, product = gradient_and_hessian_product(DATA, tangent, MODES[mode])
    want_gradient, want_product = exact_gradient_and_hessian_product(DATA, tangent)
    assert_trees_near(gradient, want_gradient, F64.gradient)
    assert_trees_near(product, want_product, F64.second)
    for name in ("Q", "A", "G"):
        assert np.linalg.norm(want_product[name]) > 0.1


@pytest.mark.slow
def test_hessian_product_is_a_difference_of_gradients(rng):
    """The same without any oracle: central differences of the package's own gradients."""
    tangent = direction(rng)
    exact = jl.Settings(tolerance=1e-12)
    _, product = gradient_and_hessian_product(DATA, tangent, exact)

    def gradient(data):
        return gradient_and_hessian_product(data, tangent, exact)[0]

    difference = central_difference(gradient, DATA, tangent, step=1e-3)
    assert_trees_near(product, difference, F64.second)


@pytest.mark.slow
def test_jacobian_of_gradient():
    """jax.jacrev of jax.grad gives the whole Hessian in G and Q, and it is symmetric."""

    def of_pair(pair):
        return loss(DATA | pair, REVERSE)

    def exact_of_pair(pair):
        return exact_loss(DATA | pair)

    pair = {"G": DATA["G"], "Q": DATA["Q"]}
    got = jax.jit(jax.jacrev(jax.grad(of_pair)))(pair)
    want = jax.jit(jax.hessian(exact_of_pair))(pair)
    for name in pair:
        assert_trees_near(got[name], want[name], F64.second)
    mixed, transposed = got["G"]["Q"], np.transpose(got["Q"]["G"], (2, 3, 0, 1))
    size = np.linalg.norm(mixed)
    assert np.linalg.norm(mixed - transposed) <= F64.second * size


@pytest.mark.slow
def test_forward_hessian():
    """jax.hessian, which is forward over reverse, works in forward mode, in A and q."""

    def of_pair(pair):
        return loss(DATA | pair, FORWARD)

    pair = {"A": DATA["A"], "q": DATA["q"]}
    got = jax.jit(jax.hessian(of_pair))(pair)
    want = jax.jit(jax.hessian(lambda pair: exact_loss(DATA | pair)))(pair)
    for name in pair:
        assert_trees_near(got[name], want[name], F64.second)


@jax.jit
def forward(data, tangent):
    """The outputs and their derivatives along a direction, in forward mode."""
    return jax.jvp(partial(solve_named, settings=FORWARD), (data,), (tangent,))


def test_forward_mode(rng):
    """jvp is the exact derivative of every output."""
    tangent = direction(rng)
    outputs, derivative = forward(DATA, tangent)
    want = jax.jit(partial(jax.jvp, active_set_map(known())))((DATA,), (tangent,))[1]
    assert_trees_near(outputs, clarabel_qp(**DATA), F64.value)
    assert_trees_near(derivative, want, F64.gradient)


def test_modes_are_adjoint(rng):
    """Reverse mode's cotangents and forward mode's tangents have the same inner products."""
    tangent = direction(rng)
    cotangents = random_cotangents(rng, shapes(DATA))
    _, derivative = forward(DATA, tangent)
    _, gradients = pull(DATA, cotangents)
    for row in range(len(cotangents["x"])):
        pushed = sum(np.sum(cotangents[name][row] * derivative[name]) for name in derivative)
        pulled = sum(np.sum(gradients[name][row] * tangent[name]) for name in tangent)
        np.testing.assert_allclose(pushed, pulled, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_linearize(rng):
    """The linear map of jax.linearize is the derivative."""
    tangent = direction(rng)

    @jax.jit
    def linearized(data, tangent):
        return jax.linearize(partial(solve_named, settings=FORWARD), data)[1](tangent)

    assert_trees_near(linearized(DATA, tangent), forward(DATA, tangent)[1], 1e-10)


@pytest.mark.slow
def test_forward_jacobian_is_the_reverse_one():
    """jacfwd in forward mode and jacrev in both modes give one Jacobian of x and z in h."""

    def outputs(h, settings):
        found = solve_named(DATA | {"h": h}, settings)
        return found["x"], found["z"]

    forward = jax.jit(jax.jacfwd(partial(outputs, settings=FORWARD)))(DATA["h"])
    backward = jax.jit(jax.jacrev(partial(outputs, settings=FORWARD)))(DATA["h"])
    reverse = jax.jit(jax.jacrev(partial(outputs, settings=REVERSE)))(DATA["h"])
    for a, b, c in zip(forward, backward, reverse, strict=True):
        assert np.linalg.norm(a) > 0.1
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(a, c, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_random_hessians(seed):
    """Random problems of one shape, both modes, along random directions in all data."""
    rng = np.random.default_rng(seed)
    problem = random_qp(rng, 6, 5, 2, bounds=True)
    exact = active_set_map(problem)

    @jax.jit
    def oracle(data, tangent):
        return jax.jvp(jax.grad(lambda data: weighted(exact(data))), (data,), (tangent,))

    tangent = {name: random_direction(rng, name, array) for name, array in problem.data.items()}
    _, want = oracle(problem.data, tangent)
    for settings in MODES.values():
        _, product = gradient_and_hessian_product(problem.data, tangent, settings)
        assert_trees_near(product, want, F64.second)
