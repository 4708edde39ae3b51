"""Independent answers for cone programs in NumPy: Clarabel, Newton's method, optimality conditions."""

from __future__ import annotations

from itertools import product
from typing import Any

import clarabel
import numpy as np
from scipy import linalg, sparse

import jaxopt_layers as jl
from tests.helpers import cone_geometry as geometry
from tests.helpers.cone_geometry import blocks
from tests.helpers.cone_problems import Data, conditions, quadratic_product

Solution = dict[str, np.ndarray]


def _clarabel_cones(cones: jl.Cones) -> tuple[list[Any], np.ndarray]:
    """Clarabel's cones, and the matrix that maps our rows to its rows.

    Its matrices stand as the upper triangle by columns, and it has no dual cones: those of the
    exponential and of the power cone are linear images of the cones themselves.
    """
    made, maps = [], []
    for block in blocks(cones):
        kind, size, parameter = block.kind, block.size, block.parameter
        if kind == "zero":
            made.append(clarabel.ZeroConeT(size))
        elif kind == "nonnegative":
            made.append(clarabel.NonnegativeConeT(size))
        elif kind == "second_order":
            made.append(clarabel.SecondOrderConeT(size))
        elif kind == "psd":
            made.append(clarabel.PSDTriangleConeT(int(parameter)))
        elif "exponential" in kind:
            made.append(clarabel.ExponentialConeT())
        else:
            made.append(clarabel.PowerConeT(parameter))
        if kind == "psd":
            side = int(parameter)
            position = np.zeros((side, side), int)
            position[np.triu_indices(side)] = np.arange(size)  # ours: lower triangle by columns
            theirs = [position[row, column] for column in range(side) for row in range(column + 1)]
            maps.append(np.eye(size)[theirs])
        else:
            maps.append(geometry.to_primal(kind, parameter) if size == 3 else np.eye(size))
    return made, np.asarray(linalg.block_diag(*maps)) if maps else np.zeros((0, 0))


def clarabel_cone(
    data: Data, cones: jl.Cones, *, tolerances: tuple[float, ...] = (1e-12, 1e-11, 1e-10, 1e-9)
) -> Solution:
    """Solve by Clarabel: its status and the outputs of `solve_cone`, with its signs and orders."""
    A, b, c = data["A"], data["b"], data["c"]
    P = data.get("P", np.zeros((len(c), len(c))))
    P = np.diag(P) if P.ndim == 1 else P
    made, rows = _clarabel_cones(cones)
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.presolve_enable, settings.max_threads = False, False, 1
    settings.iterative_refinement_max_iter = 50
    settings.iterative_refinement_reltol = settings.iterative_refinement_abstol = 1e-14
    matrices = sparse.csc_matrix(np.triu(P)), c, sparse.csc_matrix(rows @ A), rows @ b
    found: Any = None
    for tolerance, fraction in product(tolerances, (0.99, 0.9)):
        settings.max_step_fraction = fraction
        settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = tolerance
        found = clarabel.DefaultSolver(*matrices, made, settings).solve()
        if str(found.status) in ("Solved", "PrimalInfeasible", "DualInfeasible"):
            break
    else:
        raise RuntimeError(f"Clarabel: {found.status}")
    x, y = np.array(found.x), rows.T @ np.array(found.z)
    objective = 0.5 * x @ P @ x + c @ x
    return {
        "status": np.array(str(found.status)),
        "x": x,
        "y": y,
        "s": np.linalg.solve(rows, np.array(found.s)) if len(b) else np.zeros(0),
        "objective": objective,
        "dual_objective": objective,
    }


def newton(data: Data, cones: jl.Cones, start: Solution) -> Solution:
    """The solution near another one, to the last digits.

    Newton's method on ``Px + c + A'y = 0, Ax + s = b`` in x and in coordinates of the surface of
    complementary pairs. The conditions are sufficient: the result is checked against them.
    """
    residual, point, u = conditions(data, cones, start)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(3):
            slope = geometry.jacobian(residual, u)
            for _ in range(3):
                u = u - np.linalg.solve(slope, residual(u))
            if np.max(np.abs(residual(u))) < 1e-13 * (1 + np.max(np.abs(u))):
                break
    if not np.max(np.abs(residual(u))) < 1e-9 * (1 + np.max(np.abs(u))):
        raise RuntimeError("Newton's method did not converge")
    x, y, s = point(u)
    value = 0.5 * x @ quadratic_product(data.get("P"), x) + data["c"] @ x
    solution = {"x": x, "y": y, "s": s, "objective": value, "dual_objective": value}
    error = kkt_residual(data, cones, solution)
    if not error < 1e-11:
        raise RuntimeError(f"Newton's method did not end at a solution: residual {error}")
    return solution


def kkt_residual(data: Data, cones: jl.Cones, solution: Any) -> float:
    """The largest violation of the optimality conditions, each relative to one plus its terms."""
    A, b, c, P = data["A"], data["b"], data["c"], data.get("P")
    x, y, s, value, dual_value = (
        np.asarray(solution[name], float) for name in ("x", "y", "s", "objective", "dual_objective")
    )
    curved = quadratic_product(P, x)

    def relative(violation: Any, *terms: Any) -> float:
        size = max(np.max(np.abs(term), initial=0) for term in terms)
        return float(np.max(np.abs(violation), initial=0) / (1 + size))

    objective = 0.5 * x @ curved + c @ x
    return max(
        relative(curved + c + A.T @ y, curved, c, A.T @ y),
        relative(A @ x + s - b, A @ x, s, b),
        relative(geometry.cone_distance(cones, s), s),
        relative(geometry.dual_distance(cones, y), y),
        relative(s @ y, objective),
        relative(value - objective, objective),
        relative(dual_value + 0.5 * x @ curved + b @ y, objective),
    )


def infeasibility_violation(data: Data, cones: jl.Cones, y: np.ndarray) -> float:
    """How far y is from proving infeasibility: A'y = 0, b'y = -1, y in K*."""
    violations = [np.abs(data["A"].T @ y), [abs(data["b"] @ y + 1)]]
    return float(max(np.max(np.concatenate(violations)), geometry.dual_distance(cones, y)))


def unboundedness_violation(data: Data, cones: jl.Cones, x: np.ndarray, s: np.ndarray) -> float:
    """How far (x, s) is from being a ray: Px = 0, Ax + s = 0, c'x = -1, s in K."""
    curved = quadratic_product(data.get("P"), x)
    violations = [np.abs(curved), np.abs(data["A"] @ x + s), [abs(data["c"] @ x + 1)]]
    return float(max(np.max(np.concatenate(violations)), geometry.cone_distance(cones, s)))
