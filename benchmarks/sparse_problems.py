"""Sparse programs of practice, made by NumPy and SciPy from a seed and the same for every solver.

Each is feasible and bounded with one solution, at which it is differentiable. The members of a batch have
one pattern and different numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from cone_problems import ConeSizes
from sparse_batch import Batch, Member

Rng = np.random.Generator


@dataclass(frozen=True)
class Problem:
    """What the programs of a batch share: a member is drawn by each call of `draw`."""

    draw: Callable[[], Member]
    cones: ConeSizes | None = None


@dataclass(frozen=True)
class Family:
    """A kind of program: its sizes, and those of a quick run."""

    name: str
    title: str
    batch: int
    make: Callable[..., Problem]
    sizes: dict[str, int] = field(default_factory=dict)
    quick: dict[str, int] = field(default_factory=dict)

    def shrunk(self) -> Family:
        return replace(self, batch=min(self.batch, 2), sizes=self.quick)


def make_batch(family: Family, seed: int = 0) -> Batch:
    """The batch of that family; equal arguments give equal data."""
    rng = np.random.default_rng([seed, *family.name.encode()])
    problem = family.make(rng, **family.sizes)
    members = [problem.draw() for _ in range(family.batch)]
    return Batch.stacked(family.name, problem.cones, members, rng)


def find_family(name: str) -> Family:
    """The family of that name; denoising-LENGTH and control-HORIZON are single ones of that size."""
    for family in FAMILIES:
        if family.name == name:
            return family
    kind, _, size = name.partition("-")
    if kind in _SIZED and size.isdigit():
        family = next(family for family in FAMILIES if family.name == kind)
        sizes = family.sizes | {_SIZED[kind]: int(size)}
        return replace(family, name=name, batch=1, sizes=sizes)
    known = ", ".join(family.name for family in FAMILIES)
    sized = " or ".join(f"{kind}-{size.upper()}" for kind, size in _SIZED.items())
    raise ValueError(f"unknown problem {name!r}: one of {known}, or {sized}")


def _control(rng: Rng, states: int, inputs: int, horizon: int) -> Problem:
    """minimize sum x'x + 0.1 u'u,  x+ = A x + B u,  |u| <= 1/2, |x| <= limit.

    The variables stand stage by stage, (u, x+). The limits leave room for the trajectory without control.
    """

    def draw() -> Member:
        A = np.eye(states) + 0.1 * rng.standard_normal((states, states))
        A *= 0.98 / np.abs(np.linalg.eigvals(A)).max()
        B = rng.standard_normal((states, inputs)) / np.sqrt(states)
        start = 3 * rng.standard_normal(states)
        free = [start]
        for _ in range(horizon):
            free.append(A @ free[-1])
        limit = 1.05 * np.abs(free).max(axis=0)
        own = sparse.kron(sparse.identity(horizon), np.hstack([B, -np.eye(states)]))
        before = sparse.kron(
            sparse.eye(horizon, horizon, -1), np.hstack([np.zeros((states, inputs)), A])
        )
        dynamics = (own + before).tocsr()
        dynamics.eliminate_zeros()
        b = np.zeros(states * horizon)
        b[:states] = -A @ start
        upper = np.tile(np.r_[np.full(inputs, 0.5), limit], horizon)
        return {
            "Q": np.tile(np.r_[np.full(inputs, 0.1), np.ones(states)], horizon),
            "q": np.zeros(len(upper)),
            "A": dynamics,
            "b": b,
            "lower": -upper,
            "upper": upper,
        }

    return Problem(draw)


def _denoising(rng: Rng, length: int) -> Problem:
    """minimize |x - signal|^2 / 2 + lambda sum |x_i+1 - x_i|, with t >= |x_i+1 - x_i|."""
    D = sparse.diags([-1.0, 1.0], [0, 1], shape=(length - 1, length))
    identity = sparse.identity(length - 1)
    G = sparse.bmat([[D, -identity], [-D, -identity]], format="csr")

    def draw() -> Member:
        level = np.cumsum(rng.random(length) < 0.02)  # every fifty entries another
        steps = rng.standard_normal(level[-1] + 1)[level]
        signal = steps + 0.1 * rng.standard_normal(length)
        weight = 0.4 + 0.2 * rng.random()
        return {
            "Q": np.r_[np.ones(length), np.zeros(length - 1)],
            "q": np.r_[-signal, np.full(length - 1, weight)],
            "G": G,
            "h": np.zeros(2 * (length - 1)),
        }

    return Problem(draw)


def _portfolio(rng: Rng, assets: int, factors: int) -> Problem:
    """minimize (w'D w + f'f) / 2 - mu'w,  f = F'w,  sum w = 1,  w >= 0."""

    def draw() -> Member:
        F = rng.standard_normal((factors, assets))
        A = sparse.bmat(
            [[np.ones((1, assets)), None], [F, -sparse.identity(factors)]], format="csr"
        )
        return {
            "Q": np.r_[np.sqrt(factors) * (0.1 + rng.random(assets)), np.ones(factors)],
            "q": np.r_[-0.1 * rng.standard_normal(assets), np.zeros(factors)],
            "A": A,
            "b": np.r_[1.0, np.zeros(factors)],
            "lower": np.r_[np.zeros(assets), np.full(factors, -np.inf)],
        }

    return Problem(draw)


def _lasso(rng: Rng, samples: int, features: int) -> Problem:
    """minimize r'r / 2 + lambda sum t,  F v - r = g,  -t <= v <= t."""
    identity = sparse.identity(features)
    none = sparse.csr_matrix((features, samples))
    G = sparse.bmat([[identity, none, -identity], [-identity, none, -identity]], format="csr")

    def draw() -> Member:
        F = rng.standard_normal((samples, features)) / np.sqrt(samples)
        truth = rng.standard_normal(features) * (rng.random(features) < 0.1)
        g = F @ truth + 0.1 * rng.standard_normal(samples)
        weight = 0.2 * np.abs(F.T @ g).max()
        none = sparse.csr_matrix((samples, features))
        return {
            "Q": np.r_[np.zeros(features), np.ones(samples), np.zeros(features)],
            "q": np.r_[np.zeros(features + samples), np.full(features, weight)],
            "A": sparse.bmat([[F, -sparse.identity(samples), none]], format="csr"),
            "b": g,
            "G": G,
            "h": np.zeros(2 * features),
        }

    return Problem(draw)


def _logistic(rng: Rng, samples: int, features: int) -> Problem:
    """minimize sum_i log(1 + exp u_i) + |w|^2 / 2,  u_i = -d_i f_i'w.

    t >= log(1 + exp u) is exp(u - t) <= first, exp(-t) <= second, first + second <= 1.
    """
    identity, none = sparse.identity(samples), sparse.csr_matrix((samples, features))

    def triples(exponents: sparse.spmatrix, bounds: sparse.spmatrix) -> sparse.csr_matrix:
        """Rows of (exponent, 1, bound), interleaved."""
        middle = sparse.csr_matrix(exponents.shape)
        rows = sparse.vstack([exponents, middle, bounds], format="csr")
        return rows[np.arange(3 * samples).reshape(3, samples).T.ravel()]

    def draw() -> Member:
        F = rng.standard_normal((samples, features))
        noise = 0.5 * rng.standard_normal(samples)
        labels = np.sign(F @ rng.standard_normal(features) + noise)
        margins = sparse.csr_matrix(labels[:, None] * F)
        shape = (samples, samples)
        zeros = sparse.csr_matrix(shape)
        sums = sparse.hstack([none, zeros, identity, identity])
        loss = triples(
            sparse.hstack([margins, identity, zeros, zeros]),
            sparse.hstack([none, zeros, -identity, zeros]),
        )
        rest = triples(
            sparse.hstack([none, identity, zeros, zeros]),
            sparse.hstack([none, zeros, zeros, -identity]),
        )
        unit = np.tile([0.0, 1.0, 0.0], 2 * samples)
        return {
            "A": sparse.vstack([sums, loss, rest], format="csr"),
            "b": np.r_[np.ones(samples), unit],
            "c": np.r_[np.zeros(features), np.ones(samples), np.zeros(2 * samples)],
            "P": np.r_[np.ones(features), np.zeros(3 * samples)],
        }

    return Problem(draw, ConeSizes(nonnegative=samples, exponential=2 * samples))


def _flow(rng: Rng, nodes: int, arcs: int) -> Problem:
    """minimize c'f,  incidence f = supply,  0 <= f <= capacity: a linear program.

    A cycle through all nodes and random arcs; one node's balance follows from the others and is left out.
    """
    extra = arcs - nodes
    tails = np.r_[np.arange(nodes), rng.integers(nodes, size=extra)]
    ahead = np.r_[np.ones(nodes, int), rng.integers(2, nodes, size=extra)]
    heads = (tails + ahead) % nodes
    ends, signs = np.r_[tails, heads], np.r_[np.ones(arcs), -np.ones(arcs)]
    places = (ends, np.r_[np.arange(arcs), np.arange(arcs)])
    incidence = sparse.csr_matrix((signs, places), shape=(nodes, arcs))[:-1]

    def draw() -> Member:
        capacity = 0.5 + rng.random(arcs)
        inside = capacity * rng.random(arcs)
        return {
            "q": 0.1 + rng.random(arcs),
            "A": incidence,
            "b": incidence @ inside,
            "lower": np.zeros(arcs),
            "upper": capacity,
        }

    return Problem(draw)


def _truss(rng: Rng, width: int, height: int, loads: int) -> Problem:
    """minimize sum energy,  B q_l = load_l,  |length * (q_1 .. q_L)|^2 <= 2 energy volume,
    sum volume <= bars,  volume >= 1/5.

    Forces q_l in the bars of a grid that hangs on its left column, one vector for each load; a bar is a
    cone (energy + volume, energy - volume, sqrt 2 length q) (Ben-Tal & Nemirovski 2001, section 3.4).
    """
    x, y = (value.ravel() for value in np.meshgrid(np.arange(width), np.arange(height)))
    first, second = np.triu_indices(width * height, 1)
    steps = np.abs(x[first] - x[second]), np.abs(y[first] - y[second])
    near = (np.gcd(*steps) == 1) & (np.maximum(*steps) <= 2)
    first, second = first[near], second[near]
    bars = len(first)
    edge = np.stack([x[second] - x[first], y[second] - y[first]], axis=1)
    length = np.linalg.norm(edge, axis=1)
    places, weights = [], []
    for node, sign in ((first, 1.0), (second, -1.0)):
        for axis in range(2):
            places.append(np.stack([2 * node + axis, np.arange(bars)]))
            weights.append(sign * edge[:, axis] / length)
    rows, columns = np.concatenate(places, axis=1)
    shape = (2 * width * height, bars)
    balance = sparse.csr_matrix((np.concatenate(weights), (rows, columns)), shape=shape)
    balance.eliminate_zeros()
    balance = balance[np.repeat(x > 0, 2)]
    free = balance.shape[0]
    identity, none = sparse.identity(bars), sparse.csr_matrix((bars, bars))
    # The variables are energy, volume, q_1 .. q_L.
    equilibrium = sparse.hstack(
        [sparse.csr_matrix((loads * free, 2 * bars)), sparse.kron(np.eye(loads), balance)]
    )
    total = np.r_[np.zeros(bars), np.ones(bars), np.zeros(loads * bars)]
    least = sparse.hstack([none, -identity] + [none] * loads)
    order = np.arange((2 + loads) * bars).reshape(2 + loads, bars).T.ravel()

    def draw() -> Member:
        stiffness = 0.8 + 0.4 * rng.random(bars)
        stretch = sparse.diags(-np.sqrt(2 / stiffness) * length)
        cones = [[-identity, -identity], [-identity, identity]]
        blocks = [row + [None] * loads for row in cones]
        for load in range(loads):
            blocks.append([None, None, *(stretch if i == load else None for i in range(loads))])
        rows = sparse.bmat(blocks, format="csr")[order]
        force = rng.standard_normal((loads, free)) * (rng.random((loads, free)) < 0.3)
        force[:, -2:] += [0.0, -1.0]
        return {
            "A": sparse.vstack([equilibrium, total, least, rows], format="csr"),
            "b": np.r_[force.ravel(), bars, np.full(bars, -0.2), np.zeros((2 + loads) * bars)],
            "c": np.r_[np.ones(bars), np.zeros((1 + loads) * bars)],
        }

    sizes = ConeSizes(zero=loads * free, nonnegative=1 + bars, second_order=(2 + loads,) * bars)
    return Problem(draw, sizes)


_SIZED = {"denoising": "length", "control": "horizon"}

FAMILIES = (
    Family(
        "control",
        "model predictive control",
        64,
        _control,
        {"states": 12, "inputs": 4, "horizon": 50},
        {"states": 4, "inputs": 2, "horizon": 6},
    ),
    Family(
        "denoising",
        "total variation, one-dimensional",
        16,
        _denoising,
        {"length": 1000},
        {"length": 40},
    ),
    Family(
        "denoising_long",
        "total variation, one-dimensional",
        1,
        _denoising,
        {"length": 100_000},
        {"length": 200},
    ),
    Family(
        "portfolio",
        "Markowitz portfolio with factors",
        32,
        _portfolio,
        {"assets": 500, "factors": 20},
        {"assets": 30, "factors": 3},
    ),
    Family(
        "lasso",
        "l1-regularized least squares",
        16,
        _lasso,
        {"samples": 200, "features": 500},
        {"samples": 10, "features": 20},
    ),
    Family(
        "logistic",
        "logistic regression",
        32,
        _logistic,
        {"samples": 50, "features": 10},
        {"samples": 12, "features": 3},
    ),
    Family(
        "logistic_large",
        "logistic regression",
        1,
        _logistic,
        {"samples": 1000, "features": 20},
        {"samples": 30, "features": 4},
    ),
    Family(
        "flow",
        "minimum-cost flow",
        8,
        _flow,
        {"nodes": 500, "arcs": 2000},
        {"nodes": 12, "arcs": 40},
    ),
    Family(
        "truss",
        "minimum-compliance truss, second-order cones",
        8,
        _truss,
        {"width": 12, "height": 6, "loads": 2},
        {"width": 4, "height": 3, "loads": 2},
    ),
)
