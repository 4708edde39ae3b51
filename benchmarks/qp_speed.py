"""Times `solve_qp` and its gradient against other differentiable QP solvers.

Every solver takes the same batches (random QPs with a known solution, projection on a simplex,
OptNet's Sudoku layer) and runs each of them in a process of its own.  The table shows seconds to
compile (the first call less the median of the others), the best and median milliseconds of the
forward pass and of forward and backward together, the largest relative KKT residual of x, the
error of x where the solution is known, the error of the gradient against the KKT formulas in
NumPy, and how many times as long as ours a peer takes (by --ratio).

    python benchmarks/qp_speed.py --output speed.json
    python benchmarks/qp_speed.py --shapes 50-50-10-b128 --peers qpax moreau
    python benchmarks/qp_speed.py --device gpu

Solvers that need another environment get its Python with --peer-python: one for all, or
NAME=PATH for one of them (repeat the option).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import machine
import peers
from accuracy import gradient_error, kkt_residual, reference_gradients
from peer_process import python_for, run_worker
from problems import SHAPES, Batch, Shape, find_shape, make_batch
from speed_table import shape_table, summary_table

RECORDED = ("device", "dtype", "tolerance", "repeats", "budget", "timeout", "seed", "ratio")

ON_GPU = (peers.OURS, "qpax", "qpth")  # those that run there without an extra package


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = ", ".join(shape.name for shape in SHAPES)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--shapes", nargs="+", metavar="NAME", help=f"of {names}, or any n-ineq-eq-bBATCH")
    add("--peers", nargs="+", choices=peers.PEERS, help="which to run (ours always runs)")
    add("--peer-python", action="append", default=[], metavar="[NAME=]PATH", help="see above")
    add("--device", choices=("cpu", "gpu"), default="cpu", help="for those that run on both")
    add("--dtype", choices=("float64", "float32"), default="float64")
    add("--tolerance", type=float, help="1e-9 in float64, 1e-5 in float32")
    add("--repeats", type=int, default=5, help="of each call at least (%(default)s)")
    add("--budget", type=float, default=1.5, help="seconds per timing at least (%(default)s)")
    add("--ratio", choices=("median", "best"), default="median", help="best on a busy machine")
    add("--timeout", type=float, default=180.0, help="seconds per process (%(default)s)")
    add("--seed", type=int, default=0)
    add("--output", type=Path, metavar="FILE", help="write all figures as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.tolerance is None:
        options.tolerance = 1e-9 if options.dtype == "float64" else 1e-5
    shapes = [find_shape(name) for name in options.shapes] if options.shapes else list(SHAPES)
    chosen = options.peers or [p for p in peers.PEERS if options.device == "cpu" or p in ON_GPU]
    names = [peers.OURS, *(name for name in chosen if name != peers.OURS)]

    results: list[dict[str, Any]] = []
    report = {
        "machine": machine.describe(),
        "settings": {key: getattr(options, key) for key in RECORDED},
        "results": results,
    }
    for shape in shapes:
        batch = make_batch(shape, options.seed, options.dtype)
        measured = run_shape(shape, batch, names, options)
        results.extend(measured)
        print(f"\n{shape}\n{shape_table(measured, options.ratio)}", flush=True)
        if options.output:  # after every shape, so that an interrupted run leaves something
            options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nTimes as long as ours\n{summary_table(results, options.ratio)}", flush=True)
    ours = [record for record in results if record["peer"] == peers.OURS]
    return 0 if ours and all("forward_backward" in record for record in ours) else 1


def run_shape(
    shape: Shape, batch: Batch, names: list[str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One record per solver, the accuracy included."""
    records, arrays = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names, start=1):
            start = time.monotonic()
            record, result = run_peer(name, shape, Path(folder), options)
            seconds = time.monotonic() - start
            progress = f"{shape.name}: {name} ({number}/{len(names)}) {record['outcome']}"
            print(f"{progress}, {seconds:.1f} s", file=sys.stderr, flush=True)
            records.append(record)
            arrays.append(result)
    add_accuracy(batch, records, arrays)
    return records


def run_peer(
    name: str, shape: Shape, folder: Path, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the worker left behind, however it ended."""
    gpu = os.environ.get("JAX_PLATFORMS", "cuda")  # a user with another kind can name it there
    keys = ("seed", "dtype", "device", "tolerance", "repeats", "budget")
    return run_worker(
        "worker.py",
        name,
        ("shape", shape.name),
        [(key, getattr(options, key)) for key in keys],
        folder,
        python_for(name, options.peer_python),
        options.timeout,
        {"JAX_PLATFORMS": "cpu" if options.device == "cpu" else gpu},
    )


def add_accuracy(batch: Batch, records: list[dict[str, Any]], arrays: list[dict[str, Any]]) -> None:
    """Adds the residual, the error of x, and the gradient's error by two references."""
    for record, result in zip(records, arrays, strict=True):
        if "x" in result:
            record["kkt_residual"] = kkt_residual(batch, result["x"])
            if batch.solution is not None:
                difference = np.abs(result["x"] - batch.solution)
                record["x_error"] = float(np.max(difference) / (1.0 + np.abs(batch.solution).max()))
    solved = [
        (record["kkt_residual"], result["x"])
        for record, result in zip(records, arrays, strict=True)
        if np.isfinite(record.get("kkt_residual", np.nan))
    ]
    if batch.solution is None and not solved:
        return
    best = batch.solution if batch.solution is not None else min(solved, key=lambda s: s[0])[1]
    reference = reference_gradients(batch, best)
    derivatives = [{k[1:]: v for k, v in result.items() if k != "x"} for result in arrays]
    for record, gradients in zip(records, derivatives, strict=True):
        if gradients:
            record["gradient_error"] = gradient_error(gradients, reference)
            if derivatives[0]:  # ours
                record["gradient_difference_to_ours"] = gradient_error(gradients, derivatives[0])


if __name__ == "__main__":
    sys.exit(main())
