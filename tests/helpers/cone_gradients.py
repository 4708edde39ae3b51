"""Gradients of every output of `solve_cone` in every input, against central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.helpers.cone_geometry import jacobian
from tests.helpers.cone_oracles import Solution, newton
from tests.helpers.cone_problems import OUTPUTS, Case, Data, conditions, quadratic_product
from tests.helpers.gradients import random_direction
from tests.helpers.oracles import central_difference

#: By input: directions, and the derivatives of the outputs along them.
Expected = dict[str, list[tuple[np.ndarray, Solution]]]

# Random cotangents an output, and random directions an input.
COTANGENTS, DIRECTIONS = 2, 2


def cotangents(case: Case) -> dict[str, np.ndarray]:
    """A stack that asks for one output after another: COTANGENTS rows of the first, then the next."""
    rng = np.random.default_rng(7)
    shapes = {"x": (case.n,), "y": (case.cones.size,), "s": (case.cones.size,)}
    stacked = {}
    for position, name in enumerate(OUTPUTS):
        shape = shapes.get(name, ())
        rows = np.zeros((len(OUTPUTS) * COTANGENTS, *shape))
        first = position * COTANGENTS
        rows[first : first + COTANGENTS] = rng.normal(size=(COTANGENTS, *shape))
        stacked[name] = rows
    return stacked


def differences(case: Case, data: Data, solution: Solution, step: float = 1e-4) -> Expected:
    """By input, random directions with the derivative of the solution along them.

    By differences of Newton's method from the known solution, whose results are accurate to the
    last digits and checked against the optimality conditions. Truncation and rounding leave 1e-8.
    """

    def moved(name: str, direction: np.ndarray) -> Solution:
        return central_difference(
            lambda given: newton(given, case.cones, solution), data, {name: direction}, step
        )

    return _along_directions(data, moved)


def implicit_derivatives(case: Case, data: Data, solution: Solution) -> Expected:
    """The same by the implicit function theorem on the conditions, in coordinates of the pairs.

    For solutions so strongly curved that the differences would have to be too small.
    """
    residual, point, u = conditions(data, case.cones, solution)
    slope = jacobian(residual, u)
    spread = jacobian(lambda u: np.concatenate(point(u)), u)
    n, m = case.n, case.cones.size

    def moved(name: str, direction: np.ndarray) -> Solution:
        changed, _, _ = conditions(data | {name: data[name] + direction}, case.cones, solution)
        change = spread @ np.linalg.solve(slope, residual(u) - changed(u))
        dx, dy, ds = np.split(change, [n, n + m])
        x, y = solution["x"], solution["y"]
        value = {
            "A": lambda: y @ direction @ x,
            "b": lambda: -y @ direction,
            "c": lambda: x @ direction,
            "P": lambda: 0.5 * x @ quadratic_product(direction, x),
        }[name]()  # the Lagrangian's derivative
        return {"x": dx, "y": dy, "s": ds, "objective": value, "dual_objective": value}

    return _along_directions(data, moved)


def _along_directions(data: Data, moved: Callable[[str, np.ndarray], Solution]) -> Expected:
    rng = np.random.default_rng(8)
    found: Expected = {}
    for name, array in data.items():
        kind = "Q" if name == "P" else name  # symmetric
        directions = [random_direction(rng, kind, array) for _ in range(DIRECTIONS)]
        found[name] = [(direction, moved(name, direction)) for direction in directions]
    return found


def worst_error(
    stacked: dict[str, np.ndarray], gradients: dict[str, Any], expected: Expected
) -> dict[tuple[str, str], float]:
    """By output and input, the error of cotangents times derivative times directions, relative."""
    errors = {}
    for position, output in enumerate(OUTPUTS):
        rows = range(position * COTANGENTS, (position + 1) * COTANGENTS)
        for name, directions in expected.items():
            got = [[np.sum(gradients[name][row] * d) for d, _ in directions] for row in rows]
            want = [
                [np.sum(stacked[output][row] * moved[output]) for _, moved in directions]
                for row in rows
            ]
            error = np.linalg.norm(np.subtract(got, want))
            errors[output, name] = float(error / max(np.linalg.norm(want), 1e-3))
    return errors
