"""Where the loop starts: at the unit point, from a least-squares solution, or from a known solution."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cones import Product
from jaxopt_layers.equilibrate import Scaling
from jaxopt_layers.ipm.state import Iterate, residuals
from jaxopt_layers.matrix import norm_inf
from jaxopt_layers.problem import Program

# A warm start is moved this far into the interior, relative to how badly it fits the new problem.
_WARM_CENTRING = 1e-1
# The least complementarity product of a cold start.
_LEAST_MU = 1e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WarmStart:
    """A previous solution in the user's units; `usable` is 0 where it had failed."""

    x: Array
    z: Array
    s: Array
    usable: Array


def unit_point(program: Program, cone: Product) -> Iterate:
    """x = 0, s = z = e, tau = kappa = 1, at which the scaling is the identity."""
    dtype = program.linear.dtype
    unit, one = cone.unit(dtype), jnp.ones((), dtype)
    u = jnp.concatenate([jnp.zeros_like(program.linear), unit])
    return Iterate(u=u, s=unit, tau=one, kappa=one)


def least_squares_point(program: Program, cone: Product, constant: Array, offset: Array) -> Iterate:
    """Cold start from solutions of the KKT system with the identity as scaling (Mehrotra 1992).

    `constant` solves it for the right-hand side (-q, b) and `offset` for (0, b). With a quadratic
    objective the first gives x, s = -z and z. For a linear program the primal and the dual part are
    separate problems: the second gives x and s, the difference z.
    """
    x, z = program.split(constant)
    s = -z
    if program.quadratic is None:
        x, z_primal = program.split(offset)
        s, z = -z_primal, z - z_primal
    one = jnp.ones((), x.dtype)
    kappa = one
    if cone.is_orthant and program.quadratic is not None:
        s, z, kappa = _central(cone, z)
    else:
        unit = cone.unit(x.dtype)
        s = jnp.where(cone.has_slack, _into_cone(cone, s, unit), 0)
        z = _into_cone(cone, z, unit)
    return Iterate(u=jnp.concatenate([x, z]), s=s, tau=one, kappa=kappa)


def _central(cone: Product, z: Array) -> tuple[Array, Array, Array]:
    """s and z with s - z = -z as it was, their products and kappa all equal to the mean square of that.

    Centred, and as far from the boundary as the numbers are large: pushed into the cone until all of them are
    positive, they would take an iteration more.
    """
    signed = jnp.where(cone.has_slack, z, 0)
    mu = jnp.maximum(jnp.sum(signed * signed) / cone.degree, _LEAST_MU)
    s, z = cone.central_pair(-z, mu)
    return s, z, mu


def _into_cone(cone: Product, v: Array, unit: Array) -> Array:
    """Move v along the unit element until its margin is one, or a tenth of the mean positive part."""
    degree = max(cone.degree, 1)
    target = jnp.maximum(1, 0.1 * jnp.sum(jnp.maximum(v, 0) * unit) / degree)
    shift = jnp.maximum(target - cone.margin(v), 0)
    return v + jnp.where(jnp.isfinite(shift), shift, 0) * unit


def warm_point(program: Program, cone: Product, scaling: Scaling, start: WarmStart) -> Iterate:
    """A known solution, moved to the central path where it fits the new problem about as well.

    The pair (s, z) becomes the one with the same s - z and ``s o z = mu e`` (the smoothed projection),
    mu being proportional to the residual of the new problem's equations.
    """
    x = scaling.scale_primal(start.x)
    s, z = scaling.scale_slack(start.s), scaling.scale_dual(start.z)
    rows = program.rows
    if rows.active is not None:
        s = jnp.where(rows.active > 0, s, 1)
        z = jnp.where(rows.active > 0, z, 0)
    if rows.free is not None:
        x = x * rows.free
    one = jnp.ones((), x.dtype)
    guess = Iterate(u=jnp.concatenate([x, z]), s=s, tau=one, kappa=0 * one)
    misfit = norm_inf(residuals(program, guess))
    mu = jnp.clip(_WARM_CENTRING * misfit, 1e-8, 1.0)
    s, z = cone.central_pair(s - z, mu * mu)
    return Iterate(u=jnp.concatenate([x, z]), s=s, tau=one, kappa=mu * mu)
