"""A second call with new data of the same shapes compiles nothing."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers import Status, engine
from tests.helpers.compilations import compilations
from tests.helpers.problems import random_qp, stack


def single(seed):
    """A vector to project, and the upper bound of the box."""
    return tuple(np.random.default_rng(seed).uniform(0.5, 2, size=(2, 3)))


def batch(seed, size=4):
    return tuple(np.random.default_rng(seed).uniform(0.5, 2, size=(2, size, 3)))


def solve(point, upper):
    return jl.solve_qp(np.ones(3), -point, lower=-1.0, upper=upper)


def loss(*arguments):
    solution = solve(*arguments)
    return jnp.sum(solution.x) + solution.objective


FUNCTIONS = {
    "jit": (jax.jit(solve), single),
    "jit of vmap": (jax.jit(jax.vmap(solve)), batch),
    "jit of vmap of grad": (jax.jit(jax.vmap(jax.value_and_grad(loss, (0, 1)))), batch),
    "no jit": (solve, single),
    "grad without jit": (jax.grad(loss, (0, 1)), single),
}


@pytest.mark.parametrize(("function", "data"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_new_data_of_the_same_shapes(function, data):
    first, second = data(0), data(1)
    jax.clear_caches()  # of what other tests compiled
    with compilations() as compiled:
        before = jax.block_until_ready(function(*first))
    assert compiled, "the listener must see the first call compile"
    with compilations() as compiled:
        after = jax.block_until_ready(function(*second))
    assert not compiled
    assert not np.array_equal(jax.tree.leaves(before)[0], jax.tree.leaves(after)[0])


def test_failures_and_non_finite_data_compile_nothing():
    function = FUNCTIONS["jit"][0]
    point, upper = single(0)
    function(point, upper)
    with compilations() as compiled:
        cases = [
            (point, upper),
            (point, upper - 5),
            (point * np.nan, upper),
            (point, upper * np.inf),
        ]
        statuses = [Status(int(function(*case).status)) for case in cases]
    assert not compiled
    S = Status
    assert statuses == [S.SOLVED, S.PRIMAL_INFEASIBLE, S.INVALID_INPUT, S.SOLVED]


def test_equal_settings_share_a_program():
    """Settings are static: equal ones hit the cache, others make a new program."""

    def unconstrained(q, settings):
        return jl.solve_qp(np.ones(2), q, settings=settings).x

    function, q = jax.jit(unconstrained, static_argnames="settings"), np.ones(2)
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
    def update(point, upper):
        return point - 0.1 * jax.grad(loss)(point, upper)

    point, upper = map(jnp.asarray, single(0))
    point = update(point, upper)
    with compilations() as compiled:
        for _ in range(5):
            point = update(point, upper)
    assert not compiled


def test_a_batched_gradient_traces_the_solver_twice_at_most(monkeypatch):
    """Once for one problem and once for the members of a chunk, whether differentiated or not."""
    traced = []

    def counted(*arguments):
        traced.append(arguments)
        return solve_engine(*arguments)

    solve_engine = engine.solve
    monkeypatch.setattr(engine, "solve", counted)
    gradient = jax.jit(jax.grad(lambda *data: jax.vmap(loss)(*data).sum()))
    jax.clear_caches()  # of what other tests traced
    gradient.trace(*batch(0, 5))
    jax.clear_caches()  # of what holds on to `counted`
    assert 1 <= len(traced) <= 2


def test_compile_time_of_vmapped_value_and_grad(record_property):
    """Recorded; the bounds only tell a program that explodes from one that doesn't."""
    rng = np.random.default_rng(0)
    data = stack([random_qp(rng, 10, 10, 5) for _ in range(128)]).data

    def value(Q, q, A, b, G, h):
        solution = jl.solve_qp(Q, q, A, b, G, h)
        return jnp.sum(solution.x) + solution.objective

    function = jax.jit(jax.vmap(jax.value_and_grad(value, range(6))))
    start = time.process_time()
    lowered = function.lower(*[data[name] for name in ("Q", "q", "A", "b", "G", "h")])
    traced = time.process_time()
    lowered.compile()
    record_property("trace_cpu_seconds", traced - start)
    record_property("compile_cpu_seconds", time.process_time() - traced)
    assert time.process_time() - start < 60
    assert len(lowered.as_text().splitlines()) < 20_000
