"""Random cone programs: with interior points, around a known solution, infeasible and unbounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

import jaxopt_layers as jl
from tests.helpers import cone_geometry as geometry
from tests.helpers.cone_geometry import DUAL, blocks

#: A, b, c and, where there is one, P, as float64 arrays.
Data = dict[str, np.ndarray]
# Of the optimality conditions' Jacobian at a known solution.
SMALLEST_SINGULAR_VALUE = 0.03

OUTPUTS = ("x", "y", "s", "objective", "dual_objective")


@dataclass(frozen=True)
class Case:
    """A product of cones with one shape of program, so that it compiles once."""

    name: str
    cones: jl.Cones
    n: int
    quadratic: str | None = "dense"


#: The table. A new product joins by one line.
CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("nonnegative", jl.Cones(zero=1, nonnegative=6), 4, "diagonal"),
        Case("second_order", jl.Cones(zero=1, second_order=(4, 3, 4)), 6),
        Case("psd", jl.Cones(zero=1, psd=(3, 2)), 6, None),
        Case("exponential", jl.Cones(zero=1, exponential=2), 4),
        Case("dual_exponential", jl.Cones(zero=1, dual_exponential=2), 4, None),
        Case("power", jl.Cones(zero=1, power=(0.3, 0.8)), 4),
        Case("dual_power", jl.Cones(zero=1, power=(-0.3, -0.6)), 4, "diagonal"),
        Case("few", jl.Cones(zero=1, nonnegative=2, second_order=(3,), exponential=1), 5),
        Case(
            "mixed",
            jl.Cones(
                zero=1,
                nonnegative=2,
                second_order=(3,),
                psd=(2,),
                exponential=1,
                dual_exponential=1,
                power=(-0.7, 0.4),
            ),
            9,
        ),
    )
}


def interior_points(rng: np.random.Generator, cones: jl.Cones) -> tuple[np.ndarray, np.ndarray]:
    """s inside K and y inside K*."""
    s, y = np.zeros(cones.size), np.zeros(cones.size)
    for block in blocks(cones):
        arguments = block.size, block.parameter
        s[block.rows] = geometry.interior_point(rng, block.kind, *arguments)
        dual = DUAL.get(block.kind, block.kind)
        y[block.rows] = geometry.interior_point(rng, dual, *arguments)
    return s, y


def _quadratic(rng: np.random.Generator, case: Case) -> np.ndarray | None:
    if case.quadratic is None:
        return None
    if case.quadratic == "diagonal":
        return rng.uniform(0.5, 2, size=case.n)
    factor = rng.normal(size=(case.n, case.n))
    return factor @ factor.T / case.n + 0.1 * np.eye(case.n)


def quadratic_product(P: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    """P x."""
    if P is None:
        return np.zeros_like(x)
    return P * x if P.ndim == 1 else P @ x


def _program(
    A: np.ndarray, P: np.ndarray | None, x: np.ndarray, s: np.ndarray, y: np.ndarray
) -> Data:
    """The program for which (x, s) and y are feasible."""
    data = {"A": A, "b": A @ x + s, "c": -quadratic_product(P, x) - A.T @ y}
    return data if P is None else data | {"P": P}


def feasible_program(rng: np.random.Generator, case: Case) -> Data:
    """One that has points inside both cones, and so a solution."""
    A, x = rng.normal(size=(case.cones.size, case.n)), rng.normal(size=case.n)
    return _program(A, _quadratic(rng, case), x, *interior_points(rng, case.cones))


def known_program(rng: np.random.Generator, case: Case) -> tuple[Data, dict[str, np.ndarray]]:
    """One made around a strictly complementary solution, and that solution.

    The conditions' Jacobian there is not close to singular, so that the solution is unique and a
    smooth function of the data, with derivatives that differences can be compared to.
    """
    cones = case.cones
    while True:
        pairs = [geometry.random_pair(rng, block) for block in blocks(cones)]
        s, y = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        A, x = rng.normal(size=(cones.size, case.n)), rng.normal(size=case.n)
        P = _quadratic(rng, case)
        data = _program(A, P, x, s, y)
        value = 0.5 * x @ quadratic_product(P, x) + data["c"] @ x
        solution = {"x": x, "y": y, "s": s, "objective": value, "dual_objective": value}
        residual, _, u = conditions(data, cones, solution)
        singular = np.linalg.svd(geometry.jacobian(residual, u), compute_uv=False)
        if singular.min() > SMALLEST_SINGULAR_VALUE:
            return data, solution


def conditions(
    data: Data, cones: jl.Cones, start: dict[str, np.ndarray]
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], tuple], np.ndarray]:
    """``(Px + c + A'y, Ax + s - b)`` as a function of x and of coordinates of complementary pairs.

    With it the map from the coordinates to (x, y, s), and the coordinates of `start`.
    """
    n, P = len(data["c"]), data.get("P")
    pair, coordinates = geometry.pairs_near(cones, start["s"], start["y"])

    def point(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        s, y = pair(u[n:])
        return u[:n], y, s

    def residual(u: np.ndarray) -> np.ndarray:
        x, y, s = point(u)
        dual = quadratic_product(P, x) + data["c"] + data["A"].T @ y
        return np.concatenate([dual, data["A"] @ x + s - data["b"]])

    return residual, point, np.concatenate([start["x"], coordinates])


def infeasible_program(rng: np.random.Generator, case: Case) -> Data:
    """One with a y inside K* such that A'y = 0 and b'y = -1, and with a feasible dual."""
    data = feasible_program(rng, case)
    _, y = interior_points(rng, case.cones)
    A, b = data["A"], rng.normal(size=case.cones.size)
    A = A - np.outer(y, y @ A) / (y @ y)
    b = b - y * (b @ y + 1) / (y @ y)
    x, (_, other) = rng.normal(size=case.n), interior_points(rng, case.cones)
    P = data.get("P")
    return data | {"A": A, "b": b, "c": -quadratic_product(P, x) - A.T @ other}


def unbounded_program(rng: np.random.Generator, case: Case) -> Data:
    """One with a ray: Ax + s = 0 with s inside K, Px = 0 and c'x = -1; feasible."""
    data = feasible_program(rng, case)
    ray, (s, _) = rng.normal(size=case.n), interior_points(rng, case.cones)
    if case.quadratic == "diagonal":
        ray[::2] = 0
    size = ray @ ray
    A = data["A"] - np.outer(data["A"] @ ray + s, ray) / size
    c = rng.normal(size=case.n)
    c = c - ray * (c @ ray + 1) / size
    inside, _ = interior_points(rng, case.cones)
    data |= {"A": A, "b": A @ rng.normal(size=case.n) + inside, "c": c}
    if "P" in data:
        if data["P"].ndim == 1:
            data["P"] = np.where(ray == 0, data["P"], 0)
        else:
            projector = np.eye(case.n) - np.outer(ray, ray) / size
            product = projector @ data["P"] @ projector
            data["P"] = (product + product.T) / 2
    return data


def stack(programs: Sequence[Data]) -> Data:
    """Programs of one shape as one batch, for `jax.vmap`."""
    return {name: np.stack([program[name] for program in programs]) for name in programs[0]}
