"""Which atom a named call is: this package's own, and JAX's that lower to several primitives."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxopt_layers.dpp import batched, declared, perspective
from jaxopt_layers.dpp.definite import definiteness
from jaxopt_layers.dpp.errors import misuse
from jaxopt_layers.dpp.expression import Evaluation, Expression, constant
from jaxopt_layers.dpp.marker import split_name
from jaxopt_layers.dpp.patterns import stacked, trailing


def named(call: Any, name: str, body: Any) -> list[Expression] | None:
    """JAX's own functions that a call names; None to inline it."""
    primitives = [equation.primitive.name for equation in body.eqns]
    if name == "logaddexp" and len(call.arguments) == 2:
        x, y = call.arguments
        if y.is_constant and not np.any(y.value):
            return [call.make("logistic", [x], "softplus")]
        return [call.make("logaddexp", [x, y])]
    if name == "relu":
        return [call.make("maximum", [call.arguments[0], constant(np.asarray(0.0))], "relu")]
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


def own(call: Any, name: str, body: Any) -> list[Expression]:
    """This package's atoms; under `jax.vmap` one for each member of the batch."""
    if name == "perspective":
        return [perspective.traced(call)]
    atom, _ = split_name(name)
    mapped = batched.is_mapped(call, name)
    if mapped and not any(a.has_variables for a in call.arguments):
        if atom in ("nonneg", "nonpos"):
            return [_declared(call, atom)]
        return [call.make("function", call.arguments)]
    axes = batched.axes_of(call, name, body) if mapped else None
    if axes is None:
        return [_one(call, atom, call.arguments, call.shape)]
    operand_axes, axis = axes
    shape = call.shape[:axis] + call.shape[axis + 1 :]
    parts = [_one(call, atom, row, shape) for row in batched.members(call, operand_axes)]
    return [batched.joined(call, parts, axis)]


def _one(call: Any, name: str, arguments: list[Expression], shape: tuple[int, ...]) -> Expression:
    """One atom; those with numbers as arguments hold them as attributes."""
    if name in declared.CHECKED:
        return _declared(call, name)
    atom, operands, attributes = name, arguments, {}
    if name == "inv_pos":
        atom, attributes = "power", {"p": -1.0}
    elif name == "p_norm":
        operands = arguments[:1]
        attributes = {"p": _number(call, name, "p", arguments[1])}
    elif name == "sum_largest":
        operands = arguments[:1]
        attributes = {"k": _number(call, name, "k", arguments[1])}
    elif name == "geo_mean":
        operands = arguments[:1]
        attributes = {"weights": _known(call, "the weights of geo_mean", arguments[1])}
    elif name == "quad_form":
        matrix = arguments[1]
        kind = "unknown" if matrix.has_variables else definiteness(matrix)
        attributes = {"definite": kind}
    elif name == "power_cone":
        operands = arguments[:3]
        attributes = {"a": _known(call, "the exponent of jl.power", arguments[3])}
    return call.make(atom, operands, name, shape=shape, **attributes)


def _known(call: Any, words: str, e: Expression) -> np.ndarray:
    if e.value is None:
        raise misuse(call, f"{words.capitalize()} must be known when tracing.", "use numbers")
    return e.value


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
