"""Which atom a named call is: this package's own, and JAX's that lower to several primitives."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxopt_layers.dpp import declared, perspective
from jaxopt_layers.dpp.definite import definiteness
from jaxopt_layers.dpp.errors import misuse
from jaxopt_layers.dpp.expression import Evaluation, Expression
from jaxopt_layers.dpp.patterns import stacked, trailing


def named(call: Any, name: str, body: Any) -> list[Expression] | None:
    """JAX's own functions that a call names; None to inline it."""
    primitives = [equation.primitive.name for equation in body.eqns]
    if name == "logaddexp" and len(call.arguments) == 2:
        x, y = call.arguments
        if y.is_constant and not np.any(y.value):
            return [call.make("logistic", [x], "softplus")]
        return [call.make("logaddexp", [x, y])]
    if name == "norm":
        return _norm(call, body, primitives)
    if name == "hypot" and all(a.shape == call.shape for a in call.arguments):
        pair = stacked(call, call.arguments)
        last = trailing(call, pair, (0,))
        return [call.make("norm2", [last], "hypot")]
    return None


def _norm(call: Any, body: Any, primitives: list[str]) -> list[Expression] | None:
    x = call.arguments[0]
    if len(call.arguments) > 1 or not x.has_variables:
        return None
    rest = [
        p for p in primitives if p not in ("broadcast_in_dim", "reshape", "convert_element_type")
    ]
    axes = next(
        (e.params["axes"] for e in body.eqns if e.primitive.name.startswith("reduce_")), None
    )
    if axes is None:
        return None
    if rest in (["mul", "reduce_sum", "sqrt"], ["square", "reduce_sum", "sqrt"]):
        return [call.make("norm2", [trailing(call, x, axes)], "norm2")]
    if rest == ["abs", "reduce_sum"]:
        return [call.make("norm1", [trailing(call, x, axes)], "norm1")]
    if rest in (["abs", "reduce_max", "max"], ["abs", "reduce_max"]):
        return [call.make("norm_inf", [trailing(call, x, axes)], "norm_inf")]
    if rest in (["abs", "pow", "reduce_sum", "pow"], ["abs", "integer_pow", "reduce_sum", "pow"]):
        first = next(e for e in body.eqns if e.primitive.name in ("pow", "integer_pow"))
        p = first.params["y"] if first.primitive.name == "integer_pow" else first.invars[1].val
        return [call.make("p_norm", [trailing(call, x, axes)], f"p_norm {float(p):g}", p=float(p))]
    if rest[0] in ("jit", "pjit", "svd") and len(x.shape) == 2 and not call.shape:
        if "reduce_sum" in rest:
            return [call.make("nuclear_norm", [x], "nuclear_norm")]
        if "reduce_max" in rest:
            return [call.make("sigma_max", [x], "sigma_max")]
    return None


def own(call: Any, name: str) -> list[Expression]:
    """This package's atoms; those with numbers as arguments hold them as attributes."""
    arguments = call.arguments
    if name in ("nonneg", "nonpos", "psd"):
        return [_declared(call, name)]
    if name == "inv_pos":
        return [call.make("power", arguments, "inv_pos", p=-1.0)]
    if name == "logistic":
        return [call.make("logistic", arguments, "logistic")]
    if name == "p_norm":
        return [call.make("p_norm", arguments[:1], p=_number(call, name, "p", arguments[1]))]
    if name == "sum_largest":
        k = _number(call, name, "k", arguments[1])
        return [call.make("sum_largest", arguments[:1], name, k=k)]
    if name == "geo_mean":
        if arguments[1].value is None:
            raise misuse(call, "The weights of geo_mean must be known when tracing.", "use numbers")
        return [call.make("geo_mean", arguments[:1], name, weights=arguments[1].value)]
    if name == "quad_form":
        matrix = arguments[1]
        if not matrix.has_variables:
            kind = definiteness(matrix)
            return [call.make("quad_form", arguments, name, definite=kind)]
        return [call.make("quad_form", arguments, name, definite="unknown")]
    if name == "power_cone":
        exponent = arguments[3].value
        if exponent is None:
            raise misuse(
                call, "The exponent of jl.power must be known when tracing.", "use a number"
            )
        return [call.make("power_cone", arguments[:3], name, a=exponent)]
    if name == "perspective":
        return [perspective.traced(call)]
    return [call.make(name, arguments, name)]


def _number(call: Any, atom: str, name: str, e: Expression) -> float:
    if e.value is None or e.size != 1:
        raise misuse(
            call, f"`{name}` of {atom} must be a number known when tracing.", "use a Python number"
        )
    return e.scalar


def _declared(call: Any, name: str) -> Expression:
    x = call.arguments[0]
    if x.has_variables:
        words = {"nonneg": "x >= 0", "nonpos": "x <= 0", "psd": "jl.positive_semidefinite(X)"}
        raise misuse(
            call,
            f"jl.{name} declares what is known of a parameter; this depends on a variable.",
            f"add the constraint {words[name]}",
        )
    e = call.make(name, [x], f"jl.{name}")
    if not e.is_constant:
        e.evaluation = Evaluation(declared.CHECKED[name], (x,))
    return e
