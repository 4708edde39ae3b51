"""CVXPY problems with batches of parameter values, made by NumPy from a seed, the same for every layer.

All are DPP in the form that cvxpylayers asks for (square roots of matrices instead of quadratic forms in
them). Every parameter has a value of its own for each member and all are differentiated; every problem
is feasible with one solution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[Any]
Rng = np.random.Generator


@dataclass(frozen=True)
class Model:
    """A parametrized problem: `draw` gives the values of its parameters for one member."""

    problem: cp.Problem
    parameters: list[Any]
    variables: list[Any]
    draw: Callable[[Rng], Sequence[Any]]
    gp: bool = False


@dataclass(frozen=True)
class Family:
    """A kind of problem; `make` builds it, from its size and a generator for what is constant."""

    name: str
    title: str
    size: dict[str, int]
    quick: dict[str, int]
    make: Callable[..., Model]
    batch: int = 32


@dataclass(frozen=True)
class LayerBatch:
    """A model, values (batch, ...) for each parameter and a cotangent (batch, ...) for each variable."""

    model: Model
    values: list[Array]
    cotangents: list[Array]

    @property
    def size(self) -> int:
        return len(self.values[0])


QUICK_BATCH = 2


def make_batch(family: Family, seed: int = 0, quick: bool = False) -> LayerBatch:
    """The batch of that family; equal arguments give equal data."""
    rng = np.random.default_rng([seed, *family.name.encode()])
    model = family.make(rng, **(family.quick if quick else family.size))
    members = [model.draw(rng) for _ in range(QUICK_BATCH if quick else family.batch)]
    values = [
        np.stack([np.asarray(part, float) for part in parts])
        for parts in zip(*members, strict=True)
    ]
    cotangents = [rng.standard_normal((len(members), *v.shape)) for v in model.variables]
    return LayerBatch(model, values, cotangents)


def find_family(name: str) -> Family:
    for family in FAMILIES:
        if family.name == name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise ValueError(f"unknown problem {name!r}: one of {known}")


def _optnet(_: Rng, n: int) -> Model:
    """minimize 1/2 |Q_sqrt z|^2 + q'z,  A z = b,  G z <= h (Amos & Kolter 2017)."""
    m, p = n, n // 4
    z = cp.Variable(n)
    Q_sqrt, q = cp.Parameter((n, n)), cp.Parameter(n)
    A, b, G, h = cp.Parameter((p, n)), cp.Parameter(p), cp.Parameter((m, n)), cp.Parameter(m)
    objective = cp.Minimize(0.5 * cp.sum_squares(Q_sqrt @ z) + q @ z)
    constraints: list[Any] = [A @ z == b, G @ z <= h]
    problem = cp.Problem(objective, constraints)

    def draw(rng: Rng) -> Sequence[Any]:
        root = np.eye(n) + 0.3 * rng.standard_normal((n, n)) / np.sqrt(n)
        equal, below = rng.standard_normal((p, n)), rng.standard_normal((m, n))
        inside = 0.3 * rng.standard_normal(n)
        slack = 0.1 + rng.random(m)
        return root, rng.standard_normal(n), equal, equal @ inside, below, below @ inside + slack

    return Model(problem, [Q_sqrt, q, A, b, G, h], [z], draw)


def _sparse_qp(rng: Rng, n: int) -> Model:
    """minimize 1/2 |x|^2 + 1/4 |D x|^2 + q'x,  A x = b,  |x| <= u, A with three entries a row, constant."""
    rows = n // 4
    A = sparse.lil_array((rows, n))
    for i in range(rows):  # one column of its own each, so that the rows are independent
        A[i, 4 * i] = 1.0
        others = rng.choice(n, 2, replace=False)
        A[i, others] = 0.5 * rng.standard_normal(2)
    A = sparse.csr_array(A)
    x = cp.Variable(n)
    q, b, limit = cp.Parameter(n), cp.Parameter(rows), cp.Parameter(n, nonneg=True)
    smooth = 0.25 * cp.sum_squares(cp.diff(x))
    objective = cp.Minimize(0.5 * cp.sum_squares(x) + smooth + q @ x)
    constraints: list[Any] = [A @ x == b, x <= limit, x >= -limit]
    problem = cp.Problem(objective, constraints)

    def draw(rng: Rng) -> Sequence[Any]:
        inside = 0.3 * rng.uniform(-1, 1, n)
        return 1.5 * rng.standard_normal(n), A @ inside, 0.4 + 0.6 * rng.random(n)

    return Model(problem, [q, b, limit], [x], draw)


def _logistic(_: Rng, samples: int, features: int) -> Model:
    """maximize the logistic likelihood of labels less 0.1 |beta|^2, F = diag(labels) X a parameter."""
    beta = cp.Variable(features)
    F = cp.Parameter((samples, features))
    objective = cp.Minimize(cp.sum(cp.logistic(-F @ beta)) / samples + 0.1 * cp.sum_squares(beta))

    def draw(rng: Rng) -> Sequence[Any]:
        X, truth = rng.standard_normal((samples, features)), rng.standard_normal(features)
        return (np.sign(X @ truth + rng.standard_normal(samples))[:, None] * X,)

    return Model(cp.Problem(objective), [F], [beta], draw)


def _portfolio(_: Rng, assets: int, factors: int) -> Model:
    """maximize mu'w - 1/2 |F w| - 1/2 |d w|,  1'w = 1,  w >= 0."""
    w = cp.Variable(assets)
    mu, F = cp.Parameter(assets), cp.Parameter((factors, assets))
    d = cp.Parameter(assets, nonneg=True)
    risk = cp.norm(F @ w) + cp.norm(cp.multiply(d, w))
    constraints: list[Any] = [cp.sum(w) == 1, w >= 0]
    problem = cp.Problem(cp.Maximize(mu @ w - 0.5 * risk), constraints)

    def draw(rng: Rng) -> Sequence[Any]:
        exposure = rng.standard_normal((factors, assets)) / np.sqrt(factors)
        return rng.random(assets), exposure, 0.5 + rng.random(assets)

    return Model(problem, [mu, F, d], [w], draw)


def _denoising(_: Rng, samples: int) -> Model:
    """minimize 1/2 |x - y|^2 + lambda |D x|_1."""
    x, y, weight = cp.Variable(samples), cp.Parameter(samples), cp.Parameter(nonneg=True)
    objective = cp.Minimize(0.5 * cp.sum_squares(x - y) + weight * cp.norm1(cp.diff(x)))

    def draw(rng: Rng) -> Sequence[Any]:
        jumps = rng.standard_normal(samples) * (rng.random(samples) < 0.05)
        return np.cumsum(jumps) + 0.2 * rng.standard_normal(samples), 0.3 + 0.4 * rng.random()

    return Model(cp.Problem(objective), [y, weight], [x], draw)


def _geometric(_: Rng, dimension: int) -> Model:
    """The largest box of a given surface, its sides in limited proportions (log-log convex)."""
    sides = cp.Variable(dimension, pos=True)
    price, surface = cp.Parameter(dimension, pos=True), cp.Parameter(pos=True)
    ratio = cp.Parameter(pos=True)
    volume = cp.prod(sides)
    total = cp.sum(cp.hstack([price[i] * volume / sides[i] for i in range(dimension)]))
    constraints: list[Any] = [sides[i] <= ratio * sides[i + 1] for i in range(dimension - 1)]
    problem = cp.Problem(cp.Minimize(1 / volume), [total <= surface, *constraints])

    def draw(rng: Rng) -> Sequence[Any]:
        return 1 + rng.random(dimension), 5 + rng.random(), 0.8 + 0.4 * rng.random()

    return Model(problem, [price, surface, ratio], [sides], draw, gp=True)


def _semidefinite(_: Rng, side: int) -> Model:
    """minimize <C, X>,  <A_i, X> = b_i,  X psd."""
    equations = side
    X = cp.Variable((side, side), symmetric=True)
    C = cp.Parameter((side, side))
    matrices = [cp.Parameter((side, side)) for _ in range(equations)]
    b = cp.Parameter(equations)
    equalities: list[Any] = [cp.trace(M @ X) == b[i] for i, M in enumerate(matrices)]
    problem = cp.Problem(cp.Minimize(cp.trace(C @ X)), [X >> 0, *equalities])

    def draw(rng: Rng) -> Sequence[Any]:
        def positive() -> Array:
            M = rng.standard_normal((side, side))
            return M @ M.T / side + 0.1 * np.eye(side)

        symmetric = rng.standard_normal((equations, side, side))
        symmetric = (symmetric + symmetric.swapaxes(1, 2)) / 2
        right = np.einsum("kij,ij->k", symmetric, positive())
        cost = positive() + np.einsum("k,kij->ij", rng.standard_normal(equations), symmetric)
        return cost, *symmetric, right

    return Model(problem, [C, *matrices, b], [X], draw)


FAMILIES = (
    Family("optnet", "OptNet's dense QP, n = 20", {"n": 20}, {"n": 5}, _optnet),
    Family("sparse_qp", "QP with sparse constants, n = 500", {"n": 500}, {"n": 20}, _sparse_qp),
    Family(
        "logistic",
        "logistic regression, 200 x 20",
        {"samples": 200, "features": 20},
        {"samples": 12, "features": 3},
        _logistic,
    ),
    Family(
        "portfolio",
        "second-order portfolio, n = 100, 10 factors",
        {"assets": 100, "factors": 10},
        {"assets": 8, "factors": 2},
        _portfolio,
    ),
    Family(
        "denoising",
        "total variation, 200 samples",
        {"samples": 200},
        {"samples": 15},
        _denoising,
        batch=16,
    ),
    Family("geometric", "box design, GP", {"dimension": 3}, {"dimension": 2}, _geometric),
    Family("semidefinite", "SDP, 10 x 10", {"side": 10}, {"side": 3}, _semidefinite),
)
