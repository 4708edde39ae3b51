"""`vmap_over_devices`: the same as `jax.vmap`, on the eight devices that the tests simulate."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl

CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def least_squares(data, target):
    """The nonnegative least-squares solution, of a matrix that the batch may share."""
    matrix = data["matrix"]
    quadratic = matrix.T @ matrix + 0.1 * jnp.eye(3)
    return jl.solve_qp(quadratic, -matrix.T @ (target + data["shift"]), lower=0)


AXES = ({"matrix": None, "shift": 0}, 1)


def arguments(size):
    rng = np.random.default_rng(5)
    data = {"matrix": rng.normal(size=(4, 3)), "shift": rng.normal(size=(size, 4))}
    return jax.tree.map(jnp.asarray, (data, rng.normal(size=(4, size))))


def value_and_gradients(vmap):
    """Of a sum over the batch, in what it shares and in what it doesn't."""
    solve = vmap(least_squares, AXES)

    def loss(data, target):
        solution = solve(data, target)
        return jnp.sum(solution.x**3) + jnp.sum(solution.objective), solution

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


@pytest.mark.parametrize("size", [16, 11], ids=["divisible", "padded"])
def test_values_and_gradients_are_those_of_vmap(size):
    given = arguments(size)
    (value, solution), gradients = value_and_gradients(jl.vmap_over_devices)(*given)
    expected = value_and_gradients(jax.vmap)(*given)
    chex.assert_trees_all_close(((value, solution), gradients), expected, **CLOSE)
    assert solution.x.shape == (size, 3)


def test_every_device_has_its_share():
    solution = jl.vmap_over_devices(least_squares, AXES)(*arguments(16))
    assert len(solution.x.sharding.device_set) == 8
    assert {shard.data.shape for shard in solution.x.addressable_shards} == {(2, 3)}


def test_fewer_members_than_devices():
    points = jnp.array([[1.0, -2.0], [-3.0, 4.0]])
    project = jl.vmap_over_devices(lambda point: jl.solve_qp(jnp.ones(2), -point, lower=0).x)
    np.testing.assert_allclose(project(points), [[1, 0], [0, 4]], atol=1e-8)
    assert project(points[:0]).shape == (0, 2)


def test_chosen_devices():
    chosen = jax.devices()[2:4]
    doubled = jl.vmap_over_devices(lambda v: 2 * v, devices=chosen)(jnp.arange(6.0))
    np.testing.assert_array_equal(doubled, 2 * np.arange(6.0))
    assert doubled.sharding.device_set == set(chosen)


def test_a_constant_of_the_function_is_shared():
    """The gradient in what the function closes over adds up the devices' parts."""

    def loss(vmap, weight):
        solve = vmap(lambda point: jl.solve_qp(jnp.exp(weight), -point, lower=0).x)
        return jnp.sum(solve(jnp.arange(16.0).reshape(8, 2)) ** 2)

    weight = jnp.array([0.1, -0.2])
    gradients = [
        jax.grad(loss, argnums=1)(vmap, weight) for vmap in (jl.vmap_over_devices, jax.vmap)
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-9)


@pytest.mark.parametrize(
    ("in_axes", "message"), [((None, None), "none has one"), ((0, 0), r"sizes \[2, 3\]")]
)
def test_batches_that_do_not_fit(in_axes, message):
    mapped = jl.vmap_over_devices(lambda a, b: (a, b), in_axes)
    with pytest.raises(ValueError, match=message):
        mapped(jnp.ones(2), jnp.ones(3))
