"""What fronts leave for their parents: one array for a phase, in which a front finds its children's.

Place 0 holds zeros, for a child that isn't there; then comes what earlier phases left for this one, padded
to its height; then the room that the phase's own fronts fill, step by step.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.matrix import constant_like
from jaxopt_layers.multifrontal.plan import PhasePlan


@dataclass(frozen=True)
class Updates:
    """Where a phase's own fronts begin, of which each step brings `together`."""

    own: int
    together: int

    @classmethod
    def start(
        cls, phase: PhasePlan, earlier: list[Array], rows: int | None, anchor: Array
    ) -> tuple[Updates, Array]:
        """The array before the first step. An update is (rows, h), or with rows None a matrix (h, h)."""
        height, dtype = phase.height, anchor.dtype
        shape = (height if rows is None else rows, height)
        known = []
        for updates, numbers in zip(earlier, phase.incoming, strict=True):
            more = height - updates.shape[-1]
            pads = ((0, 0), (0, more if rows is None else 0), (0, more))
            known += [jnp.pad(updates[numbers], pads)] if len(numbers) else []
        parts = [jnp.zeros((1, *shape), dtype), *known, jnp.zeros((phase.count, *shape), dtype)]
        joined = jnp.concatenate(parts) + constant_like(0, anchor, dtype)
        return cls(joined.shape[0] - phase.count, phase.pivots.shape[1]), joined

    def put(self, updates: Array, step: Array, made: Array) -> Array:
        """The array with what the fronts of a step left."""
        zero = jnp.zeros_like(step)
        return lax.dynamic_update_slice(
            updates, made, (self.own + step * self.together, zero, zero)
        )
