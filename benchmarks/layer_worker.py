"""One CVXPY layer on one batch of parameters, in a process of its own; `layer_speed.py` starts it.

What is known is written after each stage, so that a process that is killed leaves what it had.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from layer_accuracy import FINE, slopes
from layer_problems import find_family, make_batch
from measure import time_calls
from peer_process import WorkerFiles
from peers import layer
from peers.interface import Unsupported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, choices=layer.PEERS)
    parser.add_argument("--problem", required=True)
    parser.add_argument("--result", type=Path, required=True, help="path without a suffix")
    parser.add_argument("--sizes", choices=("full", "quick"), default="full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tolerance", type=float, default=1e-9)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=1.5)
    arguments = parser.parse_args()
    files = WorkerFiles(arguments.peer, arguments.problem, arguments.result)
    record, arrays, save = files.record, files.arrays, files.save
    save("import")
    entry = layer.PEERS[arguments.peer]
    try:
        runner_class = layer.load(arguments.peer)
    except ImportError as error:
        record["error"] = f"not installed: {error}"
        save("import")
        return
    files.add_versions(entry.distributions)
    save("construct")

    family = find_family(arguments.problem)
    batch = make_batch(family, arguments.seed, arguments.sizes == "quick")
    try:
        runner = runner_class(batch, arguments.tolerance, **entry.settings)
        start = time.perf_counter()
        runner.construct()
        record["construct_s"] = time.perf_counter() - start
        save("forward")
        timing, result = time_calls(runner.forward, arguments.repeats, arguments.budget)
        record["forward"] = timing.record()
        arrays |= {f"x{i}": value for i, value in enumerate(runner.solution(result))}
        save("backward")
        timing, result = time_calls(runner.forward_backward, arguments.repeats, arguments.budget)
        record["forward_backward"] = timing.record()
        arrays |= {f"d{i}": value for i, value in enumerate(runner.gradients(result))}
        if arguments.peer == layer.OURS:
            save("differences")
            fine = runner_class(batch, FINE, **entry.settings)
            fine.construct()
            arrays["slopes"] = slopes(fine, batch)
    except Unsupported as error:
        record["unsupported"] = str(error)
    save("done")


if __name__ == "__main__":
    main()
