"""Quadratic parts of the objective: columns that stand for squares become entries of P.

Where each row of x has few variables the square is multiplied out, so that y - x or a difference of
neighbours adds neither variables nor rows; otherwise x gets variables of its own, tied by equalities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxopt_layers.dpp.affine import Affine, expand

_FEW = 2


@dataclass(frozen=True)
class Square:
    """A column for each row of x: its square."""

    x: Affine


@dataclass(frozen=True)
class Form:
    """One column: x'Px, P without variables."""

    x: Affine
    P: Affine


@dataclass
class Pairs:
    """Entries (first column, second column, parameter, value) of a sum of products; -1 is the one."""

    first: np.ndarray
    second: np.ndarray
    parameter: np.ndarray
    value: np.ndarray


def pairs_of(graph: Any, part: Square | Form, row: Any, parameter: Any, value: Any) -> Pairs:
    """The products in part, weighted: entry k weights row[k] by value[k] theta[parameter[k]]."""
    x = part.x.merged()
    counts = np.bincount(x.row[x.column >= 0], minlength=x.size)
    few = _FEW if isinstance(part, Square) else 1
    if counts.max(initial=0) > few:
        stand_in = graph.variable(x.shape)
        graph.zero(stand_in - x)
        x = stand_in
    if isinstance(part, Square):
        weight, left = expand(row, x.size, x.row)  # (weight, entry of x)
        entry, pair = expand(x.row, x.size, x.row[left])
        left, weight = left[pair], weight[pair]
        parameters = times(graph, x.parameter[left], x.parameter[entry])
        parameters = times(graph, parameters, parameter[weight])
        numbers = x.value[left] * x.value[entry] * value[weight]
        return Pairs(x.column[left], x.column[entry], parameters, numbers)
    n = x.size
    i, j = np.divmod(part.P.row, n)
    left, middle = expand(x.row, n, i)
    right, pair = expand(x.row, n, j[middle])
    left, middle = left[pair], middle[pair]
    parameters = times(graph, x.parameter[left], x.parameter[right])
    parameters = times(graph, parameters, part.P.parameter[middle])
    numbers = x.value[left] * x.value[right] * part.P.value[middle]
    first, second = x.column[left], x.column[right]
    k, w = len(first), len(row)  # every weight with every pair
    repeat, tile = np.repeat(np.arange(k), w), np.tile(np.arange(w), k)
    return Pairs(
        first[repeat],
        second[repeat],
        times(graph, parameters[repeat], parameter[tile]),
        numbers[repeat] * value[tile],
    )


def times(graph: Any, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Indices of theta[left] theta[right], where -1 stands for the number one."""
    result = np.maximum(left, right)
    both = np.flatnonzero((left >= 0) & (right >= 0))
    if len(both):
        result[both] = graph.theta.products(left[both], right[both])
    return result
