"""How far a step may go where a cone has no closed form for it: a list of lengths is tried.

An exponential or a power cone ends where its barrier does. Of these lengths the first is
taken at which every such cone still has an interior pair, and, for the step that is taken, one near
enough to the central path (Goulart & Chen 2024, section 5.3).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxopt_layers.cones import Product
from jaxopt_layers.ipm.state import Iterate
from jaxopt_layers.matrix import constant_like

_RATIO = 0.88
_LENGTHS = 24
# How many lengths are tried at once, divisors of their number. To be inside takes a few logarithms; the
# distance from the path takes the conjugate barrier, by iterations, and is nearly always small at once.
_INTERIOR_AT_ONCE = 8
_CENTRAL_AT_ONCE = 1
# Largest distance of a cone's pair to its own central path. How the pairs' products compare with one another
# is not asked: beside a certificate that has nothing to do with a cone, its product vanishes first.
_NEIGHBOURHOOD = 3.0


def interior_step(cone: Product, iterate: Iterate, direction: Iterate, longest: Array) -> Array:
    """The longest length tried at which all pairs are interior; 0 where none is."""
    return _first(cone.interior, iterate, direction, longest, _INTERIOR_AT_ONCE)


def central_step(cone: Product, iterate: Iterate, direction: Iterate, longest: Array) -> Array:
    """The longest length tried at which all pairs are near the central path; 0 where none is."""

    def central(s: Array, z: Array) -> Array:
        return jnp.all(cone.distance(s, z) < _NEIGHBOURHOOD)  # false for NaN

    return _first(central, iterate, direction, longest, _CENTRAL_AT_ONCE)


def _first(
    admissible: Callable[[Array, Array], Array],
    iterate: Iterate,
    direction: Iterate,
    longest: Array,
    at_once: int,
) -> Array:
    """The first length with an admissible (s, z); under vmap the loop ends with the last member's."""
    longest = jnp.minimum(longest, 1)
    powers = np.arange(_LENGTHS) * (1 + np.arange(_LENGTHS) / 10)  # fine first, down to 6e-5
    lengths = longest * jnp.asarray(_RATIO**powers, longest.dtype)

    def accepts(length: Array) -> Array:
        point = jax.tree.map(lambda v, dv: v + length * dv, iterate, direction)
        return admissible(point.s, point.u[point.u.shape[0] - point.s.shape[0] :])

    def unfinished(state: tuple[Array, Array]) -> Array:
        count, found = state
        return (found <= 0) & (count < _LENGTHS)

    def advance(state: tuple[Array, Array]) -> tuple[Array, Array]:
        count, _ = state
        tried = lax.dynamic_slice(lengths, (count,), (at_once,))
        return count + at_once, jnp.max(jnp.where(jax.vmap(accepts)(tried), tried, 0))

    # Where no step can be taken, or its length is NaN, there is nothing to try.
    count = jnp.where(longest > 0, constant_like(0, longest, jnp.int32), _LENGTHS)
    return lax.while_loop(unfinished, advance, (count, constant_like(0, longest, longest.dtype)))[1]
