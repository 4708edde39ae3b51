"""Compiled once for all test modules: the solver and its derivatives, by names of arguments."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

import jaxopt_layers as jl
from tests.helpers.problems import OUTPUTS, Data

DEFAULT = jl.Settings()


def solve_named(data: dict[str, Any], settings: jl.Settings = DEFAULT) -> dict[str, jax.Array]:
    """The differentiable outputs by name; not compiled, to be differentiated."""
    solution = jl.solve_qp(**({"Q": None} | data), settings=settings)
    return {name: getattr(solution, name) for name in OUTPUTS}


@partial(jax.jit, static_argnames="settings")
def solve(data: dict[str, Any], settings: jl.Settings = DEFAULT) -> jl.QPSolution:
    """The whole record."""
    return jl.solve_qp(**({"Q": None} | data), settings=settings)


@partial(jax.jit, static_argnames="settings")
def solve_batch(data: dict[str, Any], settings: jl.Settings = DEFAULT) -> jl.QPSolution:
    """The records of a batch, every argument with a leading axis."""
    return jax.vmap(partial(solve, settings=settings))(data)


def _pull(data: dict[str, Any], cotangents: dict[str, Any], settings: jl.Settings) -> Any:
    def outputs(data: dict[str, Any]) -> tuple[dict[str, jax.Array], jl.QPSolution]:
        solution = solve(data, settings)
        return {name: getattr(solution, name) for name in OUTPUTS}, solution

    _, pullback, solution = jax.vjp(outputs, data, has_aux=True)
    return solution, jax.vmap(lambda cotangent: pullback(cotangent)[0])(cotangents)


@partial(jax.jit, static_argnames="settings")
def pull(data: Data, cotangents: dict[str, Any], settings: jl.Settings = DEFAULT) -> Any:
    """The record, and the gradients by input for a stack of cotangents."""
    return _pull(data, cotangents, settings)


@partial(jax.jit, static_argnames="settings")
def pull_batch(data: Data, cotangents: dict[str, Any], settings: jl.Settings = DEFAULT) -> Any:
    """`pull` for a batch of problems that share their cotangents."""
    return jax.vmap(lambda one: _pull(one, cotangents, settings))(data)


def named(solution: jl.QPSolution) -> dict[str, np.ndarray]:
    """A record's differentiable outputs as NumPy arrays."""
    return {name: np.asarray(getattr(solution, name)) for name in OUTPUTS}


def shapes(data: Data) -> dict[str, tuple[int, ...]]:
    """The outputs' shapes by name."""
    n, p, m = (len(data.get(name, ())) for name in ("q", "b", "h"))
    lower, upper = ((n,) if name in data else (0,) for name in ("lower", "upper"))
    return dict(zip(OUTPUTS, ((n,), (p,), (m,), (m,), lower, upper, (), ()), strict=True))
