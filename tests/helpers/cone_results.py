"""Solved and differentiated programs of each case, shared by the test modules: one compilation a case."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.helpers import cone_compiled as compiled
from tests.helpers.cone_gradients import cotangents
from tests.helpers.cone_problems import (
    CASES,
    Case,
    Data,
    feasible_program,
    infeasible_program,
    known_program,
    stack,
    unbounded_program,
)

#: All batches have this length and these members, so that a case compiles once.
FEASIBLE, INFEASIBLE, UNBOUNDED = 10, 3, 3
BATCH = FEASIBLE + INFEASIBLE + UNBOUNDED

# Every curved cone takes long to compile: two of them stand for all in the quick tests.
_QUICK = ("nonnegative", "few")
every_case = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if name in _QUICK else pytest.mark.slow)
        for name, case in CASES.items()
    ],
    ids=CASES,
)
#: A product of several cones: a small one, and that of all.
products = pytest.mark.parametrize(
    "case",
    [CASES["few"], pytest.param(CASES["mixed"], marks=pytest.mark.slow)],
    ids=["few", "mixed"],
)


@dataclass(frozen=True)
class Results:
    """Programs, their records, and the gradients for the case's cotangents; `known` solutions."""

    programs: list[Data]
    solution: Any
    gradients: dict[str, np.ndarray]
    known: list[dict[str, np.ndarray]]


def run(case: Case, programs: list[Data], known: list[Any] | None = None) -> Results:
    """Solve BATCH programs and pull the case's cotangents back through each."""
    assert len(programs) == BATCH
    solution, gradients = compiled.pull_batch(stack(programs), cotangents(case), case.cones)
    gradients = {name: np.asarray(value) for name, value in gradients.items()}
    return Results(programs, solution, gradients, known or [])


@cache
def random_results(case: Case, seed: int = 0) -> Results:
    """FEASIBLE programs with points inside both cones, then INFEASIBLE and UNBOUNDED ones."""
    rng = np.random.default_rng(seed)
    programs = [feasible_program(rng, case) for _ in range(FEASIBLE)]
    programs += [infeasible_program(rng, case) for _ in range(INFEASIBLE)]
    programs += [unbounded_program(rng, case) for _ in range(UNBOUNDED)]
    return run(case, programs)


@cache
def known_results(case: Case) -> Results:
    """Programs made around strictly complementary solutions."""
    rng = np.random.default_rng(1)
    programs, known = zip(*(known_program(rng, case) for _ in range(BATCH)), strict=True)
    return run(case, list(programs), list(known))
