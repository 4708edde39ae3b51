"""Timing a call: the first one (which compiles), then enough others for a best and a median."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 30.0


@dataclass(frozen=True)
class Timing:
    """Seconds.  `compile` is what the first call took beyond the median of the others."""

    first: float
    best: float
    median: float
    repeats: int

    @property
    def compile(self) -> float:
        return max(self.first - self.median, 0.0)

    def record(self) -> dict[str, float]:
        return {
            "first_s": self.first,
            "compile_s": self.compile,
            "best_s": self.best,
            "median_s": self.median,
            "repeats": self.repeats,
        }


def time_calls(call: Callable[[], T], repeats: int, budget: float) -> tuple[Timing, T]:
    """Times `call`, which must block until its result is there.

    After the first call it is repeated at least `repeats` times and until `budget` seconds are
    spent; twice is enough once that takes `PATIENCE` seconds.  Returns the timing and the last
    result.
    """
    start = time.perf_counter()
    result = call()
    first = time.perf_counter() - start
    seconds: list[float] = []
    gc.collect()
    gc.disable()  # a collection inside one of the calls would be charged to it
    try:
        while len(seconds) < repeats or sum(seconds) < budget:
            if len(seconds) > 1 and sum(seconds) > PATIENCE:
                break
            start = time.perf_counter()
            result = call()
            seconds.append(time.perf_counter() - start)
    finally:
        gc.enable()
    return Timing(first, min(seconds), statistics.median(seconds), len(seconds)), result
