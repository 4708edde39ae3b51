"""Batches of random QPs, made by NumPy from a seed and the same for every solver.

`minimize 1/2 x'Qx + q'x  subject to  Ax = b,  Gx <= h,  lower <= x`, in the package's own signs
(`Qx + q + A'y + G'z = 0`, `z >= 0`).  An array without a batch axis is shared by the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NAMES = ("Q", "q", "A", "b", "G", "h")


@dataclass(frozen=True)
class Shape:
    """One row of the benchmark: a kind of problem and its size."""

    name: str
    kind: str  # "random", "simplex" or "sudoku"
    n: int
    inequalities: int
    equalities: int
    batch: int

    def __str__(self) -> str:
        sizes = f"n={self.n}, {self.inequalities} ineq, {self.equalities} eq, batch {self.batch}"
        return f"{self.name} ({sizes})"


def _random(n: int, inequalities: int, equalities: int, batch: int) -> Shape:
    name = f"{n}-{inequalities}-{equalities}-b{batch}"
    return Shape(name, "random", n, inequalities, equalities, batch)


SHAPES = (
    _random(10, 10, 0, 1),
    _random(10, 10, 5, 128),
    _random(50, 50, 10, 128),
    _random(100, 100, 0, 128),
    _random(200, 200, 50, 16),
    _random(500, 500, 50, 1),
    Shape("simplex", "simplex", 1000, 1000, 1, 32),
    Shape("sudoku", "sudoku", 64, 64, 40, 150),
)


def find_shape(name: str) -> Shape:
    """The shape of that name, or one spelled n-inequalities-equalities-bBATCH."""
    for shape in SHAPES:
        if shape.name == name:
            return shape
    try:
        n, inequalities, equalities, batch = name.split("-")
        return _random(int(n), int(inequalities), int(equalities), int(batch.removeprefix("b")))
    except ValueError:
        known = ", ".join(shape.name for shape in SHAPES)
        raise ValueError(f"unknown shape {name!r}: one of {known}, or like 20-20-5-b8") from None


@dataclass(frozen=True)
class Batch:
    """The data of one shape.  `G`, `h` are None where the inequalities are the bound `lower`."""

    shape: Shape
    Q: Array  # (batch, n, n), or (n,) for a shared diagonal
    q: Array
    A: Array | None
    b: Array | None
    G: Array | None
    h: Array | None
    lower: Array | None
    differentiate: tuple[str, ...]
    cotangent: Array  # of x, (batch, n)
    solution: Array | None  # x where it is known

    def arguments(self) -> dict[str, Array]:
        """What is there, by the names of `solve_qp`'s arguments."""
        named = {name: getattr(self, name) for name in (*NAMES, "lower")}
        return {name: value for name, value in named.items() if value is not None}

    def dense(self) -> dict[str, Array]:
        """The same for solvers that know only full matrices: all six, none of them None."""
        n, dtype = self.shape.n, self.q.dtype
        full = {name: getattr(self, name) for name in NAMES}
        if self.Q.ndim == 1:
            full["Q"] = np.diag(self.Q)
        if self.A is None:
            full["A"], full["b"] = np.zeros((0, n), dtype), np.zeros(0, dtype)
        if self.lower is not None:
            full["G"], full["h"] = -np.eye(n, dtype=dtype), -self.lower
        return full

    def members(self) -> list[dict[str, Array]]:
        """The batch as a list of single dense problems (views where the data allow)."""
        full = self.dense()
        return [
            {name: pick(name, value, i) for name, value in full.items()}
            for i in range(self.shape.batch)
        ]


def is_batched(name: str, array: Array) -> bool:
    """Whether an array of that name has a batch axis (a diagonal Q is always shared here)."""
    return array.ndim == (3 if name in "QAG" else 2)


def pick(name: str, array: Array, member: int) -> Array:
    """One member's array."""
    return array[member] if is_batched(name, array) else array


def make_batch(shape: Shape, seed: int = 0, dtype: str = "float64") -> Batch:
    """The batch of that shape; equal arguments give equal data."""
    rng = np.random.default_rng([seed, shape.n, shape.inequalities, shape.equalities, shape.batch])
    makers = {"random": _make_random, "simplex": _make_simplex, "sudoku": _make_sudoku}
    fields = makers[shape.kind](shape, rng)
    fields["cotangent"] = rng.standard_normal((shape.batch, shape.n))
    arrays = {
        name: value.astype(dtype) if isinstance(value, np.ndarray) else value
        for name, value in fields.items()
    }
    blank: dict[str, Any] = dict.fromkeys(("A", "b", "G", "h", "lower", "solution"))
    return Batch(shape=shape, **(blank | arrays))


def _make_random(shape: Shape, rng: np.random.Generator) -> dict[str, Any]:
    """Well-posed QPs with a solution chosen beforehand.

    Half of the inequalities are active (fewer where that would leave x no freedom), with
    multipliers and slacks bounded away from zero, so that the solution is unique, strictly
    complementary and differentiable, and the error in x can be measured.
    """
    n, m, p, batch = shape.n, shape.inequalities, shape.equalities, shape.batch
    active = min(m // 2, max(n - p - 1, 0))
    M = rng.standard_normal((batch, n, n))
    Q = M @ M.transpose(0, 2, 1) / n + 1e-2 * np.eye(n)
    G, A = rng.standard_normal((batch, m, n)), rng.standard_normal((batch, p, n))
    x, y = rng.standard_normal((batch, n)), rng.standard_normal((batch, p))
    margin = 0.1 + np.abs(rng.standard_normal((batch, m)))
    order = rng.permuted(np.broadcast_to(np.arange(m), (batch, m)), axis=1)
    z, s = np.where(order < active, margin, 0.0), np.where(order < active, 0.0, margin)
    gradient = np.einsum("bij,bj->bi", Q, x)
    gradient += np.einsum("bij,bi->bj", G, z) + np.einsum("bij,bi->bj", A, y)
    fields = {"Q": Q, "q": -gradient, "solution": x, "differentiate": NAMES}
    fields["G"], fields["h"] = G, np.einsum("bij,bj->bi", G, x) + s
    if p:
        fields["A"], fields["b"] = A, np.einsum("bij,bj->bi", A, x)
    else:
        fields["differentiate"] = ("Q", "q", "G", "h")
    return fields


def _make_simplex(shape: Shape, rng: np.random.Generator) -> dict[str, Any]:
    """Projection of y on the probability simplex (sparsemax of n logits)."""
    n, batch = shape.n, shape.batch
    y = rng.standard_normal((batch, n))
    descending = -np.sort(-y, axis=1)
    thresholds = (np.cumsum(descending, axis=1) - 1.0) / np.arange(1, n + 1)
    support = np.sum(descending > thresholds, axis=1, keepdims=True)
    solution = np.maximum(y - np.take_along_axis(thresholds, support - 1, axis=1), 0.0)
    fields: dict[str, Any] = {"Q": np.ones(n), "q": -y, "A": np.ones((1, n)), "b": np.ones(1)}
    return fields | {"lower": np.zeros(n), "solution": solution, "differentiate": ("q",)}


def _make_sudoku(shape: Shape, rng: np.random.Generator) -> dict[str, Any]:
    """OptNet's layer for 4x4 Sudoku: one A and b for the batch, feasible by b = A z0, z0 > 0."""
    n, p, batch = shape.n, shape.equalities, shape.batch
    A = rng.random((p, n))
    puzzle = np.zeros((batch, 16, n // 16))
    hints = rng.integers(0, n // 16, (batch, 16))
    np.put_along_axis(puzzle, hints[..., None], 1.0, axis=2)
    puzzle *= rng.random((batch, 16, 1)) < 0.5
    fields = {"Q": np.full(n, 0.1), "q": -puzzle.reshape(batch, n), "A": A}
    fields["b"] = A @ np.exp(0.1 * rng.standard_normal(n))
    return fields | {"lower": np.zeros(n), "differentiate": ("q", "A", "b")}
