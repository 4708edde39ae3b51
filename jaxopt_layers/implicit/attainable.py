"""The refined solve of the derivative's linear system, which may be singular."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.kkt import Form, System, refined_solve
from jaxopt_layers.matrix import constant_like, norm_inf
from jaxopt_layers.settings import Settings


def solve_attainable(
    settings: Settings, form: Form, system: System, factor: Any, right: Array
) -> Array:
    """Refined solve; where the system is singular and can't be met, of its nearest attainable side.

    With redundant rows the right-hand side may have a part that no u attains, which the
    regularized factor answers with 1 / regularization. Solving again for ``K u`` drops it.
    """
    steps = max(settings.refinement_steps, 2)
    size = jnp.sqrt(jnp.finfo(right.dtype).eps) * norm_inf(right)

    def attempt(state: _Attempt) -> _Attempt:
        u = refined_solve(form, system, factor, state.right, steps)
        reached = system.product(u)
        unattained = norm_inf(state.right - reached)[0] > size
        return _Attempt(u, reached, unattained, state.count + 1)

    anchor = system.program.anchor + right[0] + jnp.sum(system.hessian[:1])
    first = _Attempt(
        u=constant_like(jnp.zeros_like(right)[None, :], anchor, right.dtype),
        right=right[None, :] + constant_like(0, anchor, right.dtype),
        unattained=constant_like(1, anchor, jnp.int32) > 0,
        count=constant_like(0, anchor, jnp.int32),
    )
    return lax.while_loop(lambda s: s.unattained & (s.count < 2), attempt, first).u[0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Attempt:
    """The solution for the last right-hand side, and what it attains of it."""

    u: Array
    right: Array
    unattained: Array
    count: Array
