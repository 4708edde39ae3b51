"""From a jaxpr to expressions: calls inlined, constants folded, atoms recognized.

Named calls are matched first (this package's atoms, `norm`, `logaddexp`, ...), then inlined. Every value that
doesn't depend on variables remembers how JAX computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np

from jaxopt_layers.dpp import calls, linear, patterns
from jaxopt_layers.dpp.expression import Evaluation, Expression, constant
from jaxopt_layers.dpp.marker import PREFIX
from jaxopt_layers.dpp.source import Origin

_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}


@dataclass
class Call:
    """One equation, with its operands as expressions."""

    equation: Any
    arguments: list[Expression]
    origin: Origin
    tracer: Tracer

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.equation.primitive.name

    @property
    def params(self) -> dict[str, Any]:
        """The primitive's parameters."""
        return self.equation.params

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first result."""
        return tuple(self.equation.outvars[0].aval.shape)

    def make(
        self,
        atom: str,
        arguments: Sequence[Expression],
        label: str = "",
        shape: tuple[int, ...] | None = None,
        **attributes: Any,
    ) -> Expression:
        """An expression of the tracer's list that has this equation's place in the source."""
        return self.tracer.add(
            Expression(
                atom,
                tuple(arguments),
                self.shape if shape is None else shape,
                label or self.name,
                attributes,
                self.origin,
                has_variables=any(a.has_variables for a in arguments),
                has_parameters=any(a.has_parameters for a in arguments),
            )
        )


@dataclass
class Tracer:
    """Collects expressions in an order in which arguments come first."""

    expressions: list[Expression] = field(default_factory=list)

    def add(self, expression: Expression) -> Expression:
        """Append to the list."""
        self.expressions.append(expression)
        return expression

    def leaf(self, atom: str, shape: tuple[int, ...], label: str, **attributes: Any) -> Expression:
        """A variable or a parameter."""
        leaf = Expression(atom, (), tuple(shape), label, attributes)
        leaf.has_variables, leaf.has_parameters = atom == "variable", atom == "parameter"
        return self.add(leaf)

    def run(
        self,
        jaxpr: Any,
        consts: Sequence[Any],
        arguments: Sequence[Expression],
        caller: Origin | None = None,
        name: str = "",
    ) -> list[Expression]:
        """The results of a jaxpr at expressions."""
        environment: dict[Any, Expression] = {}

        def read(atom: Any) -> Expression:
            return constant(atom.val) if isinstance(atom, jex.Literal) else environment[atom]

        for variable, value in zip(jaxpr.constvars, consts, strict=True):
            environment[variable] = value if isinstance(value, Expression) else constant(value)
        environment.update(zip(jaxpr.invars, arguments, strict=True))
        for equation in jaxpr.eqns:
            origin = Origin(equation, caller, name)
            call = Call(equation, [read(v) for v in equation.invars], origin, self)
            for variable, value in zip(equation.outvars, self.apply(call), strict=True):
                environment[variable] = value
        return [read(variable) for variable in jaxpr.outvars]

    def apply(self, call: Call) -> list[Expression]:
        """The results of one equation."""
        arguments = call.arguments
        if all(a.is_constant for a in arguments) and not call.equation.effects:
            return self._folded(call)
        free = not any(a.has_variables for a in arguments)
        found = self._recognized(call)
        if found is None and call.name in _CALLS and not (free and "custom" in call.name):
            body, consts = _body(call.params[_CALLS[call.name]])
            results = self.run(body, consts, arguments, call.origin, _called(call))
            if _called(call) == "kron" and any(a.has_parameters for a in arguments):
                for result in results:  # as CVXPY decides
                    result.attributes["not_dpp"] = True
            return results
        if found is None and call.name == "cond" and not free:
            found = _platform_branch(call)
        if found is None and call.name == "scan" and not free:
            found = _unrolled(call)
        if not free:
            if found is None:  # an error only if it is used: JAX computes some values for nothing
                found = [
                    call.make("unsupported", call.arguments, shape=tuple(v.aval.shape), call=call)
                    for v in call.equation.outvars
                ]
            return found
        return self._evaluated(call, found)

    def _folded(self, call: Call) -> list[Expression]:
        arrays = [a.value for a in call.arguments]
        with np.errstate(all="ignore"):
            value = linear.fold(call.name, call.params, arrays)  # type: ignore[arg-type]
        if value is not None:
            return [constant(value)]
        with jax.ensure_compile_time_eval():
            results = evaluator(call.equation)(*arrays)
        return [constant(np.asarray(result)) for result in results]

    def _recognized(self, call: Call) -> list[Expression] | None:
        if call.name in _CALLS:
            name = _called(call)
            body, _ = _body(call.params[_CALLS[call.name]])
            if name.startswith(PREFIX):
                return calls.own(call, name.removeprefix(PREFIX), body)
            return calls.named(call, name, body)
        function = patterns.PRIMITIVES.get(call.name)
        return None if function is None else function(call)

    def _evaluated(self, call: Call, found: list[Expression] | None) -> list[Expression]:
        """Values of parameters only: what is known of them, with their computation in JAX."""
        evaluation = Evaluation(evaluator(call.equation), tuple(call.arguments))
        results = []
        for i, variable in enumerate(call.equation.outvars):
            if found is None:
                shape = tuple(variable.aval.shape)
                result = call.make("function", call.arguments, shape=shape)
            elif found[i].atom in ("parameter", "constant") or found[i] in call.arguments:
                result = call.make("rearrange", [found[i]])
            else:
                result = found[i]
            result.has_parameters = True
            if result.evaluation is None:
                result.evaluation, result.output = evaluation, i
            results.append(result)
        return results


def evaluator(equation: Any) -> Callable[..., list[Any]]:
    """A function of the operands (constants among them) that computes the equation in JAX."""

    def compute(*operands: Any) -> list[Any]:
        bound = equation.primitive.get_bind_params(equation.params)
        functions, params = bound if isinstance(bound, tuple) else ((), bound)  # older JAX: a pair
        results = equation.primitive.bind(*functions, *operands, **params)
        return list(results) if equation.primitive.multiple_results else [results]

    return compute


def _body(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, "consts") else (jaxpr, ())


def _called(call: Call) -> str:
    """The name of the function that a call calls."""
    if "name" in call.params:
        return str(call.params["name"])
    body, _ = _body(call.params[_CALLS[call.name]])
    words = str(getattr(getattr(body, "debug_info", None), "func_name", "")).split()
    return words[0] if words else ""


def _platform_branch(call: Call) -> list[Expression] | None:
    """`lax.cond` whose index is known: that branch."""
    index = call.arguments[0].value
    if index is None:
        return None
    body, consts = _body(call.params["branches"][int(index)])
    return call.tracer.run(body, consts, call.arguments[1:], call.origin)


def _unrolled(call: Call) -> list[Expression] | None:
    """`lax.scan`, step after step."""
    params = call.params
    if params.get("num_consts") is None:
        return None
    body, consts = _body(params["jaxpr"])
    first, carried, length = params["num_consts"], params["num_carry"], params["length"]
    fixed = call.arguments[:first]
    carry = call.arguments[first : first + carried]
    streams = call.arguments[first + carried :]
    stacked: list[list[Expression]] = [[] for _ in range(len(body.outvars) - carried)]
    steps = range(length)
    for i in reversed(steps) if params["reverse"] else steps:
        inputs = [patterns.entry(call, stream, i) for stream in streams]
        results = call.tracer.run(body, consts, [*fixed, *carry, *inputs], call.origin)
        carry = results[:carried]
        for parts, result in zip(stacked, results[carried:], strict=True):
            parts.append(result)
    for parts in stacked:
        if params["reverse"]:
            parts.reverse()
    return carry + [patterns.stacked(call, parts) for parts in stacked]
