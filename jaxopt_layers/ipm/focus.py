"""Which part of the data still matters, once tau has vanished and a certificate is in sight.

That no point satisfies the constraints has nothing to do with the objective, and that the objective
falls for ever along a ray nothing with the constraints' offset. But on the embedding Px keeps R'z from
vanishing, and b keeps Rx + s from it, so that certificates get purer by a small factor an iteration.
Without the part that doesn't matter they converge as fast as solutions do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.ipm.state import Iterate, Residuals, Terms
from jaxopt_layers.ipm.terminate import Measure, vanished
from jaxopt_layers.problem import Program

# A certificate is in sight once its violation is this small against its objective.
_IN_SIGHT = 1e-3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Focus:
    """Factors, one or zero, of the objective's and of the offset's data."""

    objective: Array
    offset: Array

    @classmethod
    def on(cls, iterate: Iterate, measured: Measure) -> Focus:
        """Everything, unless the iterate is about to prove a kind of infeasibility."""

        def near(fall: Array, violation: Array) -> Array:
            return vanished(iterate) & (fall > 0) & (violation < _IN_SIGHT * fall)

        infeasible = near(measured.fall_dual, measured.violation_dual)
        unbounded = near(measured.fall_primal, measured.violation_primal) & ~infeasible
        one = jnp.ones_like(iterate.tau)
        return cls(jnp.where(infeasible, 0, one), jnp.where(unbounded, 0, one))

    def program(self, program: Program) -> Program:
        """The program without what doesn't matter."""
        return replace(
            program,
            quadratic_scale=self.objective * program.quadratic_scale,
            linear=self.objective * program.linear,
            offset=self.offset * program.offset,
        )

    def residuals(self, program: Program, iterate: Iterate, terms: Terms) -> Residuals:
        """The embedding's equations for that program."""
        keep, hold = self.objective, self.offset
        dual = terms.rows_z + keep * (terms.quadratic_x + program.linear * iterate.tau)
        primal = terms.rows_x + iterate.s - hold * program.offset * iterate.tau
        curvature = keep * terms.curvature
        gap = (
            iterate.kappa + keep * terms.linear_x + hold * terms.offset_z + curvature / iterate.tau
        )
        equations = jnp.concatenate([dual, primal])
        return Residuals(equations, gap, keep * terms.quadratic_x, curvature)
