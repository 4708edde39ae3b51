"""Maros-Meszaros files as `solve_qp` wants them, and one measure of a solution for all solvers.

minimize 1/2 x'Qx + q'x + constant   subject to   Ax = b,  Gx <= h,  lower <= x <= upper
Qx + q + A'y + G'z - z_lower + z_upper = 0,   z, z_lower, z_upper >= 0
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import io, sparse

Vector = NDArray[np.float64]

# The sign of the files for "no limit" is 1e20, which some hold a rounding error short.
INFINITE = 0.999e20


@dataclass(frozen=True)
class Problem:
    """A QP with sparse matrices; `rows` counts the rows of the file, bounds among them."""

    name: str
    rows: int
    Q: sparse.csr_matrix
    q: Vector
    constant: float
    A: sparse.csr_matrix
    b: Vector
    G: sparse.csr_matrix
    h: Vector
    lower: Vector
    upper: Vector

    @property
    def n(self) -> int:
        return len(self.q)


@dataclass(frozen=True)
class Point:
    """A primal and dual point in the signs above."""

    x: Vector
    y: Vector
    z: Vector
    z_lower: Vector
    z_upper: Vector


@dataclass(frozen=True)
class Residuals:
    """Each in the user's units, relative to one plus the largest of what it compares."""

    primal: float
    dual: float
    gap: float
    objective: float

    @property
    def largest(self) -> float:
        return float(np.max([self.primal, self.dual, self.gap]))  # NaN stays NaN


def read(path: Path) -> Problem:
    """A .mat file with P, q, r and l <= Ax <= u.

    A row with a single entry is a bound on its variable (several of them intersect), a row
    without one is dropped if it is consistent; of the others those with l = u are equalities and
    the rest one or two inequalities.
    """
    data = io.loadmat(path)

    def vector(key: str) -> Vector:
        return np.asarray(data[key], dtype=np.float64).ravel()  # some are stored as small integers

    q, low, high = vector("q"), vector("l"), vector("u")
    low = np.where(low <= -INFINITE, -np.inf, low)
    high = np.where(high >= INFINITE, np.inf, high)
    A = sparse.csr_matrix(data["A"], dtype=np.float64)
    A.sum_duplicates()
    A.eliminate_zeros()
    count = np.diff(A.indptr)
    empty = count == 0
    if np.any(low[empty] > 0) or np.any(high[empty] < 0):
        raise ValueError(f"{path.stem}: an empty row asks for a nonzero value")
    lower, upper = _bounds(A[count == 1], low[count == 1], high[count == 1], len(q))

    A, low, high = A[count > 1], low[count > 1], high[count > 1]
    equal = low == high
    above, below = ~equal & np.isfinite(high), ~equal & np.isfinite(low)
    return Problem(
        name=path.stem,
        rows=len(count),
        Q=_symmetric(sparse.csr_matrix(data["P"], dtype=np.float64)),
        q=q,
        constant=float(vector("r")[0]),
        A=A[equal],
        b=low[equal],
        G=sparse.vstack([A[above], -A[below]], format="csr"),
        h=np.concatenate([high[above], -low[below]]),
        lower=lower,
        upper=upper,
    )


def _bounds(rows: sparse.csr_matrix, low: Vector, high: Vector, n: int) -> tuple[Vector, Vector]:
    """low <= a x_j <= high for each row: divided by a, which swaps the sides if it is negative."""
    with np.errstate(invalid="ignore"):
        first, second = low / rows.data, high / rows.data
    lower, upper = np.full(n, -np.inf), np.full(n, np.inf)
    np.maximum.at(lower, rows.indices, np.where(rows.data > 0, first, second))
    np.minimum.at(upper, rows.indices, np.where(rows.data > 0, second, first))
    return lower, upper


def _symmetric(P: sparse.csr_matrix) -> sparse.csr_matrix:
    """Files that hold only one triangle are completed."""
    if sparse.triu(P, 1).nnz == 0 or sparse.tril(P, -1).nnz == 0:
        P = P + P.T - sparse.diags(P.diagonal())
    return sparse.csr_matrix(P)


def residuals(problem: Problem, point: Point) -> Residuals:
    """What is left of the KKT conditions, wrong signs of multipliers counted as well."""
    p, x = problem, point.x
    if not all(np.all(np.isfinite(value)) for value in vars(point).values()):
        return Residuals(np.nan, np.nan, np.nan, np.nan)
    Qx, Ax, Gx, Ay, Gz = p.Q @ x, p.A @ x, p.G @ x, p.A.T @ point.y, p.G.T @ point.z
    has_lower, has_upper = np.isfinite(p.lower), np.isfinite(p.upper)
    low, high = p.lower[has_lower], p.upper[has_upper]
    primal = max(
        relative(Ax - p.b, Ax, p.b),
        relative(np.maximum(Gx - p.h, 0.0), Gx, p.h),
        relative(np.maximum(low - x[has_lower], 0.0), x, low),
        relative(np.maximum(x[has_upper] - high, 0.0), x, high),
    )
    z_lower, z_upper = point.z_lower, point.z_upper
    dual = max(
        relative(Qx + p.q + Ay + Gz - z_lower + z_upper, Qx, p.q, Ay, Gz, z_lower, z_upper),
        *(relative(np.minimum(z, 0.0), z) for z in (point.z, z_lower, z_upper)),
        # A bound that is not there has no multiplier.
        relative(z_lower[~has_lower], z_lower),
        relative(z_upper[~has_upper], z_upper),
    )
    quadratic = 0.5 * float(x @ Qx)
    objective = quadratic + float(p.q @ x)
    dual_objective = -quadratic - float(p.b @ point.y) - float(p.h @ point.z)
    dual_objective += float(low @ z_lower[has_lower]) - float(high @ z_upper[has_upper])
    gap = abs(objective - dual_objective) / (1.0 + max(abs(objective), abs(dual_objective)))
    return Residuals(primal, dual, gap, objective + p.constant)


def relative(difference: Vector, *terms: Vector) -> float:
    """The largest entry, relative to one plus the largest entry of the terms."""
    scale = max(float(np.max(np.abs(term), initial=0.0)) for term in terms)
    return float(np.max(np.abs(difference), initial=0.0)) / (1.0 + scale)


def summary(problem: Problem) -> dict[str, Any]:
    """Sizes, for the record."""
    return {
        "problem": problem.name,
        "n": problem.n,
        "rows": problem.rows,
        "equalities": len(problem.b),
        "inequalities": len(problem.h),
        "constant": problem.constant,
        "fixed": int(np.sum(problem.lower == problem.upper)),
    }
