"""Iterative refinement of a KKT solve against the system without regularization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.kkt.system import Form, System
from jaxopt_layers.matrix import norm_inf


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Refinement:
    """`candidate` has not been measured yet; `best` has, with `error` (k,), but for the first."""

    candidate: tuple[Array, Array]
    best: tuple[Array, Array]
    error: Array
    improving: Array
    passes: Array


def refined_solve(
    form: Form, system: System, factor: Any, rx: Array, rz: Array, steps: Array | int
) -> tuple[Array, Array]:
    """Solve for stacks rx (k, n), rz (k, rows), with at most `steps` steps of refinement.

    Zero steps cost nothing: the residual is not measured then. A step that does not shrink a
    vector's residual is not taken, and the loop ends when no residual was halved, or all are at the
    rounding error of the right-hand side.
    """
    first = form.solve(system, factor, rx, rz)
    if isinstance(steps, int) and steps == 0:
        return first
    goal = 2 * jnp.finfo(rx.dtype).eps * jnp.maximum(norm_inf(rx), norm_inf(rz))
    # Each pass measures the candidate and makes the next one, so the last candidate is not used.
    limit = jnp.where(jnp.asarray(steps) > 0, jnp.asarray(steps) + 1, 0)

    def unfinished(state: _Refinement) -> Array:
        return (state.passes < limit) & jnp.any(state.improving)

    def step(state: _Refinement) -> _Refinement:
        top, bottom = system.product(*state.candidate)
        residual_x, residual_z = rx - top, rz - bottom
        error = jnp.maximum(norm_inf(residual_x), norm_inf(residual_z))
        better = state.improving & (error < state.error)  # false for NaN
        pick = better[:, None]
        best = jax.tree.map(lambda new, old: jnp.where(pick, new, old), state.candidate, state.best)
        cx, cz = form.solve(system, factor, residual_x, residual_z)
        return _Refinement(
            candidate=(best[0] + cx, best[1] + cz),
            best=best,
            error=jnp.where(better, error, state.error),
            improving=better & (error < 0.5 * state.error) & (error > goal),
            passes=state.passes + 1,
        )

    unmeasured = jnp.full(rx.shape[0], jnp.inf, rx.dtype)
    start = _Refinement(
        candidate=first,
        best=first,
        error=unmeasured,
        improving=jnp.ones(rx.shape[0], bool),
        passes=jnp.zeros((), jnp.int32),
    )
    return lax.while_loop(unfinished, step, start).best
