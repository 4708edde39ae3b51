"""When a problem is finished: judged in the user's units, on the scaled iterate."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.equilibrate import Scaling
from jaxopt_layers.ipm.state import RUNNING, Iterate, Residuals
from jaxopt_layers.matrix import norm_inf
from jaxopt_layers.problem import Program
from jaxopt_layers.settings import Tolerances
from jaxopt_layers.status import Status

# An infeasible problem has tau -> 0 with kappa > 0, a solved one the reverse; between them no
# certificate is believed. This keeps problems with very large solutions from being called unbounded.
_TAU_OF_CERTIFICATE = 1e-3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Accuracy:
    """Residuals and duality gap, each relative to one plus the largest of what it compares."""

    primal: Array
    dual: Array
    gap: Array

    @property
    def worst(self) -> Array:
        """The largest, infinite where one is NaN."""
        largest = jnp.maximum(jnp.maximum(self.primal, self.dual), self.gap)
        return jnp.where(jnp.isnan(largest), jnp.inf, largest)


def accuracy(
    program: Program, scaling: Scaling, iterate: Iterate, residuals: Residuals
) -> Accuracy:
    """How well (x, z, s) / tau solves the user's problem."""
    tau, units = iterate.tau, _Units.of(program, scaling)
    dual_terms = jnp.stack([residuals.quadratic_x, residuals.rows_z, program.linear * tau])
    dual_scale = norm_inf(dual_terms * units.dual[None, :]) / tau
    primal_terms = jnp.stack([residuals.rows_x, iterate.s, program.offset * tau])
    primal_scale = norm_inf(primal_terms * units.primal[None, :]) / tau
    curvature = 0.5 * jnp.sum(residuals.quadratic_x * iterate.x) / (tau * tau)
    objective = units.objective * (curvature + jnp.sum(program.linear * iterate.x) / tau)
    dual_objective = units.objective * (
        -curvature - jnp.sum(program.offset * iterate.z * units.present) / tau
    )
    constant = program.constant
    size = jnp.maximum(jnp.abs(objective + constant), jnp.abs(dual_objective + constant))
    return Accuracy(
        primal=norm_inf(residuals.primal * units.primal) / tau / (1 + jnp.max(primal_scale)),
        dual=norm_inf(residuals.dual * units.dual) / tau / (1 + jnp.max(dual_scale)),
        gap=jnp.abs(objective - dual_objective) / (1 + size),
    )


def certificate(
    program: Program, scaling: Scaling, iterate: Iterate, residuals: Residuals, limits: Tolerances
) -> Array:
    """PRIMAL_INFEASIBLE or DUAL_INFEASIBLE where the iterate proves it, else RUNNING.

    z proves the first with ``R'z = 0, b'z < 0``; x the second with ``Px = 0, Rx + s = 0, q'x < 0``.
    """
    units = _Units.of(program, scaling)
    fall = -units.objective * jnp.sum(program.offset * iterate.z * units.present)
    violation = norm_inf(residuals.rows_z * units.dual)
    primal_infeasible = (fall > 0) & (violation <= limits.infeasibility * fall)

    fall = -units.objective * jnp.sum(program.linear * iterate.x)
    violation = jnp.maximum(
        norm_inf(residuals.quadratic_x * units.dual),
        norm_inf((residuals.rows_x + iterate.s) * units.primal),
    )
    dual_infeasible = (fall > 0) & (violation <= limits.infeasibility * fall)

    status = jnp.where(dual_infeasible, Status.DUAL_INFEASIBLE, RUNNING)
    status = jnp.where(primal_infeasible, Status.PRIMAL_INFEASIBLE, status)
    believed = iterate.tau < _TAU_OF_CERTIFICATE * iterate.kappa
    return jnp.where(believed, status, RUNNING).astype(jnp.int32)


@dataclass(frozen=True)
class _Units:
    """Factors that turn scaled residuals into the user's; zero for rows that are absent."""

    dual: Array
    primal: Array
    objective: Array
    present: Array

    @classmethod
    def of(cls, program: Program, scaling: Scaling) -> _Units:
        active = program.rows.active
        present = jnp.ones_like(scaling.rows) if active is None else active
        return cls(
            dual=1 / (scaling.objective * scaling.columns),
            primal=present / scaling.rows,
            objective=1 / scaling.objective,
            present=present,
        )
