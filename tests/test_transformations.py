"""Every transformation, and their compositions, give the same numbers.

Projection on a box has a closed form, so most transformations are held against that.
"""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_layers as jl
from jaxopt_layers import Status
from tests.helpers.problems import random_qp, stack

BATCH, VARIABLES = 16, 3
CLOSE = {"rtol": 1e-7, "atol": 1e-7}
# At least 0.2 from where the projection on either box below has a kink.
POINTS = np.random.default_rng(0).choice([-2, -1.3, -0.7, -0.2, 0.1, 0.8, 1.5], (BATCH, VARIABLES))
PROJECTED = np.clip(POINTS, -1, 1)
INSIDE = np.float64(np.abs(POINTS) < 1)


def project(point):
    """Projection on the box [-1, 1]^n."""
    return jl.solve_qp(jnp.ones(VARIABLES), -point, lower=-1.0, upper=1.0).x


def loss(point):
    """Half the squared norm of the projection; its gradient is the projection where inside."""
    return 0.5 * jnp.sum(project(point) ** 2)


def total(points):
    return jnp.sum(jax.vmap(loss)(points))


def last_axis(points):
    """The batch in two dimensions, one of them last."""
    folded = points.reshape(4, BATCH // 4, VARIABLES).transpose(1, 2, 0)
    inner = jax.vmap(project)
    return jax.vmap(inner, in_axes=2)(folded).reshape(BATCH, VARIABLES)


VALUES = {
    "jit of vmap": jax.jit(jax.vmap(project)),
    "vmap": jax.vmap(project),
    "lax.map": jax.jit(lambda points: jax.lax.map(project, points)),
    "two batch dimensions": jax.jit(last_axis),
    "one at a time": lambda points: np.stack([jax.jit(project)(point) for point in points]),
}
GRADIENTS = {
    "jit of vmap of grad": jax.jit(jax.vmap(jax.grad(loss))),
    "vmap of grad": jax.vmap(jax.grad(loss)),
    "grad of vmap": jax.jit(jax.grad(total)),
    "checkpoint": jax.jit(jax.vmap(jax.grad(jax.checkpoint(loss)))),
}


@pytest.mark.parametrize("transformed", VALUES.values(), ids=VALUES)
def test_values(transformed):
    np.testing.assert_allclose(transformed(POINTS), PROJECTED, **CLOSE)


@pytest.mark.parametrize("transformed", GRADIENTS.values(), ids=GRADIENTS)
def test_gradients(transformed):
    np.testing.assert_allclose(transformed(POINTS), INSIDE * PROJECTED, **CLOSE)


def test_grad_alone():
    np.testing.assert_allclose(jax.grad(loss)(POINTS[0]), (INSIDE * PROJECTED)[0], **CLOSE)


def test_jacrev():
    jacobians = jax.jit(jax.vmap(jax.jacrev(project)))(POINTS)
    expected = INSIDE[:, :, None] * np.eye(VARIABLES)[None]
    np.testing.assert_allclose(jacobians, expected, **CLOSE)


def test_under_control_flow():
    """A branch, and a jitted function within."""

    @jax.jit
    def either(flag, point):
        return jax.lax.cond(flag, jax.jit(project), lambda point: point, point)

    np.testing.assert_allclose(either(True, POINTS[0]), PROJECTED[0], **CLOSE)
    np.testing.assert_array_equal(either(False, POINTS[0]), POINTS[0])


def test_chain_of_two_layers():
    """The second layer projects on a smaller box, so the gradient is one inside that."""

    @jax.jit
    @jax.vmap
    @jax.value_and_grad
    def chain(point):
        outer = jl.solve_qp(2 * jnp.ones(VARIABLES), -2 * project(point), lower=-0.5, upper=0.5)
        return jnp.sum(jnp.sin(outer.x))

    value, gradient = chain(POINTS)
    inner = np.clip(POINTS, -0.5, 0.5)
    np.testing.assert_allclose(value, np.sum(np.sin(inner), axis=1), **CLOSE)
    np.testing.assert_allclose(gradient, np.cos(inner) * (np.abs(POINTS) < 0.5), **CLOSE)


def test_donated_buffers():
    """The result takes over the memory of the points: the donated array is gone."""
    points = jnp.array(POINTS)
    projected = jax.jit(jax.vmap(project), donate_argnums=0)(points)
    assert points.is_deleted()
    np.testing.assert_allclose(projected, PROJECTED, **CLOSE)


class TestScan:
    """Receding-horizon control of a double integrator, each solve started from the one before."""

    HORIZON, STEPS, START = 3, 10, np.array([3.0, 0.5])

    @classmethod
    def control(cls, state, init):
        """The inputs over the horizon; positions and velocities are affine in them."""
        size, dt = cls.HORIZON, 0.5
        velocity = dt * np.tril(np.ones((size, size)))
        position = velocity @ velocity
        free_position = state[0] + dt * state[1] * np.arange(1, size + 1)
        Q = position.T @ position + velocity.T @ velocity + 0.1 * np.eye(size)
        q = position.T @ free_position + velocity.T @ jnp.full(size, state[1])
        return jl.solve_qp(Q, q, lower=-1.0, upper=1.0, init=init)

    @classmethod
    def energy(cls, state, warm):
        """The sum of squared states; the states, statuses and iterations with it."""
        ignored = jnp.int32(Status.MAX_ITERATIONS)

        def step(carry, _):
            state, previous = carry
            status = jnp.where(warm, previous.status, ignored)
            solution = cls.control(state, replace(previous, status=status))
            velocity = state[1] + 0.5 * solution.x[0]
            state = jnp.array([state[0] + 0.5 * velocity, velocity])
            return (state, solution), (state, solution.status, solution.iterations)

        shapes = jax.eval_shape(lambda state: cls.control(state, None), state)
        nothing = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)
        first = replace(nothing, status=ignored)
        _, record = jax.lax.scan(step, (state, first), length=cls.STEPS)
        return jnp.sum(record[0] ** 2), record

    @pytest.fixture(scope="class")
    @classmethod
    def results(cls):
        """Cold and warm, and the slope of the cold one by differences."""
        function = jax.jit(jax.value_and_grad(cls.energy, has_aux=True))
        value = lambda state: np.asarray(function(state, False)[0][0])  # noqa: E731
        step, slopes = 1e-4, []
        for axis in np.eye(2):
            near, far = (
                value(cls.START + k * step * axis) - value(cls.START - k * step * axis)
                for k in (1, 2)
            )
            slopes.append((8 * near - far) / (12 * step))
        return function(cls.START, False), function(cls.START, True), slopes

    def test_warm_and_cold_agree(self, results):
        cold, warm, _ = results
        for (_, (_, statuses, _)), _ in (cold, warm):
            np.testing.assert_array_equal(statuses, Status.SOLVED)
        np.testing.assert_allclose(warm[0][1][0], cold[0][1][0], atol=1e-6)
        assert np.sum(warm[0][1][2]) < np.sum(cold[0][1][2])

    def test_the_gradient_goes_through_the_loop(self, results):
        (_, cold), (_, warm), differences = results
        np.testing.assert_allclose(cold, differences, rtol=1e-6)
        np.testing.assert_allclose(warm, differences, rtol=1e-6)

    def test_the_state_comes_to_rest(self, results):
        states = results[0][0][1][0]
        assert np.sum(states[-1] ** 2) < 0.01 * np.sum(self.START**2)


class TestShardMap:
    """Problems with every kind of row, two on each of eight devices."""

    COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective", "reduce-scatter")

    @staticmethod
    def problem(data):
        def loss(data):
            solution = jl.solve_qp(**data)
            return jnp.sum(solution.x) + solution.objective, solution

        return jax.value_and_grad(loss, has_aux=True)(data)

    @pytest.fixture(scope="class")
    @classmethod
    def results(cls):
        """The compiled sharded program, what it returns, and what one device returns."""
        rng = np.random.default_rng(4)
        data = stack([random_qp(rng, 3, 2, 1, bounds=True) for _ in range(BATCH)]).data
        # Some members are harder than others, so that the devices need different numbers of steps.
        for i in range(0, BATCH, 4):
            data["h"][i] -= 100
        mapped = jax.vmap(cls.problem)
        mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
        spec = P("batch")
        sharded = jax.jit(jax.shard_map(mapped, mesh=mesh, in_specs=spec, out_specs=spec))
        placed = jax.device_put(data, NamedSharding(mesh, spec))
        compiled = sharded.lower(placed).compile()
        return compiled, compiled(placed), jax.jit(mapped)(data)

    def test_values_and_gradients(self, results):
        assert len(jax.devices()) == 8
        _, sharded, single = results
        (_, solution), _ = sharded
        assert len(solution.x.sharding.device_set) == 8
        iterations = np.asarray(solution.iterations).reshape(8, -1).max(axis=1)
        assert len(set(iterations)) > 1
        np.testing.assert_array_equal(solution.status, single[0][1].status)
        good = np.asarray(solution.status) == Status.SOLVED
        assert 8 <= good.sum() <= 12
        sharded, single = (
            jax.tree.map(lambda v: np.asarray(v)[good], r) for r in (sharded, single)
        )
        chex.assert_trees_all_close(sharded, single, rtol=1e-7, atol=1e-7)

    def test_devices_do_not_wait_for_each_other(self, results):
        """No loop asks other devices whether they are done: each stops with its own batch."""
        text = results[0].as_text()
        assert " while(" in text
        assert not [name for name in self.COLLECTIVES if name in text]


class TestVariants(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_projection(self):
        projected = self.variant(project)(POINTS[1])
        np.testing.assert_allclose(projected, PROJECTED[1], **CLOSE)

    def test_traced_once_for_one_shape(self):
        chex.clear_trace_counter()
        function = jax.jit(jax.grad(chex.assert_max_traces(loss, n=1)))
        for point in POINTS[:3]:
            function(point)


def test_training_with_optax():
    """The matrix of a layer is learned from its solutions alone."""
    truth = np.random.default_rng(3).normal(size=(VARIABLES, VARIABLES))
    layers = jax.vmap(lambda matrix, point: project(matrix @ point), (None, 0))
    targets = np.clip(POINTS @ truth.T, -1, 1)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.2, 150))
    matrix = jnp.zeros((VARIABLES, VARIABLES))
    state = optimizer.init(matrix)

    @jax.jit
    def update(matrix, state):
        error = lambda matrix: jnp.mean((layers(matrix, POINTS) - targets) ** 2)  # noqa: E731
        value, gradient = jax.value_and_grad(error)(matrix)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(matrix, change), state, value

    losses = []
    for _ in range(150):
        matrix, state, value = update(matrix, state)
        losses.append(float(value))
    assert losses[0] > 0.1
    assert losses[-1] < 1e-3 * losses[0]
