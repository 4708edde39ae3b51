"""Problems of `convex_layer` solved by Clarabel in their canonical form: no compilation, so many fit."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_layers as jl
from jaxopt_layers.convex_layer import trace
from jaxopt_layers.dpp.check import Traced, check
from jaxopt_layers.dpp.program import Program, build
from tests.helpers.cone_oracles import clarabel_cone

PARAMETERS: dict[str, Any] = {
    "p": np.float64(0.7),
    "q": np.float64(1.3),
    "v": np.array([0.5, -0.4, 1.2]),
    "M": np.array([[1.5, 0.2, 0.0], [0.2, 1.0, 0.1], [0.0, 0.1, 0.8]]),
    "A": np.array([[1.0, 0.5, -0.3], [0.2, -1.0, 0.7]]),
}
SHAPES = {"x": (3,), "y": (), "S": jl.variable((3, 3), symmetric=True)}
TILT = (
    np.array([-0.6, 0.3, -0.2]),
    0.4,
    np.array([[0.3, -0.1, 0.0], [-0.1, 0.2, 0.1], [0.0, 0.1, -0.2]]),
)
EYE = np.eye(3)


def traced(function: Any, shapes: dict[str, Any], parameters: dict[str, Any]) -> tuple[Traced, Any]:
    """The problem as expressions, and the leaves of its parameters."""
    variables = {
        name: shape if not isinstance(shape, tuple) else jl.variable(shape)
        for name, shape in shapes.items()
    }
    leaves, tree = jax.tree_util.tree_flatten(jax.tree_util.tree_map(jnp.asarray, parameters))
    return trace(function, variables, leaves, tree, jnp.float64), leaves


def verdicts(problem: Traced) -> tuple[bool, bool]:
    """Whether it is DCP, and whether it is DPP."""
    return _passes(problem, False), _passes(problem, True)


def _passes(problem: Traced, strict: bool) -> bool:
    try:
        check(problem, strict_dpp=strict)
    except jl.DCPError:
        return False
    return True


def program_data(program: Program, leaves: list[Any]) -> tuple[dict[str, np.ndarray], float]:
    """The cone program at the parameters, and the objective's constant."""
    values = {id(e): v for e, v in zip(program.problem.parameters, leaves, strict=True)}
    P, A, b, c, offset = program.asa.data(program.theta.evaluate(values, jnp.float64))
    given = {"A": A, "b": b, "c": c, "P": P}
    data = {
        name: np.asarray(part.todense() if isinstance(part, jl.SparseMatrix) else part)
        for name, part in given.items()
        if part is not None
    }
    return data, float(offset)


def optimum(function: Any, shapes: dict[str, Any], parameters: dict[str, Any]) -> float:
    """The optimal value by Clarabel, of the problem in canonical form."""
    problem, leaves = traced(function, shapes, parameters)
    check(problem)
    program = build(problem)
    data, offset = program_data(program, leaves)
    tolerances = (1e-11, 1e-10, 1e-9, 1e-8)
    solution = clarabel_cone(data, program.asa.cones, tolerances=tolerances)
    value = float(solution["objective"]) + offset
    return value if problem.sense == "minimize" else -value


def tilted(entry: Callable[[Any], Any], minimized: bool) -> Any:
    """An entry of the table as a problem in a box, tilted so that its solution isn't the box's corner."""
    sign = 1.0 if minimized else -1.0

    def function(x, y, S, p, q, v, M, A):
        names = SimpleNamespace(x=x, y=y, S=S, p=p, q=jl.nonneg(q), v=v, M=jl.psd(M), A=A)
        tilt = TILT[0] @ x + TILT[1] * y + jnp.sum(TILT[2] * S)
        objective = jnp.sum(entry(names)) + sign * tilt
        box = [x >= 0.2, x <= 2, y >= 0.2, y <= 2, S <= 2, S >= -2]
        box.append(jl.positive_semidefinite(S - 0.1 * EYE))
        return (jl.minimize if minimized else jl.maximize)(objective, box)

    return function


def cvxpy_names(cp: Any) -> SimpleNamespace:
    """The same variables and parameters in CVXPY."""
    kinds = {"q": {"nonneg": True}, "M": {"PSD": True}}
    parameters = {
        name: cp.Parameter(np.shape(value), value=value, **kinds.get(name, {}))
        for name, value in PARAMETERS.items()
    }
    return SimpleNamespace(
        x=cp.Variable(3), y=cp.Variable(), S=cp.Variable((3, 3), symmetric=True), **parameters
    )


def cvxpy_problem(cp: Any, names: SimpleNamespace, expression: Any, minimized: bool) -> Any:
    """`tilted` in CVXPY."""
    sign = 1.0 if minimized else -1.0
    tilt = TILT[0] @ names.x + TILT[1] * names.y + cp.sum(cp.multiply(TILT[2], names.S))
    box = [names.x >= 0.2, names.x <= 2, names.y >= 0.2, names.y <= 2, names.S <= 2, names.S >= -2]
    box.append(names.S - 0.1 * EYE >> 0)
    objective = cp.sum(expression) + sign * tilt
    return cp.Problem((cp.Minimize if minimized else cp.Maximize)(objective), box)


def cvxpy_optimum(cp: Any, problem: Any) -> float:
    """Its optimal value by Clarabel."""
    tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-10)
    problem.solve(solver=cp.CLARABEL, **tight)
    return float(problem.value)
