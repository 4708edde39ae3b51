"""Solutions of quadratic programs: optimality conditions, known solutions, another solver."""

import chex
import numpy as np
import pytest

from jaxopt_layers import Status
from tests.helpers import compiled
from tests.helpers.oracles import clarabel_qp, kkt_residual
from tests.helpers.problems import CASES, OUTPUTS, random_qp, stack
from tests.helpers.tolerances import F64

BATCH = 200
# n, m, p, and what else random_qp is told.
SIZES = {
    "small": (3, 2, 1, {}),
    "mixed": (8, 6, 2, {"bounds": True}),
    "box": (20, 0, 4, {"bounds": True, "quadratic": "diagonal"}),
    "tall": (5, 20, 0, {"active": 3}),
    "linear": (6, 9, 2, {"active": 4, "quadratic": None}),
    "large": (30, 30, 8, {}),
}
SLOW_SIZES = ("small", "box", "tall", "linear", "large")


def error(got, want):
    """The largest difference, relative to one plus the largest entry."""
    return np.max(np.abs(got - want), initial=0) / (1 + np.max(np.abs(want), initial=0))


def assert_near(got, want, tolerance):
    """Equal relative to one plus the largest entry; infinite where the other is."""
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    scale = 1 + np.max(np.abs(want), initial=0, where=np.isfinite(want))
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", CASES)
def test_named_problem(name):
    """Each problem of the table: its optimality conditions, and Clarabel's solution."""
    case = CASES[name]
    solution = compiled.solve(case.data)
    assert solution.status == Status.SOLVED
    assert 1 <= solution.iterations <= 25
    residuals = (solution.primal_residual, solution.dual_residual, solution.gap)
    assert all(0 <= residual <= F64.kkt for residual in residuals)
    found = compiled.named(solution)
    assert kkt_residual(case.data, found) <= F64.kkt
    want = clarabel_qp(**case.data)
    for output in case.outputs:
        unit = case.units.get(output, 1)
        assert_near(found[output] / unit, want[output] / unit, F64.value)


@pytest.mark.parametrize("name", CASES)
def test_record(name):
    """Every output has the shape and dtype that its documentation says."""
    data = CASES[name].data
    solution = compiled.solve(data)
    for output, shape in compiled.shapes(data).items():
        chex.assert_shape(getattr(solution, output), shape)
        chex.assert_type(getattr(solution, output), np.float64)
    for output in ("primal_residual", "dual_residual", "gap"):
        chex.assert_shape(getattr(solution, output), ())
        chex.assert_type(getattr(solution, output), np.float64)
    for output in ("status", "iterations"):
        chex.assert_shape(getattr(solution, output), ())
        chex.assert_type(getattr(solution, output), np.int32)


@pytest.mark.parametrize(
    "size",
    [pytest.param(size, marks=pytest.mark.slow if size in SLOW_SIZES else ()) for size in SIZES],
)
def test_known_solutions(size, rng):
    """Random problems made around their solutions, one batch a size, give them back.

    Most are as exact as their residuals; an ill-conditioned few lose two digits more.
    """
    n, m, p, options = SIZES[size]
    problems = [random_qp(rng, n, m, p, **options) for _ in range(BATCH)]
    batch = stack(problems)
    solution = compiled.solve_batch(batch.data)
    np.testing.assert_array_equal(solution.status, Status.SOLVED)
    found = compiled.named(solution)
    errors = []
    for i, problem in enumerate(problems):
        member = {output: found[output][i] for output in OUTPUTS}
        assert kkt_residual(problem.data, member) <= F64.kkt
        errors.append([error(member[output], problem.solution[output]) for output in OUTPUTS])
    worst = np.max(errors, axis=1)
    assert np.max(worst) <= F64.value
    assert np.quantile(worst, 0.9) <= F64.value / 10


def test_absent_rows_do_nothing():
    """Where a side is infinite the slack is, and the multiplier is zero."""
    data = CASES["infinite"].data
    solution = compiled.solve(data)
    for side, multiplier in (("h", "z"), ("lower", "z_lower"), ("upper", "z_upper")):
        absent = ~np.isfinite(data[side])
        assert absent.any()
        np.testing.assert_array_equal(getattr(solution, multiplier)[absent], 0)
    np.testing.assert_array_equal(np.isinf(solution.s), np.isinf(data["h"]))


def test_coinciding_bounds_are_met_exactly():
    """A variable between equal bounds is where they are, and one of its multipliers is zero."""
    data = CASES["coinciding"].data
    fixed = data["lower"] == data["upper"]
    solution = compiled.solve(data)
    assert fixed.sum() == 2
    np.testing.assert_array_equal(solution.x[fixed], data["lower"][fixed])
    np.testing.assert_array_equal(np.minimum(solution.z_lower, solution.z_upper)[fixed], 0)
    np.testing.assert_allclose(np.maximum(solution.z_lower, solution.z_upper)[fixed], 1, rtol=1e-7)


@pytest.mark.slow
def test_bounds_equal_rows():
    """Bounds written as rows of G have the same solution and multipliers."""
    data = CASES["bounds"].data
    identity = np.eye(6)
    as_rows = {
        "Q": data["Q"],
        "q": data["q"],
        "G": np.concatenate([-identity, identity]),
        "h": np.concatenate([-data["lower"], data["upper"]]),
    }
    bounds, rows = compiled.solve(data), compiled.solve(as_rows)
    assert_near(bounds.x, rows.x, F64.value)
    assert_near(np.concatenate([bounds.z_lower, bounds.z_upper]), rows.z, F64.value)
