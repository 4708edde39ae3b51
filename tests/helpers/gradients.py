"""Gradients of every output in every input, against central differences of Clarabel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.helpers.oracles import Solution, central_difference, clarabel_qp
from tests.helpers.problems import OUTPUTS, Data

# Random cotangents an output, and random directions an input.
COTANGENTS, DIRECTIONS = 3, 3


def random_direction(rng: np.random.Generator, name: str, array: np.ndarray) -> np.ndarray:
    """A direction for one input, each entry in proportion to the data's; infinite ones stay."""
    direction = rng.normal(size=array.shape)
    if name == "Q" and array.ndim == 2:
        direction = (direction + direction.T) / 2
    size = np.where(array == 0, 1, np.abs(array))
    return np.where(np.isfinite(array), direction * np.where(np.isfinite(size), size, 0), 0)


def random_cotangents(
    rng: np.random.Generator,
    shapes: dict[str, tuple[int, ...]],
    units: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """A stack that asks for one output after another: COTANGENTS rows of the first, then the next.

    Entries are in proportion to one over the output's units, one by default.
    """
    stacked = {}
    for position, (name, shape) in enumerate(shapes.items()):
        rows = np.zeros((len(shapes) * COTANGENTS, *shape))
        first = position * COTANGENTS
        drawn = rng.normal(size=(COTANGENTS, *shape))
        rows[first : first + COTANGENTS] = drawn / (units or {}).get(name, 1)
        stacked[name] = rows
    return stacked


def gradient_errors(
    rng: np.random.Generator,
    data: Data,
    inputs: Sequence[str],
    outputs: Sequence[str],
    cotangents: dict[str, np.ndarray],
    gradients: dict[str, np.ndarray],
    step: float = 1e-4,
) -> dict[tuple[str, str], tuple[float, float]]:
    """By output and input, the error of the gradients and what they should be: both norms.

    For each pair the cotangents times the derivative times random directions make a small matrix,
    whose Frobenius norms are given. Where the derivative is zero the second is rounding.
    """
    names = list(OUTPUTS)
    errors = {}
    for name in inputs:
        moved = [random_direction(rng, name, data[name]) for _ in range(DIRECTIONS)]
        differences = [_clarabel_difference(data, name, direction, step) for direction in moved]
        for output in outputs:
            first = names.index(output) * COTANGENTS
            rows = slice(first, first + COTANGENTS)
            got = np.array([[np.sum(g * d) for d in moved] for g in gradients[name][rows]])
            want = np.array(
                [[np.sum(c * d[output]) for d in differences] for c in cotangents[output][rows]]
            )
            errors[output, name] = float(np.linalg.norm(got - want)), float(np.linalg.norm(want))
    return errors


def _clarabel_difference(data: Data, name: str, direction: np.ndarray, step: float) -> Solution:
    return central_difference(lambda given: clarabel_qp(**given), data, {name: direction}, step)
