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
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
from layer_accuracy import LayerReference, gradient_error
from layer_problems import FAMILIES, Family, LayerBatch, find_family, make_batch
from peer_process import python_for, run_worker
from peers import layer
from speed_table import PASSES, ratio_to_ours, summary_table
from table import number, small, text_table

RECORDED = ("sizes", "tolerance", "repeats", "budget", "timeout", "seed", "ratio")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = ", ".join(family.name for family in FAMILIES)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--problems", nargs="+", metavar="NAME", help=f"of {names}")
    add("--peers", nargs="+", choices=layer.PEERS, help="which to run (ours always runs)")
    add("--peers-python", action="append", default=[], metavar="[NAME=]PATH", help="see above")
    add("--quick", action="store_true", help="tiny problems, batches of two, few calls")
    add("--tolerance", type=float, default=1e-9, help="of all that take one (%(default)s)")
    add("--repeats", type=int, default=5, help="of each call at least (%(default)s)")
    add("--budget", type=float, default=1.5, help="seconds per timing at least (%(default)s)")
    add("--ratio", choices=("median", "best"), default="median", help="best on a busy machine")
    add("--timeout", type=float, default=300.0, help="seconds per process (%(default)s)")
    add("--seed", type=int, default=0)
    add("--output", type=Path, metavar="FILE", help="write all figures as JSON")
    options = parser.parse_args(arguments)
    options.sizes = "quick" if options.quick else "full"
    if options.quick:
        options.repeats, options.budget = min(options.repeats, 2), 0.0
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    families = [find_family(name) for name in options.problems] if options.problems else FAMILIES
    chosen = options.peers or list(layer.PEERS)
    names = [layer.OURS, *(name for name in chosen if name != layer.OURS)]
    results: list[dict[str, Any]] = []
    report = {
        "machine": machine.describe(),
        "settings": {key: getattr(options, key) for key in RECORDED},
        "results": results,
    }
    for family in families:
        batch = make_batch(family, options.seed, options.quick)
        measured = run_family(family, batch, names, options)
        results.extend(measured)
        sizes = ", ".join(f"{key} {value}" for key, value in family.quick.items())
        title = f"{family.title}{f' (quick: {sizes})' if options.quick else ''}"
        table = layer_table(measured, options.ratio)
        print(f"\n{family.name}: {title}, batch {batch.size}\n{table}", flush=True)
        if options.output:  # after every problem, so that an interrupted run leaves something
            options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nTimes as long as ours\n{summary_table(results, options.ratio)}", flush=True)
    ours = [record for record in results if record["peer"] == layer.OURS]
    return 0 if ours and all("forward_backward" in record for record in ours) else 1


def run_family(
    family: Family, batch: LayerBatch, names: list[str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One record per layer, the accuracy included."""
    records, wanted = [], None
    reference = LayerReference(batch)
    with tempfile.TemporaryDirectory() as folder:
        for count, name in enumerate(names, start=1):
            start = time.monotonic()
            record, result = run_peer(name, family, Path(folder), options)
            seconds = time.monotonic() - start
            progress = f"{family.name}: {name} ({count}/{len(names)}) {record['outcome']}"
            print(f"{progress}, {seconds:.1f} s", file=sys.stderr, flush=True)
            if "x0" in result:
                variables = [result[f"x{i}"] for i in range(len(batch.cotangents))]
                record["x_error"] = reference.solution_error(variables)
            wanted = result.get("slopes", wanted)  # ours comes first
            if "d0" in result and wanted is not None:
                gradients = [result[f"d{i}"] for i in range(len(batch.values))]
                record["gradient_error"] = gradient_error(batch, gradients, wanted)
            records.append(record)
    return records


def run_peer(
    name: str, family: Family, folder: Path, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the worker left behind, however it ended."""
    keys = ("sizes", "seed", "tolerance", "repeats", "budget")
    return run_worker(
        "layer_worker.py",
        name,
        ("problem", family.name),
        [(key, getattr(options, key)) for key in keys],
        folder,
        python_for(name, options.peers_python),
        options.timeout,
        {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"},
    )


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
