"""Semidefinite programs in SDPA's sparse format (.dat-s), and DIMACS's measures of their solutions.

A file holds c and the symmetric, block-diagonal matrices F_0, ..., F_m of

    (P)  minimize  c'x       subject to  X = x_1 F_1 + ... + x_m F_m - F_0  positive semidefinite,
    (D)  maximize  <F_0, Y>  subject to  <F_i, Y> = c_i,  Y positive semidefinite.

In `solve_cone`'s form, `minimize c'x subject to Ax + s = b, s in K`, that is A = -[svec F_1, ...],
b = -svec F_0, s = svec X and y = svec Y: x is free and small, and no equality is needed.  Diagonal
blocks (a negative size in the file) and blocks of side 1 are nonnegative rows, which stand first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?")


@dataclass(frozen=True)
class SemidefiniteProgram:
    """`minimize c'x subject to Ax + s = b`, s first nonnegative, then the psd blocks' svec."""

    name: str
    A: Matrix
    b: Vector
    c: Vector
    nonnegative: int
    psd: tuple[int, ...]

    @property
    def order(self) -> int:
        """The side of X."""
        return self.nonnegative + sum(self.psd)


@dataclass(frozen=True)
class Dimacs:
    """The six errors of the DIMACS challenge, the largest of the data being what they scale with.

    1 and 2: of (D), its equations and how far Y is from the cone; 3 and 4: of (P), its equations
    and how far X is from the cone; 5: the difference of the objectives; 6: <X, Y>.
    """

    equations_dual: float
    cone_dual: float
    equations_primal: float
    cone_primal: float
    gap: float
    complementarity: float

    def as_list(self) -> list[float]:
        return [float(value) for value in vars(self).values()]


def read(path: Path) -> SemidefiniteProgram:
    """The program of a file; ValueError where the file isn't in the format."""
    lines = _data_lines(path)
    try:
        count = int(_numbers(next(lines))[0])
        blocks = int(_numbers(next(lines))[0])
        sizes = [int(size) for size in _take(lines, blocks)]
        c = np.array(_take(lines, count))
        entries = np.array([row for line in lines if len(row := _numbers(line)) == 5])
    except (StopIteration, IndexError) as error:
        raise ValueError(f"{path}: not a file in SDPA's sparse format") from error
    if len(sizes) != blocks or len(c) != count:
        raise ValueError(f"{path}: {blocks} blocks and {count} variables are announced, not given")
    return _program(path.name.removesuffix(".dat-s"), c, sizes, entries.reshape(-1, 5))


def _data_lines(path: Path) -> Iterator[str]:
    """What is left without the comments, which start with a quote or a star."""
    for line in path.read_text().splitlines():
        if line.strip() and line.lstrip()[0] not in "\"'*":
            yield line


def _numbers(line: str) -> list[float]:
    return [float(word.replace("D", "e").replace("d", "e")) for word in _NUMBER.findall(line)]


def _take(lines: Iterator[str], count: int) -> list[float]:
    """The next `count` numbers, on as many lines as they need."""
    found: list[float] = []
    while len(found) < count:
        found += _numbers(next(lines))
    return found[:count]


def _program(name: str, c: Vector, sizes: list[int], entries: Matrix) -> SemidefiniteProgram:
    """Each entry (matrix, block, i, j, value) to its row and column of -[svec F_0, svec F_1, ...]."""
    is_linear = [size < 0 or size == 1 for size in sizes]
    nonnegative = sum(abs(size) for size, linear in zip(sizes, is_linear, strict=True) if linear)
    psd = tuple(size for size, linear in zip(sizes, is_linear, strict=True) if not linear)
    starts, linear_end, psd_end = [], 0, nonnegative
    for size, linear in zip(sizes, is_linear, strict=True):
        starts.append(linear_end if linear else psd_end)
        if linear:
            linear_end += abs(size)
        else:
            psd_end += size * (size + 1) // 2

    matrix, block, i, j = (entries[:, :4].astype(int) - (0, 1, 1, 1)).T
    side, start = np.abs(np.array(sizes))[block], np.array(starts)[block]
    linear = np.array(is_linear)[block]
    if np.any(linear & (i != j)) or np.any(np.maximum(i, j) >= side):
        raise ValueError(f"{name}: an entry lies outside of its block")
    row, column = np.maximum(i, j), np.minimum(i, j)
    within = column * side - column * (column - 1) // 2 + row - column  # lower triangle by columns
    at = start + np.where(linear, i, within)
    weight = np.where(i == j, 1.0, np.sqrt(2.0))
    data = np.zeros((psd_end, len(c) + 1))
    data[at, matrix] = -weight * entries[:, 4]  # an entry given on both sides is one entry
    return SemidefiniteProgram(name, data[:, 1:].copy(), data[:, 0].copy(), c, nonnegative, psd)


def smallest_eigenvalue(program: SemidefiniteProgram, v: Vector) -> float:
    """Of the block-diagonal matrix whose rows are v."""
    values = [np.min(v[: program.nonnegative], initial=np.inf)]
    start = program.nonnegative
    for side in program.psd:
        end = start + side * (side + 1) // 2
        lower = np.zeros((side, side))
        columns, rows = np.triu_indices(side)
        lower[rows, columns] = v[start:end] / np.where(rows == columns, 1.0, np.sqrt(2.0))
        values.append(np.linalg.eigvalsh(lower)[0])  # which reads the lower triangle only
        start = end
    return float(np.min(values))


def dimacs_errors(program: SemidefiniteProgram, x: Any, y: Any, s: Any) -> Dimacs:
    """Of the point (x, s) and the dual point y, in float64 whatever they came in."""
    x, y, s = (np.asarray(value, dtype=np.float64) for value in (x, y, s))
    A, b, c = program.A, program.b, program.c
    scale_c, scale_b = 1.0 + np.max(np.abs(c)), 1.0 + np.max(np.abs(b))
    objective, dual_objective = c @ x, -(b @ y)
    scale = 1.0 + abs(objective) + abs(dual_objective)
    return Dimacs(
        equations_dual=float(np.linalg.norm(A.T @ y + c) / scale_c),
        cone_dual=max(0.0, -smallest_eigenvalue(program, y) / scale_c),
        equations_primal=float(np.linalg.norm(A @ x + s - b) / scale_b),
        cone_primal=max(0.0, -smallest_eigenvalue(program, s) / scale_b),
        gap=float((objective - dual_objective) / scale),
        complementarity=float(s @ y / scale),
    )
