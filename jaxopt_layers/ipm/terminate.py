"""When a problem is finished: judged in the user's units, on the scaled iterate."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_layers.equilibrate import Scaling
from jaxopt_layers.ipm.state import RUNNING, Iterate, Terms
from jaxopt_layers.matrix import norm_inf
from jaxopt_layers.problem import Program
from jaxopt_layers.settings import Tolerances
from jaxopt_layers.status import Status

# An infeasible problem has tau -> 0 with kappa > 0, a solved one the reverse; between them no
# certificate is believed. This keeps problems with very large solutions from being called unbounded.
_TAU_OF_CERTIFICATE = 1e-3
# How much less pure a certificate may be at the end of a method's means.
_LESS_PURE = 100


class Measure(NamedTuple):
    """How well (x, z, s) / tau solves the user's problem, and what it proves if it cannot.

    `primal`, `dual`, `gap`: residuals and duality gap, each relative to one plus the largest of what it
    compares; `objective` and `dual_objective` at the point. `fall_primal` = -q'x and `fall_dual` = -b'z
    with the violations of the two certificates (``Px = 0, Rx + s = 0`` and ``R'z = 0``), times the size of
    the other side's data where that is more than one: a certificate excludes solutions up to the size
    fall / violation, and that must be more than the units of the data suggest. Rows that are absent don't
    count. Joined in one vector, so that the loop carries one array.
    """

    primal: Array
    dual: Array
    gap: Array
    objective: Array
    dual_objective: Array
    fall_primal: Array
    violation_primal: Array
    fall_dual: Array
    violation_dual: Array

    @property
    def worst(self) -> Array:
        """The largest residual, infinite where one is NaN."""
        largest = jnp.maximum(jnp.maximum(self.primal, self.dual), self.gap)
        return jnp.where(jnp.isnan(largest), jnp.inf, largest)


def measure(program: Program, scaling: Scaling, iterate: Iterate, terms: Terms) -> Array:
    """Measure an iterate in the user's units: a [`Measure`][] as a vector."""
    tau, active = iterate.tau, program.rows.active
    dual_unit = 1 / (scaling.objective * scaling.columns)
    primal_unit = 1 / scaling.rows if active is None else active / scaling.rows

    linear, offset = program.linear * tau, program.offset * tau
    # R'z is compared by its parts, which may be large and cancel: dense rows, lower and upper bounds.
    bounds = program.rows.bound_parts(program.split(iterate.u)[1])
    parts = [terms.quadratic_x, terms.rows_z, linear, *bounds]
    residual = terms.quadratic_x + terms.rows_z + linear
    norms = norm_inf(jnp.stack([residual, *parts]) * dual_unit[None, :])
    dual, quadratic_x, rows_z = norms[0], norms[1], norms[2]
    dual_size = jnp.max(norms[1:])
    cone_part = terms.rows_x + iterate.s
    parts = [cone_part - offset, cone_part, terms.rows_x, iterate.s, offset]
    norms = norm_inf(jnp.stack(parts) * primal_unit[None, :])
    primal, recession, primal_size = norms[0], norms[1], jnp.max(norms[2:])

    offset_z = terms.offset_z
    if active is not None:  # an absent row's s = 1, z = mu is no part of the user's problem
        _, z = program.split(iterate.u)
        offset_z = offset_z - jnp.sum(program.offset * z * (1 - active))
    inverse, unit = 1 / tau, 1 / scaling.objective
    curvature = 0.5 * terms.curvature * inverse * inverse
    objective = (curvature + terms.linear_x * inverse) * unit
    dual_objective = (-curvature - offset_z * inverse) * unit
    objective, dual_objective = objective + program.constant, dual_objective + program.constant
    size = jnp.maximum(jnp.abs(objective), jnp.abs(dual_objective))
    return jnp.stack(
        Measure(
            primal=primal / (tau + primal_size),
            dual=dual / (tau + dual_size),
            gap=jnp.abs(objective - dual_objective) / (1 + size),
            objective=objective,
            dual_objective=dual_objective,
            fall_primal=-terms.linear_x * unit,
            violation_primal=jnp.maximum(quadratic_x, recession) * scaling.slope,
            fall_dual=-offset_z * unit,
            violation_dual=rows_z * scaling.size,
        )
    )


def vanished(iterate: Iterate) -> Array:
    """Whether tau is so small against kappa that no solution is left to find."""
    return iterate.tau < 10 * float(jnp.finfo(iterate.tau.dtype).eps) ** 0.5 * iterate.kappa


def certificate(
    measured: Measure, iterate: Iterate, limits: Tolerances, final: Array | bool = False
) -> Array:
    """PRIMAL_INFEASIBLE or DUAL_INFEASIBLE where the iterate proves it, else RUNNING.

    `final`: no purer one is to be had. A ray on which the KKT matrix is singular gets no purer than the
    regularization lets it, and next to the boundary of a curved cone the last steps are short.
    """
    limit = jnp.where(final, _LESS_PURE, 1) * limits.infeasibility

    def proven(fall: Array, violation: Array) -> Array:
        return (fall > 0) & (violation <= limit * fall)

    unbounded = proven(measured.fall_primal, measured.violation_primal)
    infeasible = proven(measured.fall_dual, measured.violation_dual)
    status = jnp.where(unbounded, Status.DUAL_INFEASIBLE, RUNNING)
    status = jnp.where(infeasible, Status.PRIMAL_INFEASIBLE, status)
    believed = iterate.tau < _TAU_OF_CERTIFICATE * iterate.kappa
    return jnp.where(believed, status, RUNNING).astype(jnp.int32)
