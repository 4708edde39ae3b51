"""`solve_qp`: quadratic programs, from checked arguments to a differentiable solution."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_layers import implicit
from jaxopt_layers.checks import check_settings
from jaxopt_layers.qp_arguments import OWNER, QuadraticProgram
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import QPSolution
from jaxopt_layers.sparse_matrix import MatrixLike


def solve_qp(
    Q: MatrixLike | None,
    q: ArrayLike,
    A: MatrixLike | None = None,
    b: ArrayLike | None = None,
    G: MatrixLike | None = None,
    h: ArrayLike | None = None,
    *,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    init: QPSolution | None = None,
) -> QPSolution:
    """Solve a convex quadratic program, differentiably in all of its data.

        minimize    1/2 x'Qx + q'x
        subject to  Ax = b,  Gx <= h,  lower <= x <= upper

    The multipliers satisfy ``Qx + q + A'y + G'z - z_lower + z_upper = 0`` with z, z_lower and z_upper
    nonnegative, each zero where its constraint has slack. Pure: use it under `jax.jit`, `jax.vmap`,
    `jax.grad` and their compositions; one call is one problem, a batch is a `jax.vmap`, with `in_axes`
    None for what the batch shares.

    **Arguments:**

    - `Q`: (n, n) symmetric positive semidefinite, or its diagonal (n,), or None for a linear program.
      Of a traced Q the symmetric part counts.
    - `q`: (n,).
    - `A`, `b`: (p, n) and (p,), or None. Redundant rows are allowed.
    - `G`, `h`: (m, n) and (m,), or None. An entry of h may be +inf: that row is absent.
    - `lower`, `upper`: (n,) or a scalar, or None; entries may be infinite, and may coincide.
      Limits of 1e16 and more, in h too, count as infinite.
      Bounds given this way are cheaper than rows of G.
    - `settings`: tolerance, limits and the kind of derivative, see [`Settings`][].
    - `init`: a solution of a neighbouring problem of the same shapes, to start from. One that had
      failed is ignored. It changes the number of iterations, not the result beyond the tolerance.

    The arrays may be float32 or float64 (integers are converted); the result has their widest dtype.

    **Returns:** a [`QPSolution`][]. Look at its `status`, or call [`raise_if_failed`][]: a problem that
    is infeasible, unbounded or holds NaN doesn't raise, and its gradient is zero (or NaN, by
    `settings.failed_gradient`).

    **Raises:** ValueError or TypeError, naming the argument, for shapes and dtypes that don't fit.

    The method is the homogeneous interior-point method of Goulart & Chen (2024, "Clarabel"); the
    derivative is that of Amos & Kolter (2017, "OptNet", eq. 6-8).

    ```python
    import jax, jax.numpy as jnp, jaxopt_layers as jl

    def project(point):  # onto the probability simplex
        n = point.shape[0]
        return jl.solve_qp(jnp.ones(n), -point, jnp.ones((1, n)), jnp.ones(1), lower=0).x

    project(jnp.array([0.5, 1.0, -1.0]))  # [0.25, 0.75, 0.]
    jax.jacobian(project)(jnp.array([0.5, 1.0, -1.0]))
    ```
    """
    check_settings(OWNER, settings)
    arguments = QuadraticProgram.checked(Q, q, A, b, G, h, lower, upper)
    if init is not None:
        arguments.check_init(init)
    return _solve(arguments, init, settings.with_method("kkt"))


@partial(jax.jit, static_argnums=2)
def _solve(arguments: QuadraticProgram, init: QPSolution | None, settings: Settings) -> QPSolution:
    """Compiled as a whole, so that calls outside of `jax.jit` compile once for their shapes, too."""
    layout, data, marks = arguments.program(settings)
    warm = None if init is None else arguments.warm_start(init)
    solution = implicit.solve(layout, settings, data, marks, warm)

    n, p = arguments.q.shape[0], layout.equalities
    m = 0 if arguments.h is None else arguments.h.shape[0]
    ends = [p, p + m, p + m + (n if layout.lower else 0)]
    y, z, z_lower, z_upper = jnp.split(solution.y, ends)
    return QPSolution(
        x=solution.x,
        y=y,
        z=z,
        s=solution.s[p : p + m],
        z_lower=z_lower,
        z_upper=z_upper,
        objective=solution.objective,
        dual_objective=solution.dual_objective,
        status=solution.status,
        iterations=solution.iterations,
        primal_residual=solution.primal_residual,
        dual_residual=solution.dual_residual,
        gap=solution.gap,
    )
