"""The perspective s f(x / s) of a function: its body is traced apart, at leaves of its own."""

from __future__ import annotations

from typing import Any

import jax.extend.core as jex

from jaxopt_layers.dpp.analysis import Analysis
from jaxopt_layers.dpp.errors import misuse
from jaxopt_layers.dpp.expression import Expression, constant

INNER = "jaxopt_layers_perspective_inner"


def traced(call: Any) -> Expression:
    """The call of `jaxopt_layers.perspective` as one expression, f's graph among its attributes."""
    body = call.params["jaxpr"]
    outer = body.jaxpr
    environment = dict(zip(outer.invars, call.arguments, strict=True))
    environment.update(
        (v, constant(value)) for v, value in zip(outer.constvars, body.consts, strict=True)
    )
    divided: dict[Any, Any] = {}
    inner = None
    for equation in outer.eqns:
        if equation.primitive.name == "div":
            divided[equation.outvars[0]] = equation.invars
        if equation.params.get("name") == INNER:
            inner = equation
    assert inner is not None
    leaves, arguments, operands = [], [], []
    scale = None
    for variable in inner.invars:
        if isinstance(variable, jex.Literal):
            operands.append(constant(variable.val))
        elif variable in divided:
            argument, divisor = divided[variable]
            leaf = call.tracer.leaf("variable", variable.aval.shape, "x / s")
            scale = environment[divisor]
            leaves.append(leaf)
            arguments.append(environment[argument])
            operands.append(leaf)
        else:
            operands.append(environment[variable])
    assert scale is not None
    jaxpr = inner.params["jaxpr"]
    (root,) = call.tracer.run(jaxpr.jaxpr, jaxpr.consts, operands, call.origin)
    analysis = Analysis()
    curvature = analysis.curvature(root)
    if root.shape:
        raise misuse(call, "The function of a perspective must return a scalar.", "sum its result")
    name = {"constant": "affine", "unknown curvature": "unknown"}.get(
        curvature.value, curvature.value
    )
    e = call.make(
        "perspective",
        [scale, *arguments],
        "perspective",
        leaves=leaves,
        root=root,
        curvature=name,
        sign=analysis.sign(root),
    )
    e.has_parameters = e.has_parameters or root.has_parameters
    return e
