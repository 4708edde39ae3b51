"""Tune one ridge weight for every feature, by the gradient of the validation error.

Ridge regression has a weight that is usually found by trying a grid of values. With one for each of 40
features there is no grid: 30 values each would be 30^40 fits. But the fit,

    w(lam) = argmin_w 1/2 mean_i (x_i'w - y_i)^2 + 1/2 sum_j lam_j w_j^2,

is an `argmin` whose derivative follows from its optimality condition (Gould et al., "On differentiating
parameterized argmin and argmax problems", 2016): H dw = -w o dlam, with the Hessian H = X'X / n + diag(lam).
So does the gradient of the error on points left out (Bengio, "Gradient-based optimization of
hyperparameters", Neural Computation 2000). Five fits leave out a fifth of the points each; the mean of
their errors is descended in log(lam), from the best single weight of the grid.

    python examples/hyperparameters.py       # tunes, writes hyperparameters.png

Only 8 of the 40 features matter; the gradient has to find out which. Over five data sets of 100 points, the
error on fresh data, in excess of the noise, must be at most 0.7 times that of the best single weight.
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
from matplotlib.figure import Figure
from tqdm import trange

import jaxopt_layers as jl

POINTS, FEATURES, RELEVANT, FOLDS = 100, 40, 8, 5
GRID = np.linspace(-7, 2, 30)  # of log(lam)
TO_GRID = 0.7
INK, FAINT, BLUE, ORANGE = "#22262b", "#9aa2ab", "#2b6cb0", "#c05621"


class Data(NamedTuple):
    """X (POINTS, FEATURES), y (POINTS,), and the truth: y = X w + noise of unit variance."""

    X: np.ndarray
    y: np.ndarray
    truth: np.ndarray


class Folds(NamedTuple):
    """The points kept and those left out by each of FOLDS fits, on the first axis."""

    X: np.ndarray
    y: np.ndarray
    X_out: np.ndarray
    y_out: np.ndarray


def draw(rng: np.random.Generator) -> Data:
    truth = np.zeros(FEATURES)
    truth[rng.choice(FEATURES, RELEVANT, replace=False)] = rng.standard_normal(RELEVANT)
    X = rng.standard_normal((POINTS, FEATURES))
    return Data(X, X @ truth + rng.standard_normal(POINTS), truth)


def split(data: Data, rng: np.random.Generator) -> Folds:
    out = rng.permutation(POINTS).reshape(FOLDS, -1)
    kept = np.stack([np.setdiff1d(np.arange(POINTS), fold) for fold in out])
    return Folds(data.X[kept], data.y[kept], data.X[out], data.y[out])


def ridge(w: jax.Array, X: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
    return 0.5 * jnp.mean((X @ w - y) ** 2) + 0.5 * jnp.sum(weights * w**2)


def validation_error(log_weights: jax.Array, folds: Folds) -> tuple[jax.Array, jax.Array]:
    """Mean squared error on the points left out, and how many fits failed."""

    def fit(X: jax.Array, y: jax.Array, X_out: jax.Array, y_out: jax.Array) -> tuple:
        found = jl.argmin(ridge, jnp.zeros(FEATURES), X, y, jnp.exp(log_weights))
        return jnp.mean((X_out @ found.x - y_out) ** 2), found.status != jl.Status.SOLVED

    errors, failed = jax.vmap(fit)(*map(jnp.asarray, folds))
    return jnp.mean(errors), jnp.sum(failed)


# The one program that is compiled: the grid search uses its value, the descent its gradient as well.
error_and_gradient = jax.jit(jax.value_and_grad(validation_error, has_aux=True))


class Search(NamedTuple):
    """Validation errors in order, and the log weights (FEATURES,) in the end."""

    errors: list[float]
    log_weights: np.ndarray


def search_grid(folds: Folds) -> Search:
    """One weight for all features."""
    errors = [float(error_and_gradient(np.full(FEATURES, g), folds)[0][0]) for g in GRID]
    return Search(errors, np.full(FEATURES, GRID[np.argmin(errors)]))


def descend(start: np.ndarray, folds: Folds, steps: int, learning_rate: float, name: str) -> Search:
    """Adam on the logarithms, a weight for each feature."""
    optimizer = optax.adam(learning_rate)

    @jax.jit
    def update(log_weights: jax.Array, state: optax.OptState, gradient: jax.Array) -> tuple:
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(log_weights, change), state

    log_weights = jnp.asarray(start)
    state, errors = optimizer.init(log_weights), []
    progress = trange(steps, desc=name, unit="step")
    for _ in progress:
        (error, failed), gradient = error_and_gradient(log_weights, folds)
        log_weights, state = update(log_weights, state, gradient)
        errors.append(float(error))
        progress.set_postfix(error=f"{error:.3f}")
        if failed:
            progress.write(f"warning: {failed} fits failed")
    return Search(errors, np.asarray(log_weights))


def excess(data: Data, log_weights: np.ndarray) -> float:
    """The expected squared error on fresh data, above the noise's, of a fit on all points.

    Fresh x are standard normal, so it is the squared distance of the coefficients from the truth."""
    hessian = data.X.T @ data.X / POINTS + np.diag(np.exp(log_weights))
    found = np.linalg.solve(hessian, data.X.T @ data.y / POINTS)
    return float(np.sum((found - data.truth) ** 2))


def excess_of_known(data: Data) -> float:
    """The same for least squares on the features that matter."""
    matters = data.truth != 0
    found = np.linalg.lstsq(data.X[:, matters], data.y, rcond=None)[0]
    return float(np.sum((found - data.truth[matters]) ** 2))


class Result(NamedTuple):
    """One data set: both searches, and the excess errors by name."""

    data: Data
    grid: Search
    descent: Search
    excess: dict[str, float]


def compare(rng: np.random.Generator, steps: int, learning_rate: float, name: str) -> Result:
    data = draw(rng)
    folds = split(data, rng)
    grid = search_grid(folds)
    descent = descend(grid.log_weights, folds, steps, learning_rate, name)
    errors = {
        "one weight, grid": excess(data, grid.log_weights),
        "a weight each, gradient": excess(data, descent.log_weights),
        "features known": excess_of_known(data),
    }
    return Result(data, grid, descent, errors)


def save_figure(path: Path, results: list[Result], means: dict[str, float]) -> None:
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    for result in results:
        first.plot(result.descent.errors, color=BLUE, lw=1)
    first.set(xlabel="step", title="Validation error, each data set", ylim=(0, None))
    for matters, color, name in ((False, FAINT, "irrelevant"), (True, BLUE, "relevant")):
        chosen = [(result.data.truth != 0) == matters for result in results]
        pairs = list(zip(results, chosen, strict=True))
        sizes = np.concatenate([np.abs(result.data.truth[c]) for result, c in pairs])
        weights = np.concatenate([np.exp(result.descent.log_weights[c]) for result, c in pairs])
        second.plot(sizes, weights, "o", color=color, alpha=0.6, ms=4, label=name)
    second.set(yscale="log", xlabel="size of the true coefficient", title="Learned ridge weights")
    second.legend(frameon=False)
    bars = third.barh(list(means), list(means.values()), color=(ORANGE, BLUE, INK))
    third.bar_label(bars, fmt="%.3f", padding=3)
    third.invert_yaxis()
    third.set(title="Error above the noise, fresh data", xlim=(0, 1.2 * max(means.values())))
    for axes in (first, second, third):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if the tuned weights are good enough."""
    parser = argparse.ArgumentParser(
        description="Tune a ridge weight for every feature by the gradient of the validation error.",
        epilog=f"Fails (exit code 1) above {TO_GRID} times the excess error of the best single weight.",
    )
    add = parser.add_argument
    default = Path("hyperparameters.png")
    add("--output", type=Path, default=default, help="the figure (default: %(default)s)")
    add("--steps", type=int, default=100, help="of Adam (default: %(default)s)")
    add("--learning-rate", type=float, default=0.1, help="(default: %(default)s)")
    add("--seed", type=int, default=0, help="of the data (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.learning_rate <= 0:
        parser.error("--steps and --learning-rate must be positive")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return run(args)


def run(args: argparse.Namespace) -> int:
    sets, steps = (2, min(args.steps, 20)) if args.fast else (5, args.steps)
    rng = np.random.default_rng(args.seed)
    results = [compare(rng, steps, args.learning_rate, f"data set {i + 1}") for i in range(sets)]
    means = {
        name: float(np.mean([result.excess[name] for result in results]))
        for name in results[0].excess
    }
    for name, error in means.items():
        print(f"{name:<26}{error:8.4f}")
    ratio = means["a weight each, gradient"] / means["one weight, grid"]
    good = ratio <= (1.0 if args.fast else TO_GRID)
    print(f"{ratio:.3f} times the best single weight   {'ok' if good else 'FAILED'}")
    save_figure(args.output, results, means)
    print(f"figure: {args.output}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
