"""Independent answers in NumPy: another solver, central differences, optimality conditions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import clarabel
import numpy as np
from scipy import sparse

from tests.helpers.problems import Data

Solution = dict[str, np.ndarray]


def clarabel_qp(
    q: np.ndarray,
    Q: np.ndarray | None = None,
    A: np.ndarray | None = None,
    b: np.ndarray | None = None,
    G: np.ndarray | None = None,
    h: np.ndarray | None = None,
    lower: np.ndarray | None = None,
    upper: np.ndarray | None = None,
    *,
    tolerances: tuple[float, ...] = (1e-13, 1e-12, 1e-11),
) -> Solution:
    """Solve by Clarabel; the outputs of `solve_qp` by name, with its signs.

    Infinite rows are left out, and coinciding bounds given as equalities, whose multiplier's
    positive part belongs to the upper bound. Where a tolerance is too small to be reached, shorter
    steps and then the next tolerance are tried; raises where none is reached.
    """
    n = len(q)
    m = 0 if h is None else len(h)
    A, b = (np.zeros((0, n)), np.zeros(0)) if A is None or b is None else (A, b)
    G, h = (np.zeros((0, n)), np.zeros(0)) if G is None or h is None else (G, h)
    low = np.full(n, -np.inf) if lower is None else lower
    high = np.full(n, np.inf) if upper is None else upper
    fixed = np.flatnonzero(low == high)
    rows = np.flatnonzero(np.isfinite(h))
    lows = np.flatnonzero(np.isfinite(low) & (low != high))
    highs = np.flatnonzero(np.isfinite(high) & (low != high))

    identity = np.eye(n)
    blocks = [A, identity[fixed], G[rows], -identity[lows], identity[highs]]
    sides = [b, low[fixed], h[rows], -low[lows], high[highs]]
    ends = np.cumsum([len(side) for side in sides])
    cones = [clarabel.ZeroConeT(ends[1]), clarabel.NonnegativeConeT(ends[4] - ends[1])]
    quadratic = np.zeros((n, n)) if Q is None else (np.diag(Q) if Q.ndim == 1 else Q)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.presolve_enable = False
    settings.max_threads = 1
    arguments = (
        sparse.csc_matrix(np.triu(quadratic)),
        q,
        sparse.csc_matrix(np.concatenate(blocks)),
        np.concatenate(sides),
        [cone for cone, size in zip(cones, (ends[1], ends[4] - ends[1]), strict=True) if size],
    )
    settings.iterative_refinement_max_iter = 50
    settings.iterative_refinement_reltol = settings.iterative_refinement_abstol = 1e-15
    for tolerance, fraction in product(tolerances, (0.99, 0.95, 0.9)):
        settings.max_step_fraction = fraction
        settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = tolerance
        found = clarabel.DefaultSolver(*arguments, settings).solve()
        if str(found.status) == "Solved":
            break
    else:
        raise RuntimeError(f"Clarabel: {found.status}")

    x = np.array(found.x)
    y, fixed_dual, z_rows, z_lows, z_highs = np.split(np.array(found.z), ends[:-1])
    z, z_lower, z_upper = np.zeros(m), np.zeros(n), np.zeros(n)
    z[rows], z_lower[lows], z_upper[highs] = z_rows, z_lows, z_highs
    z_lower[fixed], z_upper[fixed] = np.maximum(-fixed_dual, 0), np.maximum(fixed_dual, 0)
    objective = x @ quadratic @ x / 2 + q @ x
    return {
        "x": x,
        "y": y,
        "z": z,
        "s": h - G @ x,
        "z_lower": z_lower if lower is not None else np.zeros(0),
        "z_upper": z_upper if upper is not None else np.zeros(0),
        "objective": objective,
        "dual_objective": objective,
    }


def central_difference(
    function: Callable[[dict[str, Any]], Solution],
    arguments: dict[str, Any],
    directions: dict[str, np.ndarray],
    step: float = 1e-4,
) -> Solution:
    """Derivative of every output along a direction in the arguments, by the five-point formula.

    Its truncation error is of fourth order in `step`; infinite outputs have derivative zero.
    """

    def moved(multiple: float) -> Solution:
        shifted = {
            name: arguments[name] + multiple * step * direction
            for name, direction in directions.items()
        }
        return function(arguments | shifted)

    ends = [moved(multiple) for multiple in (1, -1, 2, -2)]
    derivative = {}
    for name in ends[0]:
        a, b, c, d = (np.nan_to_num(np.asarray(end[name]), posinf=0) for end in ends)
        derivative[name] = (8 * (a - b) - (c - d)) / (12 * step)
    return derivative


def inequality_rows(data: Data, values: Solution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The finite rows ``R x <= r`` of G and of the bounds, and the multipliers given."""
    identity = np.eye(len(data["q"]))
    parts = []
    if "G" in data:
        parts.append((data["G"], data["h"], values["z"]))
    if "lower" in data:
        parts.append((-identity, -data["lower"], values["z_lower"]))
    if "upper" in data:
        parts.append((identity, data["upper"], values["z_upper"]))
    if not parts:
        return np.zeros((0, len(identity))), np.zeros(0), np.zeros(0)
    rows, sides, duals = (np.concatenate(group) for group in zip(*parts, strict=True))
    finite = np.isfinite(sides)
    return rows[finite], sides[finite], duals[finite]


def kkt_residual(data: Data, solution: Solution) -> float:
    """The largest violation of the optimality conditions, of negative multipliers among them.

    Each is relative to one plus the largest term that it adds up; complementarity, which is taken
    as the sum, to one plus the objective.
    """
    x, y, q = np.asarray(solution["x"]), np.asarray(solution["y"]), data["q"]
    values = {name: np.asarray(value) for name, value in solution.items()}
    Q, A, b = data.get("Q"), data.get("A"), data.get("b")
    R, r, w = inequality_rows(data, values)
    curved = np.zeros_like(x) if Q is None else (Q * x if Q.ndim == 1 else Q @ x)
    A, b = (np.zeros((0, len(x))), np.zeros(0)) if A is None or b is None else (A, b)

    def relative(violation: np.ndarray, *terms: np.ndarray) -> float:
        size = max(np.max(np.abs(term), initial=0) for term in terms)
        return float(np.max(np.abs(violation), initial=0) / (1 + size))

    objective = x @ curved / 2 + q @ x
    return max(
        relative(curved + q + A.T @ y + R.T @ w, curved, q, A.T @ y, R.T @ w),
        relative(A @ x - b, b, A @ x),
        relative(np.maximum(R @ x - r, 0), r, R @ x),
        relative(np.minimum(w, 0), w),
        relative(np.sum(w * (r - R @ x)), objective),
        relative(values["objective"] - objective, objective),
        relative(values["dual_objective"] - objective, objective),
    )
