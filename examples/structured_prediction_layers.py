"""The layers that turn scores into structured predictions, each beside its closed form.

Sparsemax (Martins and Astudillo, ICML 2016) and the total-order projection are one quadratic program,

    p(s) = argmin_p  1/2 |M p - s|^2   subject to   1'p = 1,  p >= 0.

With M the identity that is the projection on the simplex. With M the matrix of sums from the right,
c = M p holds the probabilities that the label is at least 0, 1, ..., 9, and the program projects scores
on the totally ordered ones, 1 = c_0 >= c_1 >= ... >= c_9 >= 0.

The limited multi-label layer (LML; Amos, Koltun and Kolter, "The Limited Multi-Label Projection Layer",
2019) puts out k labels at once,

    x(s) = argmin_x  sum_i x_i log x_i + (1 - x_i) log(1 - x_i) - s_i x_i   subject to   1'x = k,

that is x_i = sigmoid(s_i + v) with the one number v that makes the sum k. A bisection finds it, and
`implicit_argmin` makes that differentiable.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_layers as jl

CLASSES = 10
IDENTITY = np.eye(CLASSES)
AT_LEAST = np.triu(np.ones((CLASSES, CLASSES)))


def on_simplex(scores: jax.Array, M: jax.Array) -> jl.QPSolution:
    """The solution, whose x is p (n,), for M (n, n); its objective lacks the constant 1/2 |s|^2."""
    ones = jnp.ones_like(scores)
    return jl.solve_qp(M.T @ M, -M.T @ scores, ones[None], ones[:1], lower=0)


def sparsemax_closed_form(scores: np.ndarray) -> np.ndarray:
    """max(s - t, 0), with the threshold t found by sorting (Martins and Astudillo, Algorithm 1)."""
    ordered = np.sort(scores)[::-1]
    excess = np.cumsum(ordered) - 1
    support = np.sum(ordered * np.arange(1, scores.size + 1) > excess)
    return np.maximum(scores - excess[support - 1] / support, 0)


def total_order_closed_form(scores: np.ndarray) -> np.ndarray:
    """c (n,): isotonic regression by its max-min formula, cut off at 0 and 1; c_0 is 1."""
    rest = scores[1:]
    n = rest.size
    means = np.array(
        [[rest[i : j + 1].mean() if i <= j else 0.0 for j in range(n)] for i in range(n)]
    )
    c = [max(min(means[i, j] for i in range(at + 1)) for j in range(at, n)) for at in range(n)]
    return np.concatenate([[1.0], np.clip(c, 0, 1)])


def _negative_entropy(x: jax.Array, scores: jax.Array, k: jax.Array) -> jax.Array:
    return jnp.sum(x * jnp.log(x) + (1 - x) * jnp.log1p(-x)) - scores @ x


def _labels_too_many(x: jax.Array, scores: jax.Array, k: jax.Array) -> jax.Array:
    return jnp.sum(x, keepdims=True) - k


@jl.implicit_argmin(_negative_entropy, equality=_labels_too_many)
def lml(scores: jax.Array, k: jax.Array) -> jax.Array:
    """x (n,) in (0, 1) with the sum k."""
    level = jnp.log(k / (scores.size - k))

    def halve(_: jax.Array, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        too_many = jnp.sum(jax.nn.sigmoid(scores + middle)) > k
        return jnp.where(too_many, low, middle), jnp.where(too_many, middle, high)

    ends = level - jnp.max(scores), level - jnp.min(scores)
    low, high = jax.lax.fori_loop(0, 60, halve, ends)
    return jax.nn.sigmoid(scores + (low + high) / 2)


def lml_jacobian(x: np.ndarray) -> np.ndarray:
    """D - D 1 1'D / (1'D 1), where D = diag(x (1 - x)) is the inverse of the entropy's Hessian."""
    d = x * (1 - x)
    return np.diag(d) - np.outer(d, d) / d.sum()
