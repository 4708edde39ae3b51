"""What a solver hands back, before it is put into the user's units."""

from __future__ import annotations

from dataclasses import dataclass

import jax
from jax import Array

from jaxopt_layers.ipm.state import Iterate


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Outcome:
    """The last or best iterate, still scaled and homogeneous, and how it came about.

    `measured` joins a [`Measure`][] of the iterate.
    """

    iterate: Iterate
    measured: Array
    status: Array
    iterations: Array
