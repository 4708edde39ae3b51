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
    """`candidate` has not been measured yet; `best` has, with `error` (k,), but for the first."""

    candidate: Array
    best: Array
    error: Array
    improving: Array
    passes: Array


def refined_solve(
    form: Form, system: System, factor: Any, right: Array, steps: Array | int
) -> Array:
    """Solve for a stack of right-hand sides, with at most `steps` steps of refinement."""
    return refine(form, system, factor, right, form.solve(system, factor, right), steps)


def refine(
    form: Form, system: System, factor: Any, right: Array, first: Array, steps: Array | int
) -> Array:
    """Refine the solutions `first` (k, n + rows), with at most `steps` steps.

    Zero steps cost nothing: the residual is not measured then. A step that does not shrink a
    vector's residual is not taken, and the loop ends when no residual was halved, or all are near
    the rounding error of the right-hand side.
    """
    goal = float(jnp.finfo(right.dtype).eps) ** 0.85 * norm_inf(right)
    # Each pass measures the candidate and makes the next one, so the last candidate is not used.
    limit = jnp.where(jnp.asarray(steps) > 0, jnp.asarray(steps) + 1, 0)

    def unfinished(state: _Refinement) -> Array:
        return (state.passes < limit) & jnp.any(state.improving)

    def step(state: _Refinement) -> _Refinement:
        residual = right - system.product(state.candidate)
        error = norm_inf(residual)
        better = state.improving & (error < state.error)  # false for NaN
        best = jnp.where(better[:, None], state.candidate, state.best)
        return _Refinement(
            candidate=best + form.solve(system, factor, residual),
            best=best,
            error=jnp.where(better, error, state.error),
            improving=better & (error < 0.5 * state.error) & (error > goal),
            passes=state.passes + 1,
        )

    anchor = system.program.anchor + jnp.sum(right[:, 0] + first[:, 0] + system.hessian[:1].sum())
    start = _Refinement(
        candidate=first + constant_like(0, anchor, right.dtype),
        best=first + constant_like(0, anchor, right.dtype),
        error=constant_like(jnp.full(right.shape[0], jnp.inf, right.dtype), anchor, right.dtype),
        improving=constant_like(jnp.ones(right.shape[0], jnp.int32), anchor, jnp.int32) > 0,
        passes=constant_like(0, anchor, jnp.int32),
    )
    return lax.while_loop(unfinished, step, start).best
