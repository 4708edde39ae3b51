"""A table of expressions, each in JAX and in CVXPY, for verdicts, optima and gradients.

An entry is a name and two functions of a namespace that holds variables x (3,), y (), S (3, 3) symmetric,
and parameters p (), q () nonnegative, v (3,), M (3, 3) positive semidefinite, A (2, 3).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_layers as jl

C = np.array([[1.0, -0.5, 0.3], [0.2, 2.0, -1.0]])
POSITIVE = np.array([0.5, 1.5, 1.0])
MIXED = np.array([0.5, -1.5, 1.0])
P0 = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.7]])
INDEFINITE = np.diag([1.0, -1.0, 1.0])
MASK = np.array([True, False, True])


def table(cp: Any) -> dict[str, tuple[Any, Any]]:
    """The entries; `cp` is the module cvxpy."""
    return {
        # ---- affine
        "negation": (lambda n: -n.x, lambda n: -n.x),
        "constant matrix": (lambda n: C @ n.x, lambda n: C @ n.x),
        "scaled sum": (lambda n: 2 * n.x + n.x / 3 - 1, lambda n: 2 * n.x + n.x / 3 - 1),
        "slices": (lambda n: n.x[1:] - n.x[:-1], lambda n: n.x[1:] - n.x[:-1]),
        "gather": (lambda n: n.x[np.array([2, 0])], lambda n: n.x[np.array([2, 0])]),
        "diff": (lambda n: jnp.diff(n.x), lambda n: cp.diff(n.x)),
        "cumsum": (lambda n: jnp.cumsum(n.x), lambda n: cp.cumsum(n.x)),
        "trace": (lambda n: jnp.trace(n.S), lambda n: cp.trace(n.S)),
        "concatenate": (
            lambda n: jnp.concatenate([n.x, n.y[None]]),
            lambda n: cp.hstack([n.x, n.y]),
        ),
        "where": (lambda n: jnp.where(MASK, n.x, 0.0), lambda n: cp.multiply(MASK * 1.0, n.x)),
        "kron": (lambda n: jnp.kron(C, n.S), lambda n: cp.kron(C, n.S)),
        "convolve": (
            lambda n: jnp.convolve(n.x, jnp.array([1.0, -2.0])),
            lambda n: cp.convolve(np.array([1.0, -2.0]), n.x),
        ),
        "transpose": (lambda n: C @ n.S.T, lambda n: C @ n.S.T),
        "einsum": (lambda n: jnp.einsum("ij,jk->ik", C, n.S), lambda n: C @ n.S),
        "mean": (lambda n: jnp.mean(n.x), lambda n: cp.mean(n.x)),
        "diagonal": (lambda n: jnp.diag(n.S), lambda n: cp.diag(n.S)),
        # ---- affine with parameters
        "parameter scale": (lambda n: n.p * n.x, lambda n: n.p * n.x),
        "parameter vector": (lambda n: n.v @ n.x, lambda n: n.v @ n.x),
        "parameter matrix": (lambda n: n.A @ n.x - n.p, lambda n: n.A @ n.x - n.p),
        "parameter times number": (lambda n: 2 * n.p * n.x, lambda n: 2 * n.p * n.x),
        "parameter elementwise": (lambda n: n.v * n.x, lambda n: cp.multiply(n.v, n.x)),
        "over a parameter": (lambda n: n.x / n.q, lambda n: n.x / n.q),
        "two parameters": (lambda n: n.p * n.q * n.x, lambda n: n.p * n.q * n.x),
        "exp of a parameter": (lambda n: jnp.exp(n.p) * n.x, lambda n: cp.exp(n.p) * n.x),
        "parameter times shifted": (lambda n: n.p * (n.x + n.q), lambda n: n.p * (n.x + n.q)),
        "square of a parameter": (lambda n: n.y - n.p**2, lambda n: n.y - n.p**2),
        "sum of parameters": (lambda n: (n.p + n.q) * n.y, lambda n: (n.p + n.q) * n.y),
        "distributed": (lambda n: n.p * n.y + n.p * n.q, lambda n: n.p * n.y + n.p * n.q),
        "root of a parameter": (lambda n: jnp.sqrt(n.q) * n.y, lambda n: cp.sqrt(n.q) * n.y),
        # ---- convex
        "abs": (lambda n: jnp.abs(n.x - 1), lambda n: cp.abs(n.x - 1)),
        "max": (lambda n: jnp.max(C @ n.x), lambda n: cp.max(C @ n.x)),
        "maximum": (lambda n: jnp.maximum(n.x, 2 * n.y), lambda n: cp.maximum(n.x, 2 * n.y)),
        "max of a parameter": (lambda n: jnp.maximum(n.x, n.p), lambda n: cp.maximum(n.x, n.p)),
        "relu": (lambda n: jax.nn.relu(n.x - 1), lambda n: cp.pos(n.x - 1)),
        "clip below": (lambda n: jnp.clip(n.x, 0.5, None), lambda n: cp.maximum(n.x, 0.5)),
        "square": (lambda n: (n.x - n.v) ** 2, lambda n: cp.square(n.x - n.v)),
        "cube": (lambda n: n.x**3, lambda n: cp.power(n.x, 3)),
        "fourth power": (lambda n: n.x**4, lambda n: cp.power(n.x, 4)),
        "power 1.5": (lambda n: n.x**1.5, lambda n: cp.power(n.x, 1.5)),
        "power -2": (lambda n: n.x**-2, lambda n: cp.power(n.x, -2)),
        "reciprocal": (lambda n: n.x**-1, lambda n: cp.power(n.x, -1)),
        "inv_pos": (lambda n: jl.inv_pos(n.x), lambda n: cp.inv_pos(n.x)),
        "inv_pos of concave": (lambda n: jl.inv_pos(n.y**0.5), lambda n: cp.inv_pos(cp.sqrt(n.y))),
        "exp": (lambda n: jnp.exp(n.x - n.p), lambda n: cp.exp(n.x - n.p)),
        "exp of square": (lambda n: jnp.exp(n.y**2), lambda n: cp.exp(cp.square(n.y))),
        "softplus": (lambda n: jax.nn.softplus(-n.x), lambda n: cp.logistic(-n.x)),
        "logistic": (lambda n: jl.logistic(C @ n.x), lambda n: cp.logistic(C @ n.x)),
        "logaddexp": (
            lambda n: jnp.logaddexp(n.x[0], -n.y),
            lambda n: cp.log_sum_exp(cp.hstack([n.x[0], -n.y])),
        ),
        "logsumexp": (lambda n: jax.nn.logsumexp(C @ n.x), lambda n: cp.log_sum_exp(C @ n.x)),
        "log_sum_exp": (lambda n: jl.log_sum_exp(-n.x), lambda n: cp.log_sum_exp(-n.x)),
        "norm 2": (lambda n: jnp.linalg.norm(C @ n.x - 1), lambda n: cp.norm2(C @ n.x - 1)),
        "norm 1": (lambda n: jnp.linalg.norm(n.x - 1, 1), lambda n: cp.norm1(n.x - 1)),
        "norm inf": (
            lambda n: jnp.linalg.norm(n.x - 1, jnp.inf),
            lambda n: cp.norm_inf(n.x - 1),
        ),
        "Frobenius": (lambda n: jnp.linalg.norm(n.S - P0), lambda n: cp.norm(n.S - P0, "fro")),
        "norm 3": (lambda n: jnp.linalg.norm(n.x - 1, 3), lambda n: cp.pnorm(n.x - 1, 3)),
        "row norms": (
            lambda n: jnp.sum(jnp.linalg.norm(n.S, axis=1)),
            lambda n: cp.sum(cp.norm(n.S, 2, axis=1)),
        ),
        "spectral norm": (lambda n: jnp.linalg.norm(n.S - P0, 2), lambda n: cp.sigma_max(n.S - P0)),
        "nuclear norm": (
            lambda n: jnp.linalg.norm(n.S - P0, "nuc"),
            lambda n: cp.normNuc(n.S - P0),
        ),
        "p_norm 1.5": (lambda n: jl.p_norm(n.x - 1, 1.5), lambda n: cp.pnorm(n.x - 1, 1.5)),
        "sum_squares": (
            lambda n: jl.sum_squares(n.A @ n.x - 1),
            lambda n: cp.sum_squares(n.A @ n.x - 1),
        ),
        "weighted squares": (
            lambda n: n.q * jl.sum_squares(n.x - 1),
            lambda n: n.q * cp.sum_squares(n.x - 1),
        ),
        "weighted parameter squares": (
            lambda n: n.q * jl.sum_squares(n.A @ n.x),
            lambda n: n.q * cp.sum_squares(n.A @ n.x),
        ),
        "norm times exp": (
            lambda n: jnp.exp(n.p) * jl.norm2(n.x - 1),
            lambda n: cp.exp(n.p) * cp.norm2(n.x - 1),
        ),
        "x P x": (lambda n: n.x.T @ P0 @ n.x, lambda n: cp.quad_form(n.x, P0)),
        "x P x right": (lambda n: n.x @ (P0 @ n.x), lambda n: cp.quad_form(n.x, P0)),
        "quad_form": (lambda n: jl.quad_form(n.x - 1, P0), lambda n: cp.quad_form(n.x - 1, P0)),
        "quad_form parameter": (
            lambda n: jl.quad_form(n.x, n.M),
            lambda n: cp.quad_form(n.x, n.M),
        ),
        "root of quad_form bound": (
            lambda n: jnp.maximum(jl.quad_form(n.x, P0), 1.0),
            lambda n: cp.maximum(cp.quad_form(n.x, P0), 1.0),
        ),
        "quad_over_lin": (
            lambda n: jl.quad_over_lin(n.x - 1, n.y),
            lambda n: cp.quad_over_lin(n.x - 1, n.y),
        ),
        "quad_over_lin parameter": (
            lambda n: jl.quad_over_lin(n.x, n.q),
            lambda n: cp.quad_over_lin(n.x, n.q),
        ),
        "huber": (lambda n: jl.huber(3 * n.x - 2, 0.5), lambda n: cp.huber(3 * n.x - 2, 0.5)),
        "huber of huber": (
            lambda n: jnp.maximum(jl.huber(n.y - 1), 0.1),
            lambda n: cp.maximum(cp.huber(n.y - 1), 0.1),
        ),
        "relative_entropy": (
            lambda n: jl.relative_entropy(n.x, n.y),
            lambda n: cp.rel_entr(n.x, n.y),
        ),
        "kl_div": (lambda n: jl.kl_div(n.x, POSITIVE), lambda n: cp.kl_div(n.x, POSITIVE)),
        "sum_largest": (
            lambda n: jl.sum_largest(n.x * MIXED, 2),
            lambda n: cp.sum_largest(cp.multiply(n.x, MIXED), 2),
        ),
        "total_variation": (lambda n: jl.total_variation(n.x), lambda n: cp.tv(n.x)),
        "total_variation image": (lambda n: jl.total_variation(n.S), lambda n: cp.tv(n.S)),
        "lambda_max": (lambda n: jl.lambda_max(n.S - P0), lambda n: cp.lambda_max(n.S - P0)),
        "matrix_frac": (lambda n: jl.matrix_frac(n.x, n.S), lambda n: cp.matrix_frac(n.x, n.S)),
        "matrix_frac parameter": (
            lambda n: jl.matrix_frac(n.x, n.M),
            lambda n: cp.matrix_frac(n.x, n.M),
        ),
        "perspective": (
            lambda n: jl.perspective(jnp.square, n.y, n.x[0]),
            lambda n: cp.quad_over_lin(n.x[0], n.y),
        ),
        "max of squares": (
            lambda n: jnp.max((n.x - 1) ** 2),
            lambda n: cp.max(cp.square(n.x - 1)),
        ),
        "square of norm": (lambda n: jl.norm2(n.x) ** 2, lambda n: cp.norm2(n.x) ** 2),
        "square of positive part": (
            lambda n: jnp.maximum(n.x - 1, 0) ** 2,
            lambda n: cp.square(cp.pos(n.x - 1)),
        ),
        "convex minus concave": (
            lambda n: jnp.sum(jnp.exp(n.x)) - jnp.sqrt(n.y),
            lambda n: cp.sum(cp.exp(n.x)) - cp.sqrt(n.y),
        ),
        "zero times": (lambda n: 0 * n.x, lambda n: 0 * n.x),
        # ---- concave
        "min": (lambda n: jnp.min(C @ n.x), lambda n: cp.min(C @ n.x)),
        "minimum": (lambda n: jnp.minimum(n.x, n.y), lambda n: cp.minimum(n.x, n.y)),
        "sqrt": (lambda n: jnp.sqrt(n.x), lambda n: cp.sqrt(n.x)),
        "power 0.3": (lambda n: n.x**0.3, lambda n: cp.power(n.x, 0.3)),
        "log": (lambda n: jnp.log(n.x), lambda n: cp.log(n.x)),
        "log2": (lambda n: jnp.log2(n.x), lambda n: cp.log(n.x) / np.log(2)),
        "log1p": (lambda n: jnp.log1p(n.x), lambda n: cp.log1p(n.x)),
        "log of sqrt": (lambda n: jnp.log(jnp.sqrt(n.y)), lambda n: cp.log(cp.sqrt(n.y))),
        "entropy": (lambda n: jl.entropy(n.x), lambda n: cp.entr(n.x)),
        "geo_mean": (lambda n: jl.geo_mean(n.x), lambda n: cp.geo_mean(n.x)),
        "weighted geo_mean": (
            lambda n: jl.geo_mean(n.x, [1, 2, 3]),
            lambda n: cp.geo_mean(n.x, [1, 2, 3]),
        ),
        "harmonic_mean": (lambda n: jl.harmonic_mean(n.x), lambda n: cp.harmonic_mean(n.x)),
        "p_norm 0.5": (lambda n: jl.p_norm(n.x, 0.5), lambda n: cp.pnorm(n.x, 0.5)),
        "p_norm -1": (lambda n: jl.p_norm(n.x, -1), lambda n: cp.pnorm(n.x, -1)),
        "lambda_min": (lambda n: jl.lambda_min(n.S), lambda n: cp.lambda_min(n.S)),
        "log_det": (lambda n: jl.log_det(n.S), lambda n: cp.log_det(n.S)),
        "minus square": (lambda n: n.y - n.q * n.x**2, lambda n: n.y - n.q * cp.square(n.x)),
        "x N x": (lambda n: n.x @ -P0 @ n.x, lambda n: cp.quad_form(n.x, -P0)),
        # ---- not allowed
        "product": (lambda n: n.x * n.y, lambda n: n.x * n.y),
        "inner product": (lambda n: n.x @ n.x, lambda n: n.x.T @ n.x),
        "elementwise self": (lambda n: n.x * n.x, lambda n: cp.multiply(n.x, n.x)),
        "x Q x": (lambda n: n.x @ INDEFINITE @ n.x, lambda n: n.x @ INDEFINITE @ n.x),
        "root of squares": (
            lambda n: jnp.sqrt(jnp.sum(n.x**2)),
            lambda n: cp.sqrt(cp.sum_squares(n.x)),
        ),
        "root of sum_squares": (
            lambda n: jnp.sqrt(jl.sum_squares(n.x)),
            lambda n: cp.sqrt(cp.sum_squares(n.x)),
        ),
        "sign unknown": (lambda n: n.p * jnp.abs(n.x), lambda n: n.p * cp.abs(n.x)),
        "mixed weights": (lambda n: MIXED * n.x**2, lambda n: cp.multiply(MIXED, cp.square(n.x))),
        "convex minus convex": (
            lambda n: jnp.abs(n.y) - n.y**2,
            lambda n: cp.abs(n.y) - cp.square(n.y),
        ),
        "one over": (lambda n: 1 / n.x[0], lambda n: 1 / n.x[0]),
        "one over square": (lambda n: 1 / n.y**2, lambda n: 1 / cp.square(n.y)),
        "ratio": (lambda n: n.x / n.y, lambda n: n.x / n.y),
        "log of square": (lambda n: jnp.log(n.y**2), lambda n: cp.log(cp.square(n.y))),
        "log of sum of exp": (
            lambda n: jnp.log(jnp.sum(jnp.exp(n.x))),
            lambda n: cp.log(cp.sum(cp.exp(n.x))),
        ),
        "sqrt of exp": (lambda n: jnp.sqrt(jnp.exp(n.y)), lambda n: cp.sqrt(cp.exp(n.y))),
        "exp of log": (lambda n: jnp.exp(jnp.log(n.y)), lambda n: cp.exp(cp.log(n.y))),
        "entropy of sqrt": (lambda n: jl.entropy(jnp.sqrt(n.y)), lambda n: cp.entr(cp.sqrt(n.y))),
        "root times root": (
            lambda n: jnp.sqrt(n.y) * jnp.sqrt(n.y),
            lambda n: cp.sqrt(n.y) * cp.sqrt(n.y),
        ),
        "abs of abs minus": (
            lambda n: jnp.abs(jnp.abs(n.y) - 1),
            lambda n: cp.abs(cp.abs(n.y) - 1),
        ),
        "clip": (
            lambda n: jnp.clip(n.y, 0.5, 1.0),
            lambda n: cp.minimum(cp.maximum(n.y, 0.5), 1.0),
        ),
        "max of concave": (
            lambda n: jnp.maximum(jnp.sqrt(n.y), 0),
            lambda n: cp.maximum(cp.sqrt(n.y), 0),
        ),
        "min of convex": (
            lambda n: jnp.minimum(n.y**2, 1.0),
            lambda n: cp.minimum(cp.square(n.y), 1.0),
        ),
        "square of difference of norms": (
            lambda n: (jl.norm2(n.x) - 1) ** 2,
            lambda n: (cp.norm2(n.x) - 1) ** 2,
        ),
        "square of concave": (lambda n: jnp.sqrt(n.y) ** 2, lambda n: cp.sqrt(n.y) ** 2),
        "norm of mixed": (
            lambda n: jl.norm2(jnp.stack([n.y**2 - 1, n.y])),
            lambda n: cp.norm2(cp.hstack([cp.square(n.y) - 1, n.y])),
        ),
        "norm of log": (
            lambda n: jl.norm1(jnp.log(n.x)),
            lambda n: cp.norm1(cp.log(n.x)),
        ),
        "max minus max": (
            lambda n: jnp.max(n.x) - jnp.max(-n.x) * -1 - jnp.max(n.x) * 2,
            lambda n: cp.max(n.x) - cp.max(-n.x) * -1 - cp.max(n.x) * 2,
        ),
        "quotient of squares": (
            lambda n: jl.sum_squares(n.x) / n.y,
            lambda n: cp.sum_squares(n.x) / n.y,
        ),
        "quad_over_lin of convex": (
            lambda n: jl.quad_over_lin(n.x, n.y**2),
            lambda n: cp.quad_over_lin(n.x, cp.square(n.y)),
        ),
        "huber of abs minus": (
            lambda n: jl.huber(jnp.abs(n.y) - 1),
            lambda n: cp.huber(cp.abs(n.y) - 1),
        ),
        "lambda_max of square": (
            lambda n: jl.lambda_max(n.S**2),
            lambda n: cp.lambda_max(cp.square(n.S)),
        ),
        "log_det of exp": (lambda n: jl.log_det(jnp.exp(n.S)), lambda n: cp.log_det(cp.exp(n.S))),
        "nuclear of abs": (
            lambda n: jl.nuclear_norm(jnp.abs(n.S)),
            lambda n: cp.normNuc(cp.abs(n.S)),
        ),
        "kl_div of exp": (
            lambda n: jl.kl_div(jnp.exp(n.y), 1.0),
            lambda n: cp.kl_div(cp.exp(n.y), 1.0),
        ),
        "relative_entropy of sqrt": (
            lambda n: jl.relative_entropy(jnp.sqrt(n.y), n.x[0]),
            lambda n: cp.rel_entr(cp.sqrt(n.y), n.x[0]),
        ),
        "geo_mean of squares": (
            lambda n: jl.geo_mean(n.x**2),
            lambda n: cp.geo_mean(cp.square(n.x)),
        ),
        "harmonic_mean of exp": (
            lambda n: jl.harmonic_mean(jnp.exp(n.x)),
            lambda n: cp.harmonic_mean(cp.exp(n.x)),
        ),
        "p_norm 0.5 of squares": (
            lambda n: jl.p_norm(n.x**2, 0.5),
            lambda n: cp.pnorm(cp.square(n.x), 0.5),
        ),
        "sum_largest of log": (
            lambda n: jl.sum_largest(jnp.log(n.x), 2),
            lambda n: cp.sum_largest(cp.log(n.x), 2),
        ),
        "log_sum_exp of log": (
            lambda n: jl.log_sum_exp(jnp.log(n.x)),
            lambda n: cp.log_sum_exp(cp.log(n.x)),
        ),
        "softplus of minus square": (
            lambda n: jax.nn.softplus(-(n.y**2)),
            lambda n: cp.logistic(-cp.square(n.y)),
        ),
        "inv_pos of square": (
            lambda n: jl.inv_pos(n.y**2),
            lambda n: cp.inv_pos(cp.square(n.y)),
        ),
        "power 0.3 of exp": (lambda n: jnp.exp(n.y) ** 0.3, lambda n: cp.power(cp.exp(n.y), 0.3)),
        "log1p of exp": (lambda n: jnp.log1p(jnp.exp(n.y)), lambda n: cp.log1p(cp.exp(n.y))),
        "cube of concave": (lambda n: jnp.log(n.y) ** 3, lambda n: cp.power(cp.log(n.y), 3)),
        "concatenate mixed": (
            lambda n: jnp.sum(jnp.stack([n.y**2, jnp.sqrt(n.y)])),
            lambda n: cp.sum(cp.hstack([cp.square(n.y), cp.sqrt(n.y)])),
        ),
        "matrix of mixed": (lambda n: C @ n.x**2, lambda n: C @ cp.square(n.x)),
        "diff of squares": (lambda n: jnp.diff(n.x**2), lambda n: cp.diff(cp.square(n.x))),
        "matrix_frac of exp": (
            lambda n: jl.matrix_frac(jnp.exp(n.x), n.S),
            lambda n: cp.matrix_frac(cp.exp(n.x), n.S),
        ),
        "variable times parameterised": (
            lambda n: n.y * (n.p * n.x),
            lambda n: n.y * (n.p * n.x),
        ),
        "variable times square": (
            lambda n: n.y * jl.sum_squares(n.x),
            lambda n: n.y * cp.sum_squares(n.x),
        ),
        "matrix product": (lambda n: n.S @ n.S, lambda n: n.S @ n.S),
        "matrix vector": (lambda n: n.S @ n.x, lambda n: n.S @ n.x),
        "signed parameter vector": (lambda n: n.v @ jnp.exp(n.x), lambda n: n.v @ cp.exp(n.x)),
        "negative weight": (
            lambda n: n.y**2 - n.q * jnp.abs(n.y),
            lambda n: cp.square(n.y) - n.q * cp.abs(n.y),
        ),
        "quad_form of square": (
            lambda n: jl.quad_form(n.x**2 - 1, P0),
            lambda n: cp.quad_form(cp.square(n.x) - 1, P0),
        ),
        "min minus min": (
            lambda n: jnp.min(n.x) - jnp.min(n.x[:2]),
            lambda n: cp.min(n.x) - cp.min(n.x[:2]),
        ),
        "total_variation of exp": (
            lambda n: jl.total_variation(jnp.exp(n.x)),
            lambda n: cp.tv(cp.exp(n.x)),
        ),
        "exp of min": (lambda n: jnp.exp(jnp.min(n.x)), lambda n: cp.exp(cp.min(n.x))),
        "log of max": (lambda n: jnp.log(jnp.max(n.x)), lambda n: cp.log(cp.max(n.x))),
        "sigma_max of square": (
            lambda n: jl.sigma_max(n.S**2),
            lambda n: cp.sigma_max(cp.square(n.S)),
        ),
        "lambda_min of abs": (
            lambda n: jl.lambda_min(jnp.abs(n.S)),
            lambda n: cp.lambda_min(cp.abs(n.S)),
        ),
        "norm 3 of log": (
            lambda n: jl.p_norm(jnp.log(n.x), 3),
            lambda n: cp.pnorm(cp.log(n.x), 3),
        ),
        "norm_inf of sqrt minus": (
            lambda n: jl.norm_inf(jnp.sqrt(n.x) - 1),
            lambda n: cp.norm_inf(cp.sqrt(n.x) - 1),
        ),
    }
