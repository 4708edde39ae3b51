"""Batches of random cone programs, made by NumPy from a seed and the same for every solver.

`minimize c'x  subject to  Ax + s = b, s in K`, K in the order of `Cones` (zero, nonnegative, second
order, psd, exponential, power), A, b and c all different for each member and all differentiated.
Every program is feasible and bounded, with one solution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Data = tuple[Array, Array, Array]
Rng = np.random.Generator


@dataclass(frozen=True)
class ConeSizes:
    """The arguments of `Cones`, for solvers that live where the package does not."""

    zero: int = 0
    nonnegative: int = 0
    second_order: tuple[int, ...] = ()
    psd: tuple[int, ...] = ()
    exponential: int = 0
    power: tuple[float, ...] = ()

    @property
    def rows(self) -> int:
        triangles = sum(side * (side + 1) // 2 for side in self.psd)
        triples = 3 * (self.exponential + len(self.power))
        return self.zero + self.nonnegative + sum(self.second_order) + triangles + triples


@dataclass(frozen=True)
class Family:
    """A kind of program; `make` gives A, b, c of one member."""

    name: str
    title: str
    batch: int
    cones: ConeSizes
    make: Callable[[Rng], Data]


@dataclass(frozen=True)
class ConeBatch:
    """The data of one family: A (batch, m, n), b (batch, m), c (batch, n), and a cotangent of x."""

    family: Family
    A: Array
    b: Array
    c: Array
    cotangent: Array
    pattern: Array = field(repr=False)  # (m, n), where any member has an entry

    @property
    def size(self) -> int:
        return len(self.b)


def make_batch(family: Family, seed: int = 0) -> ConeBatch:
    """The batch of that family; equal arguments give equal data."""
    rng = np.random.default_rng([seed, *family.name.encode()])
    members = [family.make(rng) for _ in range(family.batch)]
    A, b, c = (np.stack([member[i] for member in members]) for i in range(3))
    assert A.shape[1] == family.cones.rows
    return ConeBatch(family, A, b, c, rng.standard_normal(c.shape), np.any(A != 0, axis=0))


def find_family(name: str) -> Family:
    for family in FAMILIES:
        if family.name == name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise ValueError(f"unknown problem {name!r}: one of {known}")


class _Columns:
    """Named parts of x, to write a row block as coefficients of the parts."""

    def __init__(self, **sizes: int) -> None:
        self.total = sum(sizes.values())
        self.parts, start = {}, 0
        for name, size in sizes.items():
            self.parts[name] = slice(start, start + size)
            start += size

    def rows(self, count: int, **coefficients: Any) -> Array:
        """(count, n); a scalar stands for that multiple of the identity, or of a column."""
        block = np.zeros((count, self.total))
        for name, value in coefficients.items():
            part = self.parts[name]
            width = part.stop - part.start
            if np.isscalar(value):
                value = value * (np.eye(count, width) if width > 1 else np.ones((count, 1)))
            block[:, part] = value
        return block

    def objective(self, **coefficients: Any) -> Array:
        return self.rows(1, **{k: np.atleast_2d(v) for k, v in coefficients.items()})[0]


def _triples(*parts: Array) -> Array:
    """Rows (or right-hand sides) of three-dimensional cones, interleaved."""
    return np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])


def _portfolio(rng: Rng) -> Data:
    """maximize mu'w - t1 - t2, |F'w| <= t1 (factors), |D w| <= t2, sum w = 1, w >= 0."""
    assets, factors = 20, 5
    x = _Columns(w=assets, factor=1, specific=1)
    F = rng.standard_normal((assets, factors)) / np.sqrt(factors)
    D = np.diag(0.5 + rng.random(assets))
    blocks = [x.rows(1, w=np.ones((1, assets))), x.rows(assets, w=-1.0)]
    blocks += [x.rows(1, factor=-1.0), x.rows(factors, w=-F.T)]
    blocks += [x.rows(1, specific=-1.0), x.rows(assets, w=-D)]
    A = np.vstack(blocks)
    b = np.zeros(len(A))
    b[0] = 1.0
    return A, b, x.objective(w=-rng.random(assets), factor=0.5, specific=0.5)


def _logistic(rng: Rng) -> Data:
    """minimize sum_i log(1 + exp(-d_i f_i'w)) + |w| / 2 over w, by exp(u - t) + exp(-t) <= 1."""
    samples, features = 50, 5
    x = _Columns(w=features, norm=1, t=samples, first=samples, second=samples)
    truth = rng.standard_normal(features)
    F = rng.standard_normal((samples, features))
    labels = np.sign(F @ truth + rng.standard_normal(samples))
    margins = labels[:, None] * F
    zero, one = np.zeros(samples), np.ones(samples)
    none = x.rows(samples)
    A = np.vstack(
        [
            x.rows(samples, first=1.0, second=1.0),
            x.rows(1, norm=-1.0),
            x.rows(features, w=-1.0),
            _triples(x.rows(samples, w=margins, t=1.0), none, x.rows(samples, first=-1.0)),
            _triples(x.rows(samples, t=1.0), none, x.rows(samples, second=-1.0)),
        ]
    )
    b = np.concatenate([one, np.zeros(1 + features), *[_triples(zero, one, zero)] * 2])
    return A, b, x.objective(norm=0.5, t=one)


def _semidefinite(rng: Rng) -> Data:
    """minimize <C, X>, <A_i, X> = b_i, X psd, strictly feasible with a bounded optimum."""
    side, equations = 10, 12
    rows, columns = np.triu_indices(side)
    weight = np.where(rows == columns, 1.0, np.sqrt(2.0))

    def vector(M: Array) -> Array:
        return weight * M[rows, columns]

    def positive() -> Array:
        M = rng.standard_normal((side, side))
        return M @ M.T / side + 0.1 * np.eye(side)

    symmetric = rng.standard_normal((equations, side, side))
    equality = np.stack([vector(M + M.T) / 2 for M in symmetric])
    b = np.concatenate([equality @ vector(positive()), np.zeros(len(weight))])
    c = vector(positive()) + equality.T @ rng.standard_normal(equations)
    return np.vstack([equality, -np.eye(len(weight))]), b, c


def _entropy(rng: Rng) -> Data:
    """maximize -sum p_i log p_i,  E p = e,  F p <= f."""
    size, equalities, inequalities = 30, 3, 3
    x = _Columns(t=size, p=size)
    E, F = rng.standard_normal((equalities, size)), rng.standard_normal((inequalities, size))
    E[0] = 1.0
    inside = rng.random(size) + 0.1
    inside /= inside.sum()
    zero, one = np.zeros(size), np.ones(size)
    A = np.vstack(
        [
            x.rows(equalities, p=E),
            x.rows(inequalities, p=F),
            _triples(x.rows(size, t=-1.0), x.rows(size, p=-1.0), x.rows(size)),
        ]
    )
    slack = 0.02 * rng.random(inequalities)
    b = np.concatenate([E @ inside, F @ inside + slack, _triples(zero, zero, one)])
    return A, b, x.objective(t=-one)


def _lasso(rng: Rng) -> Data:
    """minimize |F v - g| + lambda |v|_1."""
    samples, features = 30, 50
    x = _Columns(v=features, bound=features, norm=1)
    F = rng.standard_normal((samples, features)) / np.sqrt(samples)
    truth = rng.standard_normal(features) * (rng.random(features) < 0.1)
    g = F @ truth + 0.3 * rng.standard_normal(samples)
    weight = 0.4 * np.max(np.abs(F.T @ g)) / np.linalg.norm(g)
    A = np.vstack(
        [
            x.rows(features, v=1.0, bound=-1.0),
            x.rows(features, v=-1.0, bound=-1.0),
            x.rows(1, norm=-1.0),
            x.rows(samples, v=F),
        ]
    )
    b = np.concatenate([np.zeros(2 * features + 1), g])
    return A, b, x.objective(bound=np.full(features, weight), norm=1.0)


def _power(rng: Rng) -> Data:
    """minimize sum |F v - g|^3, by t^(1/3) 1^(2/3) >= |F v - g|."""
    samples, features = 30, 10
    x = _Columns(v=features, t=samples)
    F = rng.standard_normal((samples, features))
    g = F @ rng.standard_normal(features) + rng.standard_normal(samples)
    none, zero, one = x.rows(samples), np.zeros(samples), np.ones(samples)
    A = _triples(x.rows(samples, t=-1.0), none, x.rows(samples, v=-F))
    return A, _triples(zero, one, -g), x.objective(t=one)


FAMILIES = (
    Family(
        "portfolio",
        "second-order portfolio",
        64,
        ConeSizes(zero=1, nonnegative=20, second_order=(6, 21)),
        _portfolio,
    ),
    Family(
        "logistic",
        "logistic regression, 50 samples",
        32,
        ConeSizes(nonnegative=50, second_order=(6,), exponential=100),
        _logistic,
    ),
    Family("semidefinite", "10x10 semidefinite", 32, ConeSizes(zero=12, psd=(10,)), _semidefinite),
    Family(
        "entropy",
        "entropy maximization",
        32,
        ConeSizes(zero=3, nonnegative=3, exponential=30),
        _entropy,
    ),
    Family(
        "lasso",
        "l1-regularized least squares",
        32,
        ConeSizes(nonnegative=100, second_order=(31,)),
        _lasso,
    ),
    Family("power", "3-norm regression", 32, ConeSizes(power=(1 / 3,) * 30), _power),
)
