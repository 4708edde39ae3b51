"""What is known of the definiteness of a matrix without variables."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxopt_layers.dpp.expression import Expression

_TOLERANCE = 1e-10


def definiteness(matrix: Expression) -> str:
    """ "psd", "nsd", "indefinite" (numbers that are neither), "asymmetric" or "unknown"."""
    if matrix.value is not None:
        return _of_numbers(np.asarray(matrix.value, float))
    return "psd" if _is_psd(matrix) else "nsd" if _is_nsd(matrix) else "unknown"


def _of_numbers(values: np.ndarray) -> str:
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        return "asymmetric"
    size = np.max(np.abs(values), initial=0.0)
    if np.max(np.abs(values - values.T), initial=0.0) > 1e-6 * size:
        return "asymmetric"
    eigenvalues = np.linalg.eigvalsh((values + values.T) / 2)
    slack = max(_TOLERANCE, np.sqrt(np.finfo(values.dtype).eps)) * size
    if eigenvalues.min(initial=0.0) >= -slack:
        return "psd"
    return "nsd" if eigenvalues.max(initial=0.0) <= slack else "indefinite"


def _is_psd(e: Expression) -> bool:
    if e.value is not None:
        return _of_numbers(np.asarray(e.value, float)) == "psd"
    if e.atom == "psd":
        return True
    if e.atom == "add":
        return all(a.shape == e.shape and _is_psd(a) for a in e.arguments)
    if e.atom == "negate":
        return _is_nsd(e.arguments[0])
    if e.atom == "multiply" and "scaled" in e.attributes:
        scale, matrix = e.attributes["scaled"]
        return _is_nonnegative(scale) and _is_psd(matrix)
    if e.atom == "divide" and not e.arguments[1].shape:
        return _is_nonnegative(e.arguments[1]) and _is_psd(e.arguments[0])
    if e.atom == "matmul" and len(e.shape) == 2:
        return _is_gram(e)
    return False


def _is_nsd(e: Expression) -> bool:
    if e.value is not None:
        return _of_numbers(np.asarray(e.value, float)) == "nsd"
    if e.atom == "negate":
        return _is_psd(e.arguments[0])
    return False


def _is_nonnegative(e: Expression) -> bool:
    from jaxopt_layers.dpp.analysis import Analysis

    return Analysis().sign(e).is_nonnegative


def _is_gram(e: Expression) -> bool:
    """F @ F.T or F.T @ F."""
    contracted, batched = e.attributes["dimension_numbers"]
    if batched[0] or len(contracted[0]) != 1:
        return False
    left, right = contracted[0][0], contracted[1][0]
    first, second = e.arguments
    a = first.arguments[0] if transposed(first) else first
    b = second.arguments[0] if transposed(second) else second
    if not same(a, b) or len(a.shape) != 2:
        return False
    first_axis = 1 - left if transposed(first) else left
    second_axis = 1 - right if transposed(second) else right
    return first_axis == second_axis


def transposed(e: Expression) -> bool:
    """A matrix's transpose."""
    return e.atom == "rearrange" and e.attributes.get("permutation") == (1, 0)


def same(a: Expression, b: Expression) -> bool:
    """Whether two expressions are written alike, from the same leaves."""
    if a is b:
        return True
    if a.atom != b.atom or a.shape != b.shape or len(a.arguments) != len(b.arguments):
        return False
    if a.value is not None or b.value is not None:
        return a.value is not None and b.value is not None and np.array_equal(a.value, b.value)
    if not a.arguments or a.attributes.keys() != b.attributes.keys():
        return False
    for key, value in a.attributes.items():
        parts, others = _arrays(value), _arrays(b.attributes[key])
        pairs = zip(parts, others, strict=False)
        if len(parts) != len(others) or not all(np.array_equal(a, b) for a, b in pairs):
            return False
    return all(map(same, a.arguments, b.arguments))


def _arrays(value: Any) -> list[Any]:
    return (
        list(value)
        if isinstance(value, tuple) and value and isinstance(value[0], np.ndarray)
        else [value]
    )
