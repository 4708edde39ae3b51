"""One process of `stress.py`: two layers in one program, called on new data until time is over."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_layers as jl
from problems import NAMES, find_shape, make_batch

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
WARM_UP = 3  # calls before which a compilation is no fault
DATA_SETS = 5  # made beforehand, used in turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--equalities", type=int, default=10)
    parser.add_argument("--dtype", default="float64")
    options = parser.parse_args()

    jax.config.update("jax_enable_x64", options.dtype == "float64")
    compilations = [0]

    def count(event: str, duration_secs: float, **kwargs: str | int) -> None:
        compilations[0] += event == COMPILE_EVENT

    jax.monitoring.register_event_duration_secs_listener(count)
    program: Any = jax.jit(jax.value_and_grad(two_layers, argnums=(0, 1), has_aux=True))
    shape = find_shape(f"{options.n}-{options.n}-{options.equalities}-b{options.batch}")
    data = [
        tuple(layer_data(shape, 1000 * options.seed + 2 * i + j, options.dtype) for j in (0, 1))
        for i in range(DATA_SETS)
    ]

    record: dict[str, Any] = {"calls": 0, "unsolved": 0, "not_finite": 0}
    seconds: list[float] = []
    memory: list[float] = []
    early = 0
    end = time.monotonic() + options.seconds
    while time.monotonic() < end or len(seconds) <= WARM_UP:
        start = time.perf_counter()
        # NumPy in, NumPy out: whatever the call costs, copies and buffers included.
        (value, statuses), gradients = program(*data[len(seconds) % DATA_SETS])
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((value, gradients))]
        seconds.append(time.perf_counter() - start)
        record["unsolved"] += int(np.sum(np.asarray(statuses) != int(jl.Status.SOLVED)))
        record["not_finite"] += not all(np.all(np.isfinite(leaf)) for leaf in leaves)
        memory.append(resident_mib())
        if len(seconds) == WARM_UP:
            early = compilations[0]
        if len(seconds) == 1:
            end = time.monotonic() + options.seconds
            record["first_call_s"] = seconds[0]
        record["calls"] = len(seconds)
        if len(seconds) in (1, WARM_UP) or len(seconds) % 50 == 0:
            options.result.write_text(json.dumps(record))  # for the case that it never ends

    # The allocator takes some calls to reach its level, from which it comes and goes; a leak grows on.
    half = len(memory) // 2
    record["call_ms"] = 1e3 * statistics.median(seconds[1:])
    record["compilations"] = compilations[0]
    record["late_compilations"] = compilations[0] - early
    record["cache_size"] = program._cache_size()
    record["rss_mib"] = memory[-1]
    record["growth_mib"] = max(memory[half:]) - max(memory[: max(half, 1)])
    if not compilations[0]:
        print("this jax reports no compilations under the event's name", file=sys.stderr)
    options.result.write_text(json.dumps(record))


def layer_data(shape: Any, seed: int, dtype: str) -> dict[str, np.ndarray]:
    batch = make_batch(shape, seed, dtype)
    arrays = batch.arguments()
    return {name: arrays[name] for name in NAMES if name in arrays}


def two_layers(first: dict[str, Any], second: dict[str, Any]) -> tuple[Any, Any]:
    """Two layers that do not depend on each other, so that the backend may run them at once."""
    one = jax.vmap(lambda data: jl.solve_qp(**data))(first)
    two = jax.vmap(lambda data: jl.solve_qp(**data))(second)
    value = jnp.sum(jnp.sin(one.x)) + jnp.sum(jnp.cos(two.x))
    return value, jnp.stack([one.status, two.status])


def resident_mib() -> float:
    """What the process holds now; its peak where the system tells no more."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
