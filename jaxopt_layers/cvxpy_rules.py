"""What a CVXPY problem must satisfy to become a layer: the rules of disciplined parametrized programming.

A problem is DPP where it is convex with its parameters counted as affine, so that no product of two
parameters, and no curved function of one, enters its data (Agrawal et al. 2019, section 4.1). One that
isn't is refused with the smallest sub-expression that breaks the rules, not only with the verdict.
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp
from cvxpy.utilities import scopes


def check_problem(owner: str, problem: Any, parameters: Any, variables: Any, gp: bool) -> None:
    """Raise ValueError or TypeError unless the layer can be made."""
    if not isinstance(problem, cp.Problem):
        raise TypeError(
            f"{owner}: `problem` must be a cvxpy.Problem; got {type(problem).__name__}."
        )
    if not problem.variables():
        raise ValueError(f"{owner}: `problem` has no variables.")
    for leaf in [*problem.variables(), *problem.parameters()]:
        kind = "variable" if isinstance(leaf, cp.Variable) else "parameter"
        if leaf.is_complex():
            raise ValueError(
                f"{owner}: `problem` has the complex {kind} {leaf}; write it as reals."
            )
        if leaf.attributes["boolean"] or leaf.attributes["integer"]:
            raise ValueError(f"{owner}: `problem` has the integer {kind} {leaf}: it isn't convex.")
    _check_dpp(owner, problem, gp)
    for name, given in (("parameters", parameters), ("variables", variables)):
        if not isinstance(given, list | tuple):
            raise ValueError(f"{owner}: The layer's {name} must be provided as a list or tuple.")
    if len(parameters) != len(set(parameters)) or set(parameters) != set(problem.parameters()):
        missing = [str(p) for p in problem.parameters() if p not in set(parameters)]
        foreign = [str(p) for p in parameters if p not in set(problem.parameters())]
        detail = f" Missing: {', '.join(missing)}." if missing else ""
        detail += f" Not in the problem: {', '.join(foreign)}." if foreign else ""
        detail += "" if detail else " One was given twice."
        raise ValueError(
            f"{owner}: The layer's parameters must exactly match problem.parameters.{detail}"
        )
    known = {variable.id for variable in problem.variables()}
    known |= {dual.id for con in problem.constraints for dual in con.dual_variables}
    for variable in variables:
        if getattr(variable, "id", None) not in known:
            raise ValueError(
                f"{owner}: Variable {variable} must be a subset of problem.variables or a"
                " constraint dual variable."
            )


def _check_dpp(owner: str, problem: Any, gp: bool) -> None:
    if gp:
        if problem.is_dpp("dgp"):
            return
        kind = " for geometric programming"
        rules = "log-log convex, its parameters counting as log-log affine"
    else:
        if problem.is_dpp("dcp", quad_form_dpp="qp"):
            return
        kind = ""
        rules = "convex, its parameters counting as affine (disciplined parametrized programming)"
    with scopes.dpp_scope():
        culprit = _culprit(problem, gp)
    hint = ""
    if not gp and "QuadForm" in {type(atom).__name__ for atom in _nodes(culprit)}:
        hint = (
            " A quad_form(x, P) with a parameter P is only supported in the objective, with PSD=True"
            " and x without parameters; elsewhere, write it as sum_squares(P_sqrt @ x)."
        )
    elif not gp and culprit.parameters() and not culprit.variables():
        hint = " Make that expression a parameter of its own, and compute its value in JAX."
    elif not gp and culprit.parameters():
        hint = (
            " A product may hold parameters in one factor only, and that factor must be affine in"
            " them; replace a function of parameters by a parameter of its own."
        )
    raise ValueError(
        f"{owner}: Problem must be DPP{kind}: it must be {rules}. The sub-expression that"
        f" breaks the rules: {culprit}{'' if str(culprit).endswith('.') else '.'}{hint}"
    )


def _culprit(problem: cp.Problem, gp: bool) -> Any:
    """The smallest expression that is not disciplined, or the constraint or objective around it."""
    with scopes.quad_form_dpp_scope():
        objective_fails = not (problem.objective.is_dgp() if gp else problem.objective.is_dcp())
        if objective_fails:
            return _smallest(problem.objective, gp)
    for constraint in problem.constraints:
        if not (constraint.is_dgp() if gp else constraint.is_dcp()):
            return _smallest(constraint, gp)
    return problem.objective


def _smallest(node: Any, gp: bool) -> Any:
    for argument in node.args:
        disciplined = argument.is_dgp() if gp else argument.is_dcp()
        if not disciplined:
            return _smallest(argument, gp)
    return node


def _nodes(node: Any) -> list[Any]:
    return [node] + [inner for argument in node.args for inner in _nodes(argument)]
