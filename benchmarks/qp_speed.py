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

Solvers that need another environment get its Python with --peers-python: one for all, or
NAME=PATH for one of them (repeat the option).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import peers
from accuracy import gradient_error, kkt_residual, reference_gradients
from problems import SHAPES, Batch, Shape, find_shape, make_batch
from speed_command import (
    add_common_options,
    chosen_peers,
    each_peer,
    measure_all,
    ours_done,
    speed_parser,
)
from speed_table import shape_table, summary_table

RECORDED = ("dtype", "tolerance", "repeats", "budget", "timeout", "seed", "ratio")

ON_GPU = (peers.OURS, "qpax", "qpth")  # those that run there without an extra package


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = ", ".join(shape.name for shape in SHAPES)
    parser = speed_parser(__doc__)
    add = parser.add_argument
    add("--shapes", nargs="+", metavar="NAME", help=f"of {names}, or any n-ineq-eq-bBATCH")
    add("--peers", nargs="+", choices=peers.PEERS, help="which to run (ours always runs)")
    add("--dtype", choices=("float64", "float32"), default="float64")
    add("--tolerance", type=float, help="1e-9 in float64, 1e-5 in float32")
    add_common_options(parser, timeout=180.0)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.tolerance is None:
        options.tolerance = 1e-9 if options.dtype == "float64" else 1e-5
    shapes = [find_shape(name) for name in options.shapes] if options.shapes else list(SHAPES)
    names = chosen_peers(options, peers.PEERS, ON_GPU)

    def measure(shape: Shape) -> tuple[list[dict[str, Any]], str]:
        batch = make_batch(shape, options.seed, options.dtype)
        measured = run_shape(shape, batch, names, options)
        return measured, f"{shape}\n{shape_table(measured, options.ratio)}"

    results = measure_all(shapes, measure, options, RECORDED)
    print(f"\nTimes as long as ours\n{summary_table(results, options.ratio)}", flush=True)
    return 0 if ours_done(results) else 1


def run_shape(
    shape: Shape, batch: Batch, names: list[str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One record per solver, the accuracy included."""
    keys = ("seed", "dtype", "device", "tolerance", "repeats", "budget")
    task, pythons = ("shape", shape.name), options.peers_python
    results = list(each_peer("worker.py", names, task, keys, options, pythons, {}))
    records = [record for record, _ in results]
    add_accuracy(batch, records, [arrays for _, arrays in results])
    return records


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
