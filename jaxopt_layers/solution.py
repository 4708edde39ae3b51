"""The records that a solve returns, and how to insist on success."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxopt_layers.status import Status

# Failed members that an error message names before it only counts them.
_NAMED_MEMBERS = 8


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ConeSolution:
    """Solution of ``minimize 1/2 x'Px + c'x  subject to  Ax + s = b, s in K``.

    Under `jax.vmap` every field gets the batch dimension in front.

    - `x` (n,), `y` (m,), `s` (m,): primal variable, dual variable in K*, slack in K. A problem that is
      infeasible has the certificate in y (``A'y = 0, b'y = -1``), an unbounded one in x and s
      (``Px = 0, Ax + s = 0, c'x = -1``).
    - `objective`, `dual_objective`: their values; +inf both where the problem is infeasible, -inf where
      it is unbounded.
    - `status`: a [`Status`][] code (int32). `iterations`: factorizations made (int32).
    - `primal_residual`, `dual_residual`, `gap`: violations of ``Ax + s = b`` and ``Px + c + A'y = 0``
      and the duality gap, in the user's units, each relative to one plus the largest of what it
      compares. Not differentiable; infinite where there is a certificate instead of a solution.
    """

    x: Array
    y: Array
    s: Array
    objective: Array
    dual_objective: Array
    status: Array
    iterations: Array
    primal_residual: Array
    dual_residual: Array
    gap: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QPSolution:
    """Solution of a quadratic program; see [`solve_qp`][] for the problem and the signs.

    Under `jax.vmap` every field gets the batch dimension in front. Duals of absent constraints have
    length zero; those of an infinite bound are zero, and the slack of an infinite h is infinite.

    - `x` (n,): primal variable. `y` (p,): multipliers of ``Ax = b``. `z` (m,): of ``Gx <= h``.
      `s` (m,): the slack ``h - Gx``. `z_lower`, `z_upper` (n,) or (0,): of the bounds.
      A problem that is infeasible has the certificate in the duals, an unbounded one in x.
    - `objective`, `dual_objective`: their values; +inf both where the problem is infeasible, -inf
      where it is unbounded.
    - `status`: a [`Status`][] code (int32). `iterations`: factorizations made (int32).
    - `primal_residual`, `dual_residual`, `gap`: violations of the constraints and of stationarity and
      the duality gap, in the user's units, each relative to one plus the largest of what it compares.
      Not differentiable; infinite where there is a certificate instead of a solution.
    """

    x: Array
    y: Array
    z: Array
    s: Array
    z_lower: Array
    z_upper: Array
    objective: Array
    dual_objective: Array
    status: Array
    iterations: Array
    primal_residual: Array
    dual_residual: Array
    gap: Array


class SolverError(RuntimeError):
    """A problem was not solved; `statuses` holds the code of every member of the batch."""

    def __init__(self, message: str, statuses: np.ndarray):
        super().__init__(message)
        self.statuses = statuses


def raise_if_failed(solution: Any) -> None:
    """Raise [`SolverError`][] unless every member of `solution` is SOLVED or ALMOST_SOLVED.

    For use outside `jax.jit`: it waits for the result. The message names the members and says why.

    **Arguments:**

    - `solution`: any record with a `status`, batched or not.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    solution = jl.solve_qp(jnp.eye(2), jnp.ones(2))
    jl.raise_if_failed(solution)  # silent: it was solved
    ```
    """
    if isinstance(solution.status, Tracer):
        raise TypeError(
            "raise_if_failed: `solution` is being traced; call it outside jax.jit, or look at"
            " solution.status inside."
        )
    statuses = np.asarray(solution.status)
    failed = np.argwhere(statuses > Status.ALMOST_SOLVED)
    if not len(failed):
        return
    lines = []
    for index in failed[:_NAMED_MEMBERS]:
        status = Status(int(statuses[tuple(index)]))
        member = ", ".join(str(i) for i in index)
        where = f"member [{member}]: " if statuses.ndim else ""
        lines.append(f"{where}{status.name}: {status.message}")
    if len(failed) > _NAMED_MEMBERS:
        lines.append(f"and {len(failed) - _NAMED_MEMBERS} more")
    count = (
        f"{len(failed)} of {statuses.size} problems were" if statuses.ndim else "The problem was"
    )
    raise SolverError(f"{count} not solved. " + "; ".join(lines), statuses)
