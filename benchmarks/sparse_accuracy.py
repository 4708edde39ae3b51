"""How right a solution and a gradient of a sparse program are, by one measure for every solver.

The reference is Clarabel at a tight tolerance. Of a quadratic program it only says which rows are active; x
and the gradients are then those of the linear system that holds these as equalities (OptNet, eq. 6-8).
Gradients of cone programs are compared with central differences of Clarabel in one direction of all data.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import clarabel
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from cone_problems import ConeSizes
from sparse_batch import Array, Batch, ConeForm

# Which step is best depends on the program's curvature, which tolerance on how Clarabel ends.
STEPS = (3e-4, 1e-4, 3e-5, 1e-5)
TOLERANCES = (1e-11, 1e-13)
ACTIVE_SET_STEPS = 20


@dataclass(frozen=True)
class Single:
    """One program in the cone form."""

    A: sparse.csr_matrix
    b: Array
    P: Array
    c: Array
    cones: ConeSizes

    @classmethod
    def member(cls, form: ConeForm, i: int) -> Single:
        return cls(form.A.member(i), form.b[i], form.P[i], form.c[i], form.cones)

    def moved(self, direction: Mapping[str, Array], step: float) -> Single:
        A = self.A.copy()
        A.data = A.data + step * direction["A"]
        b, P, c = (getattr(self, name) + step * direction[name] for name in "bPc")
        return Single(A, b, P, c, self.cones)

    def objective(self, x: Array) -> float:
        return float(0.5 * x @ (self.P * x) + self.c @ x)

    def violation(self, x: Array) -> float:
        """How far the rows b - Ax are from the cone, by each cone's own inequality; relative."""
        sizes, slack = self.cones, self.b - self.A @ x
        ends = np.cumsum([sizes.zero, sizes.nonnegative, sum(sizes.second_order)])
        zero, nonnegative, second_order, exponential = np.split(slack, ends)
        parts = [np.abs(zero), -nonnegative]
        if sizes.second_order:
            starts = np.cumsum([0, *sizes.second_order[:-1]])
            squares = np.add.reduceat(second_order**2, starts)
            first = second_order[starts]
            parts.append(np.sqrt(np.maximum(squares - first**2, 0.0)) - first)
        if sizes.exponential:
            u, v, w = exponential.reshape(-1, 3).T
            with np.errstate(all="ignore"):
                parts.append(np.where(v > 0, v * np.exp(u / v), 0.0) - w)
        largest = max(float(np.max(part, initial=0.0)) for part in parts)
        return largest / (1.0 + float(np.abs(self.b).max()))


class Reference:
    """Solutions and derivatives of the first members."""

    def __init__(self, batch: Batch, members: int = 2, seed: int = 1) -> None:
        self.batch, form = batch, batch.cone_form
        self.members = [Single.member(form, i) for i in range(min(members, batch.size))]
        self.quadratic = batch.cones is None
        rng = np.random.default_rng(seed)
        self.x, self.objectives, self.gradients = [], [], []
        self.directions: list[dict[str, Array]] = []
        self.slopes: list[float] = []
        for i, member in enumerate(self.members):
            cotangent = batch.cotangent[i]
            if self.quadratic:
                x, gradients = _active_set(member, cotangent)
                self.gradients.append({key: value[None] for key, value in gradients.items()})
            else:
                x = np.asarray(solve(member, TOLERANCES[0]).x)
                direction = random_direction(member, rng)
                self.slopes.append(slope(member, direction, cotangent))
                self.directions.append(direction)
            self.x.append(x)
            self.objectives.append(member.objective(x))

    def errors(self, x: Array) -> dict[str, float]:
        """Of the objective, of x, and how far x is from feasible: the largest over the members."""
        objective, distance, violation = [], [], []
        for member, known, value, mine in zip(
            self.members, self.x, self.objectives, x, strict=False
        ):
            objective.append(abs(member.objective(mine) - value) / (1.0 + abs(value)))
            distance.append(np.abs(mine - known).max() / (1.0 + np.abs(known).max()))
            violation.append(member.violation(mine))
        named = {"objective_error": objective, "x_error": distance, "violation": violation}
        return {key: float(np.max(values)) for key, values in named.items()}

    def gradient_error(self, gradients: Mapping[str, Array]) -> float:
        """The largest error of an array relative to its largest entry, or of a slope relative to that of
        a typical direction.
        """
        errors = []
        for i in range(len(self.members)):
            mine = {key: value[i] for key, value in gradients.items()}
            for key in mine.keys() & {"Q", "P"}:  # a pattern leaves out what is zero
                mine[key] = np.where(self.members[i].P != 0, mine[key], 0.0)
            if self.quadratic:
                named = self.batch.cone_form.gradients(**self.gradients[i])
                known = {key: value[0] for key, value in named.items() if np.any(value)}
                errors += [
                    np.abs(mine[key] - value).max() / np.abs(value).max()
                    for key, value in known.items()
                ]
            else:
                parts = np.concatenate([mine[key] * self.directions[i][key] for key in mine])
                errors.append(abs(np.sum(parts) - self.slopes[i]) / np.linalg.norm(parts))
        return float(np.max(errors))  # which keeps a NaN, as max() would not


def _active_set(member: Single, cotangent: Array) -> tuple[Array, dict[str, Array]]:
    """x and the gradients of cotangent'x, the rows with multipliers held as equalities.

    On long programs Clarabel leaves rows whose multiplier and slack are both small on the wrong side: the
    primal-dual active set method (Hintermueller, Ito & Kunisch 2002) goes on from its rows.
    """
    solution = solve(member, TOLERANCES[0])
    equality = np.arange(len(member.b)) < member.cones.zero
    active = equality | (np.asarray(solution.z) > np.asarray(solution.s))
    for _ in range(ACTIVE_SET_STEPS):
        rows = member.A[active]
        system = sparse.bmat([[sparse.diags(member.P), rows.T], [rows, None]], format="csc")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a diagonal without entries is made
            factor = splu(system)
        x, y = _held(factor, system, active, -member.c, member.b)
        slack = np.where(active, 0.0, member.b - member.A @ x)
        wanted = equality | (y > slack)
        if np.array_equal(wanted, active):
            break
        active = wanted
    else:
        raise RuntimeError("the reference found no consistent set of active rows")
    dx, dy = _held(factor, system, active, -cotangent, np.zeros(len(y)))
    places = member.A.tocoo()
    dA = dy[places.row] * x[places.col] + y[places.row] * dx[places.col]
    return x, {"A": dA, "b": -dy, "c": dx, "P": np.where(member.P != 0, dx * x, 0.0)}


def _held(factor: Any, system: Any, active: Array, top: Array, rows: Array) -> tuple[Array, Array]:
    """The solution's primal part, and its dual part with zeros at the rows that are not held."""
    right = np.concatenate([top, rows[active]])
    point = factor.solve(right)
    point = point + factor.solve(right - system @ point)
    y = np.zeros(len(rows))
    y[active] = point[len(top) :]
    return point[: len(top)], y


def random_direction(member: Single, rng: np.random.Generator) -> dict[str, Array]:
    """Of all data, each number in proportion to its size."""
    named = {"A": member.A.data, "b": member.b, "P": member.P, "c": member.c}
    return {key: value * rng.standard_normal(value.shape) for key, value in named.items()}


def slope(member: Single, direction: Mapping[str, Array], cotangent: Array) -> float:
    """d(cotangent'x) along the direction: of all fourth-order differences the two that agree best."""

    def value(step: float, tolerance: float) -> float:
        return float(cotangent @ np.asarray(solve(member.moved(direction, step), tolerance).x))

    pairs = []
    for tolerance in TOLERANCES:
        found = []
        for h in STEPS:
            near, far = (value(k * h, tolerance) - value(-k * h, tolerance) for k in (1, 2))
            found.append((8 * near - far) / (12 * h))
        pairs += itertools.pairwise(found)
    return float(np.mean(min(pairs, key=lambda pair: abs(pair[0] - pair[1]))))


def solve(member: Single, tolerance: float) -> Any:
    """Clarabel's solution."""
    settings = clarabel_settings(tolerance)
    P = sparse.csc_matrix(sparse.diags(member.P))
    P.eliminate_zeros()
    data = (P, member.c, sparse.csc_matrix(member.A), member.b, clarabel_cones(member.cones))
    return clarabel.DefaultSolver(*data, settings).solve()


def clarabel_settings(tolerance: float) -> Any:
    settings: Any = clarabel.DefaultSettings()
    settings.verbose = False
    for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas"):
        setattr(settings, name, tolerance)
    return settings


def clarabel_cones(sizes: ConeSizes) -> list[Any]:
    cones: list[Any] = [clarabel.ZeroConeT(sizes.zero)] if sizes.zero else []
    cones += [clarabel.NonnegativeConeT(sizes.nonnegative)] if sizes.nonnegative else []
    cones += [clarabel.SecondOrderConeT(size) for size in sizes.second_order]
    return cones + [clarabel.ExponentialConeT()] * sizes.exponential
