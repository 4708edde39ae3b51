"""Gradients of every output of `solve_cone` in every input, against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.cone_oracles import Solution, newton
from tests.helpers.cone_problems import OUTPUTS, Case, Data
from tests.helpers.gradients import random_direction
from tests.helpers.oracles import central_difference

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


def differences(case: Case, data: Data, solution: Solution, step: float = 1e-4) -> dict[str, list]:
    """By input, random directions with the derivative of the solution along them.

    Of Newton's method from the known solution, whose results are accurate to the last digits and
    checked against the optimality conditions: truncation and rounding leave about 1e-9.
    """
    rng = np.random.default_rng(8)
    found = {}
    for name, array in data.items():
        found[name] = []
        for _ in range(DIRECTIONS):
            direction = random_direction(rng, "Q" if name == "P" else name, array)
            moved = central_difference(
                lambda given: newton(given, case.cones, solution), data, {name: direction}, step
            )
            found[name].append((direction, moved))
    return found


def worst_error(
    stacked: dict[str, np.ndarray], gradients: dict[str, Any], expected: dict[str, list]
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
