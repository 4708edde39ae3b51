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
    OUTPUTS,
    feasible_program,
    infeasible_program,
    stack,
    unbounded_program,
)
from tests.helpers.cone_results import BATCH, known_results, products, run
from tests.helpers.tolerances import F64

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


@products
def test_statuses_beside_each_other(case):
    expected = np.full(BATCH, Status.SOLVED)
    expected[:6] = BROKEN
    np.testing.assert_array_equal(broken_results(case).solution.status, expected)


@products
def test_others_are_the_same_bit_for_bit(case):
    """Values, records and gradients alike."""
    good, mixed = known_results(case), broken_results(case)
    for one, other in ((good.solution, mixed.solution), (good.gradients, mixed.gradients)):
        chex.assert_trees_all_equal(*(jax.tree.map(lambda v: v[6:], r) for r in (one, other)))


@products
def test_gradients_of_broken_members_are_zero(case):
    for gradient in broken_results(case).gradients.values():
        assert np.all(gradient[:6] == 0)
        assert np.all(np.isfinite(gradient))


@products
def test_the_order_of_members_changes_rounding_only(case):
    order = np.random.default_rng(3).permutation(BATCH)
    mixed = broken_results(case)
    shuffled = run(case, [mixed.programs[i] for i in order])
    for one, other in (
        (shuffled.solution, mixed.solution),
        (shuffled.gradients, mixed.gradients),
    ):
        in_order = jax.tree.map(lambda v: v[order], other)
        chex.assert_trees_all_close(one, in_order, rtol=F64.exact, atol=F64.exact)


@products
def test_the_error_names_members(case):
    with pytest.raises(
        jl.SolverError, match=rf"6 of {BATCH} (.|\n)*member \[0\]: PRIMAL_INFEASIBLE"
    ):
        jl.raise_if_failed(broken_results(case).solution)


# --- transformations of one small case -------------------------------------------------------

FEW = CASES["few"]
COTANGENTS = {name: value.sum(axis=0, keepdims=True) for name, value in cotangents(FEW).items()}


def pull(data):
    """The record, and the gradients of a weighted sum of all outputs."""

    def loss(data):
        solution = jl.solve_cone(**data, cones=FEW.cones)
        terms = [jnp.sum(COTANGENTS[name][0] * getattr(solution, name)) for name in OUTPUTS]
        return sum(terms), solution

    gradient, solution = jax.grad(loss, has_aux=True)(data)
    return solution, gradient


def assert_same(got, expected, gradients, tolerance=1e-7):
    """The solution of `known_results`, and the sum of its gradients over the cotangents."""
    np.testing.assert_array_equal(got[0].status, expected.status)
    for name in OUTPUTS:
        np.testing.assert_allclose(
            getattr(got[0], name), getattr(expected, name), rtol=1e-8, atol=1e-8, err_msg=name
        )
    for name, gradient in gradients.items():
        size = 1 + np.max(np.abs(gradient))
        np.testing.assert_allclose(
            got[1][name] / size, gradient / size, atol=tolerance, err_msg=name
        )


def summed(results):
    return {name: gradient.sum(axis=1) for name, gradient in results.gradients.items()}


@pytest.mark.slow
def test_a_member_is_the_problem_itself():
    results = known_results(FEW)
    got = jax.jit(pull)(results.programs[2])
    expected = jax.tree.map(lambda v: v[2], results.solution)
    assert got[0].iterations == expected.iterations
    assert_same(got, expected, {name: value[2] for name, value in summed(results).items()})


@pytest.mark.slow
def test_shared_matrices_give_what_copies_give():
    """A and P by `in_axes` None; their gradients are the sums over the batch."""
    programs = [dict(program) for program in known_results(FEW).programs]
    for i, program in enumerate(programs):
        program |= {name: programs[0][name] for name in ("A", "P")}
        program |= {name: programs[0][name] * (1 + 1e-2 * i / BATCH) for name in ("b", "c")}
    copies = run(FEW, programs)
    np.testing.assert_array_equal(copies.solution.status, Status.SOLVED)
    data = stack(programs) | {name: programs[0][name] for name in ("A", "P")}
    axes = {name: None if name in ("A", "P") else 0 for name in data}

    @jax.jit
    def shared(data):
        def outputs(data):
            solution = jax.vmap(lambda data: jl.solve_cone(**data, cones=FEW.cones), (axes,))(data)
            return {name: getattr(solution, name) for name in OUTPUTS}, solution

        values, back, solution = jax.vjp(outputs, data, has_aux=True)
        repeat = {
            name: jnp.broadcast_to(COTANGENTS[name], value.shape) for name, value in values.items()
        }
        return solution, back(repeat)[0]

    gradients = summed(copies)
    gradients |= {name: gradients[name].sum(axis=0) for name in ("A", "P")}
    assert_same(shared(data), copies.solution, gradients)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["shard_map", pytest.param("sharded data", marks=pytest.mark.slow)])
def test_eight_devices_give_what_one_gives(way):
    """Values and gradients over simulated devices, two members each."""
    results = known_results(FEW)
    axis = (jax.sharding.AxisType.Auto,)
    mesh, spec = jax.make_mesh((DEVICES,), ("members",), axis_types=axis), PartitionSpec("members")
    data = jax.device_put(stack(results.programs), jax.NamedSharding(mesh, spec))
    mapped = jax.vmap(pull)
    if way == "shard_map":
        mapped = jax.shard_map(mapped, mesh=mesh, in_specs=(spec,), out_specs=spec)
    got = jax.jit(mapped)(data)
    assert len(got[0].x.sharding.device_set) == DEVICES
    assert_same(got, results.solution, summed(results))


@pytest.mark.slow
def test_scan_with_a_warm_start():
    """Each step starts from the one before: fewer iterations in all, the same path."""
    data = known_results(FEW).programs[0]

    @jax.jit
    def path(warm):
        zero = jax.eval_shape(lambda: jl.solve_cone(**data, cones=FEW.cones))
        zero = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), zero)
        failed = jnp.full((), Status.MAX_ITERATIONS, jnp.int32)

        def step(carry, t):
            solution = jl.solve_cone(**(data | {"b": data["b"] + t}), cones=FEW.cones, init=carry)
            following = replace(solution, status=jnp.where(warm, solution.status, failed))
            return following, (solution.x, solution.iterations, solution.status)

        return jax.lax.scan(step, replace(zero, status=failed), jnp.linspace(0, 1e-2, 8))[1]

    cold, warm = path(False), path(True)
    for _, _, status in (cold, warm):
        np.testing.assert_array_equal(status, Status.SOLVED)
    np.testing.assert_allclose(warm[0], cold[0], atol=1e-7)
    assert np.sum(warm[1]) < np.sum(cold[1])


@pytest.mark.slow
def test_empty_batch():
    empty = {name: array[:0] for name, array in stack(known_results(FEW).programs).items()}
    solution, gradient = jax.jit(jax.vmap(pull))(empty)
    chex.assert_shape(solution.x, (0, FEW.n))
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
