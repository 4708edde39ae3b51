"""A factorization that is made again with more regularization where it breaks down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.kkt.keep import keep
from jaxopt_layers.kkt.system import Form, System
from jaxopt_layers.matrix import constant_like

_MORE = 100
_ATTEMPTS = 4


def robust_factor(form: Form, system: System) -> tuple[System, Any]:
    """Factor a system: it with the regularization that did, and the factorization, to be `restore`d."""

    def kept(regularization: Array) -> Any:
        return keep(form.factor(replace(system, regularization=regularization)))

    anchor = system.program.matrix_anchor + jnp.sum(system.hessian[:1])
    regularization, factor = first_finite(kept, system.regularization, anchor)
    return replace(system, regularization=regularization), factor


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Attempt:
    regularization: Array
    factor: Any
    failed: Array
    count: Array


def first_finite(
    make: Callable[[Array], Any], regularization: Array, anchor: Array
) -> tuple[Array, Any]:
    """What `make` makes of the least regularization, of a few, at which that is finite, and with which.

    `anchor`: a number that varies as the data do.
    """

    def attempt(last: _Attempt) -> _Attempt:
        growth = jnp.where(last.count == 0, 1, _MORE)
        more = last.regularization * growth
        factor = make(more)
        finite = [jnp.all(jnp.isfinite(array)) for array in jax.tree.leaves(factor)]
        failed = ~jnp.all(jnp.stack(finite))
        return _Attempt(more, factor, failed, last.count + 1)

    shape = jax.eval_shape(make, regularization)
    first = _Attempt(
        regularization=regularization + constant_like(0, anchor, anchor.dtype),
        factor=jax.tree.map(
            lambda leaf: constant_like(jnp.zeros(leaf.shape, leaf.dtype), anchor, leaf.dtype),
            shape,
        ),
        failed=constant_like(1, anchor, jnp.int32) > 0,
        count=constant_like(0, anchor, jnp.int32),
    )
    end = lax.while_loop(lambda last: last.failed & (last.count < _ATTEMPTS), attempt, first)
    return end.regularization, end.factor
