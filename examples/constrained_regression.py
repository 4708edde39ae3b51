"""Fit curves of a known shape, learn how far to trust each laboratory, and see what each reading does.

The response to a dose is known to grow, and to grow ever more slowly. Readings y at n doses come from
four laboratories, some much less exact than others; nobody has measured by how much. The fit is the
least-squares problem with those constraints (Hildreth, "Point estimates of ordinates of concave
functions", J. Am. Stat. Assoc. 1954), written as a `convex_layer`,

    x(p, w) = argmin_x  sum_i p_i (x_i - y_i)^2 + w |diff(diff(x))|^2
              subject to  diff(x) >= 0,   diff(diff(x)) <= bend,

where p_i is the precision (one over the variance) of the laboratory that made reading i, and bend = 0.
The four precisions and the smoothness w are learned by gradient from the readings alone: each curve is
fitted four times, each time without a quarter of its readings, which are then predicted; the loss is
their negative log-likelihood. It makes p one over the variance of what is predicted, that of the reading
and of the fit together, so the most exact laboratory seems somewhat less exact than it is. Other curves
are then fitted with what was learned, and compared with the truth.

    python examples/constrained_regression.py       # learns, writes constrained_regression.png

There the mean squared error must come within 30 % of that with the true precisions (which are not told
to it), and be at most 0.4 times that with one precision for all, each with the smoothness that is best
for it on those very curves.

The layer is checked against a closed form. With bend large and w = 0 only the growth is left, and the
problem is isotonic regression: pooling adjacent violators (Ayer et al., Ann. Math. Stat. 1955) solves
it by averages over blocks, so dx_i / dy_j is p_j over the block's sum where i and j share a block, and 0
elsewhere. The trace of that Jacobian is the number of blocks, the fit's degrees of freedom (Meyer and
Woodroofe, "On the degrees of freedom in shape-restricted regression", Ann. Stat. 2000).
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
from constrained_regression_plot import Shown, save_figure
from tqdm import trange

import jaxopt_layers as jl

DOSES, FOLDS = 24, 4
NOISE = np.array([0.05, 0.1, 0.25, 0.5])  # standard deviation of each laboratory's readings
TO_BEST, TO_ALIKE, TO_CLOSED_FORM = 1.3, 0.4, 1e-5
NO_LIMIT = 100.0  # a bend that no curve here reaches


class Curves(NamedTuple):
    """Of k curves: readings, who made them, in which fold they are left out, the truth: (k, DOSES)."""

    y: jax.Array
    laboratory: jax.Array
    fold: jax.Array
    truth: jax.Array


class Learned(NamedTuple):
    """Logarithms of the laboratories' precisions (4,) and of the smoothness ()."""

    precision: jax.Array
    smoothness: jax.Array


def generate(curves: int, rng: np.random.Generator) -> Curves:
    """Saturating curves of random height and steepness, read by a random laboratory at each dose."""
    dose = np.linspace(0, 1, DOSES)
    height, steepness = rng.uniform(1, 2, (curves, 1)), rng.uniform(1, 6, (curves, 1))
    truth = height * (1 - np.exp(-steepness * dose))
    laboratory = rng.integers(len(NOISE), size=truth.shape)
    y = truth + NOISE[laboratory] * rng.standard_normal(truth.shape)
    fold = rng.permuted(np.tile(np.arange(DOSES) % FOLDS, (curves, 1)), axis=1)
    return Curves(*map(jnp.asarray, (y, laboratory, fold, truth)))


def growing_ever_more_slowly(x, y, precision, smoothness, bend):
    squares = jnp.sum(jl.nonneg(precision) * jnp.square(x - y))
    rough = jl.nonneg(smoothness) * jl.sum_squares(jnp.diff(x, 2))
    return jl.minimize(squares + rough, subject_to=[jnp.diff(x) >= 0, jnp.diff(x, 2) <= bend])


layer = jl.convex_layer(growing_ever_more_slowly, x=(DOSES,))


class Fits(NamedTuple):
    """The curves fitted to all their readings (k, DOSES), and how many programs weren't solved."""

    x: jax.Array
    failed: jax.Array


def surprise(learned: Learned, curves: Curves) -> tuple[jax.Array, Fits]:
    """The negative log-likelihood of a left-out reading; fold number FOLDS leaves none out."""
    precision = jnp.exp(learned.precision)[curves.laboratory]
    smoothness = jnp.exp(learned.smoothness)

    def fit(y: jax.Array, given: jax.Array) -> tuple[jax.Array, jax.Array]:
        solution = layer(y=y, precision=given, smoothness=smoothness, bend=jnp.zeros_like(y[0]))
        return solution.variables["x"], solution.status

    def without(fold: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        left_out = curves.fold == fold
        x, status = jax.vmap(fit)(curves.y, jnp.where(left_out, 0, precision))
        each = 0.5 * (precision * (x - curves.y) ** 2 - jnp.log(precision))
        return jnp.sum(jnp.where(left_out, each, 0)), x, status

    losses, x, status = jax.vmap(without)(jnp.arange(FOLDS + 1))
    return jnp.sum(losses) / curves.y.size, Fits(x[-1], jnp.sum(status != jl.Status.SOLVED))


# The only program to compile for learning and for testing: both have as many curves.
surprise_and_gradient = jax.jit(jax.value_and_grad(surprise, has_aux=True))


def fitted(learned: Learned, curves: Curves) -> np.ndarray:
    return np.asarray(surprise_and_gradient(learned, curves)[0][1].x)


def learned_from(precision: np.ndarray, smoothness: float) -> Learned:
    return Learned(jnp.asarray(np.log(precision)), jnp.asarray(np.log(np.float64(smoothness))))


class History(NamedTuple):
    losses: list[float]
    learned: list[Learned]  # after each step, the start first


def learn(curves: Curves, steps: int, learning_rate: float) -> History:
    """Adam on the logarithms, from one precision for all laboratories."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, alpha=0.05))
    learned = learned_from(np.full(len(NOISE), 10.0), 10.0)
    update, state = jax.jit(optimizer.update), optimizer.init(learned)  # pyright: ignore[reportArgumentType]
    history = History([], [learned])
    progress = trange(steps, desc="learning the laboratories' precisions", unit="step")
    for _ in progress:
        (loss, fits), gradient = surprise_and_gradient(learned, curves)
        change, state = update(gradient, state)
        learned = optax.apply_updates(learned, change)
        history.losses.append(float(loss))
        history.learned.append(learned)  # pyright: ignore[reportArgumentType]
        progress.set_postfix(loss=f"{loss:.4f}")
        if fits.failed:
            progress.write(f"warning: {fits.failed} programs weren't solved")
    return history


def errors_of(learned: Learned, test: Curves, smoothnesses: Sequence[float]) -> dict[str, float]:
    """Mean squared distances to the truth of curves never seen."""

    def error(learned: Learned) -> float:
        return float(np.mean((fitted(learned, test) - np.asarray(test.truth)) ** 2))

    def best(precision: np.ndarray) -> float:
        return min(error(learned_from(precision, smoothness)) for smoothness in smoothnesses)

    return {
        "readings": float(jnp.mean((test.y - test.truth) ** 2)),
        "all alike": best(np.full(len(NOISE), 10.0)),
        "learned": error(learned),
        "precisions known": best(NOISE**-2.0),
    }


@jax.jit
def sensitivity(y: jax.Array, precision: jax.Array, smoothness: jax.Array, bend: jax.Array):
    """The curve x and its Jacobian: entry (i, j) is what the reading at dose j does to x_i."""

    def fit(y: jax.Array) -> jax.Array:
        return layer(y=y, precision=precision, smoothness=smoothness, bend=bend).variables["x"]

    x, pull = jax.vjp(fit, y)
    return x, jax.vmap(pull)(jnp.eye(DOSES, dtype=y.dtype))[0]


def pooled(y: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Isotonic regression and its Jacobian, by pooling adjacent violators."""
    blocks: list[list[int]] = []
    averages: list[float] = []
    for i in range(len(y)):
        block = [i]
        average = float(y[i])
        while averages and averages[-1] >= average:
            averages.pop()
            block = blocks.pop() + block
            average = float(np.average(y[block], weights=precision[block]))
        blocks.append(block)
        averages.append(average)
    x, jacobian = np.zeros(len(y)), np.zeros((len(y), len(y)))
    for block, average in zip(blocks, averages, strict=True):
        x[block] = average
        jacobian[np.ix_(block, block)] = precision[block] / precision[block].sum()
    return x, jacobian


def distance_to_closed_form(curves: Curves, count: int = 4) -> float:
    """The largest difference to the pooled fits of a few curves, in values and Jacobians."""
    largest, no_smoothing, no_bend = 0.0, jnp.zeros_like(curves.y[0, 0]), jnp.asarray(NO_LIMIT)
    for k in range(count):
        precision = NOISE[np.asarray(curves.laboratory[k])] ** -2
        found = sensitivity(curves.y[k], jnp.asarray(precision), no_smoothing, no_bend)
        for ours, exact in zip(found, pooled(np.asarray(curves.y[k]), precision), strict=True):
            largest = max(largest, float(np.abs(np.asarray(ours) - exact).max()))
    return largest


def shown(history: History, curves: Curves) -> Shown:
    """The first curve, fitted as at the start and as learned."""
    learned = history.learned[-1]
    laboratory = np.asarray(curves.laboratory[0])
    given, smoothness = jnp.exp(learned.precision)[laboratory], jnp.exp(learned.smoothness)
    x, jacobian = sensitivity(curves.y[0], given, smoothness, jnp.zeros_like(smoothness))
    return Shown(
        y=np.asarray(curves.y[0]),
        laboratory=laboratory,
        truth=np.asarray(curves.truth[0]),
        before=fitted(history.learned[0], curves)[0],
        learned=np.asarray(x),
        jacobian=np.asarray(jacobian),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if the layer is exact and what it learned is good enough."""
    parser = argparse.ArgumentParser(
        description="Learn the weights of a regression with constraints by gradient.",
        epilog=f"Fails (exit code 1) above {TO_BEST} times the error of the true precisions, or"
        f" {TO_ALIKE} times that of one for all, or {TO_CLOSED_FORM:g} off the closed form.",
    )
    add = parser.add_argument
    default = Path("constrained_regression.png")
    add("--output", type=Path, default=default, help="the figure (default: %(default)s)")
    add("--steps", type=int, default=60, help="of Adam (default: %(default)s)")
    add("--learning-rate", type=float, default=0.2, help="at the start (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the data (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.learning_rate <= 0:
        parser.error("--steps and --learning-rate must be positive")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return run(args)


def run(args: argparse.Namespace) -> int:
    curves, steps = (8, min(args.steps, 15)) if args.fast else (24, args.steps)
    rng = np.random.default_rng(args.seed)
    train, test = generate(curves, rng), generate(curves, rng)
    distance = distance_to_closed_form(test)
    exact = distance <= TO_CLOSED_FORM
    print(f"isotonic regression, values and Jacobians: {distance:.1e} off {_verdict(exact)}")
    history = learn(train, steps, args.learning_rate)
    smoothnesses = (10.0, 1e3) if args.fast else tuple(10.0 ** np.arange(-1, 7))
    errors = errors_of(history.learned[-1], test, smoothnesses)
    for name, error in errors.items():
        print(f"{name:<20}{error:8.5f}")
    to_best = errors["learned"] / errors["precisions known"]
    to_alike = errors["learned"] / errors["all alike"]
    good = to_alike < 1 if args.fast else to_best <= TO_BEST and to_alike <= TO_ALIKE
    print(
        f"{to_best:.3f} times the error of the true precisions,"
        f" {to_alike:.3f} times that of one for all   {_verdict(good)}"
    )
    deviations = np.exp(-0.5 * np.stack([np.asarray(each.precision) for each in history.learned]))
    save_figure(args.output, shown(history, test), deviations, NOISE, errors)
    print(f"figure: {args.output}")
    return 0 if exact and good else 1


def _verdict(good: bool) -> str:
    return "ok" if good else "FAILED"


if __name__ == "__main__":
    sys.exit(main())
