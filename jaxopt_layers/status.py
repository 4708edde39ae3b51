"""How a solve ended: one code per problem, whatever the batch around it did."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of one problem, an int32 in arrays; ``Status(code).message`` says what to do."""

    SOLVED = 0
    ALMOST_SOLVED = 1
    MAX_ITERATIONS = 2
    PRIMAL_INFEASIBLE = 3
    DUAL_INFEASIBLE = 4
    NUMERICAL_ERROR = 5
    INVALID_INPUT = 6

    @property
    def message(self) -> str:
        """What happened and what the caller can do about it, in words."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.SOLVED: "solved to the tolerance",
    Status.ALMOST_SOLVED: (
        "solved to the reduced tolerance only: progress ended early, usually because the problem is"
        " badly scaled or has no strictly feasible point; the values and gradients are less exact"
    ),
    Status.MAX_ITERATIONS: (
        "the iteration limit was reached: raise Settings(max_iterations=...) or rescale the problem;"
        " the values are the best iterate"
    ),
    Status.PRIMAL_INFEASIBLE: (
        "no point satisfies the constraints: the dual variables hold a certificate"
        " (A'y + G'z - z_lower + z_upper = 0 with a negative dual objective of -1)"
    ),
    Status.DUAL_INFEASIBLE: (
        "the objective is unbounded below (or the dual has no feasible point): x holds a direction"
        " along which it falls for ever"
    ),
    Status.NUMERICAL_ERROR: (
        "the linear algebra broke down: rescale the problem, solve in float64 or raise"
        " Settings(regularization=...); the values are the best iterate"
    ),
    Status.INVALID_INPUT: (
        "the data hold NaN, or an infinity that is not the absent side of an inequality"
    ),
}
