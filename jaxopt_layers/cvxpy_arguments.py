"""The arguments of a layer's call: arrays that fit the parameters, and options by familiar names."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxopt_layers.checks import as_array
from jaxopt_layers.settings import Settings

# How other solvers call the tolerance and the limit on iterations.
_TOLERANCES = ("eps", "eps_abs", "eps_rel", "tol_gap_abs", "tol_gap_rel", "tol_feas", "tol")
_LIMITS = ("max_iters", "max_iter")
# What they take besides, and what has no meaning here: how to solve, not what.
_IGNORED = (
    "acceleration_lookback",
    "mode",
    "n_jobs_backward",
    "n_jobs_forward",
    "solve_method",
    "use_indirect",
    "verbose",
    "warm_start",
)
# A tolerance for another method is met as well as double precision allows, but no better.
_FINEST = 1e-9


def settings_for_call(owner: str, settings: Settings, given: dict[str, Any] | None) -> Settings:
    """`settings` with what the dictionary `given` changes."""
    if not given:
        return settings
    if not isinstance(given, dict):
        raise TypeError(f"{owner}: `solver_args` must be a dict; got {type(given).__name__}.")
    own = {field.name for field in fields(Settings)}
    changes = {}
    foreign = [float(given[name]) for name in _TOLERANCES if name in given]
    if foreign:
        finest = settings.tolerance or _FINEST
        changes["tolerance"] = max(min(foreign), min(finest, _FINEST))
    for name in _LIMITS:
        if name in given:
            changes["max_iterations"] = int(given[name])
    for name, value in given.items():
        if name in own:
            changes[name] = value
        elif name not in (*_TOLERANCES, *_LIMITS, *_IGNORED):
            known = ", ".join(sorted(own | set(_TOLERANCES) | set(_LIMITS)))
            raise ValueError(
                f"{owner}: `solver_args` has the unknown key {name!r}; known: {known}."
            )
    return replace(settings, **changes)


def check_parameters(
    owner: str, values: tuple[Any, ...], shapes: tuple[tuple[int, ...], ...], names: tuple[str, ...]
) -> tuple[Array, ...]:
    """An array for each parameter, batched or not, or an error that names its position."""
    if len(values) != len(shapes):
        raise ValueError(
            f"{owner}: A tensor must be provided for each CVXPY parameter; received"
            f" {len(values)} tensors, expected {len(shapes)}: {', '.join(names)}."
        )
    arrays, sizes = [], []
    for i, (value, shape) in enumerate(zip(values, shapes, strict=True)):
        array = as_array(owner, f"parameter {i} ({names[i]})", value)
        extra = array.ndim - len(shape)
        if extra not in (0, 1):
            raise ValueError(
                f"{owner}: Invalid parameter dimensionality for parameter {i} ({names[i]})."
                f" Expected {len(shape)} or {len(shape) + 1} dimensions, got {array.ndim}:"
                f" {array.shape}."
            )
        if array.shape[extra:] != shape:
            batched = ", ".join(["batch size", *map(str, shape)])
            wanted = f"{shape}" if extra == 0 else f"({batched})"
            raise ValueError(
                f"{owner}: Invalid parameter shape for parameter {i} ({names[i]}). Expected:"
                f" {wanted}, got: {array.shape}."
            )
        arrays.append(array)
        sizes.append(array.shape[0] if extra else None)
    if len({size for size in sizes if size is not None}) > 1:
        raise ValueError(
            f"{owner}: Inconsistent batch sizes: all batched parameters must have one batch size,"
            f" but got {sizes} (None: not batched)."
        )
    if not arrays:
        return ()
    dtype = jnp.result_type(*arrays, jnp.float32)
    return tuple(array.astype(dtype) for array in arrays)
