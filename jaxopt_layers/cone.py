"""`solve_cone`: cone programs, from checked arguments to a differentiable solution."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
from jax.typing import ArrayLike

from jaxopt_layers import implicit
from jaxopt_layers.checks import check_settings
from jaxopt_layers.cone_arguments import ConeProgram
from jaxopt_layers.cones import Cones
from jaxopt_layers.ipm import WarmStart
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import ConeSolution
from jaxopt_layers.sparse_matrix import MatrixLike

_OWNER = "solve_cone"


def solve_cone(
    A: MatrixLike,
    b: ArrayLike,
    c: ArrayLike,
    cones: Cones,
    *,
    P: MatrixLike | None = None,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    init: ConeSolution | None = None,
) -> ConeSolution:
    """Solve a convex cone program, differentiably in all of its data.

        minimize    1/2 x'Px + c'x
        subject to  Ax + s = b,  s in K

    The dual variable satisfies ``Px + c + A'y = 0``, ``y in K*`` and ``s'y = 0``. Pure: use it under
    `jax.jit`, `jax.vmap`, `jax.grad` and their compositions; one call is one problem, a batch is a
    `jax.vmap`, with `in_axes` None for what the batch shares.

    **Arguments:**

    - `A`, `b`, `c`: (m, n), (m,) and (n,).
    - `cones`: which cones the rows belong to, in which order: see [`Cones`][].
    - `P`: (n, n) symmetric positive semidefinite, or its diagonal (n,), or None. Of a traced P the
      symmetric part counts.
    - `settings`: tolerance, limits and the kind of derivative, see [`Settings`][].
    - `init`: a solution of a neighbouring problem of the same shapes, to start from. One that had
      failed is ignored. It changes the number of iterations, not the result beyond the tolerance.

    The arrays may be float32 or float64 (integers are converted); the result has their widest dtype.

    **Returns:** a [`ConeSolution`][]. Look at its `status`, or call [`raise_if_failed`][]: a problem that
    is infeasible, unbounded or holds NaN doesn't raise, and its gradient is zero (or NaN, by
    `settings.failed_gradient`).

    **Raises:** ValueError or TypeError, naming the argument, for shapes and dtypes that don't fit.

    The method is the homogeneous interior-point method of Goulart & Chen (2024, "Clarabel"); the
    derivative is that of Agrawal et al. (2019, "Differentiating through a cone program").

    ```python
    import jax, jax.numpy as jnp, jaxopt_layers as jl

    def distance(point):  # to the unit ball: minimize t  subject to  |x - point| <= t, |x| <= 1
        n = point.shape[0]
        identity, column = jnp.eye(n), jnp.zeros((n, 1))
        ball = jnp.concatenate([jnp.zeros((1, n + 1)), jnp.concatenate([column, -identity], axis=1)])
        near = -jnp.eye(n + 1)
        A = jnp.concatenate([ball, near])
        b = jnp.concatenate([jnp.ones(1), jnp.zeros(n), jnp.zeros(1), -point])
        c = jnp.zeros(n + 1).at[0].set(1.0)
        return jl.solve_cone(A, b, c, jl.Cones(second_order=(n + 1, n + 1))).objective

    distance(jnp.array([3.0, 4.0]))  # 4
    jax.grad(distance)(jnp.array([3.0, 4.0]))  # [0.6, 0.8]
    ```
    """
    check_settings(_OWNER, settings)
    arguments = ConeProgram.checked(_OWNER, A, b, c, cones, P)
    start = None if init is None else arguments.warm_start(_OWNER, init)
    return _solve(arguments, start, settings.with_method("hsd"))


@partial(jax.jit, static_argnums=2)
def _solve(arguments: ConeProgram, start: WarmStart | None, settings: Settings) -> ConeSolution:
    """Compiled as a whole, so that calls outside of `jax.jit` compile once for their shapes, too."""
    layout, data, marks = arguments.program(settings)
    solution = implicit.solve(layout, settings, data, marks, start)
    return replace(solution, y=arguments.unsort(solution.y), s=arguments.unsort(solution.s))
