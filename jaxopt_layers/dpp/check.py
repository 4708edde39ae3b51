"""Is a traced problem convex by the rules, and if not, which sub-expression breaks them and how."""

from __future__ import annotations

from dataclasses import dataclass

from jaxopt_layers.dpp.analysis import Analysis, is_constraint
from jaxopt_layers.dpp.atoms import ATOMS
from jaxopt_layers.dpp.errors import DCPError, DPPError, message, unsupported
from jaxopt_layers.dpp.expression import Curvature, Expression
from jaxopt_layers.dpp.rewrites import rewrite


@dataclass(frozen=True)
class Traced:
    """A problem as expressions; `constraints` are comparisons and cone constraints."""

    sense: str
    objective: Expression
    constraints: tuple[Expression, ...]
    variables: dict[str, Expression]
    parameters: tuple[Expression, ...]


def check(problem: Traced, *, strict_dpp: bool = False) -> None:
    """Raise DCPError where the rules are broken, DPPError where only the stricter ones are."""
    _check(problem, Analysis())
    if strict_dpp:
        _check(problem, Analysis(dpp=True))


def _check(problem: Traced, analysis: Analysis) -> None:
    wanted = "convex" if problem.sense == "minimize" else "concave"
    _require(analysis, problem.objective, wanted, f"The objective of jl.{problem.sense}")
    for i, constraint in enumerate(problem.constraints):
        _check_constraint(analysis, constraint, f"Constraint {i}")


def _check_constraint(analysis: Analysis, e: Expression, name: str) -> None:
    if e.is_constant:
        if not e.value.all():  # type: ignore[union-attr]
            raise DCPError(f"{name} is false whatever the variables are.")
        return
    if e.atom in ("lt", "gt"):
        sign = "<" if e.atom == "lt" else ">"
        raise DCPError(
            message(
                e.source,
                f"{name} is a strict inequality; the set it describes has no closed boundary, so an"
                " optimum need not exist.",
                "",
                f"write {sign}= for {sign}, with a margin if the boundary must be avoided",
            )
        )
    if e.atom == "ne":
        raise DCPError(
            message(
                e.source,
                f"{name} is `!=`, which is not a convex constraint.",
                "",
                "leave it out, or demand a side by <= or >=",
            )
        )
    if not is_constraint(e):
        raise DCPError(
            message(
                e.source,
                f"{name} is not a constraint but `{e.label}`.",
                "",
                "compare with ==, <= or >=, or use jl.second_order, jl.positive_semidefinite,"
                " jl.exponential or jl.power; list the constraints one by one",
            )
        )
    if e.atom == "le":
        wanted = ("convex", "concave")
    elif e.atom == "ge":
        wanted = ("concave", "convex")
    else:
        wanted = ("affine",) * len(e.arguments)
    sides = ("left side", "right side") if len(wanted) == 2 else ()
    for i, (argument, want) in enumerate(zip(e.arguments, wanted, strict=True)):
        part = sides[i] if sides and e.atom in ("eq", "le", "ge") else f"argument {i}"
        _require(analysis, argument, want, f"The {part} of constraint {name.split()[1]}", e)


def _require(
    analysis: Analysis, e: Expression, wanted: str, role: str, within: Expression | None = None
) -> None:
    curvature = analysis.curvature(e)
    fits = {
        "convex": curvature.is_convex,
        "concave": curvature.is_concave,
        "affine": curvature.is_affine,
    }[wanted]
    if fits:
        return
    error = DPPError if analysis.dpp else DCPError
    kind = "DPP" if analysis.dpp else "DCP"
    culprit = find_culprit(analysis, e)
    if culprit is None:
        source = e.source or (None if within is None else within.source)
        sign = analysis.sign(e).value
        problem = f"{role} must be {wanted}, but it is {curvature.value} ({sign})."
        raise error(message(source, problem, "", _turned(wanted, curvature, role)))
    if culprit.atom == "unsupported":
        raise unsupported(culprit.attributes["call"])
    reason = explain_failure(analysis, culprit)
    problem = f"{role} is not {wanted} by the {kind} rules: `{_name(culprit)}` breaks them."
    source = culprit.source or (None if within is None else within.source)
    raise error(message(source, problem, reason, rewrite(analysis, culprit)))


def find_culprit(analysis: Analysis, e: Expression) -> Expression | None:
    """The first expression of unknown curvature all of whose arguments have one."""
    while analysis.curvature(e) is Curvature.UNKNOWN:
        deeper = [a for a in e.arguments if analysis.curvature(a) is Curvature.UNKNOWN]
        if not deeper:
            return e
        e = deeper[0]
    return None


def _name(e: Expression) -> str:
    source = e.source
    return (source.text if source is not None else "") or e.label


def _turned(wanted: str, curvature: Curvature, role: str) -> str:
    if "objective" in role:
        other = "jl.maximize" if wanted == "convex" else "jl.minimize"
        return f"use {other}, if that is what is meant, or change the sign"
    if wanted == "affine":
        return (
            "an equality and a cone need affine sides; a convex one may only be bounded above by <="
        )
    if curvature is Curvature.CONCAVE:
        return "a concave expression can only be bounded below, by >="
    return "a convex expression can only be bounded above, by <="


def explain_failure(analysis: Analysis, e: Expression) -> str:
    """Why the rule fails at an expression whose arguments are all fine."""
    atom = ATOMS.get(e.atom)
    parts = []
    for a in e.arguments:
        parts.append(f"{analysis.curvature(a).value}, {analysis.sign(a).value}")
    listed = "; ".join(f"argument {i} is {part}" for i, part in enumerate(parts))
    if atom is None:
        return f"`{e.label}` has no place in an objective or a constraint ({listed})."
    if analysis.dpp and e.attributes.get("not_dpp"):
        return f"By the DPP rules a Kronecker product must not hold parameters ({listed})."
    if atom.product and not analysis.product_is_affine(e):
        if analysis.dpp and any(a.has_parameters for a in e.arguments):
            return (
                "By the DPP rules one factor must be constant, or one affine in the parameters and"
                f" without variables and the other without parameters ({listed})."
            )
        return f"The product of two expressions that both depend on variables ({listed})."
    for i in atom.constant:
        if i < len(e.arguments) and not analysis.is_constant(e.arguments[i]):
            what = "variables or parameters" if analysis.dpp else "variables"
            return f"Argument {i} of {e.label} must not depend on {what} ({listed})."
    for i in atom.parameter_free:
        if analysis.dpp and e.arguments[i].has_parameters:
            return (
                f"By the DPP rules argument {i} of {e.label} must not hold parameters ({listed})."
            )
    bends = atom.bends(e)
    if e.atom == "quad_form" and bends == "unknown":
        return f"The matrix of this quadratic form is not known to be semidefinite ({listed})."
    if bends == "unknown":
        return f"{e.label} is neither known to be convex nor to be concave here ({listed})."
    signs = [analysis.sign(a) for a in e.arguments]
    growth = atom.monotone(e, signs)
    words = {1: "nondecreasing", -1: "nonincreasing", 0: "not monotone"}
    bad = [
        i
        for i in range(len(e.arguments))
        if not analysis.argument_fits(atom, e, i, 1 if bends != "concave" else -1)
    ] or [0]
    i = bad[0]
    if atom.product or e.atom == "divide":
        other = "a divisor" if e.atom == "divide" else "another factor"
        return f"A factor that is not affine needs {other} of known sign ({listed})."
    if bends == "affine":
        curvatures = {analysis.curvature(a) for a in e.arguments}
        return (
            f"A sum or arrangement of {' and '.join(sorted(c.value for c in curvatures))} parts"
            + (f" ({listed}).")
        )
    if growth[i] == 0:
        needed = "affine"
    else:
        same = (growth[i] > 0) == (bends == "convex")
        needed = "convex" if same else "concave"
    return (
        f"{e.label} is {bends} and, at an argument of this sign, {words[growth[i]]} in argument {i},"
        f" which must be {needed}; it is {parts[i]}."
    )
