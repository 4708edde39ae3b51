"""Atoms under `jax.vmap` inside of the user's function.

The name of an atom's call holds the ranks of its operands; where an operand has one more, the call's body
tells along which axis it was mapped: the axes for which `jax.vmap` of the atom has that very body.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import jax
import numpy as np

from jaxopt_layers.dpp.errors import misuse
from jaxopt_layers.dpp.expression import Expression
from jaxopt_layers.dpp.marker import marked, split_name
from jaxopt_layers.dpp.patterns import entry


def is_mapped(call: Any, name: str) -> bool:
    """Whether an operand has more axes than the atom was called with."""
    _, ranks = split_name(name)
    pairs = zip(call.arguments, ranks, strict=True)
    return any(len(argument.shape) > rank for argument, rank in pairs)


def axes_of(call: Any, name: str, body: Any) -> tuple[list[int | None], int] | None:
    """The mapped axis of every operand (None: not mapped) and of the result; None where the atom itself,
    which works on leading axes, has that body."""
    atom, ranks = split_name(name)
    extra = [len(a.shape) - rank for a, rank in zip(call.arguments, ranks, strict=True)]
    shapes = [
        jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype, weak_type=v.aval.weak_type)
        for v in call.equation.invars
    ]
    text = str(body)
    if _text(marked(atom, ranks), shapes) == text:
        return None
    if max(extra) == 1:
        choices = [
            range(len(a.shape)) if e else [None] for a, e in zip(call.arguments, extra, strict=True)
        ]
        for axes in product(*choices):
            sizes = {a.shape[i] for a, i in zip(call.arguments, axes, strict=True) if i is not None}
            if len(sizes) > 1:
                continue
            for out in range(len(call.shape)):
                mapped = jax.vmap(marked(atom, ranks), in_axes=tuple(axes), out_axes=out)
                if _text(mapped, shapes) == text:
                    return list(axes), out
    raise misuse(
        call,
        f"jl.{atom} under several jax.vmap in the problem's function.",
        "call it for each member, or map once",
    )


def _text(function: Any, shapes: list[Any]) -> str:
    """The body of the one call that the function is; empty if it isn't that, or not for these shapes."""
    try:
        jaxpr = jax.make_jaxpr(function)(*shapes)
    except (TypeError, ValueError):
        return ""
    if len(jaxpr.eqns) != 1 or "jaxpr" not in jaxpr.eqns[0].params:
        return ""
    return str(jaxpr.eqns[0].params["jaxpr"].jaxpr)


def members(call: Any, axes: list[int | None]) -> list[list[Expression]]:
    """The operands of each member of the batch."""
    size = next(a.shape[i] for a, i in zip(call.arguments, axes, strict=True) if i is not None)
    rows = []
    for k in range(size):
        row = []
        for a, axis in zip(call.arguments, axes, strict=True):
            row.append(a if axis is None else entry(call, a, k, axis))
        rows.append(row)
    return rows


def joined(call: Any, parts: list[Expression], axis: int) -> Expression:
    """The members' results along an axis."""
    index = np.arange(sum(p.size for p in parts)).reshape(len(parts), *parts[0].shape)
    index = np.moveaxis(index, 0, axis)
    return call.make("rearrange", parts, "vmap", index=index)
