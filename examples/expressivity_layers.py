"""Layers written as quadratic programs with `solve_qp`, each beside its closed form.

What can a layer z(x) = argmin of a QP represent? Amos and Kolter, "OptNet: Differentiable
Optimization as a Layer in Neural Networks" (ICML 2017), prove in their Theorem 2 that it can be any
elementwise piecewise-linear function, the ReLU among them, and in Theorem 3 that it can be the
maximum of three linear functions, which no network with one hidden layer of ReLUs equals.
`expressivity.py` checks all of these and learns one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

import jaxopt_layers as jl


class Pieces(NamedTuple):
    """f(x) = c x + d + sum_i w_i max(a_i x + b_i, 0): k kinks, at x = -b_i / a_i."""

    a: jax.Array
    b: jax.Array
    w: jax.Array
    c: jax.Array
    d: jax.Array


def relu(x: jax.Array) -> jax.Array:
    """max(x, 0): the projection  min 1/2 |z - x|^2  s.t.  z >= 0  (OptNet, Theorem 2)."""
    return jl.solve_qp(jnp.ones_like(x), -x, lower=jnp.zeros_like(x)).x


def sparsemax(x: jax.Array) -> jax.Array:
    """The projection on the simplex  min 1/2 |z - x|^2  s.t.  1'z = 1, z >= 0.

    Martins and Astudillo, "From Softmax to Sparsemax" (ICML 2016), equation 2.
    """
    ones = jnp.ones_like(x)
    return jl.solve_qp(ones, -x, ones[None], ones[:1], lower=jnp.zeros_like(x)).x


def sparsemax_closed_form(x: jax.Array) -> jax.Array:
    """max(x - t, 0), with the threshold t found by sorting (the same paper, Algorithm 1)."""
    ordered = jnp.sort(x)[::-1]
    excess = jnp.cumsum(ordered) - 1
    counts = jnp.arange(1, x.size + 1)
    support = jnp.sum(ordered * counts > excess)
    return jnp.maximum(x - excess[support - 1] / support, 0)


def softmax(x: jax.Array, steps: int = 25) -> jax.Array:
    """softmax(x) = argmin  sum_i z_i log z_i - x'z  s.t.  1'z = 1,  as the limit of QPs.

    The entropy is no quadratic, so one QP with data affine in x can't do it. Replacing it by its
    second-order model at the current point y (sequential quadratic programming) gives

        min  1/2 z' diag(1/y) z + (log y - x)'z   s.t.   1'z = 1,   y/10 <= z,

    where the bound keeps the next point inside the domain of the logarithm. It's inactive in the
    end, and convergence is quadratic. The limit is a fixed point: softmax(x) solves the QP whose
    Q is made of softmax(x) itself. There, the step doesn't depend on y to first order, so the
    derivative of the last QP alone, with y held constant, is already the derivative of the limit:
    its optimality conditions give diag(z) - z z', the Jacobian of softmax.
    """
    ones = jnp.ones_like(x)

    def step(y: jax.Array) -> jax.Array:
        return jl.solve_qp(1 / y, jnp.log(y) - x, ones[None], ones[:1], lower=y / 10).x

    y = jax.lax.fori_loop(0, steps, lambda _, y: jax.lax.stop_gradient(step(y)), ones / x.size)
    return step(jax.lax.stop_gradient(y))


def maximum(x: jax.Array) -> jax.Array:
    """max_i x_i: the linear program  min t  s.t.  x_i <= t  (OptNet, Theorem 3, in the proof).

    The paper minimizes t^2, which gives max(0, x_1, x_2, x_3); with t it holds below zero too. The
    gradient is the vector of multipliers: one at the largest number, zero elsewhere.
    """
    return jl.solve_qp(None, jnp.ones_like(x[:1]), G=-jnp.ones_like(x)[:, None], h=-x).x[0]


def piecewise_linear(x: jax.Array, f: Pieces) -> jax.Array:
    """f at a number x, by one program in z and t (k numbers)  (OptNet, Theorem 2, in the proof):

        min  |t|^2 + (z - w't - c x - d)^2   s.t.   a x + b <= t.

    Each t_i ends at max(a_i x + b_i, 0), since z is free to make the second square zero.
    """
    k, one = f.a.size, jnp.ones_like(f.w[:1])
    residual = jnp.concatenate([one, -f.w])  # z - w't, in the variables (z, t)
    Q = 2 * (jnp.outer(residual, residual) + jnp.diag(jnp.concatenate([0 * one, jnp.ones(k)])))
    G = -jnp.eye(k, k + 1, 1)
    return jl.solve_qp(Q, -2 * (f.c * x + f.d) * residual, G=G, h=-(f.a * x + f.b)).x[0]


def piecewise_linear_closed_form(x: jax.Array, f: Pieces) -> jax.Array:
    return f.c * x + f.d + f.w @ jnp.maximum(f.a * x + f.b, 0)
