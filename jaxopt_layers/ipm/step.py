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
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.cones import Product, step_to_zero
from jaxopt_layers.ipm.line_search import central_step, interior_step
from jaxopt_layers.ipm.start import least_squares_point
from jaxopt_layers.ipm.state import Iterate, Residuals
from jaxopt_layers.kkt import Form, System, refine, rotated_system
from jaxopt_layers.matrix import dot
from jaxopt_layers.problem import Program

# How much of the way to the boundary a step leaves, at most; for linear inequalities it shrinks with mu,
# so that convergence is superlinear in the end.
_LEFT_TO_BOUNDARY = 0.01
# The correction of a cone that isn't symmetric is left whole while this times the affine step is one.
_CORRECTED = 10
# After a short step there is none, and at least this much centring.
_CENTRING = 0.5
# The orthant's is left out where the affine step is shorter than this; on every symmetric cone there is some
# centring at least where that step does not reach most of the way.
_TOO_SHORT = 0.3
_FAR, _LEAST_CENTRING = 0.9, 0.1


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
    cautious: Array,
    polishing: Array,
) -> Step:
    """One step (Mehrotra 1992), or, where `starting`, the least-squares starting point.

    Both need the same factorization and the same right-hand side (-q, b), so the start is made by the
    first pass of the loop instead of a second copy of the factorization in the compiled program.
    `cautious`: the last step was short, and another like it would be, too. `polishing`: the iterate is a
    solution, where the affine direction, which isn't refined, no longer tells how much centring is needed.
    """
    mu = iterate.mu(cone)
    _, z = program.split(iterate.u)
    scaling = cone.scaling(iterate.s, z, mu)
    system = rotated_system(program, *cone.spectrum(scaling, mu.dtype), regularization)
    factor = form.factor(system)
    newton = _Newton(program, system, iterate, residuals)

    affine_shift = cone.affine_shift(scaling, iterate.s)
    constant_right = jnp.concatenate([-program.linear, program.offset])
    offset_right = jnp.concatenate([jnp.zeros_like(program.linear), program.offset])
    affine_right = newton.right(jnp.ones_like(mu), affine_shift)
    second = jnp.where(starting, offset_right, affine_right)
    rights = system.into(jnp.stack([constant_right, second]))
    parts = form.solve(system, factor, rights)
    kappa_shift = iterate.tau * iterate.kappa
    affine = newton.direction(parts, jnp.ones_like(mu), affine_shift, kappa_shift)
    longest = _longest_step(program, cone, scaling, iterate, affine, affine=True)
    affine_length = jnp.minimum(longest, 1)
    sigma = (1 - affine_length) ** 3
    if cone.symmetric:
        sigma = jnp.where(affine_length < _FAR, jnp.maximum(sigma, _LEAST_CENTRING), sigma)
    else:
        sigma = jnp.where(cautious, jnp.maximum(sigma, _CENTRING), sigma)
    sigma = jnp.where(polishing, 0, sigma)

    target, reduction = sigma * mu, 1 - sigma
    _, affine_z = program.split(affine.u)
    # A correction for the whole of a step that can't be taken leads astray: out of the neighbourhood, or,
    # on the orthant, into a cycle of long and short steps.
    if cone.is_orthant:
        part = jnp.where(affine_length < _TOO_SHORT, jnp.zeros_like(mu), 1)
    elif cone.symmetric:
        part = jnp.ones_like(mu)
    else:
        part = jnp.where(cautious, 0, jnp.minimum(1, _CORRECTED * affine_length))
    affine_s, affine_z = part * affine.s, part * affine_z
    shift = cone.combined_shift(scaling, iterate.s, z, affine_s, affine_z, target)
    kappa_shift = kappa_shift + affine.tau * affine.kappa - target
    right = system.into(newton.right(reduction, shift)[None, :])
    # Only what the step is made of is refined: the affine direction merely steers it.
    zero = jnp.zeros_like(right)
    known, missing = jnp.concatenate([parts[:1], zero]), jnp.concatenate([zero, right])
    right = jnp.concatenate([rights[:1], right])
    refined = refine(form, system, factor, right, known, missing, refinement)
    combined = newton.direction(refined, reduction, shift, kappa_shift)
    longest = _longest_step(program, cone, scaling, iterate, combined)
    left = jnp.full_like(mu, _LEFT_TO_BOUNDARY)
    if cone.is_orthant:  # a curved cone's iterates would lose their centrality
        # Where even the affine step is short, one close to the boundary would pin what shall come free again.
        left = jnp.minimum(left, jnp.maximum(0.1 * jnp.sqrt(mu), 1 - affine_length))
    length = jnp.minimum((1 - left) * longest, 1)
    if not cone.symmetric:
        length = central_step(cone, iterate, combined, length)
    stepped = jax.tree.map(lambda v, dv: v + length * dv, iterate, combined)

    following = stepped
    if cone.symmetric:  # others start at the unit point, which is central
        following = _started(starting, program, cone, system.out(parts), stepped)
    # The same ray, with the larger of tau and kappa at one, so that nothing over- or underflows.
    scale = 1 / jnp.maximum(following.tau, following.kappa)
    return Step(
        iterate=jax.tree.map(lambda v: v * scale, following),
        remaining=scale * (1 - length * reduction),
        length=jnp.where(starting, 1, length),
    )


def _started(
    starting: Array, program: Program, cone: Product, parts: Array, stepped: Iterate
) -> Iterate:
    """The least-squares point where `starting`, else `stepped`.

    A loop of one pass, or none: the point takes eigenvalues, and only the first iteration needs it. `parts`
    is used up, or else the compiler would move what is made of it out of the loop.
    """

    def once(state: tuple[Array, Array, Iterate]) -> tuple[Array, Array, Iterate]:
        wanted, parts, old = state
        start = least_squares_point(program, cone, *parts)
        chosen = jax.tree.map(lambda new, old: jnp.where(wanted, new, old), start, old)
        return jnp.zeros_like(wanted), jnp.zeros_like(parts), chosen

    return lax.while_loop(lambda state: state[0], once, (starting, parts, stepped))[2]


@dataclass(frozen=True)
class _Newton:
    """What the affine and the combined direction of one step share."""

    program: Program
    system: System
    iterate: Iterate
    residuals: Residuals

    def right(self, reduction: Array, shift: Array) -> Array:
        """Right-hand side that takes off the part `reduction` of the residuals."""
        padded = jnp.concatenate([jnp.zeros_like(self.program.linear), shift])
        return padded - reduction * self.residuals.equations

    def direction(
        self, parts: Array, reduction: Array, shift: Array, kappa_shift: Array
    ) -> Iterate:
        """Join the solutions for (-q, b), parts[0], and for the residuals, parts[1].

        ds is made in the coordinates in which H is diagonal: an entry of H that is large meets an entry of
        dz that is small, and would meet the rounding error of a large one anywhere else.
        """
        program, tau, kappa = self.program, self.iterate.tau, self.iterate.kappa
        inverse = 1 / tau
        slope = program.linear + (2 * inverse) * self.residuals.quadratic_x
        curvature = self.residuals.curvature * inverse * inverse
        linear = self.system.into(jnp.concatenate([slope, program.offset]))
        products = dot(linear[None, :], parts)
        numerator = reduction * self.residuals.gap - kappa_shift * inverse + products[1]
        # In exact arithmetic kappa / tau plus squares: rounding must not make it smaller.
        dtau = numerator / (kappa * inverse + jnp.maximum(curvature - products[0], 0))
        u = parts[1] + dtau * parts[0]
        _, dz = program.split(u)
        return Iterate(
            u=self.system.out(u),
            s=-shift - self.system.hessian_product(dz),
            tau=dtau,
            kappa=-(kappa_shift + kappa * dtau) * inverse,
        )


def _longest_step(
    program: Program,
    cone: Product,
    scaling: list[Any],
    iterate: Iterate,
    direction: Iterate,
    affine: bool = False,
) -> Array:
    """The longest step that keeps s, z, tau and kappa in their cones."""
    _, z = program.split(iterate.u)
    _, dz = program.split(direction.u)
    scalars = jnp.minimum(
        step_to_zero(iterate.tau, direction.tau), step_to_zero(iterate.kappa, direction.kappa)
    )
    longest = jnp.minimum(cone.max_step(scaling, iterate.s, z, direction.s, dz, affine), scalars)
    return longest if cone.symmetric else interior_step(cone, iterate, direction, longest)
