"""Errors that quote the user's line, mark the sub-expression, and say what to write instead."""

from __future__ import annotations

from typing import Any

from jaxopt_layers.dpp.source import Source


class DCPError(ValueError):
    """The objective or a constraint breaks the rules of disciplined convex programming."""


class DPPError(DCPError):
    """It is convex, but a parameter is used in a way that `strict_dpp` refuses."""


def message(source: Source | None, problem: str, reason: str, rewrite: str) -> str:
    """The parts of an error, one under the other."""
    lines = [problem]
    if source is not None:
        lines.append(source.quote())
    if reason:
        lines.append(reason)
    if rewrite:
        lines.append(f"Instead: {rewrite}.")
    return "\n".join(lines)


def misuse(call: Any, problem: str, rewrite: str) -> DCPError:
    """An operation that can't be part of a convex program."""
    return DCPError(message(call.origin.source, problem, "", rewrite))


def unsupported(call: Any) -> DCPError:
    """A primitive without an entry in the table."""
    name = call.name
    inner = call.params.get("name")
    title = f"`{name}` ({inner})" if inner else f"`{name}`"
    rewrite = _OTHER_FORMS.get(
        name,
        "use the operations and atoms listed in the documentation of jl.convex_layer, or compute this"
        " part outside of the layer and pass it as a parameter",
    )
    return DCPError(
        message(
            call.origin.source,
            f"The JAX primitive {title} of an expression with variables is not a known convex or"
            " affine atom.",
            "",
            rewrite,
        )
    )


_OTHER_FORMS = {
    "reduce_prod": "for a concave mean of positive numbers use jl.geo_mean(x)",
    "eigh": "use jl.lambda_max(X), jl.lambda_min(X) or jl.log_det(X)",
    "svd": "use jl.nuclear_norm(X) or jl.sigma_max(X)",
    "lu": "use jl.log_det(X), or jl.matrix_frac(x, P)",
    "cholesky": "use jl.log_det(X), or jl.matrix_frac(x, P)",
    "sort": "use jl.sum_largest(x, k)",
    "top_k": "use jl.sum_largest(x, k)",
    "while": "use a Python loop, or jax.lax.scan, of a fixed number of steps",
    "cond": "the branch must not depend on a variable or parameter: choose it in Python",
    "logistic": "the sigmoid is neither convex nor concave; jl.logistic(x) = log(1 + exp(x)) is convex",
    "tanh": "tanh is neither convex nor concave",
    "sin": "sin is neither convex nor concave",
    "cos": "cos is neither convex nor concave",
    "sign": "the sign is not convex; jnp.abs(x) is",
    "and": "list the constraints one by one in subject_to",
    "or": "a choice between constraints is not convex",
    "not": "the negation of a constraint is not convex",
    "reduce_and": "give the comparison of the arrays itself, without jnp.all",
    "reduce_or": "a choice between constraints is not convex",
    "argmax": "an index is not convex; jnp.max(x) is",
    "argmin": "an index is not concave; jnp.min(x) is",
    "reduce_precision": "leave out the conversion",
}
