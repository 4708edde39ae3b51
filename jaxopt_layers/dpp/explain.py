"""The expression tree in words, as CVXPY's users know it from dcp.stanford.edu."""

from __future__ import annotations

from jaxopt_layers.dpp.analysis import Analysis, is_constraint
from jaxopt_layers.dpp.check import Traced
from jaxopt_layers.dpp.expression import Curvature, Expression


def explain_problem(problem: Traced) -> str:
    """Objective and constraints, each with its tree."""
    analysis, strict = Analysis(), Analysis(dpp=True)
    lines = [problem.sense]
    lines += _tree(analysis, strict, problem.objective, "")
    for i, constraint in enumerate(problem.constraints):
        lines.append(f"subject to constraint {i}: {_written(constraint)}")
        if is_constraint(constraint):
            for argument in constraint.arguments:
                lines += _tree(analysis, strict, argument, "")
    return "\n".join(lines)


def _written(e: Expression) -> str:
    return (e.source.text if e.source is not None else "") or e.label


def _tree(analysis: Analysis, strict: Analysis, root: Expression, indent: str) -> list[str]:
    lines = []
    stack = [(root, indent, "  ")]
    while stack:
        e, before, branch = stack.pop()
        lines.append(before + branch + _line(analysis, strict, e))
        children = [a for a in e.arguments if not e.is_constant]
        if not e.has_variables:
            children = []
        deeper = before + ("  " if branch == "  " else "│ " if branch == "├ " else "  ")
        for i, child in reversed(list(enumerate(children))):
            stack.append((child, deeper, "└ " if i == len(children) - 1 else "├ "))
    return lines


def _line(analysis: Analysis, strict: Analysis, e: Expression) -> str:
    if e.is_constant:
        text = f"{float(e.value):g}" if e.size == 1 and not e.shape else f"constant{list(e.shape)}"  # type: ignore[arg-type]
    else:
        shape = str(list(e.shape)) if e.shape else ""
        text = f"{e.label}{shape}"
    curvature = analysis.curvature(e)
    kind = "parameter" if e.has_parameters and not e.has_variables else curvature.value
    words = [kind, analysis.sign(e).value]
    if curvature is not Curvature.UNKNOWN and strict.curvature(e) is Curvature.UNKNOWN:
        words.append("not DPP")
    written = _written(e)
    suffix = "" if not e.arguments or written == e.label else f"    {written}"
    return f"{text}: {', '.join(words)}{suffix}"
