"""`solve_and_derivative`, `derivative_quality`: the derivative of a cone program as an operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_layers import implicit
from jaxopt_layers.checks import check_settings
from jaxopt_layers.cone import solve_cone
from jaxopt_layers.cone_arguments import ConeProgram
from jaxopt_layers.cones import Cones
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import ConeSolution
from jaxopt_layers.sparse_matrix import MatrixLike, SparseMatrix


class SolutionTangent(NamedTuple):
    """A change of the solution, or a cotangent of it: of x (n,), y (m,) and s (m,)."""

    dx: Array
    dy: Array
    ds: Array


class DataTangent(NamedTuple):
    """A change of the data, or a cotangent of it; `dP` is None where there is no P."""

    dA: Array
    db: Array
    dc: Array
    dP: Array | None


def solve_and_derivative(
    A: MatrixLike,
    b: ArrayLike,
    c: ArrayLike,
    cones: Cones,
    *,
    P: MatrixLike | None = None,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    init: ConeSolution | None = None,
) -> tuple[ConeSolution, Callable[..., SolutionTangent], Callable[..., DataTangent]]:
    """Solve a cone program and return its derivative and the adjoint of that as functions.

    The arguments are those of [`solve_cone`][]. One factorization serves all calls of both functions;
    with `Derivative(solver="lsmr")` there is none.

    **Returns:** (solution, D, DT):

    - `D(dA, db, dc, dP=None)` -> (dx, dy, ds): how the solution moves with the data.
    - `DT(dx, dy, ds)` -> (dA, db, dc, dP): its adjoint, ``<D u, v> = <u, DT v>``; dP is symmetric, and None
      where there is no P. Arguments left out count as zero.

    Works inside `jax.jit` and `jax.vmap`. Both are zero (or NaN, by `settings.failed_gradient`) where the
    program was not solved.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    A, b, c = jnp.array([[-1.0]]), jnp.array([-2.0]), jnp.array([3.0])  # minimize 3 x, x >= 2
    solution, D, DT = jl.solve_and_derivative(A, b, c, jl.Cones(nonnegative=1))
    D(db=jnp.array([-1.0])).dx  # [1.]: x follows its bound
    DT(dx=jnp.array([1.0])).db  # [-1.]
    ```

    The derivative is that of Agrawal et al. (2019, "Differentiating through a cone program").
    """
    owner = "solve_and_derivative"
    check_settings(owner, settings)
    arguments = ConeProgram.checked(owner, A, b, c, cones, P)
    solution = solve_cone(
        arguments.A, arguments.b, arguments.c, cones, P=arguments.P, settings=settings, init=init
    )
    linear = _Linearized(arguments, settings.with_method("hsd"), solution)

    def derivative(
        dA: Any = None, db: Any = None, dc: Any = None, dP: Any = None
    ) -> SolutionTangent:
        return linear.forward(DataTangent(dA, db, dc, dP))

    def adjoint(dx: Any = None, dy: Any = None, ds: Any = None) -> DataTangent:
        return linear.adjoint(SolutionTangent(dx, dy, ds))

    return solution, derivative, adjoint


def derivative_quality(
    A: MatrixLike,
    b: ArrayLike,
    c: ArrayLike,
    cones: Cones,
    *,
    P: MatrixLike | None = None,
    cotangent: tuple[Any, Any, Any] | None = None,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
) -> Array:
    """How well the equation behind a gradient is solved: ``|M'w - g| / |g|``, a number near zero.

    A gradient through a cone program is as good as the solution of one linear system, which may be
    singular (at a degenerate program) or may not have converged (with ``solver="lsmr"``). This solves the
    program and that system as `settings` say, and returns its relative residual.

    **Arguments:** those of [`solve_cone`][], and

    - `cotangent`: (dx, dy, ds) of the loss at the solution, each an array or None for zero. None: ones.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    A, b, c = jnp.array([[-1.0]]), jnp.array([-2.0]), jnp.array([3.0])
    jl.derivative_quality(A, b, c, jl.Cones(nonnegative=1)) < 1e-9  # True
    ```
    """
    owner = "derivative_quality"
    check_settings(owner, settings)
    arguments = ConeProgram.checked(owner, A, b, c, cones, P)
    solution = solve_cone(
        arguments.A, arguments.b, arguments.c, cones, P=arguments.P, settings=settings
    )
    linear = _Linearized(arguments, settings.with_method("hsd"), solution)
    if cotangent is None:
        cotangent = (jnp.ones_like(solution.x), jnp.ones_like(solution.y), None)
    return linear.quality(SolutionTangent(*cotangent))


class _Linearized:
    """The factored derivative at a solution, in the user's order of rows."""

    def __init__(self, arguments: ConeProgram, settings: Settings, solution: ConeSolution):
        self.arguments, self.settings = arguments, settings
        layout, data, marks = arguments.program(settings)
        sorted_solution = replace(
            solution, y=arguments.sort(solution.y), s=arguments.sort(solution.s)
        )
        self.equations = implicit.Equations.at(layout, settings, data, marks, sorted_solution)

    def forward(self, change: DataTangent) -> SolutionTangent:
        given = self.arguments
        moved_arguments = replace(
            given,
            A=_or_zero(change.dA, given.A),
            b=_or_zero(change.db, given.b),
            c=_or_zero(change.dc, given.c),
            P=None if given.P is None else _or_zero(change.dP, given.P),
        )
        _, moved_data = jax.jvp(self._data, (given,), (moved_arguments,))
        moved, _ = self.equations.tangent(moved_data)
        return SolutionTangent(moved.x, given.unsort(moved.y), given.unsort(moved.s))

    def adjoint(self, cotangent: SolutionTangent) -> DataTangent:
        gradient = self.equations.adjoint(self._vectors(cotangent))
        (pulled,) = jax.vjp(self._data, self.arguments)[1](gradient)
        return DataTangent(dA=pulled.A, db=pulled.b, dc=pulled.c, dP=pulled.P)

    def _data(self, arguments: ConeProgram) -> implicit.Data:
        return arguments.program(self.settings)[1]

    def quality(self, cotangent: SolutionTangent) -> Array:
        return self.equations.quality(self._vectors(cotangent))

    def _vectors(self, cotangent: SolutionTangent) -> implicit.Vectors:
        arguments = self.arguments
        return implicit.Vectors(
            _or_zero(cotangent.dx, arguments.c),
            arguments.sort(_or_zero(cotangent.dy, arguments.b)),
            arguments.sort(_or_zero(cotangent.ds, arguments.b)),
        )


def _or_zero(value: Any, like: Any) -> Any:
    if value is None:
        return jax.tree.map(jnp.zeros_like, like)
    if isinstance(like, SparseMatrix):
        if not isinstance(value, SparseMatrix) or value.pattern != like.pattern:
            raise ValueError(
                "solve_and_derivative: the tangent of a SparseMatrix must be a SparseMatrix of the same"
                f" pattern; got {type(value).__name__}."
            )
        return value.astype(like.dtype)
    array = jnp.asarray(value, like.dtype)
    if array.shape != like.shape:
        raise ValueError(
            f"solve_and_derivative: a tangent must have the shape {like.shape} of its argument; got"
            f" {array.shape}."
        )
    return array
