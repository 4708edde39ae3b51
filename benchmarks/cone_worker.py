"""One solver on one batch of cone programs, in a process of its own; `cone_speed.py` starts it.

What is known is written after each stage, so that a process that is killed leaves what it had.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from cone_problems import find_family, make_batch
from measure import time_calls
from peer_process import WorkerFiles
from peers import cone
from peers.interface import Unsupported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, choices=cone.PEERS)
    parser.add_argument("--problem", required=True)
    parser.add_argument("--result", type=Path, required=True, help="path without a suffix")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tolerance", type=float, default=1e-9)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=1.5)
    arguments = parser.parse_args()
    files = WorkerFiles(arguments.peer, arguments.problem, arguments.result)
    record, arrays, save = files.record, files.arrays, files.save
    save("import")
    entry = cone.PEERS[arguments.peer]
    try:
        runner_class = cone.load(arguments.peer)
    except ImportError as error:
        record["error"] = f"not installed: {error}"
        save("import")
        return
    files.add_versions(entry.distributions)
    save("prepare")

    batch = make_batch(find_family(arguments.problem), arguments.seed)
    try:
        start = time.perf_counter()
        runner = runner_class(batch, arguments.tolerance, **entry.settings)
        record["prepare_s"] = time.perf_counter() - start
        save("forward")
        timing, result = time_calls(runner.forward, arguments.repeats, arguments.budget)
        record["forward"] = timing.record()
        record["iterations"] = runner.iterations(result)
        arrays.update(zip("xys", runner.solution(result), strict=True))
        save("backward")
        timing, result = time_calls(runner.forward_backward, arguments.repeats, arguments.budget)
        record["forward_backward"] = timing.record()
        arrays.update({f"d{name}": value for name, value in runner.gradients(result).items()})
    except Unsupported as error:
        record["unsupported"] = str(error)
    save("done")


if __name__ == "__main__":
    main()
