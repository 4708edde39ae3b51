"""Which atom a primitive is.

JAX lowers `logsumexp` to several primitives; it is recognized by its shift, which adds up to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_layers.dpp import linear, log_sums
from jaxopt_layers.dpp.definite import definiteness, same
from jaxopt_layers.dpp.errors import misuse
from jaxopt_layers.dpp.expression import Evaluation, Expression, constant
from jaxopt_layers.dpp.source import traced_in

_LIMIT = 20_000_000


def _elementwise(atom: str, **attributes: Any) -> Callable[[Any], list[Expression]]:
    return lambda call: [call.make(atom, call.arguments, **attributes)]


def moved(call: Any) -> list[Expression] | None:
    """Entries of the operands in other places."""
    arguments = call.arguments
    which = list(linear.MOVED[call.name](len(arguments)))
    if call.name == "select_n" and not arguments[0].is_constant:
        return _selected(call)
    data = [arguments[i] for i in which]
    fixed = [i for i in range(len(arguments)) if i not in which]
    if any(not arguments[i].is_constant for i in fixed):
        if any(a.has_variables for a in arguments):
            raise misuse(
                call,
                f"`{call.name}` picks entries by an index that is not known when tracing.",
                "use constant indices, or a mask of zeros and ones as a parameter to multiply with",
            )
        return None
    if not any(a.has_variables for a in data):
        attributes = {}
        if call.name == "transpose":
            attributes["permutation"] = tuple(call.params["permutation"])
        return [
            call.make("rearrange", data, shape=tuple(v.aval.shape), **attributes)
            for v in call.equation.outvars
        ]
    if call.name == "convert_element_type":
        if not np.issubdtype(call.params["new_dtype"], np.floating):
            raise misuse(call, "A variable can't be converted to integers.", "leave it a float")
        return [arguments[0]]
    known = {i: np.asarray(arguments[i].value) for i in fixed}
    indices = linear.moved_indices(call.equation, [a.shape for a in arguments], known, which)
    total = sum(a.size for a in data)
    for index in indices:
        if index.size and (index.min() < 0 or index.max() >= total):
            raise misuse(call, "An index is out of bounds.", "index within the array")
    return [call.make("rearrange", data, shape=i.shape, index=i) for i in indices]


def _selected(call: Any) -> list[Expression] | None:
    """`where` on a mask that is a parameter: mask * yes + (1 - mask) * no."""
    mask, *cases = call.arguments
    if mask.atom == "finite":  # how JAX guards the shift of logsumexp
        return [call.make("unsupported", call.arguments, call=call)]
    if mask.has_variables:
        raise misuse(
            call,
            "The condition depends on a variable.",
            "write it with jnp.maximum, jnp.minimum or jnp.abs",
        )
    if len(cases) != 2 or not any(case.has_variables for case in cases):
        return None

    def weight(case: int) -> Expression:
        e = call.make("rearrange", [mask], "mask", shape=mask.shape)
        e.atom = "nonneg"
        e.evaluation = Evaluation(lambda m: [m if case else ~m], (mask,))
        return e

    parts = [
        call.make("multiply", [weight(i), case], "multiply")
        for i, case in enumerate(cases)
        if not (case.is_constant and not np.any(case.value))
    ]
    return [parts[0] if len(parts) == 1 else call.make("add", parts, "add")]


def summed(call: Any) -> list[Expression] | None:
    """A linear primitive: the sum over its data operands of a matrix times each."""
    arguments = call.arguments
    if not any(a.has_variables for a in arguments):
        if call.name in ("reduce_sum", "cumsum"):
            e = call.make("linear map", arguments)
            e.attributes["entries"] = (None, None, np.ones(1))
            return [e]
        return None
    if call.name == "conv_general_dilated":
        return _convolution(call)
    data = linear.SUMMED[call.name]
    fixed = {i: a.value for i, a in enumerate(arguments) if i not in data}
    if any(value is None for value in fixed.values()):
        raise misuse(call, f"`{call.name}` needs constant indices.", "use constant indices")
    total: Expression | None = None
    shapes = [a.shape for a in arguments]
    for i in data:
        if arguments[i].is_constant and not np.any(arguments[i].value):
            continue
        entries = linear.summed_entries(call.equation, shapes, fixed, i)  # type: ignore[arg-type]
        part = call.make("linear map", [arguments[i]], entries=entries)
        if call.name == "reduce_sum":
            part.attributes["axes"] = tuple(call.params["axes"])
        if not part.has_variables:
            _evaluate_by(part, _mapped(entries, call.shape))
        total = part if total is None else call.make("add", [total, part], "add")
    return None if total is None else [total]


def _mapped(entries: Any, shape: tuple[int, ...]) -> Callable[..., list[Any]]:
    row, source, value = entries
    size = int(np.prod(shape, dtype=int))

    def apply(x: Any) -> list[Any]:
        terms = jnp.asarray(x).reshape(-1)[source] * jnp.asarray(value, jnp.asarray(x).dtype)
        return [jax.ops.segment_sum(terms, row, size).reshape(shape)]

    return apply


def _scaled_entries(call: Any) -> list[Expression] | None:
    """x.at[index].multiply(numbers): a constant factor for every entry."""
    x, *rest = call.arguments
    if not x.has_variables or not all(a.is_constant for a in rest):
        return None
    ones = np.ones(x.shape, call.equation.outvars[0].aval.dtype)
    (factor,) = linear.run(call.equation, [ones, *(a.value for a in rest)])
    return [call.make("multiply", [x, constant(np.asarray(factor))])]


def _convolution(call: Any) -> list[Expression] | None:
    x, y = call.arguments
    if x.has_variables and y.has_variables:
        return [call.make("bilinear", [x, y], "convolution", tensor=None)]
    at = 0 if x.has_variables else 1
    other = call.arguments[1 - at]
    shapes = [a.shape for a in call.arguments]
    if other.is_constant:
        fixed = {1 - at: np.asarray(other.value)}
        entries = linear.summed_entries(call.equation, shapes, fixed, at)
        return [call.make("linear map", [call.arguments[at]], "convolution", entries=entries)]
    if x.size * y.size * call.make("bilinear", [x, y]).size > _LIMIT:
        return None
    rows, lefts, rights, values = [], [], [], []
    basis = np.eye(other.size).reshape(other.size, *other.shape)
    dtype = call.equation.outvars[0].aval.dtype
    for k in range(other.size):
        fixed = {1 - at: basis[k].astype(dtype)}
        row, source, value = linear.summed_entries(call.equation, shapes, fixed, at)
        pair = (source, np.full(len(row), k))
        rows.append(row)
        lefts.append(pair[at])
        rights.append(pair[1 - at])
        values.append(value)
    tensor = tuple(np.concatenate(part) for part in (rows, lefts, rights, values))
    return [call.make("bilinear", [x, y], "convolution", tensor=tensor)]


def reduced(atom: str) -> Callable[[Any], list[Expression]]:
    """A reduction over `axes`, as one over the last axis."""

    def apply(call: Any) -> list[Expression]:
        x = trailing(call, call.arguments[0], call.params["axes"])
        return [call.make(atom, [x], atom)]

    return apply


def trailing(call: Any, x: Expression, axes: Sequence[int]) -> Expression:
    """The reduced axes of x put last and flattened to one."""
    axes = tuple(axes)
    kept = [i for i in range(len(x.shape)) if i not in axes]
    index = np.transpose(np.arange(x.size).reshape(x.shape), [*kept, *axes])
    index = index.reshape([*(x.shape[i] for i in kept), -1])
    if index.shape == x.shape and axes == (len(x.shape) - 1,):
        return x
    e = call.make("rearrange", [x], "flatten", shape=index.shape, index=index)
    if not x.has_variables:
        _evaluate_by(e, lambda v: [v.reshape(-1)[index]])
    return e


def entry(call: Any, x: Expression, i: int, axis: int = 0) -> Expression:
    """x[i], or that along another axis."""
    if x.value is not None:
        return constant(np.take(x.value, i, axis))
    index = np.take(np.arange(x.size).reshape(x.shape), i, axis)
    e = call.make("rearrange", [x], "index", shape=index.shape, index=index)
    if not x.has_variables:
        _evaluate_by(e, lambda v: [jnp.take(v, i, axis)])
    return e


def stacked(call: Any, parts: list[Expression]) -> Expression:
    """jnp.stack."""
    shape = (len(parts), *parts[0].shape)
    index = np.arange(sum(p.size for p in parts)).reshape(shape)
    e = call.make("rearrange", parts, "stack", shape=shape, index=index)
    if not e.has_variables:
        e.evaluation = Evaluation(lambda *v: [jnp.stack(v)], tuple(parts))
    return e


def _evaluate_by(e: Expression, function: Callable[..., list[Any]]) -> None:
    if e.arguments[0].value is not None:
        e.value = np.asarray(function(e.arguments[0].value)[0])
    else:
        e.evaluation = Evaluation(function, e.arguments)


def _power(call: Any) -> list[Expression]:
    x = call.arguments[0]
    if call.name == "pow":
        exponent = call.arguments[1]
        if exponent.value is None or np.unique(exponent.value).size != 1:
            if not any(a.has_variables for a in call.arguments):
                return [call.make("function", call.arguments)]
            raise misuse(
                call,
                "The exponent of a variable must be one number known when tracing.",
                "close over the exponent as a Python number; for number ** x write"
                " jnp.exp(jnp.log(number) * x)",
            )
        p = float(np.unique(exponent.value)[0])
    else:
        p = {"square": 2.0, "sqrt": 0.5, "rsqrt": -0.5}.get(call.name) or float(call.params["y"])
    if p == 0.5 and _is_vector_norm(call, x):
        total = x.arguments[0]
        return [call.make("norm2", [trailing(call, total.arguments[0], x.attributes["axes"])])]
    if p == 1:
        return [call.make("rearrange", [x], index=np.arange(x.size).reshape(x.shape))]
    label = {2.0: "square", 0.5: "sqrt"}.get(p, f"power {p:g}")
    return [call.make("power", [x], label, p=p)]


def _is_vector_norm(call: Any, x: Expression) -> bool:
    """jnp.linalg.vector_norm, which isn't a call of its own: by the frames it was traced in."""
    if x.label != "reduce_sum" or "axes" not in x.attributes:
        return False
    square = x.arguments[0]
    if square.atom != "multiply" or square.arguments[0] is not square.arguments[1]:
        return False
    return traced_in(call.equation, "vector_norm")


def _shift(call: Any) -> list[Expression] | None:
    if not call.arguments[0].has_variables:
        return [call.make("rearrange", call.arguments)]
    return [call.make("shift", call.arguments, "stop_gradient")]


def _multiply(call: Any) -> list[Expression]:
    x, y = call.arguments
    e = call.make("multiply", [x, y])
    scale, matrix = (x, y) if not x.shape else (y, x)
    if not scale.shape and matrix.shape and not e.has_variables:
        e.attributes["scaled"] = (scale, matrix)
    return [e]


def _matmul(call: Any) -> list[Expression]:
    x, y = call.arguments
    dims = call.params["dimension_numbers"]
    if x.has_variables and y.has_variables:
        form = _quadratic_form(call, x, y)
        if form is not None:
            return form
    return [call.make("matmul", [x, y], "matmul", dimension_numbers=dims)]


def _quadratic_form(call: Any, x: Expression, y: Expression) -> list[Expression] | None:
    """x @ P @ x, or x @ (P @ x)."""
    if len(x.shape) != 1 or len(y.shape) != 1:
        return None
    for product, vector in ((x, y), (y, x)):
        if product.atom != "matmul":
            continue
        a, b = product.arguments
        for matrix, other in ((a, b), (b, a)):
            if not matrix.has_variables and len(matrix.shape) == 2 and same(other, vector):
                kind = definiteness(matrix)
                return [call.make("quad_form", [vector, matrix], "quad_form", definite=kind)]
    return None


def _exp2(call: Any) -> list[Expression]:
    scale = constant(np.asarray(np.log(2.0)))
    return [call.make("exp", [call.make("multiply", [call.arguments[0], scale])])]


def _expm1(call: Any) -> list[Expression]:
    one = constant(np.asarray(1.0))
    return [call.make("subtract", [call.make("exp", call.arguments), one])]


PRIMITIVES: dict[str, Callable[[Any], list[Expression] | None]] = {
    **dict.fromkeys(linear.MOVED, moved),
    **dict.fromkeys(linear.SUMMED, summed),
    "add": log_sums.add,
    "add_any": log_sums.add,
    "sub": log_sums.subtract,
    "neg": _elementwise("negate"),
    "mul": _multiply,
    "div": _elementwise("divide"),
    "scatter-mul": _scaled_entries,
    "scatter_mul": _scaled_entries,
    "dot_general": _matmul,
    "abs": _elementwise("abs"),
    "max": _elementwise("maximum"),
    "min": _elementwise("minimum"),
    "reduce_max": reduced("max"),
    "reduce_min": reduced("min"),
    "square": _power,
    "sqrt": _power,
    "rsqrt": _power,
    "integer_pow": _power,
    "pow": _power,
    "exp": _elementwise("exp"),
    "exp2": _exp2,
    "expm1": _expm1,
    "log": _elementwise("log"),
    "log1p": _elementwise("log1p"),
    "stop_gradient": _shift,
    "eq": _elementwise("eq"),
    "le": _elementwise("le"),
    "ge": _elementwise("ge"),
    "lt": _elementwise("lt"),
    "gt": _elementwise("gt"),
    "ne": _elementwise("ne"),
    "is_finite": _elementwise("finite"),
}
