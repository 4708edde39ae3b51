"""log(sum(exp(x))) as JAX lowers it: shifted by the largest entry, the shift added back behind.

The value doesn't depend on the shift, so any value under `stop_gradient` will do, as long as it is the same
for all entries of a sum and the same in both places.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxopt_layers.dpp.expression import Expression


def add(call: Any) -> list[Expression]:
    """x + y; log(sum(exp(x - s))) + s is a log_sum_exp."""
    for first, shift in (call.arguments, call.arguments[::-1]):
        if shift.atom == "shift" and first.shape == shift.shape:
            found = _shifted(call, first, shift)
            if found is not None:
                return [found]
    return [call.make("add", call.arguments)]


def subtract(call: Any) -> list[Expression]:
    """x - y; (x - s) - log(sum(exp(x - s))) is x - log_sum_exp(x)."""
    away, logs = call.arguments
    if away.atom == "subtract" and away.shape == call.shape:
        parts = _log_of_sum(logs)
        if parts is not None and parts[1] is away:
            total, _, rows = parts
            x, shift = away.arguments
            index = _index(shift, "shift")
            target = _targets(total)
            matches = np.broadcast_to(rows, away.shape).ravel()
            if index is not None and np.array_equal(matches, target):
                shifts = np.broadcast_to(index, away.shape).ravel()
                first = np.zeros(total.size, int)
                first[target] = shifts
                if np.array_equal(first[target], shifts):
                    sums = _log_sum_exp(call, x, total)
                    index = target.reshape(away.shape)
                    back = call.make("rearrange", [sums], "broadcast", index=index)
                    return [call.make("subtract", [x, back])]
    return [call.make("subtract", call.arguments)]


def _shifted(call: Any, logs: Expression, shift: Expression) -> Expression | None:
    parts = _log_of_sum(logs)
    if parts is None or parts[1].atom != "subtract":
        return None
    total, away, rows = parts
    x, back = away.arguments
    index = _index(back, "shift")
    if index is None or _base(back) is not shift or x.shape != away.shape:
        return None
    if not np.array_equal(np.sort(rows.ravel()), np.arange(total.size)):
        return None
    place = np.argsort(rows.ravel())  # of each sum, in the result
    target = _targets(total)
    if not np.array_equal(place[target], np.broadcast_to(index, x.shape).ravel()):
        return None
    sums = _log_sum_exp(call, x, total)
    if sums.shape == call.shape and np.array_equal(rows.ravel(), np.arange(total.size)):
        return sums
    return call.make("rearrange", [sums], "reshape", index=rows)


def _log_of_sum(e: Expression) -> tuple[Expression, Expression, np.ndarray] | None:
    """(sum, exponent, the sum that each entry is the logarithm of) of log(sum(exp(exponent)))."""
    outer = np.arange(e.size).reshape(e.shape)
    while e.atom == "rearrange" and len(e.arguments) == 1:
        outer = _of(e)[np.unravel_index(outer, e.shape)] if e.shape else outer
        e = e.arguments[0]
    if e.atom != "log":
        return None
    total = e.arguments[0]
    total = total.arguments[0] if total.atom == "abs" else total
    rows = _index(total, "linear map")
    total = _base(total)
    if rows is None or total.label != "reduce_sum" or total.arguments[0].atom != "exp":
        return None
    return total, total.arguments[0].arguments[0], rows.reshape(-1)[outer]


def _log_sum_exp(call: Any, x: Expression, total: Expression) -> Expression:
    order = np.argsort(_targets(total), kind="stable").reshape(*total.shape, -1)
    if order.shape != x.shape or not np.array_equal(order.ravel(), np.arange(x.size)):
        x = call.make("rearrange", [x], "flatten", shape=order.shape, index=order)
    return call.make("log_sum_exp", [x], "log_sum_exp", shape=total.shape)


def _targets(total: Expression) -> np.ndarray:
    row, source, _ = total.attributes["entries"]
    target = np.empty(len(row), int)
    target[source] = row
    return target


def _base(e: Expression) -> Expression:
    while e.atom == "rearrange" and len(e.arguments) == 1:
        e = e.arguments[0]
    return e


def _index(e: Expression, atom: str) -> np.ndarray | None:
    """Which entry of the expression of that atom, below rearrangements, each entry of e is."""
    base = _base(e)
    if base.atom != atom or not e.has_variables:
        return None
    chain = []
    while e is not base:
        chain.append(e)
        e = e.arguments[0]
    index = np.arange(base.size).reshape(base.shape)
    for step in reversed(chain):
        index = index.reshape(-1)[_of(step)]
    return index


def _of(e: Expression) -> np.ndarray:
    index = e.attributes.get("index")
    return np.arange(e.size).reshape(e.shape) if index is None else np.asarray(index)
