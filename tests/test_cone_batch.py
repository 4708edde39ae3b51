"""Batches of cone programs: every member stands alone, under vmap, scan and shard_map."""

from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxopt_layers as jl
from jaxopt_layers import Status
from tests.helpers.cone_gradients import cotangents
from tests.helpers.cone_oracles import kkt_residual
from tests.helpers.cone_problems import (
    CASES,
    Case,
    feasible_program,
    infeasible_program,
    known_program,
    stack,
    unbounded_program,
)
from tests.helpers.cone_results import BATCH, all_cones, known_results, run

#: Small, with a curved cone of each kind, for what is compiled for one test alone.
SMALL = Case("small", jl.Cones(nonnegative=1, second_order=(3,), exponential=1), 3, "diagonal")
DEVICES = 8


def broken_programs(case, programs):
    """Copies in which members 0 to 5 are infeasible, unbounded, or hold NaN or an infinity."""
    rng = np.random.default_rng(21)
    broken = [dict(program) for program in programs]
    broken[0], broken[1] = infeasible_program(rng, case), unbounded_program(rng, case)
    for i, name in enumerate(("A", "b", "c", "P"), start=2):
        broken[i][name] = broken[i][name].copy()
        broken[i][name].flat[rng.integers(broken[i][name].size)] = (np.nan, np.inf)[i % 2]
    return broken


BROKEN = [Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE, *[Status.INVALID_INPUT] * 4]


@cache
def broken_results(case):
    return run(case, broken_programs(case, known_results(case).programs))


@all_cones
def test_statuses_beside_each_other(case):
    expected = np.full(BATCH, Status.SOLVED)
    expected[:6] = BROKEN
    np.testing.assert_array_equal(broken_results(case).solution.status, expected)


@all_cones
def test_others_are_the_same_bit_for_bit(case):
    """Values, records and gradients alike."""
    good, mixed = known_results(case), broken_results(case)
    for one, other in ((good.solution, mixed.solution), (good.gradients, mixed.gradients)):
        chex.assert_trees_all_equal(*(jax.tree.map(lambda v: v[6:], r) for r in (one, other)))


@all_cones
def test_gradients_of_broken_members_are_zero(case):
    for gradient in broken_results(case).gradients.values():
        assert np.all(gradient[:6] == 0)
        assert np.all(np.isfinite(gradient))


@all_cones
def test_the_members_in_another_order_give_the_same_bits(case):
    order = np.random.default_rng(3).permutation(BATCH)
    mixed = broken_results(case)
    shuffled = run(case, [mixed.programs[i] for i in order])
    for one, other in (
        (shuffled.solution, mixed.solution),
        (shuffled.gradients, mixed.gradients),
    ):
        chex.assert_trees_all_equal(one, jax.tree.map(lambda v: v[order], other))


@all_cones
def test_the_error_names_members(case):
    with pytest.raises(
        jl.SolverError, match=rf"6 of {BATCH} (.|\n)*member \[0\]: PRIMAL_INFEASIBLE"
    ):
        jl.raise_if_failed(broken_results(case).solution)


# --- small programs --------------------------------------------------------------------------


def small_programs(count=DEVICES, seed=4):
    rng = np.random.default_rng(seed)
    return stack([known_program(rng, SMALL)[0] for _ in range(count)])


WEIGHTS = np.random.default_rng(6).normal(size=SMALL.n)


def loss(data, init=None):
    """Touches every output; returns the solution with it."""
    s = jl.solve_cone(**data, cones=SMALL.cones, init=init)
    return WEIGHTS @ s.x + 0.1 * (jnp.sum(s.y) + jnp.sum(s.s) + s.objective), s


def gradient_of(data):
    """By data, with the record."""
    gradient, solution = jax.grad(loss, has_aux=True)(data)
    return solution, gradient


batched = jax.jit(jax.vmap(gradient_of))


def test_batch_of_one_is_the_problem_itself():
    data = small_programs()
    one = {name: array[2] for name, array in data.items()}
    single, batch = jax.jit(gradient_of)(one), batched(data)
    batch = jax.tree.map(lambda v: v[2], batch)
    assert single[0].status == Status.SOLVED
    for name in ("x", "y", "s", "objective"):
        np.testing.assert_allclose(
            getattr(single[0], name), getattr(batch[0], name), rtol=1e-9, atol=1e-9
        )
    chex.assert_trees_all_close(single[1], batch[1], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    "shared",
    [
        pytest.param(("A", "P", "c"), id="matrices"),
        pytest.param(("b", "c"), id="vectors", marks=pytest.mark.slow),
    ],
)
def test_shared_data_give_what_copies_give(shared):
    data = small_programs()
    for name, array in data.items():
        change = 0 if name in shared else 1e-2 * np.arange(DEVICES)
        change = np.reshape(change * np.ones(DEVICES), (DEVICES, *[1] * (array.ndim - 1)))
        data[name] = array[:1] + change
    axes = {name: None if name in shared else 0 for name in data}
    given = {name: array[0] if name in shared else array for name, array in data.items()}
    expected = batched(data)
    np.testing.assert_array_equal(expected[0].status, Status.SOLVED)

    def total(given):
        values, solution = jax.vmap(loss, (axes,))(given)
        return jnp.sum(values), solution

    gradient, solution = jax.jit(jax.grad(total, has_aux=True))(given)
    np.testing.assert_array_equal(solution.status, Status.SOLVED)
    chex.assert_trees_all_close(solution.x, expected[0].x, atol=1e-8)
    for name, value in expected[1].items():
        wanted = np.sum(value, axis=0) if name in shared else value
        np.testing.assert_allclose(gradient[name], wanted, rtol=1e-6, atol=1e-6, err_msg=name)


def test_shard_map_gives_what_one_device_gives():
    """Values and gradients over eight simulated devices, one member each."""
    data = small_programs()
    mesh = jax.make_mesh((DEVICES,), ("members",))
    spec = PartitionSpec("members")
    sharded = jax.jit(
        jax.shard_map(jax.vmap(gradient_of), mesh=mesh, in_specs=(spec,), out_specs=spec)
    )(data)
    expected = batched(data)
    np.testing.assert_array_equal(sharded[0].status, Status.SOLVED)
    for name in ("x", "y", "s", "objective"):
        np.testing.assert_allclose(
            getattr(sharded[0], name), getattr(expected[0], name), rtol=1e-9, atol=1e-9
        )
    chex.assert_trees_all_close(sharded[1], expected[1], rtol=1e-7, atol=1e-7)


def test_a_batch_on_a_sharded_axis():
    """Data placed over the devices are solved where they are."""
    data = small_programs()
    mesh = jax.make_mesh((DEVICES,), ("members",))
    place = jax.NamedSharding(mesh, PartitionSpec("members"))
    expected = batched(data)
    placed = jax.tree.map(lambda v: jax.device_put(v, place), data)
    solution, gradient = batched(placed)
    np.testing.assert_allclose(solution.x, expected[0].x, rtol=1e-9, atol=1e-9)
    chex.assert_trees_all_close(gradient, expected[1], rtol=1e-7, atol=1e-7)


def test_scan_with_a_warm_start():
    """Each step starts from the one before: fewer iterations in all, the same path."""
    data = {name: array[0] for name, array in small_programs().items()}

    @jax.jit
    def path(warm):
        zero = jax.eval_shape(lambda: jl.solve_cone(**data, cones=SMALL.cones))
        zero = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), zero)
        failed = jnp.full((), Status.MAX_ITERATIONS, jnp.int32)

        def step(carry, t):
            solution = jl.solve_cone(
                **(data | {"b": data["b"] + t}), cones=SMALL.cones, init=carry
            )
            following = replace(
                solution, status=jnp.where(warm, solution.status, Status.MAX_ITERATIONS)
            )
            return following, (solution.x, solution.iterations, solution.status)

        return jax.lax.scan(step, replace(zero, status=failed), jnp.linspace(0, 1e-2, 8))[1]

    cold, warm = path(False), path(True)
    for _, _, status in (cold, warm):
        np.testing.assert_array_equal(status, Status.SOLVED)
    np.testing.assert_allclose(warm[0], cold[0], atol=1e-7)
    assert np.sum(warm[1]) < np.sum(cold[1])


def test_empty_batch():
    empty = {name: array[:0] for name, array in small_programs().items()}
    solution, gradient = batched(empty)
    chex.assert_shape(solution.x, (0, SMALL.n))
    chex.assert_trees_all_equal_shapes(gradient, empty)
    jl.raise_if_failed(solution)


@pytest.mark.slow
def test_a_thousand_members():
    """Every status right, every solution one, and the good ones as if the others weren't there."""
    rng, case = np.random.default_rng(9), CASES["mixed"]
    kinds = [feasible_program] * 8 + [infeasible_program, unbounded_program]
    programs = [kinds[i % 10](rng, case) for i in range(1000)]
    stacked = {name: value[:1] for name, value in cotangents(case).items()}

    @jax.jit
    @jax.vmap
    def solve(data):
        solution, back = jax.vjp(lambda data: jl.solve_cone(**data, cones=case.cones), data)
        zero = jax.tree.map(
            lambda v: np.zeros(v.shape, v.dtype if v.dtype == float else jax.dtypes.float0),
            solution,
        )
        chosen = replace(zero, **{name: jnp.asarray(v[0]) for name, v in stacked.items()})
        return solution, back(chosen)[0]

    solution, gradient = solve(stack(programs))
    expected = np.full(1000, Status.SOLVED)
    expected[8::10], expected[9::10] = Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE
    np.testing.assert_array_equal(solution.status, expected)
    chex.assert_tree_all_finite(gradient)
    for i in np.flatnonzero(expected == Status.SOLVED)[::8]:
        member = {name: np.asarray(getattr(solution, name)[i]) for name in ("x", "y", "s")}
        member |= {n: solution.objective[i] for n in ("objective", "dual_objective")}
        assert kkt_residual(programs[i], case.cones, member) < 1e-8
    replaced = [
        program if status == Status.SOLVED else programs[0]
        for program, status in zip(programs, expected, strict=True)
    ]
    good = np.flatnonzero(expected == Status.SOLVED)
    for one, other in zip(solve(stack(replaced)), (solution, gradient), strict=True):
        chex.assert_trees_all_equal(
            jax.tree.map(lambda v: v[good], one), jax.tree.map(lambda v: v[good], other)
        )
