"""`CvxpyLayer`: a CVXPY problem as a pure JAX function of its parameters.

Needs CVXPY (the extra ``cvxpy``), and only while the layer is made: what is kept are index arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxopt_layers.checks import check_settings
from jaxopt_layers.cvxpy_arguments import check_parameters, settings_for_call
from jaxopt_layers.cvxpy_canonicalize import Selection, canonicalize
from jaxopt_layers.cvxpy_rules import check_problem
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import ConeSolution, raise_if_failed
from jaxopt_layers.status import Status

_OWNER = "CvxpyLayer"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CvxpySolution:
    """What [`CvxpyLayer.solve`][] returns; batched, every field has the batch dimension in front.

    - `variables`: the values of the layer's variables, in order; NaN where the problem failed.
    - `duals`: for each constraint of the problem, in order, the tuple of its dual variables (a cone
      constraint has several), with CVXPY's signs and shapes; NaN where the problem failed.
    - `objective`: the optimal value as the problem states it, for a maximum or a geometric program too;
      of an infeasible or unbounded problem the infinity that CVXPY gives.
    - `dual_objective`: of the cone program's dual, in the same terms.
    - `status`: a [`Status`][] code. `iterations`, `primal_residual`, `dual_residual`, `gap`: those of
      the cone program.
    - `record`: the [`ConeSolution`][] of the cone program, for certificates and as a start.
    """

    variables: tuple[Array, ...]
    duals: tuple[tuple[Array, ...], ...]
    objective: Array
    dual_objective: Array
    status: Array
    iterations: Array
    primal_residual: Array
    dual_residual: Array
    gap: Array
    record: ConeSolution


class CvxpyLayer:
    """The solution map of a parametrized CVXPY problem.

    A drop-in for ``cvxpylayers.jax.CvxpyLayer`` that runs under `jax.jit`, `jax.vmap`, `jax.grad` and
    their compositions, on any device, in float32 or float64. The problem is canonicalized once; a call
    maps the parameters to the data of a cone program, solves it, and reads off the variables (Agrawal et
    al. 2019, "Differentiable convex optimization layers"). Where the constraints are linear it is solved
    as a quadratic program, with bounds and a diagonal objective kept as such.

    The layer holds static arrays only, nothing that a call changes; it is hashable (by identity),
    deep-copies and pickles.

    **Arguments:**

    - `problem`: a cvxpy.Problem that is DPP (disciplined parametrized). A ``quad_form(x, P)`` with a
      parameter P, PSD=True, may stand in the objective.
    - `parameters`: all of the problem's parameters, in the order of the calls' arguments.
    - `variables`: those to return: variables of the problem, and dual variables of its constraints
      (``constraint.dual_variables[0]``).
    - `gp`: whether the problem is a geometric program (log-log convex).
    - `settings`: see [`Settings`][]; ``derivative=Derivative(mode="forward")`` for `jax.jvp`,
      `jax.jacfwd` and `jax.hessian`.
    - `solver_args`: tolerances and limits for all calls, by the names that the call takes.
    - `raise_on_failure`: the default of the calls.

    **Raises:** ValueError or TypeError: for a problem that isn't DPP, naming the sub-expression that breaks
    the rules, and for parameters and variables that don't match the problem.

    ```python
    import cvxpy as cp, jax, jax.numpy as jnp
    from jaxopt_layers.cvxpy_layer import CvxpyLayer

    x, A, b = cp.Variable(2), cp.Parameter((3, 2)), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b)), [x >= 0])
    layer = CvxpyLayer(problem, parameters=[A, b], variables=[x])

    matrix, vector = jnp.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), jnp.array([3.0, 4.0, 0.0])
    (solution,) = layer(matrix, vector)  # [3, 2]
    jax.jit(jax.grad(lambda b: layer(matrix, b)[0].sum()))(vector)  # [1, 0.5, 0]
    (solutions,) = layer(matrix, jnp.stack([vector, -vector]))  # a batch of two
    ```
    """

    def __init__(
        self,
        problem: Any,
        parameters: Sequence[Any],
        variables: Sequence[Any],
        *,
        gp: bool = False,
        settings: Settings = Settings(),  # noqa: B008 (frozen)
        solver_args: dict[str, Any] | None = None,
        raise_on_failure: bool = False,
    ):
        check_settings(_OWNER, settings)
        check_problem(_OWNER, problem, parameters, variables, gp)
        self.settings = settings_for_call(_OWNER, settings, solver_args)
        self.gp = bool(gp)
        self.raise_on_failure = bool(raise_on_failure)
        self.parameter_shapes = tuple(tuple(parameter.shape) for parameter in parameters)
        self.parameter_names = tuple(parameter.name() for parameter in parameters)
        self.variable_ids = tuple(variable.id for variable in variables)
        self.variable_shapes = tuple(tuple(variable.shape) for variable in variables)
        self.canonical = canonicalize(problem, list(parameters), self.gp)
        self._compile()

    def __call__(
        self,
        *params: ArrayLike,
        solver_args: dict[str, Any] | None = None,
        raise_on_failure: bool | None = None,
    ) -> tuple[Array, ...]:
        """The values of the layer's variables, in order.

        **Arguments:**

        - `params`: an array for each parameter, in the order of the layer's `parameters`, of its shape or
          with one batch dimension in front; those without it are shared by the batch.
        - `solver_args`: for this call: `tolerance`, `max_iterations` and the other fields of
          [`Settings`][], or the names of other solvers for the first two (`eps`, `max_iters`, ...).
        - `raise_on_failure`: whether a member that is not solved raises [`SolverError`][]. Outside
          of transformations only: within, and by default, its values are NaN and its gradient zero.

        The widest dtype among `params` is that of the result.

        **Returns:** a tuple of arrays, batched if any parameter is.

        **Raises:** ValueError or TypeError, naming the parameter's position, for a wrong number of
        arrays, shapes that don't fit, and batch sizes that differ.
        """
        solution = self.solve(*params, solver_args=solver_args, raise_on_failure=raise_on_failure)
        return solution.variables

    def solve(
        self,
        *params: ArrayLike,
        solver_args: dict[str, Any] | None = None,
        raise_on_failure: bool | None = None,
        init: CvxpySolution | None = None,
    ) -> CvxpySolution:
        """As a call, but the whole [`CvxpySolution`][] with status, duals and objective.

        - `init`: a previous result of this layer for as many members, to start from. It changes the
          number of iterations, not the result beyond the tolerance.
        """
        settings = settings_for_call(_OWNER, self.settings, solver_args)
        arrays = check_parameters(_OWNER, params, self.parameter_shapes, self.parameter_names)
        if init is not None and not isinstance(init, CvxpySolution):
            raise TypeError(
                f"{_OWNER}: `init` must be a CvxpySolution, as layer.solve returns it; got"
                f" {type(init).__name__}."
            )
        start = None if init is None else init.record
        solution = self._compiled(arrays, start, settings)
        insist = self.raise_on_failure if raise_on_failure is None else raise_on_failure
        if insist and not isinstance(solution.status, Tracer):
            raise_if_failed(solution)
        return solution

    @property
    def nbytes(self) -> int:
        """Bytes of the sparse maps from the parameters to the cone program."""
        return self.canonical.program.nbytes

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_compiled"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()

    def _compile(self) -> None:
        """One compiled function for calls outside of `jax.jit`: one compilation for their shapes."""
        self._compiled = jax.jit(self._batch, static_argnums=2)

    def _batch(
        self, arrays: tuple[Array, ...], start: ConeSolution | None, settings: Settings
    ) -> CvxpySolution:
        shapes = zip(arrays, self.parameter_shapes, strict=True)
        axes = tuple(0 if array.ndim > len(shape) else None for array, shape in shapes)
        if all(axis is None for axis in axes):
            return self._member(arrays, start, settings)
        one = None if start is None or start.status.ndim == 0 else 0

        def member(arrays: tuple[Array, ...], start: ConeSolution | None) -> CvxpySolution:
            return self._member(arrays, start, settings)

        return jax.vmap(member, in_axes=(axes, one))(arrays, start)

    def _member(
        self, arrays: tuple[Array, ...], start: ConeSolution | None, settings: Settings
    ) -> CvxpySolution:
        dtype = jnp.result_type(*arrays) if arrays else jnp.zeros(()).dtype
        theta = self._theta(arrays, dtype)
        record = self.canonical.program.solve(theta, settings, start)
        solved = record.status <= Status.ALMOST_SOLVED

        def pick(vector: Array, selection: Selection, exponential: bool = False) -> Array:
            if np.any(selection.index == len(vector)):
                vector = jnp.concatenate([vector, jnp.zeros(1, dtype)])
            values = vector[selection.index]
            if selection.factor is not None:
                values = values * jnp.asarray(selection.factor, dtype)
            if exponential:
                # A failed member's x may be anything; its gradient must not be 0 times inf.
                values = jnp.exp(jnp.where(solved, values, 0))
            return jnp.where(solved, values, jnp.nan)

        duals = {id_: pick(record.y, selection) for id_, selection in self.canonical.duals.items()}
        values = duals | {
            id_: pick(record.x, selection, exponential=self.gp)
            for id_, selection in self.canonical.variables.items()
        }
        wanted = zip(self.variable_ids, self.variable_shapes, strict=True)
        return CvxpySolution(
            variables=tuple(
                values[id_] if id_ in values else jnp.zeros(shape, dtype) for id_, shape in wanted
            ),
            duals=tuple(
                tuple(duals[id_] for id_ in ids if id_ in duals)
                for ids in self.canonical.constraints
            ),
            objective=self._value(record.objective),
            dual_objective=self._value(record.dual_objective),
            status=record.status,
            iterations=record.iterations,
            primal_residual=record.primal_residual,
            dual_residual=record.dual_residual,
            gap=record.gap,
            record=record,
        )

    def _theta(self, arrays: tuple[Array, ...], dtype: Any) -> Array:
        """The parameter vector of the cone program."""
        parts = []
        for piece in self.canonical.pieces:
            flat = arrays[piece.parameter].astype(dtype).reshape(-1)
            if not np.array_equal(piece.index, np.arange(len(flat))):
                values = flat[piece.index]
            else:
                values = flat
            if not np.array_equal(piece.index, piece.mirror):
                values = 0.5 * (values + flat[piece.mirror])
            if piece.log:
                positive = values > 0
                values = jnp.where(positive, jnp.log(jnp.where(positive, values, 1)), jnp.nan)
            parts.append(values)
        return jnp.concatenate(parts) if parts else jnp.zeros(0, dtype)

    def _value(self, objective: Array) -> Array:
        """The cone program's value in the problem's own terms."""
        value = -objective if self.canonical.maximize else objective
        return jnp.exp(value) if self.gp else value


def with_settings(layer: CvxpyLayer, **changes: Any) -> CvxpyLayer:
    """The same layer with other fields of its [`Settings`][], without canonicalizing again."""
    other = CvxpyLayer.__new__(CvxpyLayer)
    other.__setstate__(layer.__getstate__() | {"settings": replace(layer.settings, **changes)})
    return other
