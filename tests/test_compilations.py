"""A second call with new data of the same shapes compiles nothing."""

import time
from contextlib import contextmanager

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from tests.helpers.problems import random_qp, stack

ORDER = ("Q", "q", "A", "b", "G", "h")
_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
_durations = []


@pytest.fixture(scope="module", autouse=True)
def listener():
    def record(event, duration, **_):
        if event == _COMPILE_EVENT:
            _durations.append(duration)

    jax.monitoring.register_event_duration_secs_listener(record)
    yield
    jax.monitoring.unregister_event_duration_listener(record)


@contextmanager
def compilations():
    """The compilations within the block, as a list of seconds that is filled as it goes."""
    start, found = len(_durations), []
    yield found
    found.extend(_durations[start:])


def batch(seed, size=4):
    rng = np.random.default_rng(seed)
    data = stack([random_qp(rng, 3, 2, 1, active=1) for _ in range(size)]).data
    return [data[name] for name in ORDER]


def single(seed):
    return [array[0] for array in batch(seed, 1)]


def loss(*arguments):
    solution = jl.solve_qp(*arguments)
    return jnp.sum(solution.x) + solution.objective


INFEASIBLE = [np.eye(3), np.ones(3), np.zeros((1, 3)), np.ones(1), np.zeros((2, 3)), np.ones(2)]
FUNCTIONS = {
    "jit": (jax.jit(jl.solve_qp), single),
    "jit of grad": (jax.jit(jax.grad(loss, range(6))), single),
    "jit of vmap": (jax.jit(jax.vmap(jl.solve_qp)), batch),
    "jit of vmap of grad": (jax.jit(jax.vmap(jax.value_and_grad(loss, range(6)))), batch),
    "no jit": (jl.solve_qp, single),
    "grad without jit": (jax.grad(loss, range(6)), single),
    "vmap without jit": (jax.vmap(jl.solve_qp), batch),
}


@pytest.mark.parametrize(("function", "data"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_new_data_of_the_same_shapes(function, data):
    first, second = data(0), data(1)
    with compilations() as compiled:
        before = jax.block_until_ready(function(*first))
    assert compiled, "the listener must see the first call compile"
    with compilations() as compiled:
        after = jax.block_until_ready(function(*second))
    assert not compiled
    assert not np.array_equal(jax.tree.leaves(before)[0], jax.tree.leaves(after)[0])


def test_failures_and_non_finite_data_compile_nothing():
    function = FUNCTIONS["jit"][0]
    function(*single(0))
    with_nan = single(0)
    with_nan[1] = with_nan[1] * np.nan
    with compilations() as compiled:
        statuses = [int(function(*data).status) for data in (single(2), INFEASIBLE, with_nan)]
    assert not compiled
    assert statuses == [jl.Status.SOLVED, jl.Status.PRIMAL_INFEASIBLE, jl.Status.INVALID_INPUT]


def test_equal_settings_share_a_program():
    """Settings are static: equal ones hit the cache, others make a new program."""

    def solve(q, settings):
        return jl.solve_qp(np.ones(2), q, settings=settings).x

    function, q = jax.jit(solve, static_argnames="settings"), np.ones(2)
    function(q, settings=jl.Settings(tolerance=1e-6))
    with compilations() as compiled:
        function(q, settings=jl.Settings(tolerance=1e-6))
    assert not compiled
    with compilations() as compiled:
        function(q, settings=jl.Settings(tolerance=1e-7))
    assert len(compiled) == 1
    assert function._cache_size() == 2


def test_a_training_loop_compiles_one_program():
    @jax.jit
    def update(q, data):
        gradient = jax.grad(lambda q: jnp.sum(jl.solve_qp(data[0], q, *data[1:]).x ** 2))(q)
        return q - 0.1 * gradient

    Q, q, *rest = (jnp.asarray(array) for array in single(0))
    update(q, [Q, *rest])
    with compilations() as compiled:
        for _ in range(5):
            q = update(q, [Q, *rest])
    assert not compiled


def test_compile_time_of_vmapped_value_and_grad(record_property):
    """Recorded; the bound only tells a program that explodes from one that doesn't."""
    data = batch(0, 128)
    start = time.process_time()
    lowered = jax.jit(jax.vmap(jax.value_and_grad(loss, range(6)))).lower(*data)
    traced = time.process_time()
    lowered.compile()
    record_property("trace_cpu_seconds", traced - start)
    record_property("compile_cpu_seconds", time.process_time() - traced)
    assert time.process_time() - start < 60
    assert len(lowered.as_text().splitlines()) < 20_000
