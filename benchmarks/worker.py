"""One solver on one shape, in a process of its own; `qp_speed.py` starts it.

A process of its own because the solvers' thread pools clash, because one of them may lock up or
crash, and because they may live in different environments.  What is known is written after
each stage, so that a process that is killed leaves what it had.
"""

from __future__ import annotations

import peers
from problems import find_shape, make_batch
from worker_command import Work, run_stages, worker_parser


def main() -> None:
    parser = worker_parser(__doc__, peers.PEERS, "shape")
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    def measure(work: Work) -> None:
        batch = make_batch(find_shape(arguments.shape), arguments.seed, arguments.dtype)
        options = peers.Options(arguments.tolerance, arguments.dtype, arguments.device)
        settings = work.entry.settings
        runner = work.prepare("prepare", lambda: work.runner_class(batch, options, **settings))
        result = work.forward(runner.forward)
        work.record["iterations"] = runner.iterations(result)
        work.arrays["x"] = runner.solution(result)
        result = work.forward_backward(runner.forward_backward)
        work.arrays.update({f"d{name}": v for name, v in runner.gradients(result).items()})

    run_stages(arguments, arguments.shape, peers, measure)


if __name__ == "__main__":
    main()
