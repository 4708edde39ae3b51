"""Times sparse quadratic and cone programs and their gradients against other solvers.

Every solver takes the same batches (see `sparse_problems.py`: one pattern, different numbers), in float64
and to the same tolerance, and runs each of them in a process of its own; ours with static patterns and
traced numbers. The table shows the seconds to prepare (what is done once for a pattern) and to compile (the
first call less the median of the others), the best and median milliseconds of the forward pass and of
forward and backward together (in all numbers), how many times as long as ours a peer takes, the most memory
the process held, the members that were not solved, and the errors of the objective, of x and of the
gradient against a tight reference (see `sparse_accuracy.py`; of the first members).
OpenBLAS is kept to one thread for all: its own threads get in the way of everyone's.

    python benchmarks/sparse_speed.py --peers-python PATH --output sparse_speed.json
    python benchmarks/sparse_speed.py --problems control denoising --peers clarabel moreau_ipm
    python benchmarks/sparse_speed.py --quick
    python benchmarks/sparse_speed.py --scaling

--quick runs tiny problems, on which ours is made to factor by the pattern; --scaling our time, compile time
and memory on growing total variation problems. Any denoising-LENGTH or control-HORIZON is a problem, too.

Solvers that need another environment get its Python with --peers-python: one for all, or
NAME=PATH for one of them (repeat the option).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from peers import sparse
from sparse_accuracy import Reference
from sparse_batch import Batch
from sparse_problems import FAMILIES, Family, find_family, make_batch
from speed_command import (
    ONE_BLAS_THREAD,
    add_common_options,
    chosen_peers,
    each_peer,
    measure_all,
    ours_done,
    shorten_if_quick,
    speed_parser,
)
from speed_table import PASSES, ratio_to_ours, summary_table
from table import number, small, text_table

RECORDED = ("sizes factorization scaling tolerance repeats budget timeout seed ratio peers").split()
SCALING = ("denoising-1000", "denoising-10000", "denoising-100000")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = ", ".join(family.name for family in FAMILIES)
    parser = speed_parser(__doc__)
    add = parser.add_argument
    add("--problems", nargs="+", metavar="NAME", help=f"of {names}")
    add("--peers", nargs="+", choices=sparse.PEERS, help="which to run (ours always runs)")
    add("--quick", action="store_true", help="tiny problems, batches of two, few calls")
    add("--scaling", action="store_true", help="see above; ours alone unless --peers says more")
    add("--factorization", choices=("auto", "sparse"), help="of ours (auto; sparse if --quick)")
    add("--tolerance", type=float, default=1e-9, help="of all solvers (%(default)s)")
    add_common_options(parser, timeout=300.0)
    options = parser.parse_args(arguments)
    shorten_if_quick(options)
    options.factorization = options.factorization or ("sparse" if options.quick else "auto")
    if options.problems is None:
        options.problems = SCALING if options.scaling else [family.name for family in FAMILIES]
    options.peers = chosen_peers(options, [] if options.scaling else sparse.PEERS)
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    families = [find_family(name) for name in options.problems]

    def measure(family: Family) -> tuple[list[dict[str, Any]], str]:
        batch = make_batch(family.shrunk() if options.quick else family, options.seed)
        measured = run_family(family, batch, options)
        title = f"{family.name}: {family.title}, {batch.describe()}"
        table = "" if options.scaling else f"{title}\n{sparse_table(measured, options.ratio)}"
        return measured, table

    results = measure_all(families, measure, options, RECORDED)
    if options.scaling:
        print(f"\n{scaling_table(results)}", flush=True)
    else:
        print(f"\nTimes as long as ours\n{summary_table(results, options.ratio)}", flush=True)
    ours = (record for record in results if record["peer"] == sparse.OURS)
    return 0 if ours_done(results) and not any(map(unsolved, ours)) else 1


def run_family(family: Family, batch: Batch, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One record per solver, the accuracy included."""
    records = []
    reference = Reference(batch)
    keys = ("sizes", "factorization", "seed", "tolerance", "repeats", "budget")
    task, pythons = ("problem", family.name), options.peers_python
    for record, result in each_peer(
        "sparse_worker.py", options.peers, task, keys, options, pythons, ONE_BLAS_THREAD
    ):
        record |= {"n": batch.variables, "entries": batch.entries, "batch": batch.size}
        if "x" in result:
            record |= reference.errors(result.pop("x"))
        if result:
            gradients = {key.removeprefix("d"): value for key, value in result.items()}
            record["gradient_error"] = reference.gradient_error(gradients)
        records.append(record)
    return records


def unsolved(record: dict[str, Any]) -> int:
    """The members that were not solved, by the solver's own word."""
    statuses = record.get("statuses", {})
    return sum(count for status, count in statuses.items() if status != "solved")


def sparse_table(records: list[dict[str, Any]], by: str) -> str:
    """One row per solver."""
    header = ["solver", "prepare s"]
    for name in ("fwd", "fwd+bwd"):
        header += [f"{name} compile s", "best ms", "median", "x ours"]
    header += ["MiB", "iter", "objective err", "x err", "infeasible", "grad err", ""]
    rows = []
    for record in records:
        row = [record["peer"], number(record.get("prepare_s"), 2)]
        for which in PASSES:
            timing = record.get(which)
            if timing is None:
                row += ["-"] * 4
            else:
                row += [number(timing["compile_s"], 2), number(1e3 * timing["best_s"])]
                row.append(number(1e3 * timing["median_s"]))
                row.append(number(ratio_to_ours(record, records, which, by)))
        row += [number(_peak(record)), number(record.get("iterations"))]
        errors = ("objective_error", "x_error", "violation", "gradient_error")
        row += [small(record.get(key)) for key in errors]
        rows.append([*row, _remark(record)])
    return text_table(header, rows)


def scaling_table(records: list[dict[str, Any]]) -> str:
    """One row per size and solver."""
    header = ["problem", "solver", "n", "entries"]
    for name in ("fwd", "fwd+bwd"):
        header += [f"{name} compile s", "run s", "us per entry", "MiB"]
    header += ["iter", "objective err", "grad err", ""]
    rows = []
    for record in records:
        row = [record["shape"], record["peer"], str(record["n"]), str(record["entries"])]
        for which in PASSES:
            timing = record.get(which)
            if timing is None:
                row += ["-"] * 4
            else:
                each = 1e6 * timing["best_s"] / record["entries"] / record["batch"]
                row += [number(timing["compile_s"]), number(timing["best_s"]), number(each)]
                row.append(number(timing["peak_MiB"]))
        row.append(number(record.get("iterations")))
        row += [small(record.get(key)) for key in ("objective_error", "gradient_error")]
        rows.append([*row, _remark(record)])
    return text_table(header, rows)


def _peak(record: dict[str, Any]) -> float | None:
    return max((record[which]["peak_MiB"] for which in PASSES if which in record), default=None)


def _remark(record: dict[str, Any]) -> str:
    if record["outcome"] != "done":
        return f"{record['outcome']} {record.get('error', '')}"[:100]
    failed = {k: v for k, v in record.get("statuses", {}).items() if k != "solved"}
    said = [f"{count} {status}" for status, count in failed.items()]
    return ", ".join([*said, *filter(None, [record.get("unsupported")])])


if __name__ == "__main__":
    sys.exit(main())
