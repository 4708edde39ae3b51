"""Expressions: the values of a jaxpr as a graph, with what the DCP rules say about each.

The rule of disciplined convex programming (Grant, Boyd & Ye 2006): f(g_1, ..., g_k) is convex where f is
convex and each g_i is affine, or convex with f nondecreasing in it, or concave with f nonincreasing in it;
concave likewise. Curvature and sign belong to whole arrays, as in CVXPY.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxopt_layers.dpp.source import Origin, Source


class Sign(enum.Enum):
    """What is known of the sign of every entry."""

    ZERO = "zero"
    NONNEGATIVE = "nonnegative"
    NONPOSITIVE = "nonpositive"
    UNKNOWN = "unknown sign"

    @property
    def is_nonnegative(self) -> bool:
        """No entry is negative."""
        return self in (Sign.ZERO, Sign.NONNEGATIVE)

    @property
    def is_nonpositive(self) -> bool:
        """No entry is positive."""
        return self in (Sign.ZERO, Sign.NONPOSITIVE)

    @staticmethod
    def of(nonnegative: bool, nonpositive: bool) -> Sign:
        """From the two facts."""
        if nonnegative:
            return Sign.ZERO if nonpositive else Sign.NONNEGATIVE
        return Sign.NONPOSITIVE if nonpositive else Sign.UNKNOWN

    @staticmethod
    def of_values(values: np.ndarray) -> Sign:
        """From numbers."""
        if values.dtype == bool:
            return Sign.NONNEGATIVE
        return Sign.of(bool(np.all(values >= 0)), bool(np.all(values <= 0)))

    def __neg__(self) -> Sign:
        return Sign.of(self.is_nonpositive, self.is_nonnegative)

    def __add__(self, other: Sign) -> Sign:
        return Sign.of(
            self.is_nonnegative and other.is_nonnegative,
            self.is_nonpositive and other.is_nonpositive,
        )

    def __mul__(self, other: Sign) -> Sign:
        if Sign.ZERO in (self, other):
            return Sign.ZERO
        if Sign.UNKNOWN in (self, other):
            return Sign.UNKNOWN
        return Sign.NONNEGATIVE if self is other else Sign.NONPOSITIVE


class Curvature(enum.Enum):
    """How an expression bends in the variables."""

    CONSTANT = "constant"
    AFFINE = "affine"
    CONVEX = "convex"
    CONCAVE = "concave"
    UNKNOWN = "unknown curvature"

    @property
    def is_affine(self) -> bool:
        """Constant or affine."""
        return self in (Curvature.CONSTANT, Curvature.AFFINE)

    @property
    def is_convex(self) -> bool:
        """Constant, affine or convex."""
        return self.is_affine or self is Curvature.CONVEX

    @property
    def is_concave(self) -> bool:
        """Constant, affine or concave."""
        return self.is_affine or self is Curvature.CONCAVE

    @staticmethod
    def of(convex: bool, concave: bool) -> Curvature:
        """From the two facts, for what isn't constant."""
        if convex:
            return Curvature.AFFINE if concave else Curvature.CONVEX
        return Curvature.CONCAVE if concave else Curvature.UNKNOWN


@dataclass(frozen=True)
class Evaluation:
    """How values without variables are computed in JAX: `function(*arguments)` gives a list."""

    function: Callable[..., list[Any]]
    arguments: tuple[Expression, ...]


@dataclass(eq=False)
class Expression:
    """A value of the jaxpr.

    - `atom`: its entry in the table of atoms, or "variable", "parameter", "constant".
    - `attributes`: what the atom needs beyond its arguments; `label` is what the user calls it.
    - `value`: the numbers, where known when tracing. `evaluation`, `output`: for what depends on
      parameters only.
    """

    atom: str
    arguments: tuple[Expression, ...]
    shape: tuple[int, ...]
    label: str
    attributes: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    value: np.ndarray | None = None
    evaluation: Evaluation | None = None
    output: int = 0
    has_variables: bool = False
    has_parameters: bool = False

    @property
    def source(self) -> Source | None:
        """Where the user wrote it."""
        return None if self.origin is None else self.origin.source

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def is_constant(self) -> bool:
        """Known when tracing."""
        return self.value is not None

    @property
    def scalar(self) -> float:
        """The one number of a constant."""
        assert self.value is not None
        return float(np.asarray(self.value).reshape(()))


def constant(value: Any) -> Expression:
    """Numbers as an expression."""
    array = np.asarray(value)
    return Expression("constant", (), array.shape, "constant", value=array)
