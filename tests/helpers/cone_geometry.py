"""The cones in NumPy, apart from the package: blocks, interior points, distances, complementary pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import jaxopt_layers as jl

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Block:
    """One cone: its kind, its rows, and the dimension, side or exponent that it has."""

    kind: str
    rows: slice
    parameter: float = 0.0

    @property
    def size(self) -> int:
        return self.rows.stop - self.rows.start


def blocks(cones: jl.Cones) -> list[Block]:
    """The cones in the order of their rows, read from the fields alone."""
    parts: list[tuple[str, int, float]] = []
    parts += [("zero", cones.zero, 0)] * bool(cones.zero)
    parts += [("nonnegative", cones.nonnegative, 0)] * bool(cones.nonnegative)
    parts += [("second_order", size, size) for size in cones.second_order]
    parts += [("psd", side * (side + 1) // 2, side) for side in cones.psd]
    parts += [("exponential", 3, 0)] * cones.exponential
    parts += [("dual_exponential", 3, 0)] * cones.dual_exponential
    parts += [("power" if a > 0 else "dual_power", 3, abs(a)) for a in cones.power]
    ends = np.cumsum([0, *(size for _, size, _ in parts)])
    return [
        Block(kind, slice(int(start), int(start) + size), parameter)
        for (kind, size, parameter), start in zip(parts, ends, strict=False)
    ]


DUAL = {
    "zero": "free",
    "exponential": "dual_exponential",
    "dual_exponential": "exponential",
    "power": "dual_power",
    "dual_power": "power",
}


def matrix(v: np.ndarray) -> np.ndarray:
    """The symmetric matrix of its lower triangle by columns, off-diagonals times sqrt 2."""
    side = int(np.sqrt(2 * len(v)))
    lower = np.zeros((side, side))
    lower[np.triu_indices(side)[::-1]] = v
    diagonal = np.diag(np.diag(lower))
    return (lower - diagonal + (lower - diagonal).T) / np.sqrt(2) + diagonal


def vector(symmetric: np.ndarray) -> np.ndarray:
    """The inverse of `matrix`."""
    side = len(symmetric)
    rows, columns = np.triu_indices(side)[::-1]
    return symmetric[rows, columns] * np.where(rows == columns, 1, np.sqrt(2))


# --- points of one cone ----------------------------------------------------------------------


def interior_point(rng: np.random.Generator, kind: str, size: int, parameter: float) -> np.ndarray:
    """A point well inside; of the zero cone zero, of its dual anything."""
    if kind in ("zero", "free"):
        return np.zeros(size) if kind == "zero" else rng.normal(size=size)
    depth = 0.2 + rng.exponential()
    if kind == "nonnegative":
        return 0.2 + rng.exponential(size=size)
    if kind == "second_order":
        tail = rng.normal(size=size - 1)
        return np.concatenate([[np.linalg.norm(tail) + depth], tail])
    if kind == "psd":
        factor = rng.normal(size=(int(parameter), int(parameter)))
        return vector(factor @ factor.T / parameter + 0.2 * np.eye(int(parameter)))
    if kind in ("exponential", "dual_exponential"):
        x, y = rng.normal(), 0.3 + rng.exponential()
        return _from_primal(kind, np.array([x, y, y * np.exp(x / y) + depth]), parameter)
    x, y = 0.3 + rng.exponential(size=2)
    height = x**parameter * y ** (1 - parameter)
    return _from_primal(kind, np.array([x, y, rng.uniform(-0.8, 0.8) * height]), parameter)


def to_primal(kind: str, parameter: float) -> np.ndarray:
    """The matrix that maps a dual exponential or power cone onto the primal one."""
    if kind == "dual_exponential":  # -u exp(v/u) <= e w  is  -u exp((u - v)/-u) <= w
        return np.array([[1.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    if kind == "dual_power":
        return np.diag([1 / parameter, 1 / (1 - parameter), 1.0])
    return np.eye(3)


def _from_primal(kind: str, v: np.ndarray, parameter: float) -> np.ndarray:
    return np.linalg.solve(to_primal(kind, parameter), v)


def distance(kind: str, v: np.ndarray, parameter: float) -> float:
    """An upper bound on the distance to the cone, close to it near the boundary; zero inside."""
    if kind == "free" or len(v) == 0:
        return 0.0
    if kind == "zero":
        return float(np.max(np.abs(v)))
    if kind == "nonnegative":
        return float(max(np.max(-v), 0))
    if kind == "second_order":
        return float(max(np.linalg.norm(v[1:]) - v[0], 0))
    if kind == "psd":
        return float(max(-np.linalg.eigvalsh(matrix(v))[0], 0))
    map_ = to_primal(kind, parameter)
    x, y, z = map_ @ v
    # The map shortens no vector by more than the smallest singular value.
    unit = 1 / np.linalg.svd(map_)[1].min()
    ways = [np.inf]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if kind in ("exponential", "dual_exponential"):
            ways.append(np.linalg.norm([max(x, 0), y, max(-z, 0)]))  # to the face y = 0
            if y > 0:
                ways.append(max(y * np.exp(x / y) - z, 0))
                if z > 0:
                    ways.append(max(x - y * np.log(z / y), 0))
        else:
            outside = np.linalg.norm(np.minimum([x, y], 0))
            x, y = max(x, 0), max(y, 0)
            ways.append(outside + max(abs(z) - x**parameter * y ** (1 - parameter), 0))
            if y > 0:
                ways.append(
                    outside + max((abs(z) / y ** (1 - parameter)) ** (1 / parameter) - x, 0)
                )
            if x > 0:
                ways.append(outside + max((abs(z) / x**parameter) ** (1 / (1 - parameter)) - y, 0))
    return float(unit * np.nanmin(ways))


def cone_distance(cones: jl.Cones, v: np.ndarray) -> float:
    """The largest `distance` of the cones' rows."""
    parts = [distance(block.kind, v[block.rows], block.parameter) for block in blocks(cones)]
    return max(parts, default=0.0)


def dual_distance(cones: jl.Cones, v: np.ndarray) -> float:
    """The same to the dual cone."""
    parts = [
        distance(DUAL.get(block.kind, block.kind), v[block.rows], block.parameter)
        for block in blocks(cones)
    ]
    return max(parts, default=0.0)


# --- complementary pairs ---------------------------------------------------------------------
# Near a strictly complementary solution the pairs (s, y) of a cone are a smooth surface of as many
# dimensions as the cone has rows; `chart` gives coordinates on it.


def random_pair(rng: np.random.Generator, block: Block) -> Pair:
    """A strictly complementary pair, both on the boundary where the cone has more than one row."""
    kind, size, parameter = block.kind, block.size, block.parameter
    if kind == "zero":
        return np.zeros(size), rng.normal(size=size)
    lengths = 0.3 + rng.exponential(size=2)
    if kind == "nonnegative":
        active = np.arange(size) % 2 == 0
        values = 0.3 + rng.exponential(size=size)
        return np.where(active, 0, values), np.where(active, values, 0)
    if kind == "second_order":
        if size == 1:
            return np.zeros(1), lengths[:1]
        tail = rng.normal(size=size - 1)
        tail /= np.linalg.norm(tail)
        return lengths[0] * np.append(1, tail), lengths[1] * np.append(1, -tail)
    if kind == "psd":
        side = int(parameter)
        basis = np.linalg.qr(rng.normal(size=(side, side)))[0]
        values = 0.3 + rng.exponential(size=side)
        first = np.arange(side) < (side + 1) // 2
        s, y = (basis * np.where(chosen, values, 0) @ basis.T for chosen in (first, ~first))
        return vector(s), vector(y)
    t = rng.normal() if "exponential" in kind else rng.uniform(-1, 1)
    chart = Chart(kind, parameter, "boundary", 1.0 if rng.random() < 0.5 else -1.0)
    return chart.pair(np.append(lengths, t))


@dataclass(frozen=True)
class Chart:
    """Coordinates of the complementary pairs of one cone: s - y, or (sigma, tau, t) at rays of it."""

    kind: str
    parameter: float
    part: str = "difference"
    sign: float = 1.0

    def pair(self, u: np.ndarray) -> Pair:
        if self.part == "boundary":
            ray, normal = _rays(self.kind, self.parameter, self.sign, u[2])
            return u[0] * ray, u[1] * normal
        if self.part == "inside":
            return u, 0 * u
        if self.part == "outside":
            return 0 * u, u
        s = _project(self.kind, u)
        return s, s - u


def chart_at(block: Block, s: np.ndarray, y: np.ndarray) -> tuple[Chart, np.ndarray]:
    """The chart around a pair, and the pair's coordinates."""
    kind, parameter = block.kind, block.parameter
    if kind in ("zero", "nonnegative", "second_order", "psd"):
        return Chart(kind, parameter), s - y
    small = 1e-6 * (np.linalg.norm(s) + np.linalg.norm(y))
    if np.linalg.norm(y) < small:
        return Chart(kind, parameter, "inside"), s
    if np.linalg.norm(s) < small:
        return Chart(kind, parameter, "outside"), y
    primal = y if kind.startswith("dual") else s
    t = np.log(primal[2] / primal[1]) if "exponential" in kind else np.log(primal[0] / primal[1])
    if not abs(t) < 20:
        raise ValueError("the pair stands on a face that has no chart")
    chart = Chart(kind, parameter, "boundary", float(np.sign(primal[2])))
    ray, normal = _rays(kind, parameter, chart.sign, t)
    lengths = [v @ w / (w @ w) for v, w in ((s, ray), (y, normal))]
    return chart, np.array([*lengths, t])


def pairs_near(
    cones: jl.Cones, s: np.ndarray, y: np.ndarray
) -> tuple[Callable[[np.ndarray], Pair], np.ndarray]:
    """The complementary pairs of a product around one, as a function of coordinates; that one's."""
    parts = blocks(cones)
    found = [chart_at(part, s[part.rows], y[part.rows]) for part in parts]

    def pair(u: np.ndarray) -> Pair:
        pairs = [chart.pair(u[part.rows]) for (chart, _), part in zip(found, parts, strict=True)]
        first, second = (np.concatenate(group) for group in zip(*pairs, strict=True))
        return first, second

    return pair, np.concatenate([coordinates for _, coordinates in found])


def _rays(kind: str, a: float, sign: float, t: float) -> Pair:
    """Of s and of y: a ray of the curved boundary and the normal there, swapped for a dual cone."""
    if "exponential" in kind:
        ray, normal = (t, 1.0, np.exp(t)), (-np.exp(t), (t - 1) * np.exp(t), 1.0)
    else:
        b = 1 - a
        ray = (np.exp(b * t), np.exp(-a * t), sign)
        normal = (a * np.exp(-b * t), b * np.exp(a * t), -sign)
    pair = np.array(ray), np.array(normal)
    return pair[::-1] if kind.startswith("dual") else pair  # type: ignore[return-value]


def _project(kind: str, v: np.ndarray) -> np.ndarray:
    if kind == "zero":
        return 0 * v
    if kind == "nonnegative":
        return np.maximum(v, 0)
    if kind == "psd":
        values, vectors = np.linalg.eigh(matrix(v))
        return vector(vectors * np.maximum(values, 0) @ vectors.T)
    length = np.linalg.norm(v[1:])
    high, low = max(v[0] + length, 0), max(v[0] - length, 0)
    direction = v[1:] / length if length > 0 else v[1:]
    return np.concatenate([[(high + low) / 2], (high - low) / 2 * direction])


def jacobian(function: Callable[[np.ndarray], np.ndarray], u: np.ndarray) -> np.ndarray:
    """By central differences: good to some nine digits."""
    step = 1e-5
    columns = [
        (function(u + step * e) - function(u - step * e)) / (2 * step) for e in np.eye(len(u))
    ]
    return np.array(columns).T
