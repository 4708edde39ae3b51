"""Primitives that move entries about: which entry of the operands each entry of the result is.

The primitive itself, applied to an array of indices, tells. The common ones are done in NumPy, which needs
no compilation; all others by JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

# Primitives whose result holds entries of some operands, and which operands those are; the others
# (indices, masks) must be known when tracing.
MOVED: dict[str, Callable[[int], Sequence[int]]] = {
    "reshape": lambda k: [0],
    "broadcast_in_dim": lambda k: [0],
    "squeeze": lambda k: [0],
    "expand_dims": lambda k: [0],
    "transpose": lambda k: [0],
    "slice": lambda k: [0],
    "rev": lambda k: [0],
    "copy": lambda k: [0],
    "copy_p": lambda k: [0],
    "convert_element_type": lambda k: [0],
    "reduce_precision": lambda k: [0],
    "optimization_barrier": lambda k: range(k),
    "real": lambda k: [0],
    "gather": lambda k: [0],
    "dynamic_slice": lambda k: [0],
    "concatenate": lambda k: range(k),
    "stack": lambda k: range(k),
    "tile": lambda k: [0],
    "unstack": lambda k: [0],
    "split": lambda k: [0],
    "pad": lambda k: [0, 1],
    "select_n": lambda k: range(1, k),
    "dynamic_update_slice": lambda k: [0, 1],
    "scatter": lambda k: [0, 2],
}

# Linear primitives of one operand, the others known: their matrices come from unit vectors.
SUMMED: dict[str, Sequence[int]] = {
    "reduce_sum": [0],
    "cumsum": [0],
    "scatter-add": [0, 2],
    "reduce_window_sum": [0],
    "conv_general_dilated": [0, 1],
}


def apply_numpy(name: str, params: dict[str, Any], arrays: list[np.ndarray]) -> np.ndarray | None:
    """The primitive in NumPy; None where it isn't written here."""
    first = arrays[0] if arrays else None
    if name == "reshape" and params.get("dimensions") is None:
        return first.reshape(params["new_sizes"])  # type: ignore[union-attr]
    if name == "broadcast_in_dim":
        shape, where = params["shape"], params["broadcast_dimensions"]
        if len(arrays) > 1:
            return None
        inner = [1] * len(shape)
        for axis, at in enumerate(where):
            inner[at] = first.shape[axis]  # type: ignore[union-attr]
        return np.broadcast_to(first.reshape(inner), shape)  # type: ignore[union-attr]
    if name == "squeeze":
        return np.squeeze(first, tuple(params["dimensions"]))  # type: ignore[arg-type]
    if name == "transpose":
        return np.transpose(first, params["permutation"])  # type: ignore[arg-type]
    if name == "slice":
        strides = params["strides"] or (1,) * first.ndim  # type: ignore[union-attr]
        bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
        return first[tuple(slice(*b) for b in bounds)]  # type: ignore[index]
    if name == "rev":
        return np.flip(first, tuple(params["dimensions"]))  # type: ignore[arg-type]
    if name in ("copy", "copy_p", "reduce_precision", "real"):
        return first
    if name == "concatenate":
        return np.concatenate(arrays, axis=params["dimension"])
    if name == "stack":
        return np.stack(arrays, axis=params["axis"])
    if name == "select_n" and len(arrays) == 3:
        mask, no, yes = arrays
        return np.where(mask.astype(bool), yes, no)
    return None


def fold(name: str, params: dict[str, Any], arrays: list[np.ndarray]) -> np.ndarray | None:
    """A primitive of constants in NumPy; None where it isn't written here."""
    if name == "convert_element_type":
        return arrays[0].astype(params["new_dtype"])
    if name == "iota":
        shape, axis = params["shape"], params["dimension"]
        along = np.arange(shape[axis], dtype=params["dtype"])
        return np.broadcast_to(
            along.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape
        )
    function = _FOLDED.get(name)
    if function is not None:
        return np.asarray(function(*arrays))
    return apply_numpy(name, params, arrays)


_FOLDED: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "max": np.maximum,
    "min": np.minimum,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


def run(equation: Any, arrays: Sequence[Any]) -> list[Any]:
    """The primitive itself on concrete arrays, now, even while an outer function is traced."""
    with jax.ensure_compile_time_eval():
        results = equation.primitive.bind(*arrays, **equation.params)
    return list(results) if equation.primitive.multiple_results else [results]


def moved_indices(
    equation: Any, shapes: list[tuple[int, ...]], fixed: dict[int, np.ndarray], moved: Sequence[int]
) -> list[np.ndarray]:
    """For each result, its entries' places in the moved operands laid one after the other."""
    arrays: list[Any] = [None] * len(shapes)
    start = 0
    for i, shape in enumerate(shapes):
        if i in moved:
            size = int(np.prod(shape, dtype=int))
            arrays[i] = np.arange(start, start + size, dtype=np.int32).reshape(shape)
            start += size
        else:
            arrays[i] = fixed[i]
    name = equation.primitive.name
    if name == "convert_element_type":
        return [arrays[0]]
    if name == "optimization_barrier":
        return arrays
    if not equation.primitive.multiple_results:
        result = apply_numpy(name, equation.params, arrays)
        if result is not None:
            return [result]
    return [np.asarray(result) for result in run(equation, [_jax(a) for a in arrays])]


def summed_entries(
    equation: Any, shapes: list[tuple[int, ...]], fixed: dict[int, np.ndarray], at: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrix of a linear primitive in its operand `at`: arrays (row, source, value)."""
    name, params, shape = equation.primitive.name, equation.params, shapes[at]
    size = int(np.prod(shape, dtype=int))
    index = np.arange(size).reshape(shape)
    if name == "reduce_sum":
        kept = [1 if i in params["axes"] else d for i, d in enumerate(shape)]
        target = np.arange(int(np.prod(kept, dtype=int))).reshape(kept)
        return np.broadcast_to(target, shape).ravel(), index.ravel(), np.ones(size)
    if name == "cumsum":
        axis, length = params["axis"], shape[params["axis"]]
        lines = np.moveaxis(index, axis, -1).reshape(-1, length)
        late, early = np.tril_indices(length)
        if params["reverse"]:
            late, early = early, late
        rows, sources = lines[:, late].ravel(), lines[:, early].ravel()
        return rows, sources, np.ones(len(rows))
    dtype = equation.outvars[0].aval.dtype

    def apply(operand: Any) -> Any:
        operands = [
            operand
            if i == at
            else np.asarray(fixed.get(i, np.zeros(s)), None if i in fixed else dtype)
            for i, s in enumerate(shapes)
        ]
        return equation.primitive.bind(*map(_jax, operands), **params)

    with jax.ensure_compile_time_eval():
        basis = np.eye(size).astype(dtype).reshape(size, *shape)
        matrix = np.asarray(jax.vmap(apply)(basis)).reshape(size, -1)
    source, row = np.nonzero(matrix)
    return row, source, matrix[source, row].astype(float)


def _jax(array: Any) -> Any:
    with jax.ensure_compile_time_eval():
        return jax.numpy.asarray(array)
