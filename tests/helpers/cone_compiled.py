"""Compiled once for all test modules: `solve_cone` and its derivatives, by names of arguments."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

import jaxopt_layers as jl
from tests.helpers.cone_problems import OUTPUTS, Data

DEFAULT = jl.Settings()
_static = ("cones", "settings")


def solve_named(
    data: dict[str, Any], cones: jl.Cones, settings: jl.Settings = DEFAULT
) -> dict[str, jax.Array]:
    """The differentiable outputs by name; not compiled, to be differentiated."""
    solution = jl.solve_cone(**data, cones=cones, settings=settings)
    return {name: getattr(solution, name) for name in OUTPUTS}


@partial(jax.jit, static_argnames=_static)
def solve(data: dict[str, Any], cones: jl.Cones, settings: jl.Settings = DEFAULT) -> Any:
    """The whole record."""
    return jl.solve_cone(**data, cones=cones, settings=settings)


@partial(jax.jit, static_argnames=_static)
def solve_batch(data: dict[str, Any], cones: jl.Cones, settings: jl.Settings = DEFAULT) -> Any:
    """The records of a batch, every argument with a leading axis."""
    return jax.vmap(partial(solve, cones=cones, settings=settings))(data)


def _pull(data: Any, cotangents: Any, cones: jl.Cones, settings: jl.Settings) -> Any:
    def outputs(data: Any) -> Any:
        solution = jl.solve_cone(**data, cones=cones, settings=settings)
        return {name: getattr(solution, name) for name in OUTPUTS}, solution

    _, pullback, solution = jax.vjp(outputs, data, has_aux=True)
    return solution, jax.vmap(lambda cotangent: pullback(cotangent)[0])(cotangents)


@partial(jax.jit, static_argnames=_static)
def pull(
    data: Data, cotangents: dict[str, Any], cones: jl.Cones, settings: jl.Settings = DEFAULT
) -> Any:
    """The record, and the gradients by input for a stack of cotangents."""
    return _pull(data, cotangents, cones, settings)


@partial(jax.jit, static_argnames=_static)
def pull_batch(
    data: Data, cotangents: dict[str, Any], cones: jl.Cones, settings: jl.Settings = DEFAULT
) -> Any:
    """`pull` for a batch of programs that share their cotangents."""
    return jax.vmap(lambda one: _pull(one, cotangents, cones, settings))(data)


def member(solution: Any, index: int) -> dict[str, np.ndarray]:
    """One member's differentiable outputs as NumPy arrays."""
    return {name: np.asarray(getattr(solution, name))[index] for name in OUTPUTS}


def named(solution: Any) -> dict[str, np.ndarray]:
    """A record's differentiable outputs as NumPy arrays."""
    return {name: np.asarray(getattr(solution, name)) for name in OUTPUTS}
