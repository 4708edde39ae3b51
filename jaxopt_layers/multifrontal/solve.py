"""Solves with a factorization: up the tree with L, down again with its transpose."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.matrix import constant_like, matmul
from jaxopt_layers.multifrontal.factor import Factor, PhaseFactor
from jaxopt_layers.multifrontal.plan import PhasePlan, Plan
from jaxopt_layers.multifrontal.root import solve_root
from jaxopt_layers.multifrontal.updates import Updates
from jaxopt_layers.pattern import rows_at


@partial(jax.jit, static_argnums=0)
def solve(plan: Plan, factor: Factor, right: Array) -> Array:
    """The solutions for a stack of right-hand sides (k, size)."""
    right, before = right.T, []
    for rounds, done in zip(plan.rounds, factor.condensed, strict=True):
        rights, right = rounds.reduce(done, right)
        before.append(rights)
    solution = _solve_fronts(plan, factor, right)
    groups = zip(plan.rounds, factor.condensed, before, strict=True)
    for rounds, done, rights in reversed(list(groups)):
        solution = rounds.expand(done, rights, solution)
    return solution.T


def _solve_fronts(plan: Plan, factor: Factor, right: Array) -> Array:
    """Of right-hand sides (size, k), too."""
    count, dtype = right.shape[1], right.dtype
    padded = jnp.concatenate([right, jnp.zeros((1, count), dtype)])
    anchor = right[0, 0] + jnp.sum(factor.root.ravel()[:1])
    updates: list[Array] = []
    forward = []
    for phase, numbers in zip(plan.phases, factor.phases, strict=True):
        found, made = _up(phase, numbers, padded, updates, anchor)
        forward.append(found)
        updates.append(made)

    solution = jnp.zeros((plan.padded_size + 1, count), dtype) + constant_like(0, anchor, dtype)
    end = plan.padded_size - plan.root.size
    top = solve_root(plan.root, factor.root, padded, updates)
    solution = lax.dynamic_update_slice(solution, top, (end, 0))
    for phase, numbers, found in zip(
        plan.phases[::-1], factor.phases[::-1], forward[::-1], strict=True
    ):
        end -= phase.count * phase.width
        solution = _down(phase, numbers, found, solution, end)
    return rows_at(solution, plan.position)


def _up(
    phase: PhasePlan, numbers: PhaseFactor, right: Array, earlier: list[Array], anchor: Array
) -> tuple[Array, Array]:
    """S R (right-hand sides), and what the fronts leave for their parents (fronts, k, h)."""
    w, h, count, dtype = phase.width, phase.height, right.shape[1], right.dtype
    room, updates = Updates.start(phase, earlier, count, anchor)

    def front(
        updates: Array,
        pivots: Array,
        signs: Array,
        children: Array,
        places: Array,
        numbers: PhaseFactor,
    ) -> tuple[Array, Array]:
        total = right[pivots].T
        rest = jnp.zeros((count, h), dtype)
        if h:
            there = places < h
            came = updates[children[:, None], :, jnp.where(there, places, 0)]
            came = jnp.sum(jnp.where(there[:, :, None], came, 0), axis=0).T
            total, rest = total + came[:, :w], came[:, w:]
        found = signs[None, :] * matmul(total, numbers.inverse.T)
        return rest - matmul(found, numbers.coupling), found

    def step(updates: Array, index: tuple[Any, ...]) -> tuple[Array, Array]:
        number, fronts = index
        made, found = jax.vmap(front, in_axes=(None, 0, 0, 0, 0, 0))(updates, *fronts)
        return room.put(updates, number, made), found

    steps = jnp.arange(phase.pivots.shape[0], dtype=jnp.int32)
    arrays = (phase.pivots, jnp.asarray(phase.signs, dtype), phase.children, phase.places)
    updates, found = lax.scan(step, updates, (steps, (*map(jnp.asarray, arrays), numbers)))
    return found, updates[room.own :]


def _down(
    phase: PhasePlan, numbers: PhaseFactor, found: Array, solution: Array, start: int
) -> Array:
    """Fill in the solution at this phase's pivots, which begin at `start`."""
    w, count = phase.width, solution.shape[1]
    together = phase.pivots.shape[1]

    def front(
        solution: Array, below: Array, signs: Array, numbers: PhaseFactor, found: Array
    ) -> Array:
        if phase.height:
            known = matmul(solution[below].T, numbers.coupling.T)
            found = found - signs[None, :] * known
        return matmul(found, numbers.inverse).T

    def step(solution: Array, index: tuple[Any, ...]) -> tuple[Array, None]:
        number, *fronts = index
        values = jax.vmap(front, in_axes=(None, 0, 0, 0, 0))(solution, *fronts)
        values = values.reshape(together * w, count)
        place = (start + number * together * w, jnp.zeros_like(number))
        return lax.dynamic_update_slice(solution, values, place), None

    steps = jnp.arange(phase.pivots.shape[0], dtype=jnp.int32)
    signs = jnp.asarray(phase.signs, found.dtype)
    index = (steps, jnp.asarray(phase.below), signs, numbers, found)
    return lax.scan(step, solution, index, reverse=True)[0]
