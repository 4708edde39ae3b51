"""What to write instead of an expression that breaks the rules."""

from __future__ import annotations

from typing import Any

from jaxopt_layers.dpp.definite import same
from jaxopt_layers.dpp.expression import Expression


def rewrite(analysis: Any, e: Expression) -> str:
    """A suggestion, or an empty string."""
    function = _BY_ATOM.get(e.atom)
    return "" if function is None else function(analysis, e)


def _under(e: Expression, *labels: str) -> Expression:
    while e.atom in labels:
        e = e.arguments[0]
    return e


def _power(analysis: Any, e: Expression) -> str:
    p, inner = e.attributes["p"], e.arguments[0]
    if p == 0.5:
        if inner.atom in ("sum_squares", "quad_form"):
            return "write the norm: jl.norm2(x), or jnp.linalg.norm(x)"
        below = _under(inner, "linear map", "rearrange", "multiply", "divide", "add")
        square = below.atom == "power" and below.attributes["p"] == 2
        if square or (below.atom == "multiply" and same(*below.arguments)):
            return "write the norm: jl.norm2(x) (or jnp.linalg.norm(x)) for sqrt(sum(x ** 2))"
        if inner.atom == "multiply":
            return "for sqrt(x * y) write jl.geo_mean(jnp.stack([x, y]))"
    if p == 2 and inner.atom in ("norm2",):
        return "write jl.sum_squares(x)"
    if p == -1:
        return "for 1 / x write jl.inv_pos(x) with x concave"
    return ""


def _multiply(analysis: Any, e: Expression) -> str:
    x, y = e.arguments
    if analysis.dpp and not (x.has_variables and y.has_variables):
        return (
            "pass the product of the parameters as one parameter, or leave out strict_dpp: products"
            " of parameters are then computed ahead of the solver"
        )
    if x is y or same(x, y):
        return "write x ** 2, jnp.square(x) or jl.sum_squares(x)"
    if e.atom == "matmul":
        matrix = _middle(x) or _middle(y)
        if matrix is not None:
            return "if the parameter P is positive semidefinite, say so: jl.quad_form(x, jl.psd(P))"
    return (
        "a product of variables is not convex; one factor must be a parameter or constant, and at a"
        " convex factor it must have a known sign: jl.nonneg(p)"
    )


def _middle(e: Expression) -> Expression | None:
    if e.atom != "matmul":
        return None
    return next((a for a in e.arguments if a.has_parameters and not a.has_variables), None)


def _divide(analysis: Any, e: Expression) -> str:
    x, y = e.arguments
    if analysis.dpp and not y.has_variables:
        return "pass the reciprocal of the parameter as the parameter, and multiply"
    if not x.has_variables:
        return "for 1 / x with x > 0 write jl.inv_pos(x), or x ** -1"
    if x.atom in ("sum_squares",) or (x.atom == "power" and x.attributes["p"] == 2):
        return "for a square over an affine expression write jl.quad_over_lin(x, y)"
    return "the divisor must not depend on variables"


def _quad_form(analysis: Any, e: Expression) -> str:
    if analysis.dpp:
        return (
            "under DPP the matrix must be constant: pass a factor F with P = F F' and write"
            " jl.sum_squares(F.T @ x), or leave out strict_dpp"
        )
    kind = e.attributes["definite"]
    if kind == "asymmetric":
        return "make the matrix symmetric: (P + P.T) / 2"
    if kind == "indefinite":
        return "the matrix has eigenvalues of both signs, so the form is neither convex nor concave"
    return "if the parameter P is positive semidefinite, say so: jl.quad_form(x, jl.psd(P))"


def _log(analysis: Any, e: Expression) -> str:
    below = _under(e.arguments[0], "linear map", "rearrange", "add")
    if below.atom == "exp":
        return "write jl.log_sum_exp(x), or jax.nn.logsumexp(x)"
    return (
        "log of a convex expression is not concave; bound it by a variable, or use jl.log_sum_exp"
    )


def _sum(analysis: Any, e: Expression) -> str:
    return (
        "convex and concave parts can't be added; give a parameter factor its sign by jl.nonneg(p)"
    )


def _extreme(analysis: Any, e: Expression) -> str:
    return "maximum takes convex arguments, minimum concave ones; a two-sided clip of a variable is neither"


def _compared(analysis: Any, e: Expression) -> str:
    return "put the comparison into subject_to"


_BY_ATOM = {
    "power": _power,
    "multiply": _multiply,
    "matmul": _multiply,
    "divide": _divide,
    "quad_form": _quad_form,
    "log": _log,
    "add": _sum,
    "subtract": _sum,
    "linear map": _sum,
    "maximum": _extreme,
    "minimum": _extreme,
    "eq": _compared,
    "le": _compared,
    "ge": _compared,
    "rearrange": lambda analysis, e: "convex and concave parts can't stand in one array here",
}
