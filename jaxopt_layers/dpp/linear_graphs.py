"""Affine atoms on entries: moves, sums and products with what doesn't depend on variables.

Every function takes the graph under construction, the expression, and its arguments as affine expressions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxopt_layers.dpp.affine import Affine, concatenate
from jaxopt_layers.dpp.affine import product as _product
from jaxopt_layers.dpp.expression import Expression


def rearrange(graph: Any, e: Expression, *arguments: Affine) -> Affine:
    whole = concatenate(list(arguments))
    index = e.attributes.get("index")
    return whole.take(np.arange(e.size).reshape(e.shape) if index is None else index)


def linear_map(graph: Any, e: Expression, x: Affine) -> Affine:
    row, source, value = e.attributes["entries"]
    return x.mapped(row, source, value, e.shape)


def add(graph: Any, e: Expression, x: Affine, y: Affine) -> Affine:
    return x + y


def subtract(graph: Any, e: Expression, x: Affine, y: Affine) -> Affine:
    return x - y


def negate(graph: Any, e: Expression, x: Affine) -> Affine:
    return -x


def multiply(graph: Any, e: Expression, x: Affine, y: Affine) -> Affine:
    x, y = x.broadcast(e.shape), y.broadcast(e.shape)
    key = np.arange(e.size)
    zero = np.zeros(e.size, int)
    return _product(graph.theta, x, key, y, key, e.size, (key, zero), e.shape)


def divide(graph: Any, e: Expression, x: Affine, y: Affine) -> Affine:
    return multiply(graph, e, x, graph.reciprocal(e.arguments[1]))


def matmul(graph: Any, e: Expression, x: Affine, y: Affine) -> Affine:
    left, right, keys, target = _contraction(e, x, y)
    return _product(graph.theta, x, left, y, right, keys, target, e.shape)


def _contraction(e: Expression, x: Affine, y: Affine) -> Any:
    """Keys and target rows of a `dot_general`, by the row of either operand."""
    (lc, rc), (lb, rb) = e.attributes["dimension_numbers"]

    def split(shape: tuple[int, ...], contract: Any, batch: Any) -> tuple[np.ndarray, ...]:
        grid = np.indices(shape).reshape(len(shape), -1)
        free = [i for i in range(len(shape)) if i not in contract and i not in batch]

        def flat(axes: Any) -> np.ndarray:
            index = np.zeros(grid.shape[1], int)
            for axis in axes:
                index = index * shape[axis] + grid[axis]
            return index

        return flat(batch), flat(contract), flat(free)

    b, k, i = split(x.shape, lc, lb)
    b2, k2, j = split(y.shape, rc, rb)
    inner = int(np.prod([x.shape[a] for a in lc], dtype=int))
    batches = int(np.prod([x.shape[a] for a in lb], dtype=int))
    rows = x.size // max(inner * batches, 1)
    cols = y.size // max(inner * batches, 1)
    target = (b * rows * cols + i * cols, j)
    return b * inner + k, b2 * inner + k2, batches * inner, target


def bilinear(graph: Any, e: Expression, x: Affine, y: Affine) -> Affine:
    row, left, right, value = e.attributes["tensor"]
    terms = len(row)
    key = np.arange(terms)
    picked, other = x.reshape(-1).take(left).scaled(value), y.reshape(-1).take(right)
    zero = np.zeros(terms, int)
    result = _product(graph.theta, picked, key, other, key, terms, (row, zero), e.shape)
    return result.merged()
