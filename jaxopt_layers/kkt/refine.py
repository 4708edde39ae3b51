"""Iterative refinement of a KKT solve against the system without regularization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.kkt.system import Form, System
from jaxopt_layers.matrix import constant_like, norm_inf


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Refinement:
    """The best solution so far with its `residual` and, (k,), the `error` that this comes to."""

    best: Array
    residual: Array
    error: Array
    improving: Array
    passes: Array


def refined_solve(
    form: Form, system: System, factor: Any, right: Array, steps: Array | int
) -> Array:
    """Solve for a stack of right-hand sides, with at most `steps` steps of refinement."""
    return refine(form, system, factor, right, jnp.zeros_like(right), right, steps)


def refine(
    form: Form,
    system: System,
    factor: Any,
    right: Array,
    start: Array,
    missing: Array,
    steps: Array | int,
) -> Array:
    """Solve for (k, n + rows) from `start`, which leaves `missing` of `right`; then refine.

    At most `steps` steps of refinement follow the first solve. One that does not shrink a vector's
    residual is not taken, and the loop ends when no residual was halved, or all are near the rounding
    error of the right-hand side. The first solve is a pass of the loop, so that the compiled program
    holds one copy of it.
    """
    goal = float(jnp.finfo(right.dtype).eps) ** 0.85 * norm_inf(right)
    limit = jnp.asarray(steps) + 1

    def unfinished(state: _Refinement) -> Array:
        return (state.passes < limit) & jnp.any(state.improving)

    def step(state: _Refinement) -> _Refinement:
        first = state.passes == 0
        candidate = state.best + form.solve(system, factor, state.residual)
        residual = right - system.product(candidate)
        error = norm_inf(residual)
        better = state.improving & (error < state.error)  # false for NaN
        taken = first | better[:, None]
        return _Refinement(
            best=jnp.where(taken, candidate, state.best),
            residual=jnp.where(taken, residual, state.residual),
            error=jnp.where(better, error, state.error),
            improving=better & (error < 0.5 * state.error) & (error > goal),
            passes=state.passes + 1,
        )

    anchor = system.program.anchor + jnp.sum(right[:, 0] + start[:, 0] + system.hessian[:1].sum())
    beginning = _Refinement(
        best=start + constant_like(0, anchor, right.dtype),
        residual=missing + constant_like(0, anchor, right.dtype),
        error=constant_like(jnp.full(right.shape[0], jnp.inf, right.dtype), anchor, right.dtype),
        improving=constant_like(jnp.ones(right.shape[0], jnp.int32), anchor, jnp.int32) > 0,
        passes=constant_like(0, anchor, jnp.int32),
    )
    return lax.while_loop(unfinished, step, beginning).best
