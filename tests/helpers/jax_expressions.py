"""Convex expressions as JAX users write them, of variables x (3,), X (3, 4), S (3, 3) and parameters P.

Held at a point by equalities, the optimum is the value of the function itself there."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_layers as jl

_rng = np.random.default_rng(0)
POINT = {
    "x": np.array([0.7, 1.3, 0.4]),
    "X": _rng.normal(size=(3, 4)),
    "S": np.array([[2.0, 0.3, 0.1], [0.3, 1.5, -0.2], [0.1, -0.2, 1.0]]),
}
PARAMETERS: dict[str, Any] = {
    "a": np.float64(0.8),
    "v": np.array([0.5, -0.4, 1.2]),
    "K": _rng.normal(size=(2, 3)),
    "n": np.int64(3),
    "m": np.array([True, False, True]),
    "tr": {"u": np.float32(2.0), "w": [np.ones(3)]},
}
C = _rng.normal(size=(3, 3))

EXPRESSIONS: dict[str, Any] = {
    "var": lambda x, X, S, P: jnp.var(x),
    "vmap norm": lambda x, X, S, P: jnp.sum(jax.vmap(jnp.linalg.norm)(X)),
    "vmap norm1": lambda x, X, S, P: jnp.sum(jax.vmap(jnp.linalg.norm, in_axes=1)(X)),
    "vmap own norm2": lambda x, X, S, P: jnp.sum(jax.vmap(jl.norm2)(X)),
    "vmap own norm2 in1": lambda x, X, S, P: jnp.sum(jax.vmap(jl.norm2, in_axes=1)(X)),
    "vmap huber": lambda x, X, S, P: jnp.sum(jax.vmap(lambda r: jnp.sum(jl.huber(r, 0.3)))(X)),
    "vmap sumlargest": lambda x, X, S, P: jnp.sum(jax.vmap(lambda r: jl.sum_largest(r, 2))(X)),
    "vmap quad_form": lambda x, X, S, P: jnp.sum(
        jax.vmap(lambda r: jl.quad_form(r, np.eye(4) * 2))(X)
    ),
    "vmap lambda_max": lambda x, X, S, P: jnp.sum(
        jax.vmap(lambda r: jl.lambda_max(S * r))(np.array([1.0, 2.0]))
    ),
    "vmap geo": lambda x, X, S, P: -jnp.sum(jax.vmap(lambda r: jl.geo_mean(r))(X + 5)),
    "vmap logsumexp": lambda x, X, S, P: jnp.sum(jax.vmap(jax.nn.logsumexp)(X)),
    "logsumexp axis0": lambda x, X, S, P: jnp.sum(jax.nn.logsumexp(X, axis=0)),
    "logsumexp axis1 keep": lambda x, X, S, P: jnp.sum(jax.nn.logsumexp(X, axis=1, keepdims=True)),
    "logsumexp all": lambda x, X, S, P: jax.nn.logsumexp(X),
    "scipy lse": lambda x, X, S, P: jax.scipy.special.logsumexp(X, axis=0)[1],
    "norm axis0 keep": lambda x, X, S, P: jnp.sum(jnp.linalg.norm(X, axis=0, keepdims=True)),
    "norm 1 axis": lambda x, X, S, P: jnp.sum(jnp.linalg.norm(X, 1, axis=1)),
    "matrix norm 1": lambda x, X, S, P: jnp.linalg.norm(X, 1),
    "matrix norm inf": lambda x, X, S, P: jnp.linalg.norm(X, jnp.inf),
    "norm fro": lambda x, X, S, P: jnp.linalg.norm(X, "fro"),
    "hypot": lambda x, X, S, P: jnp.sum(jnp.hypot(x, x - 1)),
    "vector_norm": lambda x, X, S, P: jnp.linalg.vector_norm(x),
    "matrix_norm": lambda x, X, S, P: jnp.linalg.matrix_norm(X),
    "expm1": lambda x, X, S, P: jnp.sum(jnp.expm1(x)),
    "exp2": lambda x, X, S, P: jnp.sum(jnp.exp2(x)),
    "log10": lambda x, X, S, P: -jnp.sum(jnp.log10(x)),
    "rsqrt": lambda x, X, S, P: jnp.sum(jax.lax.rsqrt(x)),
    "at set": lambda x, X, S, P: jl.norm2(X.at[0].set(0.0)),
    "at set var": lambda x, X, S, P: jl.norm2(jnp.zeros((3, 4)).at[:, 1].set(x)),
    "at add": lambda x, X, S, P: jl.norm2(X.at[np.array([0, 0, 2])].add(1.0)),
    "at add var": lambda x, X, S, P: jl.norm2(jnp.zeros(5).at[np.array([0, 0, 2])].add(x)),
    "at mul": lambda x, X, S, P: jl.norm2(x.at[0].multiply(3.0)),
    "roll": lambda x, X, S, P: jl.norm2(jnp.roll(X, 1, axis=1) - X),
    "pad": lambda x, X, S, P: jl.norm1(jnp.pad(x, 1, mode="edge") - 1),
    "pad0": lambda x, X, S, P: jl.norm1(jnp.pad(x, 2) - 1),
    "tril": lambda x, X, S, P: jl.norm2(jnp.tril(S) - np.triu(np.ones((3, 3)))),
    "outer": lambda x, X, S, P: jl.norm2(jnp.outer(x, np.ones(2))),
    "tensordot": lambda x, X, S, P: jl.norm2(jnp.tensordot(C, X, axes=([0], [0]))),
    "repeat": lambda x, X, S, P: jl.norm2(jnp.repeat(x, 2)),
    "tile": lambda x, X, S, P: jl.norm2(jnp.tile(x, 3)),
    "flip": lambda x, X, S, P: jl.norm2(x - jnp.flip(x)),
    "split": lambda x, X, S, P: jl.norm2(jnp.split(X, 2, axis=1)[1]),
    "scan": lambda x, X, S, P: jl.norm2(jax.lax.scan(lambda c, u: (C @ c + u[:3], c), x, X.T)[0]),
    "scan outs": lambda x, X, S, P: jl.norm2(
        jax.lax.scan(lambda c, u: (C @ c + u[:3], c), x, X.T)[1]
    ),
    "scan rev": lambda x, X, S, P: jl.norm2(
        jax.lax.scan(lambda c, u: (C @ c + u[:3], c), x, X.T, reverse=True)[1]
    ),
    "fori": lambda x, X, S, P: jl.norm2(jax.lax.fori_loop(0, 3, lambda i, c: C @ c + x, x)),
    "map": lambda x, X, S, P: jl.norm2(jax.lax.map(lambda r: C @ r, X.T)),
    "conv2d": lambda x, X, S, P: jl.norm2(
        jax.lax.conv(X[None, None], np.array(C[:2, :2])[None, None], (1, 1), "VALID")
    ),
    "conv param": lambda x, X, S, P: jl.norm2(jnp.convolve(x, P["v"])),
    "conv param left": lambda x, X, S, P: jl.norm2(jnp.convolve(P["v"], x, mode="same")),
    "kron param": lambda x, X, S, P: jl.norm2(jnp.kron(P["K"], X)),
    "where param mask": lambda x, X, S, P: jl.norm2(jnp.where(P["m"], x, 2 * x - 1)),
    "where param mask zero": lambda x, X, S, P: jl.norm2(jnp.where(P["m"], x, 0.0)),
    "int param": lambda x, X, S, P: P["n"] * jnp.sum(x),
    "pytree": lambda x, X, S, P: jl.norm2(P["tr"]["u"] * x - P["tr"]["w"][0]),
    "custom jvp param": lambda x, X, S, P: (
        jax.nn.relu(P["a"]) * jl.norm1(x) + jax.nn.softplus(P["a"])
    ),
    "FF": lambda x, X, S, P: jl.quad_form(x, P["K"].T @ P["K"]),
    "FF+eye": lambda x, X, S, P: jl.quad_form(x, P["K"].T @ P["K"] + 0.1 * np.eye(3)),
    "xFFx": lambda x, X, S, P: x @ (P["K"].T @ P["K"]) @ x,
    "x psd x": lambda x, X, S, P: x @ jl.psd(P["K"].T @ P["K"]) @ x,
    "shifted form": lambda x, X, S, P: (x - P["v"]) @ (C.T @ C) @ (x - P["v"]),
    "A(Bx)": lambda x, X, S, P: jl.sum_squares(P["K"].T @ (P["K"] @ x) - P["v"]),
    "inv param": lambda x, X, S, P: jnp.linalg.inv(P["K"] @ P["K"].T) @ (P["K"] @ x) @ np.ones(2),
    "divide param": lambda x, X, S, P: jl.norm1(x) / jl.nonneg(P["a"]),
    "exp(a) norm": lambda x, X, S, P: jnp.exp(P["a"]) * jl.norm2(x),
    "cumsum2": lambda x, X, S, P: jl.norm2(jnp.cumsum(X, axis=1)),
    "cumsum rev": lambda x, X, S, P: jl.norm2(jax.lax.cumsum(X, axis=0, reverse=True)),
    "average": lambda x, X, S, P: jnp.average(x, weights=np.array([1.0, 2, 3])),
    "diagonal": lambda x, X, S, P: jl.norm2(jnp.diagonal(X, 1)),
    "diag": lambda x, X, S, P: jl.nuclear_norm(jnp.diag(x)),
    "take": lambda x, X, S, P: jl.norm2(jnp.take(X, np.array([1, 3]), axis=1)),
    "block": lambda x, X, S, P: jl.sigma_max(jnp.block([[S, X], [X.T, np.eye(4)]])),
    "einsum3": lambda x, X, S, P: jl.norm2(jnp.einsum("ij,jk,kl->il", C, X, np.ones((4, 2)))),
    "einsum trace": lambda x, X, S, P: jnp.einsum("ii->", S),
    "batched matmul": lambda x, X, S, P: jl.norm2(
        jnp.matmul(np.ones((2, 3, 3)), jnp.broadcast_to(X, (2, 3, 4)))
    ),
    "sum_squares axis": lambda x, X, S, P: jnp.max(jl.sum_squares(X, axis=1)),
    "norm2 axis0": lambda x, X, S, P: jnp.max(jl.norm2(X, axis=0)),
    "qol axis": lambda x, X, S, P: jnp.sum(jl.quad_over_lin(X, x, axis=1)),
    "persp kl": lambda x, X, S, P: jl.perspective(lambda u: -jnp.log(u), x[0], x[1]),
    "persp exp": lambda x, X, S, P: jl.perspective(
        lambda u: jnp.exp(u) + P["a"] * u, x[0], x[1] - 0.2
    ),
    "persp norm": lambda x, X, S, P: jl.perspective(lambda u: jl.sum_squares(u - 1), x[0], x),
    "persp concave": lambda x, X, S, P: -jl.perspective(lambda u: jnp.sqrt(u), x[0], x[1]),
    "huber M param": lambda x, X, S, P: jnp.sum(jl.huber(x, jl.nonneg(P["a"]))),
    "mfrac matrix": lambda x, X, S, P: jl.matrix_frac(X, S),
    "geo w0": lambda x, X, S, P: -jl.geo_mean(x, [1, 0, 2]),
    "sum_largest frac": lambda x, X, S, P: jl.sum_largest(X, 2.5),
    "p3 vmap": lambda x, X, S, P: jnp.sum(jax.vmap(lambda r: jl.p_norm(r, 3))(X)),
    "logaddexp b": lambda x, X, S, P: jnp.sum(jnp.logaddexp(x, P["a"])),
    "max scalar": lambda x, X, S, P: jnp.sum(jnp.maximum(0.0, x - 1)),
    "clip max": lambda x, X, S, P: -jnp.sum(jnp.clip(x, None, 1.0)),
    "leaky": lambda x, X, S, P: jnp.sum(jnp.maximum(x - 1, 0.1 * (x - 1))),
    "amax axis": lambda x, X, S, P: jnp.sum(jnp.max(X, axis=0)),
    "ptp": lambda x, X, S, P: jnp.ptp(x),
    "pow neg": lambda x, X, S, P: jnp.sum(x**-0.5),
    "x**1": lambda x, X, S, P: jnp.sum(x**1.0) + jnp.sum(x**0),
    "log_softmax": lambda x, X, S, P: -jax.nn.log_softmax(x)[0],
    "cross entropy": lambda x, X, S, P: jnp.mean(jax.nn.logsumexp(X, axis=1) - X[:, 0]),
    "squared relu": lambda x, X, S, P: jnp.sum(jax.nn.relu(x) ** 2),
    "nested jit": lambda x, X, S, P: jax.jit(lambda y: jax.jit(jl.norm2)(y) + 1)(x),
    "checkpoint": lambda x, X, S, P: jax.checkpoint(lambda y: jl.norm2(C @ y))(x),
    "jnp.where const scal": lambda x, X, S, P: jl.norm2(
        jnp.where(np.array([True, False, True]), x, P["v"])
    ),
    "mean axis": lambda x, X, S, P: jl.norm2(jnp.mean(X, axis=0)),
    "standard deviation": lambda x, X, S, P: jl.norm2(x - jnp.mean(x)) / np.sqrt(3),
    "gather 2d": lambda x, X, S, P: jl.norm2(X[np.array([0, 1]), np.array([2, 3])]),
    "bool mask idx": lambda x, X, S, P: jl.norm2(x[np.array([True, False, True])]),
    "linear algebra const": lambda x, X, S, P: jl.norm2(jnp.linalg.solve(C, np.eye(3)) @ x),
    "f32 const": lambda x, X, S, P: jl.norm2(np.float32(2) * x),
    "x.sum method": lambda x, X, S, P: (x * 2).sum() + X.mean() + abs(x).max(),
}
