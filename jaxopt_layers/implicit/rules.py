"""The solution map with its derivative attached, as a `jax.custom_vjp` or a `jax.custom_jvp`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxopt_layers import engine
from jaxopt_layers.chunks import in_chunks
from jaxopt_layers.implicit.data import Data, Layout, Marks, Vectors
from jaxopt_layers.implicit.kkt import KKTRule, outer, value_cotangent
from jaxopt_layers.implicit.residual_map import ResidualMapRule
from jaxopt_layers.ipm import WarmStart
from jaxopt_layers.matrix import matmul, symmetric_product
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import ConeSolution
from jaxopt_layers.status import Status

#: A solution map: (layout, settings, data, marks, start) -> solution, a module's own function.
SolutionMap = Callable[[Layout, Settings, Data, Marks, Any], engine.Solved]


def solve(
    layout: Layout, settings: Settings, data: Data, marks: Marks, warm: WarmStart | None
) -> ConeSolution:
    """Solve a program, differentiably in `data`."""
    differentiable = {"reverse": _reverse, "forward": _forward}[settings.derivative.mode]
    warm = lax.stop_gradient(warm)
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
    def solve(data: Data, marks: Marks, warm: WarmStart | None) -> engine.Solved:
        program = layout.program(data, marks)
        return engine.solve(program, layout.cone, settings, marks.valid > 0, warm)

    return _in_chunks(solve, layout, data)(data, marks, warm)


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
    regular = _neutral_where_failed(solved.solution)
    factorize = _in_chunks(choose_rule(layout, settings).factorize, layout, data)
    factorization = factorize(data, marks, regular, solved.scaling)
    return solved, (data, marks, solved.solution, factorization)


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
    failed = solution.status > Status.ALMOST_SOLVED
    regular = _neutral_where_failed(solution)
    present = _present(layout, marks, solution)
    gx = jnp.where(failed, 0, cotangent.x)
    gz = jnp.where(present & ~failed, cotangent.y, 0)
    # Equality rows have no slack, absent ones an infinite one.
    p = layout.equalities
    is_slack = present & (jnp.arange(present.shape[0]) >= p) & ~failed
    gs = jnp.where(is_slack, cotangent.s, 0)

    rule = choose_rule(layout, settings)
    u1, u2 = rule.adjoint(data, marks, regular, factorization, Vectors(gx, gz, gs))
    u2 = jnp.where(present, u2, 0)

    x, z, quadratic, dense = regular.x, regular.y, data.quadratic, data.dense
    if quadratic is not None:
        quadratic = -u1 * x if quadratic.ndim == 1 else -0.5 * (outer(u1, x) + outer(x, u1))
    if dense is not None:
        count = dense.shape[0]
        dense = -(outer(z[:count], u1) + outer(u2[:count], x))
    gradient = Data(quadratic=quadratic, linear=-u1, dense=dense, offset=u2)
    g_value = jnp.where(failed, 0, cotangent.objective + cotangent.dual_objective)
    gradient = jax.tree.map(jnp.add, gradient, value_cotangent(data, regular, g_value))
    return _mark_failed(gradient, failed, settings)


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
    solution = solved.solution
    failed = solution.status > Status.ALMOST_SOLVED
    regular = _neutral_where_failed(solution)
    present = _present(layout, marks, solution)
    rule = choose_rule(layout, settings)
    factorization = rule.factorize(data, marks, regular, solved.scaling)

    change: Data = jax.tree.map(lambda v: jnp.where(failed, 0, v), tangents[0])
    x, z = regular.x, regular.y
    right_x = -symmetric_product(change.quadratic, x) - change.linear
    right_z = change.offset
    if change.dense is not None:
        count = change.dense.shape[0]
        right_x = right_x - matmul(z[:count], change.dense)
        right_z = right_z.at[:count].add(-matmul(change.dense, x))
    right_z = jnp.where(present, right_z, 0)
    moved = rule.tangent(data, marks, regular, factorization, right_x, right_z)
    is_slack = present & (jnp.arange(present.shape[0]) >= layout.equalities)
    ds = jnp.where(is_slack, moved.s, 0)

    one = jnp.ones((), x.dtype)
    slope = value_cotangent(data, regular, one)
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), slope, change)
    dvalue = jax.tree.reduce(jnp.add, products)
    zero = jnp.zeros((), x.dtype)
    tangent = (moved.x, jnp.where(present, moved.y, 0), ds, dvalue)
    if settings.failed_gradient == "nan":
        tangent = jax.tree.map(lambda v: jnp.where(failed, jnp.nan, v), tangent)
    dx, dz, ds, dvalue = tangent
    integer: Any = np.zeros((), jax.dtypes.float0)
    scaling = jax.tree.map(jnp.zeros_like, solved.scaling)
    return solved, engine.Solved(ConeSolution(
        x=dx, y=dz, s=ds, objective=dvalue, dual_objective=dvalue,
        status=integer, iterations=integer,
        primal_residual=zero, dual_residual=zero, gap=zero,
    ), scaling)  # fmt: skip


def choose_rule(layout: Layout, settings: Settings) -> Any:
    """The equations that are differentiated."""
    if settings.derivative.method == "kkt" and layout.cone.is_orthant:
        return KKTRule(layout, settings)
    return ResidualMapRule(layout, settings)


def _present(layout: Layout, marks: Marks, solution: ConeSolution) -> Array:
    """Rows that are there: all but those whose bound is infinite."""
    if layout.cone.degree == 0 or marks.active is None:
        return jnp.ones_like(solution.y, bool)
    return marks.active > 0


def _neutral_where_failed(solution: ConeSolution) -> ConeSolution:
    """A failed member's point is replaced by one at which the linear algebra is harmless."""
    failed = solution.status > Status.ALMOST_SOLVED

    def neutral(v: Array, value: float) -> Array:
        return jnp.where(failed, jnp.asarray(value, v.dtype), v)

    x, y, s = neutral(solution.x, 0), neutral(solution.y, 1), neutral(solution.s, 1)
    return replace(solution, x=x, y=y, s=s)


def _mark_failed(gradient: Data, failed: Array, settings: Settings) -> Data:
    """The gradient of a failed member: zero, or NaN where the settings ask for it."""
    value = jnp.nan if settings.failed_gradient == "nan" else 0
    return jax.tree.map(lambda g: jnp.where(failed, jnp.asarray(value, g.dtype), g), gradient)
