"""From a program in the user's units to its solution: fix, scale, solve, unscale. No derivatives here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cones import Product
from jaxopt_layers.equilibrate import Scaling, equilibrate, scale
from jaxopt_layers.ipm import (
    Outcome,
    WarmStart,
    central_path_point,
    equality_constrained,
    interior_point,
    refined_point,
)
from jaxopt_layers.ipm.state import evaluate
from jaxopt_layers.ipm.terminate import Measure, measure
from jaxopt_layers.kkt import Form, choose_form, choose_loop_form
from jaxopt_layers.problem import Program
from jaxopt_layers.settings import Settings, Tolerances, tolerances
from jaxopt_layers.solution import ConeSolution
from jaxopt_layers.status import Status


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Solved:
    """A solution with the scaling that it was found in, which the derivative uses again."""

    solution: ConeSolution
    scaling: Scaling


def solve(
    program: Program, cone: Product, settings: Settings, valid: Array, warm: WarmStart | None
) -> Solved:
    """Solve a program. Where not `valid` its data must be finite all the same: the status says so."""
    limits = tolerances(settings, program.linear.dtype)
    reduced, fixed = fix_variables(program)
    scaling = equilibrate(reduced, cone, settings.equilibration_passes)
    scaled = scale(reduced, scaling)
    if cone.degree == 0:
        form = choose_form(scaled, cone)
        outcome = equality_constrained(scaled, form, scaling, settings, limits, valid)
    else:
        form = choose_loop_form(scaled, cone, limits.regularization)
        if warm is not None and fixed is not None:
            warm = replace(warm, x=warm.x - fixed)
        outcome = interior_point(scaled, cone, form, scaling, settings, limits, valid, warm)
        if not cone.is_orthant:
            outcome = _refine(scaled, cone, form, scaling, settings, limits, outcome)
    return Solved(_unscale(program, fixed, scaled, scaling, outcome), scaling)


def scaling_of(program: Program, cone: Product, settings: Settings) -> Scaling:
    """The scaling that a solve begins with."""
    return equilibrate(fix_variables(program)[0], cone, settings.equilibration_passes)


def central_point(program: Program, cone: Product, settings: Settings, optimum: Solved) -> Solved:
    """The point of the central path at `settings.derivative.smoothing`, found from the optimum.

    Where the optimum was not found, its status stands and the point means nothing.
    """
    if cone.degree == 0:
        return optimum
    solution, scaling = optimum.solution, optimum.scaling
    reduced, fixed = fix_variables(program)
    scaled = scale(reduced, scaling)
    regularization = tolerances(settings, scaled.linear.dtype).regularization
    form = choose_loop_form(scaled, cone, regularization)
    failed = solution.status > Status.ALMOST_SOLVED
    x = solution.x if fixed is None else solution.x - fixed
    start = WarmStart(
        x=jnp.where(failed, 0, x),
        z=jnp.where(failed, 1, solution.y),
        s=jnp.where(failed, 1, solution.s),
        usable=jnp.where(failed, 0, jnp.ones((), x.dtype)),
    )
    iterate = central_path_point(scaled, cone, form, scaling, settings, start)
    measured = measure(scaled, scaling, iterate, evaluate(scaled, iterate))
    outcome = Outcome(iterate, measured, solution.status, solution.iterations)
    return Solved(_unscale(program, fixed, scaled, scaling, outcome), scaling)


def _refine(
    scaled: Program,
    cone: Product,
    form: Form,
    scaling: Scaling,
    settings: Settings,
    limits: Tolerances,
    outcome: Outcome,
) -> Outcome:
    """The solution to the last digits, where Newton's method on the residual map finds it."""
    solved = outcome.status <= Status.ALMOST_SOLVED
    iterate = refined_point(scaled, cone, form, settings, outcome.iterate, solved)
    measured = measure(scaled, scaling, iterate, evaluate(scaled, iterate))
    worst = Measure(*measured).worst
    better = solved & (worst <= jnp.maximum(Measure(*outcome.measured).worst, limits.tolerance))
    status = jnp.where(better & (worst <= limits.tolerance), Status.SOLVED, outcome.status)
    return Outcome(
        iterate=jax.tree.map(
            lambda new, old: jnp.where(better, new, old), iterate, outcome.iterate
        ),
        measured=jnp.where(better, measured, outcome.measured),
        status=status.astype(jnp.int32),
        iterations=outcome.iterations,
    )


def fix_variables(program: Program) -> tuple[Program, Array | None]:
    """Take variables whose bounds coincide out of the problem: no interior point lies between them.

    x = x_fixed + x_free; x_fixed goes into q, b and the objective's constant, and vectors of zeros and
    ones mask the variable and its two bound rows, so that no matrix changes.
    """
    rows = program.rows
    if not (rows.lower and rows.upper):
        return program, None
    assert rows.active is not None
    _, lower_offset, upper_offset = rows.split(program.offset)
    _, lower_active, upper_active = rows.split(rows.active)
    is_fixed = (-lower_offset == upper_offset) & (lower_active > 0) & (upper_active > 0)
    fixed = jnp.where(is_fixed, upper_offset, 0)
    free = jnp.where(is_fixed, 0, jnp.ones_like(fixed))
    dense_active = rows.active[: rows.matrix_count]
    active = jnp.concatenate([dense_active, lower_active * free, upper_active * free])
    gradient = program.quadratic_product(fixed)
    return Program(
        quadratic=program.quadratic,
        quadratic_scale=program.quadratic_scale,
        linear=(program.linear + gradient) * free,
        rows=replace(rows, active=active, free=free),
        offset=jnp.where(active > 0, program.offset - rows.product(fixed), 1),
        constant=jnp.sum((program.linear + 0.5 * gradient) * fixed),
    ), fixed


def _unscale(
    program: Program, fixed: Array | None, scaled: Program, scaling: Scaling, outcome: Outcome
) -> ConeSolution:
    """The record in the user's units: the solution, or the certificate normalized."""
    iterate, status, rows = outcome.iterate, outcome.status, scaled.rows
    measured = Measure(*outcome.measured)
    present = jnp.ones_like(iterate.s) if rows.active is None else rows.active

    x, z = scaled.split(iterate.u)
    x = scaling.unscale_primal(x)
    z = scaling.unscale_dual(z) * present
    s = scaling.unscale_slack(iterate.s)
    primal_infeasible = status == Status.PRIMAL_INFEASIBLE
    dual_infeasible = status == Status.DUAL_INFEASIBLE
    divisor = jnp.where(primal_infeasible, measured.fall_dual, iterate.tau)
    divisor = jnp.where(dual_infeasible, measured.fall_primal, divisor)
    divisor = jnp.where(divisor > 0, divisor, 1)
    x, z, s = x / divisor, z / divisor, s / divisor
    s = jnp.where(present > 0, s, jnp.inf)

    certificate = primal_infeasible | dual_infeasible
    if fixed is not None:
        assert rows.free is not None
        x = jnp.where(certificate, x, x + fixed)
        z, s = _fixed_duals(program, x, z, s, rows.free, certificate)
    infinite = jnp.where(primal_infeasible, jnp.inf, -jnp.inf).astype(x.dtype)

    def finite_or(value: Array) -> Array:
        return jnp.where(certificate, jnp.inf, jnp.where(jnp.isnan(value), jnp.inf, value))

    return ConeSolution(
        x=x,
        y=z,
        s=s,
        objective=jnp.where(certificate, infinite, measured.objective),
        dual_objective=jnp.where(certificate, infinite, measured.dual_objective),
        status=status,
        iterations=outcome.iterations,
        primal_residual=finite_or(measured.primal),
        dual_residual=finite_or(measured.dual),
        gap=finite_or(measured.gap),
    )


def _fixed_duals(
    program: Program, x: Array, z: Array, s: Array, free: Array, certificate: Array
) -> tuple[Array, Array]:
    """Multipliers of coinciding bounds from stationarity: its positive part is the lower one's."""
    rows = program.rows
    gradient = rows.transposed_product(z)
    gradient = jnp.where(
        certificate, gradient, gradient + program.quadratic_product(x) + program.linear
    )
    is_fixed = free == 0
    dense, lower, upper = rows.split(z)
    lower = jnp.where(is_fixed, jnp.maximum(gradient, 0), lower)
    upper = jnp.where(is_fixed, jnp.maximum(-gradient, 0), upper)
    dense_slack, lower_slack, upper_slack = rows.split(s)
    slacks = [jnp.where(is_fixed, 0, slack) for slack in (lower_slack, upper_slack)]
    return jnp.concatenate([dense, lower, upper]), jnp.concatenate([dense_slack, *slacks])
