"""Solutions, statuses and certificates of cone programs against Clarabel and the definitions."""

import numpy as np
import pytest

from jaxopt_layers import Status
from tests.helpers import cone_compiled as compiled
from tests.helpers.cone_geometry import cone_distance, dual_distance
from tests.helpers.cone_oracles import (
    clarabel_cone,
    infeasibility_violation,
    kkt_residual,
    unboundedness_violation,
)
from tests.helpers.cone_problems import CASES, stack
from tests.helpers.cone_results import (
    BATCH,
    FEASIBLE,
    INFEASIBLE,
    every_case,
    known_results,
    random_results,
)
from tests.helpers.tolerances import F64

OBJECTIVE, RESIDUAL, CERTIFICATE = 1e-7, 1e-8, 1e-7
EXPECTED = np.full(BATCH, Status.SOLVED)
EXPECTED[FEASIBLE:] = Status.PRIMAL_INFEASIBLE
EXPECTED[FEASIBLE + INFEASIBLE :] = Status.DUAL_INFEASIBLE
CLARABEL_STATUS = {
    Status.SOLVED: "Solved",
    Status.PRIMAL_INFEASIBLE: "PrimalInfeasible",
    Status.DUAL_INFEASIBLE: "DualInfeasible",
}


def check_feasible(case, results):
    """Optimality conditions, and the objective against Clarabel's."""
    for i in range(FEASIBLE):
        member = compiled.member(results.solution, i)
        assert kkt_residual(results.programs[i], case.cones, member) < RESIDUAL, i
        expected = clarabel_cone(results.programs[i], case.cones)
        np.testing.assert_allclose(
            member["objective"], expected["objective"], rtol=OBJECTIVE, atol=OBJECTIVE
        )


def check_certificates(case, results):
    solution = results.solution
    for i in range(FEASIBLE, BATCH):
        x, y, s = (np.asarray(v[i]) for v in (solution.x, solution.y, solution.s))
        if i < FEASIBLE + INFEASIBLE:
            violation = infeasibility_violation(results.programs[i], case.cones, y)
        else:
            violation = unboundedness_violation(results.programs[i], case.cones, x, s)
        assert violation < CERTIFICATE, i


@every_case
def test_statuses(case):
    np.testing.assert_array_equal(random_results(case).solution.status, EXPECTED)


@every_case
def test_solutions(case):
    check_feasible(case, random_results(case))


@every_case
def test_certificates_are_what_they_are_called(case):
    check_certificates(case, random_results(case))


@every_case
def test_objectives_of_failed_programs_are_infinite(case):
    solution = random_results(case).solution
    for value in (solution.objective, solution.dual_objective):
        assert np.all(np.isfinite(value[:FEASIBLE]))
        assert np.all(np.asarray(value[FEASIBLE : FEASIBLE + INFEASIBLE]) == np.inf)
        assert np.all(np.asarray(value[FEASIBLE + INFEASIBLE :]) == -np.inf)


@every_case
def test_the_records_residuals_are_the_users(case):
    """Computed again in NumPy, in the units of the data."""
    results = random_results(case)
    for i in range(FEASIBLE):
        data, solution = results.programs[i], results.solution
        x, s = np.asarray(solution.x[i]), np.asarray(solution.s[i])
        terms = data["A"] @ x, s, data["b"]
        size = 1 + max(np.max(np.abs(term)) for term in terms)
        primal = np.max(np.abs(terms[0] + terms[1] - terms[2])) / size
        rounding = 1e-13
        np.testing.assert_allclose(solution.primal_residual[i], primal, rtol=0.1, atol=rounding)
        assert solution.dual_residual[i] < RESIDUAL
        assert solution.gap[i] < RESIDUAL
        assert 0 < solution.iterations[i] < 40


@every_case
def test_known_solutions(case):
    """Strictly complementary ones, all of x, y and s to the last digits but a few."""
    results = known_results(case)
    np.testing.assert_array_equal(results.solution.status, Status.SOLVED)
    for i, known in enumerate(results.known):
        member = compiled.member(results.solution, i)
        for name, expected in known.items():
            np.testing.assert_allclose(member[name], expected, rtol=1e-7, atol=1e-7, err_msg=name)
        assert cone_distance(case.cones, member["s"]) < 1e-9
        assert dual_distance(case.cones, member["y"]) < 1e-9


@every_case
def test_clarabel_agrees_about_statuses(case):
    """The oracle says the same of what is infeasible or unbounded by construction."""
    for program, status in zip(random_results(case).programs, EXPECTED, strict=True):
        assert clarabel_cone(program, case.cones)["status"] == CLARABEL_STATUS[Status(status)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_two_hundred_programs(case):
    """200 feasible, 60 infeasible and 60 unbounded ones."""
    for seed in range(100, 120):
        results = random_results.__wrapped__(case, seed)
        np.testing.assert_array_equal(results.solution.status, EXPECTED, err_msg=str(seed))
        check_feasible(case, results)
        check_certificates(case, results)


@every_case
def test_units_of_the_solution_change_nothing(case):
    """With b and c in other units x and y are, too; statuses and iterations stay."""
    known = known_results(case)
    data = stack(known.programs)
    for units in (2.0**13, 2.0**27):
        scaled = data | {"b": units * data["b"], "c": units * data["c"]}
        solution = compiled.solve_batch(scaled, case.cones)
        np.testing.assert_array_equal(solution.status, Status.SOLVED)
        assert np.mean(solution.iterations) <= np.mean(known.solution.iterations) + 2
        np.testing.assert_allclose(
            solution.x / units, known.solution.x, rtol=F64.value, atol=F64.value
        )
