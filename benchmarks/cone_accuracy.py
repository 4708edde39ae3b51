"""How right a solution and a gradient of a cone program are, by one measure for every solver.

Solutions: the optimality conditions in NumPy.  Gradients: central differences of Clarabel along a random
direction of all the data, for a few members of the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import clarabel
import numpy as np
from scipy import sparse

from cone_problems import Array, ConeBatch, ConeSizes, Data

# Which step is best depends on the program's curvature, which tolerance on how Clarabel ends.
STEPS = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
TOLERANCES = (1e-11, 1e-13)


def residual(batch: ConeBatch, x: Array, y: Array, s: Array) -> float:
    """The largest of |Ax + s - b|, |A'y + c| and |s'y|, relative, over the batch."""
    primal = np.einsum("bij,bj->bi", batch.A, x) + s - batch.b
    dual = np.einsum("bij,bi->bj", batch.A, y) + batch.c
    parts = [
        np.abs(primal).max(axis=1) / (1.0 + np.abs(batch.b).max(axis=1)),
        np.abs(dual).max(axis=1) / (1.0 + np.abs(batch.c).max(axis=1)),
        np.abs(np.sum(s * y, axis=1)) / (1.0 + np.abs(np.sum(batch.c * x, axis=1))),
    ]
    return float(np.max(parts))  # which keeps a NaN, as max() would not


class Reference:
    """Clarabel's solutions, and derivatives along one direction, of the first members."""

    def __init__(self, batch: ConeBatch, members: int = 4, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.members = min(members, batch.size)
        self.x, self.slopes, self.directions = [], [], []
        for i in range(self.members):
            data = batch.A[i], batch.b[i], batch.c[i]
            direction = tuple(
                np.where(value != 0, rng.standard_normal(value.shape), 0.0) for value in data
            )
            self.x.append(clarabel_solution(batch.family.cones, *data, TOLERANCES[0]))
            self.directions.append(dict(zip("Abc", direction, strict=True)))
            self.slopes.append(slope(batch.family.cones, data, direction, batch.cotangent[i]))

    def solution_error(self, x: Array) -> float:
        """Relative to one plus the largest entry."""
        known = np.stack(self.x)
        return float(np.max(np.abs(x[: self.members] - known)) / (1.0 + np.abs(known).max()))

    def gradient_error(self, gradients: Mapping[str, Array]) -> float:
        """The largest error of a slope, relative to the largest slope."""
        errors = [
            known - sum(np.sum(gradients[name][i] * d) for name, d in direction.items())
            for i, (known, direction) in enumerate(zip(self.slopes, self.directions, strict=True))
        ]
        return float(np.max(np.abs(errors)) / np.max(np.abs(self.slopes)))


def slope(sizes: ConeSizes, data: Data, direction: Data, cotangent: Array) -> float:
    """d(cotangent'x) along the direction: of all fourth-order differences the two that agree best."""

    def value(step: float, tolerance: float) -> float:
        moved = (v + step * d for v, d in zip(data, direction, strict=True))
        return float(cotangent @ clarabel_solution(sizes, *moved, tolerance))

    pairs = []
    for tolerance in TOLERANCES:
        found = []
        for h in STEPS:
            near, far = (value(k * h, tolerance) - value(-k * h, tolerance) for k in (1, 2))
            found.append((8 * near - far) / (12 * h))
        pairs += itertools.pairwise(found)
    return float(np.mean(min(pairs, key=lambda pair: abs(pair[0] - pair[1]))))


def clarabel_solution(sizes: ConeSizes, A: Array, b: Array, c: Array, tolerance: float) -> Array:
    """x."""
    settings: Any = clarabel.DefaultSettings()
    settings.verbose = False
    for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas"):
        setattr(settings, name, tolerance)
    cones: list[Any] = [clarabel.ZeroConeT(sizes.zero)] if sizes.zero else []
    cones += [clarabel.NonnegativeConeT(sizes.nonnegative)] if sizes.nonnegative else []
    cones += [clarabel.SecondOrderConeT(size) for size in sizes.second_order]
    start = sizes.zero + sizes.nonnegative + sum(sizes.second_order)
    order = np.arange(sizes.rows)
    for side in sizes.psd:  # Clarabel reads the upper triangle by columns
        cones.append(clarabel.PSDTriangleConeT(side))
        position = np.zeros((side, side), int)
        position[np.triu_indices(side)] = start + np.arange(side * (side + 1) // 2)
        upper = [position[i, j] for j in range(side) for i in range(j + 1)]
        order[start : start + len(upper)] = upper
        start += len(upper)
    cones += [clarabel.ExponentialConeT()] * sizes.exponential
    cones += [clarabel.PowerConeT(a) for a in sizes.power]
    P = sparse.csc_matrix((len(c), len(c)))
    rows = sparse.csc_matrix(A[order])
    return np.asarray(clarabel.DefaultSolver(P, c, rows, b[order], cones, settings).solve().x)
