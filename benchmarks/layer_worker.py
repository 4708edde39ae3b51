"""One CVXPY layer on one batch of parameters, in a process of its own; `layer_speed.py` starts it.

What is known is written after each stage, so that a process that is killed leaves what it had.
"""

from __future__ import annotations

from layer_accuracy import FINE, slopes
from layer_problems import find_family, make_batch
from peers import layer
from worker_command import Work, run_stages, worker_parser


def main() -> None:
    parser = worker_parser(__doc__, layer.PEERS)
    parser.add_argument("--sizes", choices=("full", "quick"), default="full")
    arguments = parser.parse_args()

    def measure(work: Work) -> None:
        family = find_family(arguments.problem)
        batch = make_batch(family, arguments.seed, arguments.sizes == "quick")
        settings = work.entry.settings
        runner = work.runner_class(batch, arguments.tolerance, **settings)
        work.prepare("construct", runner.construct)
        result = work.forward(runner.forward)
        work.arrays.update({f"x{i}": v for i, v in enumerate(runner.solution(result))})
        result = work.forward_backward(runner.forward_backward)
        work.arrays.update({f"d{i}": v for i, v in enumerate(runner.gradients(result))})
        if arguments.peer == layer.OURS:
            work.files.save("differences")
            fine = work.runner_class(batch, FINE, **settings)
            fine.construct()
            work.arrays["slopes"] = slopes(fine, batch)

    run_stages(arguments, arguments.problem, layer, measure, first="construct")


if __name__ == "__main__":
    main()
