"""What the loop adds to the diagonals of its next KKT matrix, which begins at `Tolerances.regularization`."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

#: Where a member that keeps breaking down is given up.
MOST_REGULARIZATION = 1e-2
# How it grows when a factorization breaks down; how it shrinks, and to which part of what it was.
_MORE, _LESS, _LEAST = 100, 0.1, 1e-4


def next_regularization(
    last: Array, first: float, refined: Array, finite: Array, inaccurate: Array, diverged: Array
) -> Array:
    """Of the next factorization.

    A breakdown is met by staying where we are and regularizing more, a few times. Where refinement does not
    take out what the regularization does to a step there will be less, and where it made the residuals grow,
    which is rounding, as much as in the beginning.
    """
    less = jnp.maximum(_LESS * last, _LEAST * first)
    more = _MORE * last
    refined_next = jnp.where(diverged, jnp.maximum(last, jnp.minimum(more, first)), less)
    following = jnp.where(refined & (inaccurate | diverged), refined_next, last)
    return jnp.where(finite, following, more)
