"""The solution map with its derivative attached, as a `jax.custom_vjp` or a `jax.custom_jvp`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxopt_layers import engine
from jaxopt_layers.chunks import in_chunks
from jaxopt_layers.implicit.data import Data, Layout, Marks, Vectors
from jaxopt_layers.implicit.equations import Equations, choose_rule, neutral_where_failed
from jaxopt_layers.ipm import WarmStart
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import ConeSolution

#: A solution map: (layout, settings, data, marks, start) -> solution, a module's own function.
SolutionMap = Callable[[Layout, Settings, Data, Marks, Any], engine.Solved]


def solve(
    layout: Layout, settings: Settings, data: Data, marks: Marks, warm: WarmStart | None
) -> ConeSolution:
    """Solve a program, differentiably in `data`."""
    differentiable = {"reverse": _reverse, "forward": _forward}[settings.derivative.mode]
    data, warm = data.varying_alike(), lax.stop_gradient(warm)
    if settings.derivative.smoothing == 0:
        return differentiable(_optimum, layout, settings, data, marks, warm).solution
    # The values are the optimum's and the derivatives the central path's, to any order: the point of
    # the path is a solution map of its own.
    optimum = lax.stop_gradient(_optimum(layout, settings, lax.stop_gradient(data), marks, warm))
    smoothed = differentiable(_central_path, layout, settings, data, marks, optimum)
    return jax.tree.map(_with_value, optimum.solution, smoothed.solution)


def _optimum(
    layout: Layout, settings: Settings, data: Data, marks: Marks, warm: WarmStart | None
) -> engine.Solved:
    return _in_chunks(partial(_solve, layout, settings), layout, data)(data, marks, warm)


@partial(jax.jit, static_argnums=(0, 1))
def _solve(
    layout: Layout, settings: Settings, data: Data, marks: Marks, warm: WarmStart | None
) -> engine.Solved:
    """Compiled with what surrounds it; a `jax.jit` so that its four uses in a batched gradient (chunked
    or not, differentiated or not) are traced once.
    """
    program = layout.program(data, marks)
    return engine.solve(program, layout.cone, settings, marks.valid > 0, warm)


def _in_chunks(function: Callable[..., Any], layout: Layout, data: Data) -> Callable[..., Any]:
    if layout.cone.degree == 0:  # one solve, of matrices that the batch may share: keep them shared
        return function
    return in_chunks(function, layout.member_bytes(data))


def _central_path(
    layout: Layout, settings: Settings, data: Data, marks: Marks, optimum: engine.Solved
) -> engine.Solved:
    program = layout.program(data, marks)
    return engine.central_point(program, layout.cone, settings, optimum)


def _with_value(value: Array, derivative: Array) -> Array:
    """`value`, with the derivative of the other; the difference is taken where both are finite."""
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return value
    difference = jnp.where(jnp.isfinite(value), value - lax.stop_gradient(derivative), 0)
    return jnp.where(jnp.isfinite(value), derivative + difference, value)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _reverse(
    solution_map: SolutionMap,
    layout: Layout,
    settings: Settings,
    data: Data,
    marks: Marks,
    start: Any,
) -> engine.Solved:
    return solution_map(layout, settings, data, marks, start)


_Residuals = tuple[Data, Marks, ConeSolution, Any]


def _reverse_forward(
    solution_map: SolutionMap,
    layout: Layout,
    settings: Settings,
    data: Data,
    marks: Marks,
    start: Any,
) -> tuple[engine.Solved, _Residuals]:
    # The map itself is called, not the solver, so that this rule can be differentiated again.
    solved: Any = _reverse(solution_map, layout, settings, data, marks, start)
    regular = neutral_where_failed(solved.solution)
    factorize = _in_chunks(partial(_factorize, layout, settings), layout, data)
    factorization = factorize(data, marks, regular, solved.scaling)
    return solved, (data, marks, solved.solution, factorization)


@partial(jax.jit, static_argnums=(0, 1))
def _factorize(
    layout: Layout,
    settings: Settings,
    data: Data,
    marks: Marks,
    regular: ConeSolution,
    scaling: Any,
) -> Any:
    """What the backward pass needs; traced once, like `_solve`."""
    return choose_rule(layout, settings).factorize(data, marks, regular, scaling)


def _reverse_backward(
    solution_map: SolutionMap,
    layout: Layout,
    settings: Settings,
    residuals: _Residuals,
    cotangents: engine.Solved,
) -> tuple[Data, None, None]:
    data, marks, solution, factorization = residuals
    pull_back = _in_chunks(partial(_pull_back, layout, settings), layout, data)
    gradient = pull_back(data, marks, solution, factorization, cotangents.solution)
    return gradient, None, None


@partial(jax.jit, static_argnums=(0, 1))
def _pull_back(
    layout: Layout,
    settings: Settings,
    data: Data,
    marks: Marks,
    solution: ConeSolution,
    factorization: Any,
    cotangent: ConeSolution,
) -> Data:
    """The cotangent of the data for one of the solution."""
    equations = Equations(layout, settings, data, marks, solution, factorization)
    vectors = Vectors(cotangent.x, cotangent.y, cotangent.s)
    return equations.adjoint(vectors, cotangent.objective + cotangent.dual_objective)


_reverse.defvjp(_reverse_forward, _reverse_backward)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _forward(
    solution_map: SolutionMap,
    layout: Layout,
    settings: Settings,
    data: Data,
    marks: Marks,
    start: Any,
) -> engine.Solved:
    return solution_map(layout, settings, data, marks, start)


@_forward.defjvp
def _forward_rule(
    solution_map: SolutionMap, layout: Layout, settings: Settings, primals: Any, tangents: Any
) -> tuple[engine.Solved, engine.Solved]:
    data, marks, start = primals
    solved = _forward(solution_map, layout, settings, data, marks, start)
    equations = Equations.at(layout, settings, data, marks, solved.solution, solved.scaling)
    moved, value = equations.tangent(tangents[0])
    zero = jnp.zeros_like(value)
    integer: Any = np.zeros((), jax.dtypes.float0)
    scaling = jax.tree.map(jnp.zeros_like, solved.scaling)
    return solved, engine.Solved(ConeSolution(
        x=moved.x, y=moved.y, s=moved.s, objective=value, dual_objective=value,
        status=integer, iterations=integer,
        primal_residual=zero, dual_residual=zero, gap=zero,
    ), scaling)  # fmt: skip
