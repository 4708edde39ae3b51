"""Times `CvxpyLayer` and its gradient against the layers of cvxpylayers.

Every layer is made of the same CVXPY problem and takes the same batch of parameters (see
`layer_problems.py`) in float64, each in a process of its own.  cvxpylayers runs with diffcp as it comes
(SCS, or whatever diffcp takes, at its own tolerance), with Clarabel inside diffcp at the common
tolerance, and with Moreau, for PyTorch and for JAX.  The table shows the seconds to construct the layer,
those of the first call (for JAX, the one that compiles) and the best and median milliseconds of later
ones, of the forward pass and of forward and backward together (in all parameters), how many times as
long as ours a peer takes (by --ratio), the error of the variables against CVXPY's own solve (good to
about 1e-6), and the error of the gradient against central differences of our own, at a finer tolerance.
OpenBLAS is kept to one thread for all: its own threads get in the way of everyone's.

    python benchmarks/layer_speed.py --peers-python PATH --output layer_speed.json
    python benchmarks/layer_speed.py --problems optnet geometric --peers jax_diffcp torch_moreau
    python benchmarks/layer_speed.py --quick

Layers that need another environment get its Python with --peers-python: one for all, or
NAME=PATH for one of them (repeat the option).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from layer_accuracy import LayerReference, gradient_error
from layer_problems import FAMILIES, Family, LayerBatch, find_family, make_batch
from peers import layer
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

RECORDED = ("sizes", "tolerance", "repeats", "budget", "timeout", "seed", "ratio")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = ", ".join(family.name for family in FAMILIES)
    parser = speed_parser(__doc__)
    add = parser.add_argument
    add("--problems", nargs="+", metavar="NAME", help=f"of {names}")
    add("--peers", nargs="+", choices=layer.PEERS, help="which to run (ours always runs)")
    add("--quick", action="store_true", help="tiny problems, batches of two, few calls")
    add("--tolerance", type=float, default=1e-9, help="of all that take one (%(default)s)")
    add_common_options(parser, timeout=300.0)
    options = parser.parse_args(arguments)
    shorten_if_quick(options)
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    families = [find_family(name) for name in options.problems] if options.problems else FAMILIES
    names = chosen_peers(options, layer.PEERS)

    def measure(family: Family) -> tuple[list[dict[str, Any]], str]:
        batch = make_batch(family, options.seed, options.quick)
        measured = run_family(family, batch, names, options)
        sizes = ", ".join(f"{key} {value}" for key, value in family.quick.items())
        title = f"{family.title}{f' (quick: {sizes})' if options.quick else ''}"
        title = f"{family.name}: {title}, batch {batch.size}"
        return measured, f"{title}\n{layer_table(measured, options.ratio)}"

    results = measure_all(families, measure, options, RECORDED)
    print(f"\nTimes as long as ours\n{summary_table(results, options.ratio)}", flush=True)
    return 0 if ours_done(results) else 1


def run_family(
    family: Family, batch: LayerBatch, names: list[str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One record per layer, the accuracy included."""
    records, wanted = [], None
    reference = LayerReference(batch)
    keys = ("sizes", "seed", "tolerance", "repeats", "budget")
    task, pythons = ("problem", family.name), options.peers_python
    for record, result in each_peer(
        "layer_worker.py", names, task, keys, options, pythons, ONE_BLAS_THREAD
    ):
        if "x0" in result:
            variables = [result[f"x{i}"] for i in range(len(batch.cotangents))]
            record["x_error"] = reference.solution_error(variables)
        wanted = result.get("slopes", wanted)  # ours comes first
        if "d0" in result and wanted is not None:
            gradients = [result[f"d{i}"] for i in range(len(batch.values))]
            record["gradient_error"] = gradient_error(batch, gradients, wanted)
        records.append(record)
    return records


def layer_table(records: list[dict[str, Any]], by: str) -> str:
    """One row per layer."""
    header = ["layer", "construct s"]
    header += ["fwd first s", "later best ms", "median", "x ours"]
    header += ["fwd+bwd first s", "later best ms", "median", "x ours", "x err", "grad err", ""]
    rows = []
    for record in records:
        row = [record["peer"], number(record.get("construct_s"))]
        for which in PASSES:
            timing = record.get(which)
            if timing is None:
                row += ["-"] * 4
            else:
                row += [number(timing["first_s"]), number(1e3 * timing["best_s"])]
                row.append(number(1e3 * timing["median_s"]))
                row.append(number(ratio_to_ours(record, records, which, by)))
        row += [small(record.get(key)) for key in ("x_error", "gradient_error")]
        done = record["outcome"] == "done"
        remark = f"{record['outcome']} {record.get('error', '')}"
        row.append(record.get("unsupported", "") if done else remark[:100])
        rows.append(row)
    return text_table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
