"""The solution map on one active set as a linear solve: exact derivatives, to any order, by JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from tests.helpers.problems import KnownQP


def active_set_map(known: KnownQP):
    """The smooth map from data to the outputs by name that holds near the known solution.

    Where the solution is strictly complementary the active set stays as it is, and x and the active
    multipliers solve a system of linear equations: this one, left to JAX to differentiate.
    """
    n = len(known.solution["x"])
    names = ("z", "z_lower", "z_upper")
    indices = {name: np.flatnonzero(known.solution[name] > 0) for name in names}
    sizes = {name: len(known.solution[name]) for name in names}

    def solution(data: dict[str, jax.Array]) -> dict[str, jax.Array]:
        Q = data.get("Q", jnp.zeros(n))
        Q = jnp.diag(Q) if Q.ndim == 1 else (Q + Q.T) / 2
        A, b = data.get("A", jnp.zeros((0, n))), data.get("b", jnp.zeros(0))
        G, h = data.get("G", jnp.zeros((0, n))), data.get("h", jnp.zeros(0))
        low, high = data.get("lower", jnp.zeros(0)), data.get("upper", jnp.zeros(0))
        z, z_lower, z_upper = (indices[name] for name in names)
        identity = jnp.eye(n)
        rows = jnp.concatenate([A, G[z], -identity[z_lower], identity[z_upper]])
        sides = jnp.concatenate([b, h[z], -low[z_lower], high[z_upper]])
        corner = jnp.zeros((len(sides), len(sides)))
        system = jnp.block([[Q, rows.T], [rows, corner]])
        found = jnp.linalg.solve(system, jnp.concatenate([-data["q"], sides]))
        x, y, *duals = jnp.split(found, np.cumsum([n, len(b), *map(len, (z, z_lower))]))
        value = x @ Q @ x / 2 + data["q"] @ x
        filled = {
            name: jnp.zeros(sizes[name]).at[indices[name]].set(dual)
            for name, dual in zip(names, duals, strict=True)
        }
        return {
            "x": x,
            "y": y,
            "s": h - G @ x,
            "objective": value,
            "dual_objective": value,
        } | filled

    return solution
