"""Times `solve_cone` and its gradient against other differentiable cone solvers.

Every solver takes the same batches (see `cone_problems.py`), in float64 and to the same tolerance,
and runs each of them in a process of its own.  The table shows seconds to compile (the first call
less the median of the others), the best and median milliseconds of the forward pass and of forward
and adjoint together (in all of A, b and c), the largest relative residual of the optimality
conditions, the error of x against Clarabel (good to about 1e-6), the error of the gradient against central
differences of Clarabel (good to about 1e-4), and how many times as long as ours a peer takes.
OpenBLAS is kept to one thread for all: its own threads get in the way of everyone's.

    python benchmarks/cone_speed.py --output cone_speed.json
    python benchmarks/cone_speed.py --problems portfolio entropy --peers diffcp_clarabel

Solvers that need another environment get its Python with --peers-python: one for all, or
NAME=PATH for one of them (repeat the option).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from cone_accuracy import Reference, residual
from cone_problems import FAMILIES, ConeBatch, Family, find_family, make_batch
from peers import cone
from speed_command import (
    ONE_BLAS_THREAD,
    add_common_options,
    chosen_peers,
    each_peer,
    measure_all,
    ours_done,
    speed_parser,
)
from speed_table import shape_table, summary_table

RECORDED = ("tolerance", "repeats", "budget", "timeout", "seed", "ratio")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = ", ".join(family.name for family in FAMILIES)
    parser = speed_parser(__doc__)
    add = parser.add_argument
    add("--problems", nargs="+", metavar="NAME", help=f"of {names}")
    add("--peers", nargs="+", choices=cone.PEERS, help="which to run (ours always runs)")
    add("--tolerance", type=float, default=1e-9, help="of all solvers (%(default)s)")
    add_common_options(parser, timeout=180.0)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    families = [find_family(name) for name in options.problems] if options.problems else FAMILIES
    names = chosen_peers(options, cone.PEERS)

    def measure(family: Family) -> tuple[list[dict[str, Any]], str]:
        batch = make_batch(family, options.seed)
        measured = run_family(family, batch, names, options)
        m, n = batch.pattern.shape
        title = f"{family.name}: {family.title}, n={n}, m={m}, batch {family.batch}"
        return measured, f"{title}\n{shape_table(measured, options.ratio)}"

    results = measure_all(families, measure, options, RECORDED)
    print(f"\nTimes as long as ours\n{summary_table(results, options.ratio)}", flush=True)
    return 0 if ours_done(results) else 1


def run_family(
    family: Family, batch: ConeBatch, names: list[str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One record per solver, the accuracy included."""
    records = []
    reference = Reference(batch)
    keys = ("seed", "tolerance", "repeats", "budget")
    task, pythons = ("problem", family.name), options.peers_python
    for record, result in each_peer(
        "cone_worker.py", names, task, keys, options, pythons, ONE_BLAS_THREAD
    ):
        if "x" in result:
            record["kkt_residual"] = residual(batch, *(result[key] for key in "xys"))
            record["x_error"] = reference.solution_error(result["x"])
        if "dA" in result:
            gradients = {key: result[f"d{key}"] for key in "Abc"}
            record["gradient_error"] = reference.gradient_error(gradients)
        records.append(record)
    return records


if __name__ == "__main__":
    sys.exit(main())
