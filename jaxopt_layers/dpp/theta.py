"""The flat parameter vector theta: every parameter value that multiplies or is added to variables.

Values that depend on parameters only are computed in JAX, in the order of the user's function, and laid out
one after the other; products and sums of products that canonicalization makes follow them. So the program's
data are affine in theta, whatever the parameters went through before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.dpp.expression import Expression


@dataclass(frozen=True)
class _Products:
    """Entries sum over k of value[k] theta[left[k]] theta[right[k]], added up by `place`."""

    left: np.ndarray
    right: np.ndarray
    value: np.ndarray | None
    place: np.ndarray | None
    size: int

    def __call__(self, theta: Array) -> Array:
        terms = theta[self.left] * theta[self.right]
        if self.value is not None:
            terms = terms * jnp.asarray(self.value, theta.dtype)
        if self.place is None:
            return terms
        return jax.ops.segment_sum(terms, self.place, self.size)


@dataclass
class Theta:
    """Made while canonicalizing; called with the parameters' leaves afterwards."""

    size: int = 0
    _segments: list[Expression | _Products] = field(default_factory=list)
    _offsets: dict[int, int] = field(default_factory=dict)

    def indices(self, expression: Expression) -> np.ndarray:
        """Where the entries of a parameter value stand; they are added at first use."""
        key = id(expression)
        if key not in self._offsets:
            self._offsets[key] = self.size
            self._segments.append(expression)
            self.size += expression.size
        return self._offsets[key] + np.arange(expression.size)

    def products(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Indices of the entries theta[left] theta[right]; equal pairs share one."""
        low, high = np.minimum(left, right), np.maximum(left, right)
        pairs, place = np.unique(low * self.size + high, return_inverse=True)
        low, high = np.divmod(pairs, self.size)
        return self._append(_Products(low, high, None, None, len(pairs)))[place]

    def sums(
        self, left: np.ndarray, right: np.ndarray, value: np.ndarray, place: np.ndarray, size: int
    ) -> np.ndarray:
        """Indices of `size` new entries, the sums over equal `place` of value theta[left] theta[right]."""
        return self._append(_Products(left, right, value, place, size))

    def _append(self, segment: _Products) -> np.ndarray:
        start = self.size
        self._segments.append(segment)
        self.size += segment.size
        return start + np.arange(segment.size)

    def evaluate(self, leaves: dict[int, Any], dtype: Any) -> Array:
        """theta from the values of the parameters' expressions (by id)."""
        values = dict(leaves)
        whole = jnp.zeros((0,), dtype)
        pending: list[Array] = []
        for segment in self._segments:
            if isinstance(segment, Expression):
                pending.append(jnp.ravel(value_of(segment, values)).astype(dtype))
                continue
            whole = jnp.concatenate([whole, *pending])
            pending = [segment(whole)]
        return jnp.concatenate([whole, *pending])


def value_of(expression: Expression, values: dict[int, Any]) -> Any:
    """The value in JAX of an expression without variables; `values` remembers by id.

    Iterative, since graphs may be deeper than Python's stack."""
    stack = [expression]
    while stack:
        top = stack[-1]
        key = id(top)
        if key in values:
            stack.pop()
        elif top.value is not None:
            values[key] = jnp.asarray(top.value)
            stack.pop()
        else:
            assert top.evaluation is not None
            missing = [a for a in top.evaluation.arguments if id(a) not in values]
            if missing:
                stack.extend(missing)
                continue
            outputs = (id(top.evaluation), "outputs")
            if outputs not in values:
                arguments = [values[id(a)] for a in top.evaluation.arguments]
                values[outputs] = top.evaluation.function(*arguments)  # type: ignore[index]
            values[key] = values[outputs][top.output]  # type: ignore[index]
            stack.pop()
    return values[id(expression)]
