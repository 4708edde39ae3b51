"""The numbers of a factorization: every phase a scan over its steps, every step a batch of fronts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.matrix import matmul
from jaxopt_layers.multifrontal.condense import Condensed
from jaxopt_layers.multifrontal.coupling import after_zero
from jaxopt_layers.multifrontal.plan import PhasePlan, Plan
from jaxopt_layers.multifrontal.root import factor_root
from jaxopt_layers.multifrontal.updates import Updates
from jaxopt_layers.pivots import signed_inverse_factor


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PhaseFactor:
    """Of each front, stacked by step and place: R with R F11 R' = S, and R F12."""

    inverse: Array
    coupling: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Factor:
    """What was condensed, and of the rest L S L', front by front; `root` is R at the root."""

    condensed: list[list[Condensed]]
    phases: list[PhaseFactor]
    root: Array


@partial(jax.jit, static_argnums=0)
def factor(plan: Plan, diagonal: Array, entries: Array) -> Factor:
    """Factor the matrix with this diagonal (size,) and these entries, in the order of `make_plan`.

    An entry on the diagonal must be in `diagonal` already. NaN where a pivot hasn't got its sign.
    A `jax.jit`, like `solve`, so that the solver's and the derivative's uses of it are traced once.
    """
    dtype, condensed = diagonal.dtype, []
    for rounds in plan.rounds:
        done, diagonal, entries = rounds.condense(diagonal, entries)
        condensed.append(done)
    padded_diagonal = jnp.concatenate([diagonal, jnp.ones(1, dtype)])
    padded_entries = after_zero(entries)
    anchor = diagonal[0] + jnp.sum(entries[:1])
    updates: list[Array] = []
    factors = []
    for phase in plan.phases:
        found, made = _factor_phase(phase, padded_diagonal, padded_entries, updates, anchor)
        factors.append(found)
        updates.append(made)
    root = factor_root(plan.root, padded_diagonal, padded_entries, updates)
    return Factor(condensed, factors, root)


def _factor_phase(
    phase: PhasePlan, diagonal: Array, entries: Array, earlier: list[Array], anchor: Array
) -> tuple[PhaseFactor, Array]:
    """The phase's factor and the updates that its fronts leave (fronts, h, h)."""
    room, updates = Updates.start(phase, earlier, None, anchor)

    def step(updates: Array, index: tuple[Array, ...]) -> tuple[Array, PhaseFactor]:
        number, *fronts = index
        made, found = jax.vmap(
            lambda *front: _eliminate_front(phase, diagonal, entries, updates, *front)
        )(*fronts)
        return room.put(updates, number, made), found

    numbers = jnp.arange(phase.pivots.shape[0], dtype=jnp.int32)
    signs = jnp.asarray(phase.signs, diagonal.dtype)
    fronts = (phase.pivots, signs, phase.entries, phase.children, phase.places)
    updates, found = lax.scan(step, updates, (numbers, *map(jnp.asarray, fronts)))
    return found, updates[room.own :]


def _eliminate_front(
    phase: PhasePlan,
    diagonal: Array,
    entries: Array,
    updates: Array,
    pivots: Array,
    signs: Array,
    own: Array,
    children: Array,
    places: Array,
) -> tuple[Array, PhaseFactor]:
    """Assemble a front, eliminate its pivots: the update that is left, and the factor."""
    w, h = phase.width, phase.height
    total = entries[own]
    pivot_block = total[:, :w] + jnp.diag(diagonal[pivots])
    coupling, rest = total[:, w:], jnp.zeros((h, h), diagonal.dtype)
    if h:
        came = jnp.zeros((w + h, w + h), diagonal.dtype)
        for child, rows in zip(children, places, strict=True):
            there = rows < h
            safe = jnp.where(there, rows, 0)
            value = updates[child, safe[:, None], safe[None, :]]
            came = came + jnp.where(there[:, None] & there[None, :], value, 0)
        pivot_block = pivot_block + came[:w, :w]
        coupling = coupling + came[:w, w:]
        rest = came[w:, w:]
    inverse = signed_inverse_factor(pivot_block, signs)
    coupling = matmul(inverse, coupling)
    rest = rest - matmul(coupling.T, signs[:, None] * coupling)
    return rest, PhaseFactor(inverse, coupling)
