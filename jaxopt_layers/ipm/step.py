"""One predictor-corrector step on the homogeneous embedding with a quadratic objective.

The embedding (Goulart & Chen 2024, "Clarabel", section 3; for linear programs Xu, Hung & Ye 1996) asks
for s, z in the cones and tau, kappa >= 0 with

    Px + R'z + q tau = 0,   Rx + s - b tau = 0,   kappa + q'x + b'z + x'Px / tau = 0,

s o z = 0 and tau kappa = 0. A Newton step that reduces the residuals by the factor 1 - f and moves the
products towards their target solves, with xi = x / tau,

    P dx + R'dz + q dtau = -f dual_residual,
    R dx - H dz - b dtau = -f primal_residual + shift,      ds = -shift - H dz,

so that (dx, dz) = (x2, z2) + dtau (x1, z1), where (x1, z1) solves for (-q, b), and

    dtau = (f gap - dkappa_shift / tau + (q + 2 P xi)'x2 + b'z2)
         / (kappa / tau + xi'P xi - (q + 2 P xi)'x1 - b'z1).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cones import Product
from jaxopt_layers.ipm.start import least_squares_point
from jaxopt_layers.ipm.state import Iterate, Residuals
from jaxopt_layers.kkt import Form, System, refined_solve
from jaxopt_layers.problem import Program

# How far towards the boundary a step may go.
_FRACTION_TO_BOUNDARY = 0.99


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Step:
    """The next iterate and the factor by which its linear residuals should have shrunk."""

    iterate: Iterate
    remaining: Array
    length: Array


def predictor_corrector_step(
    program: Program,
    cone: Product,
    form: Form,
    iterate: Iterate,
    residuals: Residuals,
    regularization: Array,
    refinement: Array,
    starting: Array,
) -> Step:
    """One step (Mehrotra 1992), or, where `starting`, the least-squares starting point.

    Both need the same factorization and the same right-hand side (-q, b), so the start is made by the
    first pass of the loop instead of a second copy of the factorization in the compiled program.
    """
    mu = iterate.mu(cone)
    scaling = cone.scaling(iterate.s, iterate.z)
    system = System(program, cone.hessian_diagonal(scaling, mu.dtype), regularization)
    factor = form.factor(system)

    affine_shift = cone.affine_shift(scaling, iterate.s)
    start_rhs = (jnp.zeros_like(program.linear), program.offset)
    affine_rhs = (-residuals.dual, affine_shift - residuals.primal)
    second = jax.tree.map(lambda a, b: jnp.where(starting, a, b), start_rhs, affine_rhs)
    right_x = jnp.stack([-program.linear, second[0]])
    right_z = jnp.stack([program.offset, second[1]])
    dx, dz = refined_solve(form, system, factor, right_x, right_z, refinement)
    constant, affine_part = (dx[0], dz[0]), (dx[1], dz[1])

    newton = _Newton(program, iterate, residuals, system.hessian, constant)
    affine = newton.direction(
        affine_part, jnp.ones_like(mu), affine_shift, iterate.tau * iterate.kappa
    )
    sigma = (1 - jnp.minimum(_longest_step(cone, iterate, affine), 1)) ** 3
    target = sigma * mu

    shift = cone.combined_shift(scaling, iterate.s, iterate.z, affine.s, affine.z, target)
    kappa_shift = iterate.tau * iterate.kappa + affine.tau * affine.kappa - target
    reduction = 1 - sigma
    right_x = -reduction * residuals.dual
    right_z = shift - reduction * residuals.primal
    dx, dz = refined_solve(form, system, factor, right_x[None], right_z[None], refinement)
    combined = newton.direction((dx[0], dz[0]), reduction, shift, kappa_shift)
    longest = _FRACTION_TO_BOUNDARY * _longest_step(cone, iterate, combined)
    length = jnp.minimum(longest, 1)
    stepped = jax.tree.map(lambda v, dv: v + length * dv, iterate, combined)

    start = least_squares_point(cone, program.quadratic is not None, constant, affine_part)
    following = jax.tree.map(lambda a, b: jnp.where(starting, a, b), start, stepped)
    # The same ray, with the larger of tau and kappa at one, so that nothing over- or underflows.
    scale = 1 / jnp.maximum(following.tau, following.kappa)
    return Step(
        iterate=jax.tree.map(lambda v: v * scale, following),
        remaining=scale * (1 - length * reduction),
        length=jnp.where(starting, 1, length),
    )


@dataclass(frozen=True)
class _Newton:
    """What the affine and the combined direction of one step share."""

    program: Program
    iterate: Iterate
    residuals: Residuals
    hessian: Array
    constant: tuple[Array, Array]

    def direction(
        self, part: tuple[Array, Array], reduction: Array, shift: Array, kappa_shift: Array
    ) -> Iterate:
        """Combine the solution `part` for the residuals with the one for (-q, b)."""
        program, tau, kappa = self.program, self.iterate.tau, self.iterate.kappa
        (x1, z1), (x2, z2) = self.constant, part
        quadratic_xi = self.residuals.quadratic_x / tau
        slope = program.linear + 2 * quadratic_xi
        curvature = jnp.sum(quadratic_xi * self.iterate.x) / tau
        numerator = (
            reduction * self.residuals.gap
            - kappa_shift / tau
            + jnp.sum(slope * x2)
            + jnp.sum(program.offset * z2)
        )
        # In exact arithmetic kappa / tau plus squares: rounding must not make it smaller.
        squares = curvature - jnp.sum(slope * x1) - jnp.sum(program.offset * z1)
        dtau = numerator / (kappa / tau + jnp.maximum(squares, 0))
        dz = z2 + dtau * z1
        return Iterate(
            x=x2 + dtau * x1,
            z=dz,
            s=-shift - self.hessian * dz,
            tau=dtau,
            kappa=-(kappa_shift + kappa * dtau) / tau,
        )


def _longest_step(cone: Product, iterate: Iterate, direction: Iterate) -> Array:
    """The longest step that keeps s, z, tau and kappa in their cones."""

    def scalar(v: Array, dv: Array) -> Array:
        return jnp.where(dv < 0, -v / jnp.where(dv < 0, dv, -1), jnp.inf)

    cones = jnp.minimum(
        cone.max_step(iterate.s, direction.s), cone.max_step(iterate.z, direction.z)
    )
    scalars = jnp.minimum(
        scalar(iterate.tau, direction.tau), scalar(iterate.kappa, direction.kappa)
    )
    return jnp.minimum(cones, scalars)
