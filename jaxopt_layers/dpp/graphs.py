"""Graph implementations: each atom as cone rows (Grant & Boyd 2008; the forms are those of textbooks).

Every function takes the graph under construction, the expression, and its arguments as affine expressions;
it returns an affine expression that equals the atom at the optimum. A convex atom's stands above it (its
epigraph), a concave atom's below.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxopt_layers.dpp.affine import Affine, columns, concatenate
from jaxopt_layers.dpp.affine import product as _product
from jaxopt_layers.dpp.expression import Expression
from jaxopt_layers.dpp.linear_graphs import multiply


def _ones(size: int) -> Affine:
    return Affine.of_constant(np.ones(size))


def _trailing(x: Affine) -> Affine:
    """As (k, n): the last axis apart."""
    return x.reshape(-1, x.shape[-1])


# ---- elementwise


def absolute(graph: Any, e: Expression, x: Affine) -> Affine:
    t = graph.variable(e.shape)
    graph.nonnegative(t - x)
    graph.nonnegative(t + x)
    return t


def maximum(graph: Any, e: Expression, *arguments: Affine) -> Affine:
    t = graph.variable(e.shape)
    for x in arguments:
        graph.nonnegative(t - x)
    return t


def minimum(graph: Any, e: Expression, *arguments: Affine) -> Affine:
    t = graph.variable(e.shape)
    for x in arguments:
        graph.nonnegative(x - t)
    return t


def power(graph: Any, e: Expression, x: Affine) -> Affine:
    p = e.attributes["p"]
    if p == 0:
        return Affine.of_constant(np.ones(e.shape))
    if p == 1:
        return x
    if p == 2 and graph.quadratic:
        return graph.square(x)
    t = graph.variable(e.shape)
    flat, top, one = x.reshape(-1), t.reshape(-1), _ones(e.size)
    if p == 2:
        graph.second_order(top + one, columns(top - one, flat.scaled(2.0)))
    elif p == 0.5:
        graph.second_order(flat + one, columns(flat - one, top.scaled(2.0)))
    elif p == -1:
        graph.second_order(flat + top, columns(flat - top, one.scaled(2.0)))
    elif p < 0:
        graph.power(top, flat, one, 1 / (1 - p))
    elif p < 1:
        graph.power(flat, one, top, p)
    else:
        graph.power(top, one, flat, 1 / p)
    if p > 1 and p % 2:
        graph.nonnegative(x)
    return t


def exponential(graph: Any, e: Expression, x: Affine) -> Affine:
    t = graph.variable(e.shape)
    graph.exponential(x, _ones(e.size), t)
    return t


def logarithm(graph: Any, e: Expression, x: Affine) -> Affine:
    t = graph.variable(e.shape)
    graph.exponential(t, _ones(e.size), x)
    return t


def log1p(graph: Any, e: Expression, x: Affine) -> Affine:
    return logarithm(graph, e, x + 1.0)


def logistic(graph: Any, e: Expression, x: Affine) -> Affine:
    return logaddexp(graph, e, x, Affine.of_constant(np.zeros(e.shape)))


def logaddexp(graph: Any, e: Expression, x: Affine, y: Affine) -> Affine:
    """exp(x - t) + exp(y - t) <= 1."""
    t, u, v = (graph.variable(e.shape) for _ in range(3))
    graph.exponential(x - t, _ones(e.size), u)
    graph.exponential(y - t, _ones(e.size), v)
    graph.nonnegative(-(u + v) + 1.0)
    return t


def huber(graph: Any, e: Expression, x: Affine, M: Affine) -> Affine:
    """min n^2 + 2 M |x - n|."""
    n, t = graph.variable(e.shape), graph.variable(e.shape)
    graph.nonnegative(t - (x - n))
    graph.nonnegative(t + (x - n))
    square = graph.square(n) if graph.quadratic else _squared(graph, n)
    return square + multiply(graph, e, t, M).scaled(2.0)


def _squared(graph: Any, x: Affine) -> Affine:
    t = graph.variable(x.shape)
    flat, top, one = x.reshape(-1), t.reshape(-1), _ones(x.size)
    graph.second_order(top + one, columns(top - one, flat.scaled(2.0)))
    return t


def entropy(graph: Any, e: Expression, x: Affine) -> Affine:
    t = graph.variable(e.shape)
    graph.exponential(t, x, _ones(e.size))
    return t


def relative_entropy(graph: Any, e: Expression, x: Affine, y: Affine) -> Affine:
    t = graph.variable(e.shape)
    graph.exponential(-t, x.broadcast(e.shape), y.broadcast(e.shape))
    return t


def kl_div(graph: Any, e: Expression, x: Affine, y: Affine) -> Affine:
    return relative_entropy(graph, e, x, y) - x + y


# ---- along the last axis


def largest(graph: Any, e: Expression, x: Affine) -> Affine:
    t = graph.variable(e.shape)
    graph.nonnegative(t.reshape(-1, 1) - _trailing(x))
    return t


def smallest(graph: Any, e: Expression, x: Affine) -> Affine:
    t = graph.variable(e.shape)
    graph.nonnegative(_trailing(x) - t.reshape(-1, 1))
    return t


def _row_sums(x: Affine, shape: tuple[int, ...]) -> Affine:
    x = _trailing(x)
    return x.sum(np.repeat(np.arange(x.shape[0]), x.shape[1]), shape)


def norm1(graph: Any, e: Expression, x: Affine) -> Affine:
    return _row_sums(_absolute(graph, x), e.shape)


def _absolute(graph: Any, x: Affine) -> Affine:
    t = graph.variable(x.shape)
    graph.nonnegative(t - x)
    graph.nonnegative(t + x)
    return t


def norm2(graph: Any, e: Expression, x: Affine) -> Affine:
    t = graph.variable(e.shape)
    graph.second_order(t.reshape(-1), _trailing(x))
    return t


def norm_inf(graph: Any, e: Expression, x: Affine) -> Affine:
    t = graph.variable(e.shape)
    graph.nonnegative(t.reshape(-1, 1) - _trailing(x))
    graph.nonnegative(t.reshape(-1, 1) + _trailing(x))
    return t


def p_norm(graph: Any, e: Expression, x: Affine) -> Affine:
    """sum r = t with r^(1/p) t^(1-1/p) >= |x| for p > 1; x^p t^(1-p) >= r for p < 1."""
    p = e.attributes["p"]
    if p == 1:
        return norm1(graph, e, x)
    if p == 2:
        return norm2(graph, e, x)
    if np.isinf(p):
        return norm_inf(graph, e, x)
    x = _trailing(x)
    t, r = graph.variable(e.shape), graph.variable(x.shape)
    top = t.reshape(-1, 1).broadcast(x.shape)
    graph.zero(_row_sums(r, e.shape) - t)
    if p > 1:
        graph.power(r, top, x, 1 / p)
    elif p > 0:
        graph.power(x, top, r, p)
    else:
        graph.power(x, r, top, -p / (1 - p))
    return t


def sum_squares(graph: Any, e: Expression, x: Affine) -> Affine:
    if graph.quadratic:
        return _row_sums(graph.square(x), e.shape)
    t = graph.variable(e.shape)
    top, one = t.reshape(-1), _ones(e.size)
    graph.second_order(top + one, _beside(top - one, _trailing(x).scaled(2.0)))
    return t


def _beside(first: Affine, rest: Affine) -> Affine:
    """A column (k,) put before a matrix (k, n)."""
    k, n = rest.shape
    index = np.concatenate([np.arange(k)[:, None], k + np.arange(k * n).reshape(k, n)], axis=1)
    return concatenate([first, rest]).take(index)


def quad_over_lin(graph: Any, e: Expression, x: Affine, y: Affine) -> Affine:
    """|x|^2 <= t y."""
    if graph.quadratic and not e.arguments[1].has_variables:
        squares = sum_squares(graph, e, x)
        return multiply(graph, e, squares, graph.reciprocal(e.arguments[1]))
    t = graph.variable(e.shape)
    top, below = t.reshape(-1), y.broadcast(e.shape).reshape(-1)
    graph.second_order(below + top, _beside(below - top, _trailing(x).scaled(2.0)))
    return t


def log_sum_exp(graph: Any, e: Expression, x: Affine) -> Affine:
    """sum of exp(x - t) <= 1."""
    x = _trailing(x)
    t, u = graph.variable(e.shape), graph.variable(x.shape)
    graph.exponential(x - t.reshape(-1, 1), _ones(x.size), u)
    graph.nonnegative(-_row_sums(u, (x.shape[0],)) + 1.0)
    return t


def geo_mean(graph: Any, e: Expression, x: Affine) -> Affine:
    """A chain of power cones: each entry against the mean of those after it."""
    x = _trailing(x)
    weights = np.asarray(e.attributes["weights"], float)
    used = np.flatnonzero(weights)
    below = x[:, used[-1]]
    total = weights[used[-1]]
    for i in used[-2::-1]:
        total += weights[i]
        mean = graph.variable((x.shape[0],))
        graph.power(x[:, i], below, mean, weights[i] / total)
        below = mean
    if len(used) == 1:
        graph.nonnegative(below)
    return below.reshape(*e.shape)


def harmonic_mean(graph: Any, e: Expression, x: Affine) -> Affine:
    """n h where sum of h^2 / x_i <= h."""
    x = _trailing(x)
    h, y = graph.variable((x.shape[0],)), graph.variable(x.shape)
    top = h.reshape(-1, 1).broadcast(x.shape).reshape(-1)
    flat, part = x.reshape(-1), y.reshape(-1)
    graph.second_order(flat + part, columns(flat - part, top.scaled(2.0)))
    graph.nonnegative(h - _row_sums(y, h.shape))
    return h.reshape(*e.shape).scaled(float(x.shape[1]))


def sum_largest(graph: Any, e: Expression, x: Affine) -> Affine:
    """min k q + sum of max(x - q, 0)."""
    x = _trailing(x)
    q, t = graph.variable((x.shape[0],)), graph.variable(x.shape)
    graph.nonnegative(t - x + q.reshape(-1, 1))
    graph.nonnegative(t)
    return _row_sums(t, e.shape) + q.reshape(*e.shape).scaled(float(e.attributes["k"]))


# ---- matrices


def quad_form(graph: Any, e: Expression, x: Affine, P: Affine) -> Affine:
    sign = 1.0 if e.attributes["definite"] == "psd" else -1.0
    if graph.quadratic:
        return graph.form(x, P)
    root = graph.root(e.arguments[1], sign)
    n = x.size
    identity = np.arange(n)
    grid = np.indices((n, n)).reshape(2, -1)
    y = _product(graph.theta, x, identity, root, grid[0], n, (np.zeros(n, int), grid[1]), (n,))
    t = graph.variable(())
    one = _ones(1)
    top = t.reshape(1)
    graph.second_order(top + one, _beside(top - one, y.reshape(1, n).scaled(2.0)))
    return t.scaled(sign)


def _identity(t: Affine, n: int) -> Affine:
    """t I."""
    index = np.where(np.eye(n, dtype=bool), 0, -1)
    return t.reshape(-1).take(index)


def _blocks(blocks: list[list[Affine | None]]) -> Affine:
    """A block matrix; None is zero."""
    heights = [next(b.shape[0] for b in row if b is not None) for row in blocks]
    widths = [
        next(row[j].shape[1] for row in blocks if row[j] is not None)  # type: ignore[union-attr]
        for j in range(len(blocks[0]))
    ]
    parts, start, rows = [], 0, []
    for row, height in zip(blocks, heights, strict=True):
        line = []
        for block, width in zip(row, widths, strict=True):
            if block is None:
                line.append(np.full((height, width), -1))
                continue
            line.append(start + np.arange(height * width).reshape(height, width))
            parts.append(block)
            start += height * width
        rows.append(np.concatenate(line, axis=1))
    return concatenate(parts).take(np.concatenate(rows, axis=0))


def matrix_frac(graph: Any, e: Expression, X: Affine, P: Affine) -> Affine:
    """trace T where [[P, X], [X', T]] is positive semidefinite."""
    n = P.shape[0]
    X = X.reshape(n, -1)
    k = X.shape[1]
    T = graph.symmetric(k)
    graph.psd(_blocks([[P, X], [X.T, T]]))
    return T.take(np.arange(k) * (k + 1)).sum()


def lambda_max(graph: Any, e: Expression, X: Affine) -> Affine:
    t = graph.variable(())
    graph.psd(_identity(t, X.shape[0]) - X)
    graph.zero(_asymmetry(X))
    return t


def lambda_min(graph: Any, e: Expression, X: Affine) -> Affine:
    t = graph.variable(())
    graph.psd(X - _identity(t, X.shape[0]))
    graph.zero(_asymmetry(X))
    return t


def _asymmetry(X: Affine) -> Affine:
    """X - X' below the diagonal; its rows without entries aren't kept."""
    i, j = np.tril_indices(X.shape[0], -1)
    difference = (X[i, j] - X[j, i]).merged()
    used = np.unique(difference.row)
    return difference.take(used)


def nuclear_norm(graph: Any, e: Expression, X: Affine) -> Affine:
    """(trace U + trace V) / 2 where [[U, X], [X', V]] is positive semidefinite."""
    m, n = X.shape
    U, V = graph.symmetric(m), graph.symmetric(n)
    graph.psd(_blocks([[U, X], [X.T, V]]))
    trace = U.take(np.arange(m) * (m + 1)).sum() + V.take(np.arange(n) * (n + 1)).sum()
    return trace.scaled(0.5)


def sigma_max(graph: Any, e: Expression, X: Affine) -> Affine:
    m, n = X.shape
    t = graph.variable(())
    graph.psd(_blocks([[_identity(t, m), X], [X.T, _identity(t, n)]]))
    return t


def log_det(graph: Any, e: Expression, X: Affine) -> Affine:
    """sum of log diag Z, Z upper triangular, where [[diag Z, Z], [Z', X]] is positive semidefinite."""
    n = X.shape[0]
    i, j = np.triu_indices(n)
    z = graph.variable((len(i),))
    index = np.full((n, n), -1)
    index[i, j] = np.arange(len(i))
    Z = z.take(index)
    D = z.take(np.where(np.eye(n, dtype=bool), index, -1))
    graph.psd(_blocks([[D, Z], [Z.T, X]]))
    graph.zero(_asymmetry(X))
    t = graph.variable((n,))
    graph.exponential(t, _ones(n), z.take(np.diagonal(index)))
    return t.sum()


def perspective(graph: Any, e: Expression, s: Affine, *arguments: Affine) -> Affine:
    """The rows of f's graph with the constant one replaced by s."""
    graph.nonnegative(s)
    return graph.perspective(e, s, arguments)
