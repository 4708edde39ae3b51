"""Learn the weights of a graph so that its maximum cut, relaxed, finds a hidden partition.

Twelve nodes are split into two halves by a hidden rule. Every edge carries five measurements; some are
larger on edges between the halves, some smaller, some know nothing. The weight of an edge is a linear
function of its measurements, and the answer of the model is the semidefinite relaxation of the maximum
cut (Goemans and Williamson, "Improved approximation algorithms for maximum cut and satisfiability
problems using semidefinite programming", J. ACM 1995):

    X(W) = argmax_X  1/4 sum_ij W_ij (1 - X_ij)   subject to   X_ii = 1,  X positive semidefinite.

What is solved is its dual, `minimize sum(x) subject to diag(x) - L(W) / 4 positive semidefinite`, L being
the Laplacian: twelve variables, and X is the dual variable of the cone, which is differentiated like
everything else. The five coefficients are trained by the mean squared difference of X and the matrix
of the hidden partition; on graphs never seen the sign of X's largest eigenvector is the answer.

    python examples/max_cut.py                    # trains, writes max_cut.png

It must put 97 % of the nodes of the test graphs on their right side.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import trange

import jaxopt_layers as jl

GOAL = 0.97
NODES, MEASUREMENTS = 12, 5
SIGNAL = np.array([0.6, -0.4, 0.25, 0.0, 0.0])  # what an edge across adds to its measurements
INK, FAINT, BLUE, ORANGE, GREEN = "#22262b", "#9aa2ab", "#2b6cb0", "#c05621", "#2f855a"


class Graphs(NamedTuple):
    """Measurements (k, NODES, NODES, MEASUREMENTS), symmetric, and sides +-1 (k, NODES)."""

    measurements: jax.Array
    sides: jax.Array


def generate(graphs: int, rng: np.random.Generator) -> Graphs:
    """Random halves; unit noise on every measurement."""
    halves = np.where(np.arange(NODES) < NODES // 2, 1.0, -1.0)
    sides = np.stack([rng.permutation(halves) for _ in range(graphs)])
    across = -sides[:, :, None] * sides[:, None, :]
    noise = rng.standard_normal((graphs, NODES, NODES, MEASUREMENTS))
    noise = np.triu(noise.transpose(0, 3, 1, 2), 1).transpose(0, 2, 3, 1)
    measurements = across[..., None] * SIGNAL + noise + noise.transpose(0, 2, 1, 3)
    return Graphs(jnp.asarray(measurements), jnp.asarray(sides))


def relaxed_cut(W: jax.Array) -> jl.ConeSolution:
    """The relaxation for weights W (NODES, NODES); `smat(y)` is X, `objective` the bound."""
    W = W * (1 - jnp.eye(NODES))
    laplacian = jnp.diag(jnp.sum(W, axis=1)) - W
    A = -jax.vmap(jl.svec)(jax.vmap(jnp.diag)(jnp.eye(NODES))).T
    return jl.solve_cone(A, -jl.svec(laplacian / 4), jnp.ones(NODES), jl.Cones(psd=(NODES,)))


def answers(theta: jax.Array, measurements: jax.Array) -> tuple[jax.Array, jax.Array]:
    """X of every graph, (k, NODES, NODES), and the status of each program."""
    solution = jax.vmap(relaxed_cut)(measurements @ theta)
    return jl.smat(solution.y), solution.status


def loss_of(theta: jax.Array, graphs: Graphs) -> tuple[jax.Array, jax.Array]:
    X, status = answers(theta, graphs.measurements)
    hidden = graphs.sides[:, :, None] * graphs.sides[:, None, :]
    return jnp.mean((X - hidden) ** 2), jnp.sum(status > jl.Status.ALMOST_SOLVED)


def sides_of(X: np.ndarray) -> np.ndarray:
    """The sign of the largest eigenvector of each X, (k, NODES)."""
    return np.where(np.linalg.eigh(X)[1][..., -1] >= 0, 1.0, -1.0)


def accuracy_of(found: np.ndarray, sides: np.ndarray) -> float:
    """The share of nodes on their right side; a partition has no first half."""
    agree = np.mean(found == sides, axis=1)
    return float(np.mean(np.maximum(agree, 1 - agree)))


def gradient_error(W: jax.Array) -> float:
    """The derivative of the bound in W against its closed form, (1 - X_ij) / 4 for each W_ij."""
    value = jax.jit(jax.value_and_grad(lambda W: relaxed_cut(W).objective))
    X = jl.smat(jax.jit(relaxed_cut)(W).y)
    return float(jnp.max(jnp.abs(value(W)[1] - (1 - X) * (1 - jnp.eye(NODES)) / 4)))


def train(graphs: Graphs, steps: int, learning_rate: float) -> tuple[jax.Array, list[float]]:
    """Adam from coefficients that are all alike; the best answer does not depend on their scale."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, alpha=0.05))

    @jax.jit
    def update(theta: jax.Array, state: optax.OptState) -> tuple:
        (loss, failed), gradient = jax.value_and_grad(loss_of, has_aux=True)(theta, graphs)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(theta, change), state, loss, failed

    theta = jnp.ones(MEASUREMENTS)
    state, losses = optimizer.init(theta), []
    progress = trange(steps, desc="training", unit="step")
    for _ in progress:
        theta, state, loss, failed = update(theta, state)
        losses.append(float(loss))
        progress.set_postfix(loss=f"{loss:.4f}")
        if failed:
            progress.write(f"warning: {failed} programs weren't solved")
    return theta, losses


def draw_cut(axes: Axes, W: np.ndarray, found: np.ndarray, sides: np.ndarray) -> None:
    """The graph with its hidden halves left and right; wrong nodes are drawn in orange."""
    if np.mean(found == sides) < 0.5:
        found = -found
    rank = np.array([np.sum(sides[:i] == sides[i]) for i in range(NODES)])
    x, y = -sides + 0.3 * np.cos(rank * np.pi / 2.5) * sides, rank - (NODES / 2 - 1) / 2
    strongest = np.max(np.abs(W))
    for i in range(NODES):
        for j in range(i):
            if W[i, j] > 0.25 * strongest:
                color = BLUE if found[i] != found[j] else FAINT
                width = 2.5 * W[i, j] / strongest
                axes.plot(x[[i, j]], y[[i, j]], color=color, lw=width, alpha=0.6, zorder=1)
    colors = [GREEN if right else ORANGE for right in found == sides]
    axes.scatter(x, y, s=160, c=colors, edgecolors=INK, zorder=2)
    axes.axis("off")


def save_figure(path: Path, losses: list[float], theta: np.ndarray, graphs: list[tuple]) -> None:
    figure = Figure(figsize=(14, 3.8), layout="constrained")
    first, second, *others = figure.subplots(1, 4)
    first.plot(losses, color=BLUE)
    first.set(xlabel="step", ylabel="mean squared error of X", title="Training loss")
    places = np.arange(MEASUREMENTS)
    signal, learned = (v / np.linalg.norm(v) for v in (SIGNAL, theta))
    second.bar(places - 0.2, signal, 0.4, color=FAINT, label="what it knows")
    second.bar(places + 0.2, learned, 0.4, color=BLUE, label="learned coefficient")
    second.axhline(0, color=INK, lw=0.8)
    second.set(xlabel="measurement", title="Coefficients, normalized")
    second.legend(frameon=False)
    for axes in (first, second):
        axes.spines[["top", "right"]].set_visible(False)
    for axes, (title, W, found, sides) in zip(others, graphs, strict=True):
        draw_cut(axes, W, found, sides)
        axes.set_title(title)
    figure.savefig(path, dpi=140)


def main(argv: Sequence[str] | None = None) -> float:
    """The command line; returns the share of nodes of the test graphs on their right side."""
    return run(arguments(argv))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Learn edge weights through the semidefinite relaxation of the maximum cut.",
        epilog=f"Fails (exit code 1) if fewer than {GOAL:.0%} of the nodes are on their right side.",
    )
    add = parser.add_argument
    add(
        "--output", type=Path, default=Path("max_cut.png"), help="the figure (default: %(default)s)"
    )
    add("--steps", type=int, default=100, help="of Adam (default: %(default)s)")
    add("--learning-rate", type=float, default=0.1, help="at the start (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the graphs (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.learning_rate <= 0:
        parser.error("--steps and --learning-rate must be positive")
    return args


def run(args: argparse.Namespace) -> float:
    """Train, print, draw."""
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return _run(args)


def _run(args: argparse.Namespace) -> float:
    count, steps = (8, min(args.steps, 10)) if args.fast else (32, args.steps)
    rng = np.random.default_rng(args.seed)
    train_set, test_set = generate(count, rng), generate(count if args.fast else 128, rng)
    theta, losses = train(train_set, steps, args.learning_rate)
    sides, shown, accuracies = np.asarray(test_set.sides), [], []
    solve = jax.jit(answers)
    for name, coefficients in (("untrained", jnp.ones(MEASUREMENTS)), ("trained", theta)):
        found = sides_of(np.asarray(solve(coefficients, test_set.measurements)[0]))
        accuracies.append(accuracy_of(found, sides))
        print(f"{name}: {accuracies[-1]:.1%} of the nodes on their right side")
        W = np.asarray(test_set.measurements[0] @ coefficients)
        title = f"A test graph, {name}: {accuracy_of(found[:1], sides[:1]):.0%}"
        shown.append((title, W, found[0], sides[0]))
    error = gradient_error(test_set.measurements[0] @ theta)
    print(f"gradient of the bound against its closed form: largest error {error:.1e}")
    save_figure(args.output, losses, np.asarray(theta), shown)
    print(f"figure: {args.output}")
    return accuracies[-1]


if __name__ == "__main__":
    options = arguments()
    sys.exit(0 if run(options) >= GOAL or options.fast else 1)
