"""A point of the homogeneous embedding, and its equations there."""

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
    """A point of the homogeneous embedding: the solution is (x, z, s) / tau.

    `u` joins (x, z), the unknowns of the KKT system.
    """

    u: Array
    s: Array
    tau: Array
    kappa: Array

    def mu(self, cone: Product) -> Array:
        """The barrier parameter: the mean complementarity product."""
        z = self.u[self.u.shape[0] - self.s.shape[0] :]
        return (jnp.sum(self.s * z) + self.tau * self.kappa) / (cone.degree + 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Residuals:
    """The embedding's equations at an iterate.

    `equations` joins ``Px + R'z + q tau`` and ``Rx + s - b tau``; ``gap = kappa + q'x + b'z + x'Px / tau``.
    `quadratic_x` is Px, `curvature` x'Px.
    """

    equations: Array
    gap: Array
    quadratic_x: Array
    curvature: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Terms:
    """The parts of the equations, which termination compares: Px, R'z, Rx; x'Px, q'x, b'z."""

    quadratic_x: Array
    rows_z: Array
    rows_x: Array
    curvature: Array
    linear_x: Array
    offset_z: Array


def evaluate(program: Program, iterate: Iterate) -> Terms:
    """The parts of the embedding's equations."""
    x, z = program.split(iterate.u)
    quadratic_x = program.quadratic_product(x)
    products = jnp.sum(jnp.stack([quadratic_x, program.linear]) * x[None, :], axis=1)
    return Terms(
        quadratic_x=quadratic_x,
        rows_z=program.rows.transposed_product(z),
        rows_x=program.rows.product(x),
        curvature=products[0],
        linear_x=products[1],
        offset_z=jnp.sum(program.offset * z),
    )


def residuals(program: Program, iterate: Iterate) -> Array:
    """The equations alone, joined."""
    terms = evaluate(program, iterate)
    dual = terms.quadratic_x + terms.rows_z + program.linear * iterate.tau
    primal = terms.rows_x + iterate.s - program.offset * iterate.tau
    return jnp.concatenate([dual, primal])
