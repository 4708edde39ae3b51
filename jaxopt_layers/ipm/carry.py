"""What the interior-point loop carries, all of it named."""

from __future__ import annotations

from dataclasses import dataclass

import jax
from jax import Array

from jaxopt_layers.ipm.focus import Focus
from jaxopt_layers.ipm.state import Iterate, Residuals


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Point:
    """An iterate and its `terminate.Measure`, joined in a vector."""

    iterate: Iterate
    measured: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Floats:
    """The numbers that the loop carries: vectors only, since under vmap every finished member is copied.

    `residuals` are those of the current point, for the part of the data that `focus` leaves. `best` is the
    point with the smallest largest residual, which a problem that can't be finished returns.
    `regularization` grows when a factorization breaks down.
    """

    current: Point
    residuals: Residuals
    focus: Focus
    best: Point
    regularization: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Progress:
    """`stalled` counts iterations without progress since `best` improved; `refine` is set once the last
    step's residuals show that the linear solves have lost accuracy; `cautious` after a short step near a
    cone that isn't symmetric."""

    status: Array
    iterations: Array
    stalled: Array
    refine: Array
    cautious: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """The loop's carry."""

    floats: Floats
    progress: Progress
