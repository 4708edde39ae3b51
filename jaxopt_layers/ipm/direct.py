"""Problems without inequalities: one linear solve instead of a loop.

The KKT matrix depends on P and A alone, so a batch that shares them shares one factorization.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
from jax import Array

from jaxopt_layers.equilibrate import Scaling
from jaxopt_layers.ipm.outcome import Outcome
from jaxopt_layers.ipm.state import RUNNING, Iterate, evaluate
from jaxopt_layers.ipm.terminate import Measure, certificate, measure
from jaxopt_layers.kkt import Form, System, refined_solve
from jaxopt_layers.problem import Program
from jaxopt_layers.settings import Settings, Tolerances
from jaxopt_layers.status import Status


def equality_constrained(
    program: Program,
    form: Form,
    scaling: Scaling,
    settings: Settings,
    limits: Tolerances,
    valid: Array,
) -> Outcome:
    """Solve ``Px + A'y = -q, Ax = b``; where that has no solution, find out which side is to blame.

    Refinement against the singular system K leaves the part of the right-hand side that K cannot
    reach: r with K r = 0. Its parts are the certificates: ``A'r_z = 0, b'r_z = |r_z|^2`` and
    ``P r_x = 0, A r_x = 0, q'r_x = -|r_x|^2``.
    """
    dtype = program.linear.dtype
    one = jnp.ones((), dtype)
    zero_slack = jnp.zeros_like(program.offset)
    system = System(program, zero_slack, jnp.array(limits.regularization, dtype))
    factor = form.factor(system)
    right = jnp.concatenate([-program.linear, program.offset])[None, :]
    solved = refined_solve(form, system, factor, right, max(settings.refinement_steps, 1))
    point = Iterate(u=solved[0], s=zero_slack, tau=one, kappa=0 * one)
    measured = measure(program, scaling, point, evaluate(program, point))
    worst = Measure(*measured).worst

    # Each pass damps the reachable part to a regularization's worth. The unreachable part comes back
    # divided by the regularization, so that a larger one leaves less rounding error.
    strong = jnp.array(float(jnp.finfo(dtype).eps) ** 0.2, dtype)
    system = replace(system, regularization=strong)
    factor = form.factor(system)
    unreachable = right - system.product(solved)
    for _ in range(5):
        unreachable -= system.product(form.solve(system, factor, unreachable))
    sign = jnp.concatenate([jnp.ones_like(program.linear), -jnp.ones_like(zero_slack)])
    ray = Iterate(u=sign * unreachable[0], s=zero_slack, tau=0 * one, kappa=one)
    ray_measured = measure(program, scaling, ray, evaluate(program, ray))
    proven = certificate(Measure(*ray_measured), ray, limits)

    status = jnp.where(worst <= limits.reduced_tolerance, Status.ALMOST_SOLVED, proven)
    status = jnp.where(worst <= limits.tolerance, Status.SOLVED, status)
    status = jnp.where(status == RUNNING, Status.NUMERICAL_ERROR, status)
    status = jnp.where(valid, status, Status.INVALID_INPUT).astype(jnp.int32)
    infeasible = (status == Status.PRIMAL_INFEASIBLE) | (status == Status.DUAL_INFEASIBLE)
    u = jnp.where(infeasible, ray.u, jnp.where(jnp.isfinite(worst), point.u, 0))
    iterate = Iterate(u=u, s=zero_slack, tau=one, kappa=0 * one)
    measured = jnp.where(infeasible, ray_measured, measured)
    return Outcome(iterate, measured, status, iterations=jnp.ones((), jnp.int32))
