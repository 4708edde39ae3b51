"""Programs as users have them: badly scaled, tiny, empty, redundant, in single precision."""

from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers import Status
from tests.helpers import cone_compiled as compiled
from tests.helpers import cone_geometry as geometry
from tests.helpers.cone_gradients import cotangents
from tests.helpers.cone_oracles import infeasibility_violation, kkt_residual
from tests.helpers.cone_problems import (
    CASES,
    OUTPUTS,
    known_program,
    quadratic_product,
    stack,
)
from tests.helpers.cone_results import BATCH, every_case, known_results, products, run

# --- scaling ---------------------------------------------------------------------------------


def row_factors(rng, cones, low=-4.0, high=4.0):
    """A factor for each cone, and for each row where its rows are cones of their own."""
    factors = np.ones(cones.size)
    for block in geometry.blocks(cones):
        size = block.size if block.kind in ("zero", "nonnegative") else 1
        factors[block.rows] = 10.0 ** rng.uniform(low, high, size)
    return factors


@cache
def scaled_results(case):
    """Rows times 1e-4 to 1e4, the objective too: the known solutions in their own units."""
    rng, results = np.random.default_rng(31), known_results(case)
    programs, known, units = [], [], []
    for i, program in enumerate(results.programs):
        rows = row_factors(rng, case.cones)
        value = 10.0 ** rng.uniform(-4, 4) if i % 2 else 1.0
        scaled = {"A": rows[:, None] * program["A"], "b": rows * program["b"]}
        scaled |= {name: value * program[name] for name in ("c", "P") if name in program}
        programs.append(scaled)
        units.append({"x": 1.0, "y": value / rows, "s": rows, "objective": value})
        known.append(results.known[i])
    return run(case, programs, known), units


@every_case
def test_scaling_changes_neither_status_nor_solution(case):
    results, units = scaled_results(case)
    np.testing.assert_array_equal(results.solution.status, Status.SOLVED)
    for i, known in enumerate(results.known):
        member = compiled.member(results.solution, i)
        for name, unit in units[i].items():
            size = 1 + np.max(np.abs(known[name]))
            error = np.max(np.abs(member[name] / unit - known[name])) / size
            assert error < 1e-6, (i, name)


@every_case
def test_gradients_scale_with_the_data(case):
    """d objective / dc is x, d objective / db is -y, in whatever units."""
    results, units = scaled_results(case)
    stacked = cotangents(case)
    row = 3 * 2  # the first that asks for the objective
    weight = stacked["objective"][row]
    for i, known in enumerate(results.known):
        got = results.gradients["c"][i, row] / weight
        np.testing.assert_allclose(got, known["x"], rtol=1e-5, atol=1e-6)
        got = results.gradients["b"][i, row] / weight / units[i]["y"]
        np.testing.assert_allclose(got, -known["y"], rtol=1e-5, atol=1e-6)


# --- rows that say nothing, or the same twice ------------------------------------------------


@products
def test_rows_of_zeros(case):
    """A cone whose rows of A are zero, with b inside it, changes nothing: its y is zero."""
    programs, known = [], []
    for i, (program, solution) in enumerate(
        zip(known_results(case).programs, known_results(case).known, strict=True)
    ):
        parts = [b for b in geometry.blocks(case.cones) if b.kind != "zero"]
        block = parts[i % len(parts)]
        rng = np.random.default_rng(i)
        A, b = program["A"].copy(), program["b"].copy()
        A[block.rows] = 0
        b[block.rows] = geometry.interior_point(rng, block.kind, block.size, block.parameter)
        y = solution["y"].copy()
        y[block.rows] = 0
        c = -quadratic_product(program["P"], solution["x"]) - A.T @ y
        programs.append(program | {"A": A, "b": b, "c": c})
        known.append(solution["x"])
    results = run(case, programs)
    np.testing.assert_array_equal(results.solution.status, Status.SOLVED)
    np.testing.assert_allclose(results.solution.x, known, atol=1e-7)
    for gradient in results.gradients.values():
        assert np.all(np.isfinite(gradient))


@every_case
def test_an_equality_that_says_nothing(case):
    """An equality 0'x = 0: its multiplier is free, and the rest as if it weren't there."""
    programs, known = [], []
    for program, solution in zip(
        known_results(case).programs, known_results(case).known, strict=True
    ):
        A, b = program["A"].copy(), program["b"].copy()
        A[0], b[0] = 0, 0
        y = solution["y"].copy()
        y[0] = 0
        c = -quadratic_product(program.get("P"), solution["x"]) - A.T @ y
        programs.append(program | {"A": A, "b": b, "c": c})
        known.append(solution)
    results = run(case, programs)
    np.testing.assert_array_equal(results.solution.status, Status.SOLVED)
    for i, solution in enumerate(known):
        assert kkt_residual(programs[i], case.cones, compiled.member(results.solution, i)) < 1e-8
        if case.quadratic is not None:
            np.testing.assert_allclose(results.solution.x[i], solution["x"], atol=1e-6)
    for gradient in results.gradients.values():
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("case", [CASES["nonnegative"], CASES["few"]], ids=lambda case: case.name)
def test_a_row_that_says_the_same_twice(case):
    """The second inequality is twice the first, which is active: their multipliers aren't unique."""
    programs, known = [], known_results(case).known
    for program, solution in zip(known_results(case).programs, known, strict=True):
        A, b, y = program["A"].copy(), program["b"].copy(), solution["y"]
        A[2], b[2] = 2 * A[1], 2 * b[1]
        c = -quadratic_product(program["P"], solution["x"]) - A.T @ y
        programs.append(program | {"A": A, "b": b, "c": c})
    results = run(case, programs)
    np.testing.assert_array_equal(results.solution.status, Status.SOLVED)
    for i, solution in enumerate(known):
        assert kkt_residual(programs[i], case.cones, compiled.member(results.solution, i)) < 1e-8
        np.testing.assert_allclose(results.solution.x[i], solution["x"], atol=1e-7)
        both = results.solution.y[i, 1] + 2 * results.solution.y[i, 2]
        np.testing.assert_allclose(both, solution["y"][1], atol=1e-6)
    for gradient in results.gradients.values():
        assert np.all(np.isfinite(gradient))


@every_case
def test_an_equality_that_contradicts(case):
    """0'x = 1 is infeasible, whatever stands around it; the dual is feasible as it was."""
    programs, known = [], known_results(case).known
    for program, solution in zip(known_results(case).programs, known, strict=True):
        A, b = program["A"].copy(), program["b"].copy()
        A[0], b[0] = 0, 1
        c = program["c"] + program["A"][0] * solution["y"][0]
        programs.append(program | {"A": A, "b": b, "c": c})
    results = run(case, programs)
    np.testing.assert_array_equal(results.solution.status, Status.PRIMAL_INFEASIBLE)
    for program, y in zip(programs, results.solution.y, strict=True):
        assert infeasibility_violation(program, case.cones, np.asarray(y)) < 1e-7


@pytest.mark.parametrize("case", [CASES["nonnegative"], CASES["few"]], ids=lambda case: case.name)
def test_inequalities_that_contradict(case):
    """a'x <= b and a'x >= b + 1/2: the certificate is zero on the rows of every other cone."""
    programs = []
    for program in known_results(case).programs:
        A, b = program["A"].copy(), program["b"].copy()
        A[2], b[2] = -A[1], -b[1] - 0.5
        programs.append(program | {"A": A, "b": b})
    results = run(case, programs)
    np.testing.assert_array_equal(results.solution.status, Status.PRIMAL_INFEASIBLE)
    for program, y in zip(programs, results.solution.y, strict=True):
        assert infeasibility_violation(program, case.cones, np.asarray(y)) < 1e-7


@products
def test_a_variable_that_falls_for_ever(case):
    """One in no constraint and without curvature: the ray is zero on the rows of every cone."""
    programs = []
    for program in known_results(case).programs:
        A, P, c = (program[name].copy() for name in ("A", "P", "c"))
        A[:, 0], P[0], P[:, 0], c[0] = 0, 0, 0, 1
        b = program["b"] - program["A"][:, 0] * known_results(case).known[len(programs)]["x"][0]
        programs.append(program | {"A": A, "P": P, "c": c, "b": b})
    results = run(case, programs)
    np.testing.assert_array_equal(results.solution.status, Status.DUAL_INFEASIBLE)


# --- small and empty -------------------------------------------------------------------------


@pytest.mark.parametrize("quadratic", [np.eye(2), np.ones(2)], ids=["dense", "diagonal"])
def test_no_rows_at_all(quadratic):
    """m = 0: minimize 1/2 x'Px + c'x, with its gradient."""
    c = np.array([1.0, -2.0])
    none, cones = np.zeros((0, 2)), jl.Cones()

    def solve(c, P):
        return jl.solve_cone(none, np.zeros(0), c, cones, P=P)

    solution = jax.jit(solve)(c, quadratic)
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(solution.x, -c, atol=1e-9)
    np.testing.assert_allclose(solution.objective, -2.5, rtol=1e-9)
    chex.assert_shape((solution.y, solution.s), (0,))
    jacobian = jax.jit(jax.jacrev(lambda c: solve(c, quadratic).x))(c)
    np.testing.assert_allclose(jacobian, -np.eye(2), atol=1e-9)


def test_no_rows_and_a_linear_objective_is_unbounded():
    none, c = np.zeros((0, 2)), np.array([3.0, 4.0])
    solution = jl.solve_cone(none, np.zeros(0), c, jl.Cones())
    assert solution.status == Status.DUAL_INFEASIBLE
    np.testing.assert_allclose(c @ solution.x, -1, atol=1e-8)
    assert solution.objective == -np.inf


def test_no_rows_and_no_objective():
    solution = jl.solve_cone(np.zeros((0, 2)), np.zeros(0), np.zeros(2), jl.Cones())
    assert solution.status == Status.SOLVED
    chex.assert_tree_all_finite(solution.x)
    assert solution.objective == 0


def test_equalities_alone():
    """The projection on a hyperplane, and its Jacobian."""
    A, b = np.array([[1.0, 2.0]]), np.array([5.0])

    def project(point):
        return jl.solve_cone(A, b, -point, jl.Cones(zero=1), P=np.ones(2)).x

    point = np.array([1.0, 0.0])
    np.testing.assert_allclose(jax.jit(project)(point), [1.8, 1.6], atol=1e-9)
    expected = np.eye(2) - A.T @ A / 5
    np.testing.assert_allclose(jax.jit(jax.jacrev(project))(point), expected, atol=1e-9)


ONE = {
    "t >= 0 as a second-order cone": jl.Cones(second_order=(1,)),
    "t >= 0 as a matrix": jl.Cones(psd=(1,)),
    "t >= 0": jl.Cones(nonnegative=1),
}


@pytest.mark.parametrize("cones", ONE.values(), ids=ONE)
def test_one_variable_and_one_row(cones):
    """Minimize x subject to x >= b: x = b, y = 1, in the smallest cone of each kind."""

    def solve(b):
        solution = jl.solve_cone(-jnp.ones((1, 1)), -b, jnp.ones(1), cones)
        return solution.x[0], solution

    (slope, solution) = jax.jit(jax.grad(solve, has_aux=True))(jnp.array([3.0]))
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(solution.x, [3], atol=1e-9)
    np.testing.assert_allclose(solution.y, [1], atol=1e-9)
    np.testing.assert_allclose(slope, [1], atol=1e-8)


ONE_VARIABLE = {
    # log 5 is the largest x with (x, 1, 5) in the cone.
    "exponential": (
        jl.Cones(exponential=1), [[-1], [0], [0]], [0, 1, 5], -1, np.log(5),
        [-1, np.log(5) - 1, 1 / 5],
    ),
    # 2 sqrt 3 is the largest x with (4, 3, x) in the cone of exponent 1/2.
    "power": (
        jl.Cones(power=(0.5,)), [[0], [0], [-1]], [4, 3, 0], -1, np.sqrt(12),
        [np.sqrt(3) / 4, 1 / np.sqrt(3), -1],
    ),
    # In the dual cone (u / a)^a (v / b)^b >= |w|, twice that.
    "dual power": (
        jl.Cones(power=(-0.5,)), [[0], [0], [-1]], [4, 3, 0], -1, 2 * np.sqrt(12),
        [np.sqrt(3) / 2, 2 / np.sqrt(3), -1],
    ),
    # -u exp(v / u) <= e w with u = -1: w >= exp(-v - 1).
    "dual exponential": (
        jl.Cones(dual_exponential=1), [[0], [0], [-1]], [-1, 2, 0], 1, np.exp(-3),
        [-3 * np.exp(-3), -np.exp(-3), -1],
    ),
    "second-order": (
        jl.Cones(second_order=(3,)), [[-1], [0], [0]], [0, 3, 4], 1, 5, [-1, 3 / 5, 4 / 5],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "exponential" else pytest.mark.slow)
        for name in ONE_VARIABLE
    ],
)
def test_one_variable(name):
    """Closed forms: the optimum and its derivative in b."""
    cones, A, b, c, optimum, slope = ONE_VARIABLE[name]
    A, b, c = np.array(A, float), np.array(b, float), np.array([c], float)

    def solve(b):
        solution = jl.solve_cone(A, b, c, cones)
        return solution.x[0], solution

    gradient, solution = jax.jit(jax.grad(solve, has_aux=True))(b)
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(solution.x, [optimum], rtol=1e-8)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-8)


# --- single precision and warm starts --------------------------------------------------------


@pytest.mark.slow
def test_single_precision_where_double_is_on():
    """Everything stays float32; results are right to its accuracy."""
    case = CASES["few"]
    data, known = known_program(np.random.default_rng(3), case)
    single = {name: np.float32(value) for name, value in data.items()}
    stacked = {name: np.float32(value[:2]) for name, value in cotangents(case).items()}
    solution, gradients = compiled.pull(single, stacked, case.cones)
    assert solution.status == Status.SOLVED
    for name in OUTPUTS:
        value = getattr(solution, name)
        assert value.dtype == np.float32, name
        np.testing.assert_allclose(value, known[name], rtol=1e-3, atol=1e-3, err_msg=name)
    for name, gradient in gradients.items():
        assert gradient.dtype == np.float32, name
        assert np.all(np.isfinite(gradient))


@pytest.mark.slow
def test_single_precision_for_every_cone():
    """Solved or almost, to three digits; a batch of them."""
    case = CASES["mixed"]
    rng = np.random.default_rng(3)
    programs, known = zip(*(known_program(rng, case) for _ in range(BATCH)), strict=True)
    single = {name: np.float32(value) for name, value in stack(programs).items()}
    solution = compiled.solve_batch(single, case.cones)
    assert solution.x.dtype == np.float32
    assert np.all(np.asarray(solution.status) <= Status.ALMOST_SOLVED)
    for i, expected in enumerate(known):
        np.testing.assert_allclose(solution.x[i], expected["x"], rtol=1e-2, atol=1e-2)


WARM = CASES["few"]


def warm_programs():
    return stack(known_results(WARM).programs)


@jax.jit
@jax.vmap
def solve_from(data, init):
    return jl.solve_cone(**data, cones=WARM.cones, init=init)


def without_start():
    """A start that has failed is the same as none."""
    one = jnp.zeros(BATCH)
    rows = jnp.full((BATCH, WARM.cones.size), jnp.nan)
    return jl.ConeSolution(
        x=jnp.zeros((BATCH, WARM.n)), y=rows, s=rows, objective=one, dual_objective=one,
        status=jnp.full(BATCH, Status.MAX_ITERATIONS, jnp.int32),
        iterations=jnp.zeros(BATCH, jnp.int32), primal_residual=one, dual_residual=one, gap=one,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e-2])
def test_a_warm_start_saves_iterations(size):
    data = warm_programs()
    start = solve_from(data, without_start())
    np.testing.assert_array_equal(start.status, Status.SOLVED)
    moved = data | {"b": data["b"] + size * np.random.default_rng(9).normal(size=data["b"].shape)}
    cold, warm = solve_from(moved, without_start()), solve_from(moved, start)
    np.testing.assert_array_equal(warm.status, Status.SOLVED)
    np.testing.assert_allclose(warm.x, cold.x, atol=1e-6)
    assert np.mean(warm.iterations) < np.mean(cold.iterations) - 1


@pytest.mark.slow
def test_a_wrong_start_does_no_harm():
    data = warm_programs()
    cold = solve_from(data, without_start())
    wild = replace(cold, x=1e3 * (1 + cold.x), y=-1e3 * cold.y, s=1e-9 * cold.s)
    solution = solve_from(data, wild)
    np.testing.assert_array_equal(solution.status, Status.SOLVED)
    np.testing.assert_allclose(solution.x, cold.x, atol=1e-6)
