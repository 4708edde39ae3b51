"""Every problem ends in the right status, and what is returned with it proves it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers import Status
from tests.helpers.problems import random_qp

# A certificate's violation, with the objective normalized to -1, is at most the default tolerance.
CERTIFICATE = 1e-8
INF = np.inf

solve = jax.jit(jl.solve_qp, static_argnames="settings")


def arrays(**given):
    return {name: np.asarray(value, float) for name, value in given.items()}


def full(**given):
    """A problem of two variables in which every argument is there, absent rows being 0'x <= inf."""
    absent = arrays(
        Q=np.zeros((2, 2)), q=[0, 0], A=np.zeros((2, 2)), b=[0, 0], G=np.zeros((2, 2)),
        h=[INF, INF], lower=[-INF, -INF], upper=[INF, INF],
    )  # fmt: skip
    return absent | arrays(**given)


I2 = np.eye(2)
PARALLEL = [[1, 1], [2, 2]]

INFEASIBLE = {
    "inequalities": arrays(Q=I2, q=[1, 1], G=[[1, 0], [-1, 0]], h=[-1, -1]),
    "zero row of G": arrays(Q=I2, q=[1, 1], G=[[0, 0], [1, 0]], h=[-1, 1]),
    "equalities only": arrays(Q=I2, q=[1, 1], A=PARALLEL, b=[1, 3]),
    "equalities only, by little": arrays(Q=I2, q=[1, 1], A=PARALLEL, b=[1, 2.001]),
    "equalities only, singular Q": arrays(Q=np.diag([1, 0]), q=[1, 1], A=PARALLEL, b=[1, -2]),
    "equalities only, zero row": arrays(Q=I2, q=[1, 1], A=[[1, 1], [0, 0]], b=[1, 1]),
    "linear, equalities": arrays(q=[1, 1], A=PARALLEL, b=[1, 3], lower=[0, 0]),
    "linear, sign": arrays(q=[1, 1], A=[[1, 1], [1, -1]], b=[-1, 0], lower=[0, 0]),
    "crossing bounds": arrays(Q=[1, 1], q=[1, 1], lower=[0, 2], upper=[1, 1]),
    "crossing bounds, by little": arrays(Q=[1, 1], q=[1, 1], lower=[0, 1.001], upper=[1, 1]),
    "crossing and coinciding": arrays(Q=[1, 1], q=[1, 1], lower=[1, 2], upper=[1, 1]),
    "bound and row": full(Q=I2, G=[[1, 1], [0, 0]], h=[-1, INF], lower=[0, 0]),
    "bound and equality": full(Q=I2, A=[[1, 1], [0, 0]], b=[3, 0], upper=[1, 1]),
    "fixed and equality": full(Q=I2, A=[[1, 0], [0, 0]], b=[2, 0], lower=[1, 0], upper=[1, 5]),
    "crossing": full(Q=I2, lower=[0, 2], upper=[1, 1]),
    "zero row of A": full(Q=I2, A=[[1, 0], [0, 0]], b=[1, -2], lower=[0, 0]),
}
UNBOUNDED = {
    "rows": arrays(Q=np.diag([1, 0]), q=[1, -1], G=[[1, 0], [1, -1]], h=[1, 1]),
    "no Q": arrays(Q=np.zeros((2, 2)), q=[-1, -1], G=[[1, -1], [-1, 1]], h=[1, 1]),
    "unconstrained": arrays(Q=np.diag([1, 0]), q=[0, -1]),
    "unconstrained, oblique": arrays(Q=[[1, 1], [1, 1]], q=[1, -1]),
    "unconstrained, linear": arrays(Q=np.zeros((2, 2)), q=[1, 2]),
    "equalities only": arrays(Q=np.diag([1, 0]), q=[1, 1], A=[[1, 0], [0, 0]], b=[1, 0]),
    "linear": arrays(q=[-1, -1], A=[[1, -1], [2, -2]], b=[1, 2], lower=[0, 0]),
    "linear, one variable free": arrays(q=[0, 1], A=[[1, 0], [0, 0]], b=[1, 0], lower=[0, -INF]),
    "absent bound": arrays(Q=[0, 1], q=[-1, 0], lower=[0, 0], upper=[INF, 1]),
    "absent rows": full(Q=np.diag([1, 0]), q=[1, 1]),
    "fixed variable": full(q=[1, -1], lower=[1, 0], upper=[1, INF]),
    "between rows": full(Q=[[1, -1], [-1, 1]], q=[-1, -1], G=[[1, -1], [-1, 1]], h=[1, 1]),
}
SOLVED = {
    "redundant rows": (arrays(Q=I2, q=[1, 1], A=PARALLEL, b=[1, 2]), [0.5, 0.5]),
    "zero row of A": (arrays(Q=I2, q=[1, 1], A=[[1, 1], [0, 0]], b=[1, 0]), [0.5, 0.5]),
    "one inequality twice": (arrays(Q=I2, q=[1, 1], G=[[-1, 0]] * 2, h=[-1, -1]), [1, -1]),
    "zero row of G": (arrays(Q=I2, q=[1, 1], G=[[-1, 0], [0, 0]], h=[-1, 0]), [1, -1]),
    "inequalities as an equality": (
        arrays(Q=I2, q=[1, 1], G=[[1, 0], [-1, 0]], h=[1, -1]), [1, -1]),
    "redundant everything": (
        full(Q=I2, q=[1, 1], A=PARALLEL, b=[1, 2], G=[[1, 0]] * 2, h=[0.2, 0.2],
             lower=[-1, -1], upper=[0.2, 2]), [0.2, 0.8]),
    "nothing in the objective": (
        full(A=[[1, 1], [1, -1]], b=[1, 0], lower=[0, 0], upper=[1, 1]), [0.5, 0.5]),
    "one point": (full(Q=I2, q=[1, 1], lower=[2, 3], upper=[2, 3]), [2, 3]),
    "singular Q in the range of q": (arrays(Q=[[1, 1], [1, 1]], q=[1, 1]), None),
    "no objective at all": (arrays(Q=np.zeros((2, 2)), q=[0, 0]), None),
}  # fmt: skip


def table(problems):
    return pytest.mark.parametrize("problem", problems.values(), ids=problems)


def product(duals, sides):
    """The inner product in which an absent row counts nothing; its multiplier must be zero."""
    duals, sides = np.asarray(duals), np.broadcast_to(sides, np.shape(duals))
    absent = np.isinf(sides)
    assert np.all(duals[absent] == 0)
    return duals[~absent] @ sides[~absent]


def check_infeasible(problem, solution):
    """A'y + G'z - z_lower + z_upper = 0 with a dual objective, -(b'y + h'z + ...), of one."""
    combination, value = np.zeros(len(problem["q"])), 0.0
    if "A" in problem:
        combination += problem["A"].T @ solution.y
        value += product(solution.y, problem["b"])
    for duals, matrix, sides in (
        (solution.z, problem.get("G"), problem.get("h")),
        (solution.z_lower, -np.eye(len(problem["q"])), -problem.get("lower", np.zeros(0))),
        (solution.z_upper, np.eye(len(problem["q"])), problem.get("upper", np.zeros(0))),
    ):
        if np.size(duals):
            assert np.all(np.asarray(duals) >= 0)
            combination += matrix.T @ np.asarray(duals)
            value += product(duals, sides)
    np.testing.assert_allclose(combination, 0, atol=CERTIFICATE)
    np.testing.assert_allclose(value, -1, rtol=1e-12)
    assert solution.objective == solution.dual_objective == INF


def check_unbounded(problem, solution):
    """Qx = 0, Ax = 0, Gx <= 0, x in the recession cone of the bounds, q'x = -1."""
    x = np.asarray(solution.x)
    Q = problem.get("Q", np.zeros_like(x))
    np.testing.assert_allclose(Q * x if Q.ndim == 1 else Q @ x, 0, atol=CERTIFICATE)
    if "A" in problem:
        rounding = np.finfo(float).eps * np.max(np.abs(problem["A"]) @ np.abs(x))
        np.testing.assert_allclose(problem["A"] @ x, 0, atol=CERTIFICATE + 4 * rounding)
    if "G" in problem:
        assert np.all((problem["G"] @ x)[np.isfinite(problem["h"])] <= CERTIFICATE)
    assert np.all(x[np.isfinite(problem.get("lower", np.full_like(x, -INF)))] >= -CERTIFICATE)
    assert np.all(x[np.isfinite(problem.get("upper", np.full_like(x, INF)))] <= CERTIFICATE)
    np.testing.assert_allclose(problem["q"] @ x, -1, rtol=1e-12)
    assert solution.objective == solution.dual_objective == -INF


def check_no_nan(solution):
    for leaf in jax.tree.leaves(solution):
        assert not np.any(np.isnan(leaf))


def call(problem, **options):
    return solve(problem.get("Q"), **{k: v for k, v in problem.items() if k != "Q"}, **options)


@table(INFEASIBLE)
def test_infeasible(problem):
    solution = call(problem)
    assert solution.status == Status.PRIMAL_INFEASIBLE
    check_infeasible(problem, solution)
    check_no_nan(solution)


@table(UNBOUNDED)
def test_unbounded(problem):
    solution = call(problem)
    assert solution.status == Status.DUAL_INFEASIBLE
    check_unbounded(problem, solution)
    check_no_nan(solution)


@pytest.mark.parametrize(("problem", "x"), SOLVED.values(), ids=SOLVED)
def test_degenerate_but_solved(problem, x):
    solution = call(problem)
    assert solution.status == Status.SOLVED
    check_no_nan(solution)
    if x is not None:
        np.testing.assert_allclose(solution.x, x, atol=1e-7)
    np.testing.assert_allclose(solution.objective, solution.dual_objective, atol=1e-8)


def test_neither_side_feasible():
    """Both certificates exist: either status is right, and its certificate must hold."""
    problem = arrays(q=[-1, -1], A=[[1, -1], [1, -1]], b=[1, 2], lower=[0, 0])
    solution = call(problem)
    if solution.status == Status.PRIMAL_INFEASIBLE:
        check_infeasible(problem, solution)
    else:
        assert solution.status == Status.DUAL_INFEASIBLE
        check_unbounded(problem, solution)


@pytest.mark.parametrize(
    ("q", "bounds", "x"),
    [
        ([1.0], {}, -1),
        ([1.0], {"lower": [0.0]}, 0),
        ([-3.0], {"lower": [0.0], "upper": [2.0]}, 2),
    ],
)
def test_one_variable(q, bounds, x):
    solution = solve(np.ones((1, 1)), np.array(q), **arrays(**bounds))
    assert solution.status == Status.SOLVED
    chex.assert_shape(solution.x, (1,))
    np.testing.assert_allclose(solution.x, x, atol=1e-8)


def test_iteration_limit():
    problem = SOLVED["redundant everything"][0]
    solution = call(problem, settings=jl.Settings(max_iterations=2))
    assert solution.status == Status.MAX_ITERATIONS
    assert solution.iterations == 2
    check_no_nan(solution)
    assert np.all(np.isfinite(solution.x))


VALID = full(
    Q=I2, q=[1, 1], A=[[1, 1], [0, 0]], b=[1, 0], G=I2, h=[1, 1], lower=[0, 0], upper=[2, 2]
)


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize("value", [np.nan, INF, -INF])
def test_data_that_are_not_finite(name, value):
    absent = (name in ("h", "upper") and value == INF) or (name == "lower" and value == -INF)
    changed = VALID[name].copy()
    changed[(0,) * changed.ndim] = value
    solution = call(VALID | {name: changed})
    assert solution.status == (Status.SOLVED if absent else Status.INVALID_INPUT)
    check_no_nan(solution)
    if not absent:
        assert solution.iterations == 0


BASE = random_qp(np.random.default_rng(5), 5, 4, 2, active=2)
BROKEN = BASE.data | {"G": np.concatenate([BASE.data["G"][:3], -BASE.data["G"][:1]]),
                      "h": np.append(BASE.data["h"][:3], -BASE.data["h"][0] - 1)}  # fmt: skip
FREE = np.linalg.svd(BASE.data["A"])[2][-1]
ENDLESS = BASE.data | {"Q": np.zeros((5, 5)), "q": -FREE,
                       "G": BASE.data["G"] - np.outer(BASE.data["G"] @ FREE, FREE)}  # fmt: skip
THREE = {
    Status.SOLVED: BASE.data,
    Status.PRIMAL_INFEASIBLE: BROKEN,
    Status.DUAL_INFEASIBLE: ENDLESS,
}


def rescaled(data, equality, inequality, objective):
    """Equal problems: rows of (A, b) and (G, h) and the objective times positive factors."""
    equality, inequality = np.broadcast_to(equality, 2), np.broadcast_to(inequality, 4)
    return {
        "Q": objective * data["Q"],
        "q": objective * data["q"],
        "A": equality[:, None] * data["A"],
        "b": equality * data["b"],
        "G": inequality[:, None] * data["G"],
        "h": inequality * data["h"],
    }


def spread(size):
    return 10.0 ** np.linspace(-4, 4, size)


SCALES = {
    "none": (1, 1, 1),
    "A small": (1e-4, 1, 1),
    "A large": (1e4, 1, 1),
    "A spread": (spread(2), 1, 1),
    "G small": (1, 1e-4, 1),
    "G large": (1, 1e4, 1),
    "G spread": (1, spread(4), 1),
    "objective small": (1, 1, 1e-4),
    "objective large": (1, 1, 1e4),
    "objective very small": (1, 1, 1e-7),
    "objective very large": (1, 1, 1e10),
    "all": (spread(2), spread(4)[::-1], 1e-4),
    "all, other way": (spread(2)[::-1], spread(4), 1e4),
}


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("status", THREE, ids=lambda status: status.name)
def test_scaling_changes_neither_status_nor_solution(status, scale):
    data = rescaled(THREE[status], *scale)
    solution = call(data)
    assert solution.status == status
    if status == Status.PRIMAL_INFEASIBLE:
        check_infeasible(data, solution)
    elif status == Status.DUAL_INFEASIBLE:
        check_unbounded(data, solution)
    else:
        known, (equality, inequality, objective) = BASE.solution, scale
        np.testing.assert_allclose(solution.x, known["x"], atol=1e-6)
        np.testing.assert_allclose(solution.y * equality / objective, known["y"], atol=1e-6)
        np.testing.assert_allclose(solution.z * inequality / objective, known["z"], atol=1e-6)
        np.testing.assert_allclose(solution.objective / objective, known["objective"], rtol=1e-8)


@pytest.mark.parametrize("units", [1e-8, 1.0, 1e4, 1e8, 1e12])
def test_the_objectives_unit_without_inequalities(units, rng):
    """Nothing is balanced against a barrier there, and some variables have no curvature."""
    n, p = 40, 25
    Q, A = (
        np.where(np.arange(n) < 20, 1.0, 0),
        rng.normal(size=(p, n)) * 10 ** rng.uniform(-2, 2, n),
    )
    x, y = rng.normal(size=n), rng.normal(size=p)
    solution = call(dict(Q=units * Q, q=-units * (Q * x + A.T @ y), A=A, b=A @ x))
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(solution.x, x, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(solution.y / units, y, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("status", THREE, ids=lambda status: status.name)
def test_badly_scaled_data(status, seed):
    """Factors between 1e-8 and 1e8: no status that contradicts the problem's, and no NaN."""
    rng = np.random.default_rng(seed)
    scale = (10 ** rng.uniform(-8, 8, 2), 10 ** rng.uniform(-8, 8, 4), 10 ** rng.uniform(-8, 8))
    data = rescaled(THREE[status], *scale)
    solution = call(data)
    gave_up = (Status.ALMOST_SOLVED, Status.MAX_ITERATIONS, Status.NUMERICAL_ERROR)
    assert solution.status in (status, *gave_up)
    check_no_nan(solution)


@pytest.mark.parametrize("status", Status)
def test_messages(status):
    assert len(status.message) > 20
    assert "\n" not in status.message
    assert len({other.message for other in Status}) == len(Status)


def test_codes_are_fixed():
    names = "SOLVED ALMOST_SOLVED MAX_ITERATIONS PRIMAL_INFEASIBLE DUAL_INFEASIBLE NUMERICAL_ERROR"
    assert [status.name for status in Status] == [*names.split(), "INVALID_INPUT"]
    assert [int(status) for status in Status] == list(range(7))
    chex.assert_type(call(VALID).status, jnp.int32)


def with_statuses(statuses):
    """A record of which only the status means something."""
    return jl.QPSolution(**dict.fromkeys(jl.QPSolution.__dataclass_fields__, np.array(statuses)))


class TestRaiseIfFailed:
    @pytest.mark.parametrize("statuses", [0, 1, [], [0, 1, 0], [[0, 1], [1, 0]]])
    def test_silent_where_all_are_solved(self, statuses):
        assert jl.raise_if_failed(with_statuses(statuses)) is None

    @pytest.mark.parametrize("status", list(Status)[2:])
    def test_one_problem(self, status):
        with pytest.raises(jl.SolverError) as info:
            jl.raise_if_failed(with_statuses(int(status)))
        assert str(info.value) == f"The problem was not solved. {status.name}: {status.message}"
        assert info.value.statuses == status

    def test_members_are_named(self):
        with pytest.raises(jl.SolverError) as info:
            jl.raise_if_failed(with_statuses([0, 3, 1, 6]))
        message = str(info.value)
        assert message.startswith("2 of 4 problems were not solved.")
        assert f"member [1]: PRIMAL_INFEASIBLE: {Status(3).message}" in message
        assert f"member [3]: INVALID_INPUT: {Status(6).message}" in message
        assert "[0]" not in message
        assert "[2]" not in message
        np.testing.assert_array_equal(info.value.statuses, [0, 3, 1, 6])

    def test_two_batch_dimensions(self):
        with pytest.raises(jl.SolverError, match=r"member \[1, 0\]: MAX_ITERATIONS"):
            jl.raise_if_failed(with_statuses([[0, 0], [2, 0]]))

    def test_many_members_are_counted(self):
        with pytest.raises(jl.SolverError, match=r"100 of 100 .*member \[7\].*and 92 more$"):
            jl.raise_if_failed(with_statuses([5] * 100))

    def test_under_jit(self):
        with pytest.raises(TypeError, match=r"outside jax\.jit"):
            jax.jit(lambda data: jl.raise_if_failed(jl.solve_qp(data["Q"], data["q"])))(VALID)


@pytest.mark.slow
def test_neighbours_of_a_problem_that_once_jammed():
    """Bounds that a short affine step's boundary would have pinned, and all around it."""
    q = [0.824, -0.129, -0.238, -0.06, -1.309, -1.075, 1.357, -0.142, -0.014, -1.325]
    G = [[1.959, 1.293, 2.397, 1.584, 2.742, 1.551, 2.124, 1.799, 2.226, 1.393]]
    noise = np.random.default_rng(0).normal(size=(1000, 10))
    noise[0] = 0

    def solve(q):
        return jl.solve_qp(
            jnp.full(10, 0.1), q, G=np.array(G), h=np.array([5.72]), lower=0, upper=1
        )

    solution = jax.jit(jax.vmap(solve))(np.array(q) + 0.003 * noise)
    np.testing.assert_array_equal(solution.status, Status.SOLVED)
    assert np.max(solution.iterations) < 20


@pytest.mark.slow
def test_twenty_thousand_random_programs_do_not_cycle():
    rng, count, n, m, p = np.random.default_rng(1), 20_000, 8, 8, 2
    S = 0.3 * rng.normal(size=(count, n, n)) + np.eye(n)
    G, A = rng.normal(size=(count, m, n)), rng.normal(size=(count, p, n))
    q, x = 3 * rng.normal(size=(count, n)), 0.3 * rng.normal(size=(count, n, 1))
    h, b = (G @ x)[..., 0] + 0.01 * rng.uniform(size=(count, m)), (A @ x)[..., 0]
    solution = jax.jit(jax.vmap(jl.solve_qp))(S.swapaxes(1, 2) @ S, q, A, b, G, h)
    np.testing.assert_array_equal(solution.status, Status.SOLVED)
    assert np.max(solution.iterations) < 40
