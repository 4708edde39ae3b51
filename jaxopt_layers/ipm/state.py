"""What the interior-point loop carries, all of it named."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cones import Product
from jaxopt_layers.problem import Program

#: Status of a problem that is still being solved.
RUNNING = -1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Iterate:
    """A point of the homogeneous embedding: the solution is (x, z, s) / tau."""

    x: Array
    z: Array
    s: Array
    tau: Array
    kappa: Array

    def mu(self, cone: Product) -> Array:
        """The barrier parameter: the mean complementarity product."""
        return (jnp.sum(self.s * self.z) + self.tau * self.kappa) / (cone.degree + 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Residuals:
    """The embedding's equations at an iterate, with the products they are made of.

    ``dual = Px + R'z + q tau``, ``primal = Rx + s - b tau``, ``gap = kappa + q'x + b'z + x'Px / tau``.
    """

    quadratic_x: Array
    rows_z: Array
    rows_x: Array
    dual: Array
    primal: Array
    gap: Array


def residuals(program: Program, iterate: Iterate) -> Residuals:
    """Evaluate the embedding's equations."""
    x, z, s, tau = iterate.x, iterate.z, iterate.s, iterate.tau
    quadratic_x = program.quadratic_product(x)
    rows_z = program.rows.transposed_product(z)
    rows_x = program.rows.product(x)
    return Residuals(
        quadratic_x=quadratic_x,
        rows_z=rows_z,
        rows_x=rows_x,
        dual=quadratic_x + rows_z + program.linear * tau,
        primal=rows_x + s - program.offset * tau,
        gap=iterate.kappa
        + jnp.sum(program.linear * x)
        + jnp.sum(program.offset * z)
        + jnp.sum(quadratic_x * x) / tau,
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """The loop's carry. It holds vectors only: under vmap every finished member is copied each time.

    `best` is the iterate with the smallest `best_merit` (largest residual over its tolerance), which
    is what a problem that can't be finished returns; `stalled` counts iterations since it improved.
    `refine` is set once the last step's residuals show that the linear solves have lost accuracy;
    `regularization` grows when a factorization breaks down.
    """

    iterate: Iterate
    residuals: Residuals
    status: Array
    iterations: Array
    refine: Array
    regularization: Array
    best: Iterate
    best_merit: Array
    stalled: Array
