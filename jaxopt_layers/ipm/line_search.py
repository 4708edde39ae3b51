"""How far a step may go where a cone has no closed form for it: many lengths are tried at once.

An exponential or a power cone ends where its barrier does. Of these lengths the first is
taken at which every such cone still has an interior pair, and, for the step that is taken, one near
enough to the central path (Goulart & Chen 2024, section 5.3).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.cones import Product
from jaxopt_layers.ipm.state import Iterate

_RATIO = 0.88
_LENGTHS = 24
# Largest distance of a cone's pair to its own central path. How the pairs' products compare with one another
# is not asked: beside a certificate that has nothing to do with a cone, its product vanishes first.
_NEIGHBOURHOOD = 3.0


def interior_step(cone: Product, iterate: Iterate, direction: Iterate, longest: Array) -> Array:
    """The longest length tried at which all pairs are interior."""
    return _first(cone, iterate, direction, longest, jnp.inf)


def central_step(cone: Product, iterate: Iterate, direction: Iterate, longest: Array) -> Array:
    """The longest length tried at which all pairs are near the central path; 0 where none is."""
    return _first(cone, iterate, direction, longest, _NEIGHBOURHOOD)


def _first(
    cone: Product, iterate: Iterate, direction: Iterate, longest: Array, limit: float
) -> Array:
    longest = jnp.minimum(longest, 1)
    powers = np.arange(_LENGTHS) * (1 + np.arange(_LENGTHS) / 10)  # fine first, down to 6e-5
    lengths = longest * jnp.asarray(_RATIO**powers, longest.dtype)

    def admissible(length: Array) -> Array:
        point = jax.tree.map(lambda v, dv: v + length * dv, iterate, direction)
        z = point.u[point.u.shape[0] - point.s.shape[0] :]
        return jnp.all(cone.distance(point.s, z) < limit)  # false for NaN

    accepted = jax.vmap(admissible)(lengths)
    return jnp.max(jnp.where(accepted, lengths, 0))
