"""Poison a classifier: move its training points a little, so that it fails on other data the most.

Logistic regression is trained on points x_i in the plane with labels y_i = +-1,

    w, b = argmin_{w, b} mean_i log(1 + exp(-y_i (w'x_i + b))) + 0.05 |w|^2,

a program with two exponential cones a point, written here as a `convex_layer`. An adversary may shift every
training point by at most 0.25 in each coordinate, and wants the trained classifier's loss on test points to
be as large as possible. The gradient of that loss in the training points goes through the training (Agrawal,
Amos, Barratt, Boyd, Diamond, Kolter, "Differentiable convex optimization layers", NeurIPS 2019, section 6).
The attack is ascent by the signs of the gradient, clipped to the bound:

    X <- clip(X + step sign(dL/dX), X_0 - 0.25, X_0 + 0.25).

    python examples/data_poisoning.py       # attacks, writes data_poisoning.png

The test loss must rise by more than 3 times as much as under the worst of 100 random shifts of the same size
(by +0.25 or -0.25 in every coordinate). In high dimension a random direction has little of any given
one, so what noise of that size does to a model says little about what an adversary could do.
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
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm, trange

import jaxopt_layers as jl

CENTER = np.array([0.8, 0.5])  # of the points labelled 1; the others have the opposite one
BOUND, WEIGHT = 0.25, 0.05
RATIO = 3.0
INK, FAINT, BLUE, ORANGE = "#22262b", "#9aa2ab", "#2b6cb0", "#c05621"


class Points(NamedTuple):
    """X (points, 2) and labels (points,), one or minus one."""

    X: np.ndarray
    labels: np.ndarray


def generate(points: int, rng: np.random.Generator) -> Points:
    """Two clouds that overlap."""
    labels = np.repeat([1.0, -1.0], points // 2)
    return Points(rng.standard_normal((len(labels), 2)) + labels[:, None] * CENTER, labels)


def logistic_regression(w, b, X, labels, weight):
    loss = jnp.mean(jl.logistic(-labels * (X @ w + b)))
    return jl.minimize(loss + jl.nonneg(weight) * jl.sum_squares(w))


train = jl.convex_layer(logistic_regression, w=(2,), b=())


class Classifier(NamedTuple):
    """A point is labelled by the sign of w'x + b."""

    w: jax.Array
    b: jax.Array
    status: jax.Array


def loss_after_training(
    X: jax.Array, labels: jax.Array, test: Points
) -> tuple[jax.Array, Classifier]:
    """The mean logistic loss on `test` of the classifier that is trained on X, and the classifier."""
    solution = train(X=X, labels=labels, weight=WEIGHT)
    found = Classifier(solution.variables["w"], solution.variables["b"], solution.status)
    margins = test.labels * (test.X @ found.w + found.b)
    return jnp.mean(jnp.logaddexp(0.0, -margins)), found


# The one program that is compiled: the random shifts use its value, the attack its gradient as well.
loss_and_gradient = jax.jit(jax.value_and_grad(loss_after_training, has_aux=True))


class Outcome(NamedTuple):
    """Losses on the test points: at first, of each random shift, and of the attack step by step."""

    clean: float
    random: np.ndarray
    losses: list[float]
    before: Classifier
    after: Classifier
    poisoned: np.ndarray
    failed: int

    @property
    def ratio(self) -> float:
        """How many times the rise of the worst random shift the attack's is."""
        return (self.losses[-1] - self.clean) / (self.random.max() - self.clean)


def attack(
    data: Points, test: Points, steps: int, shifts: int, rng: np.random.Generator
) -> Outcome:
    """Random shifts first, then ascent by the signs of the gradient."""
    X, labels = data
    (clean, before), _ = loss_and_gradient(X, labels, test)
    failed = int(before.status != jl.Status.SOLVED)
    random = np.zeros(shifts)
    for i in trange(shifts, desc="random shifts", unit="shift"):
        shift = BOUND * rng.choice([-1.0, 1.0], size=X.shape)
        (random[i], found), _ = loss_and_gradient(X + shift, labels, test)
        failed += int(found.status != jl.Status.SOLVED)
    poisoned, losses, after = X, [], before
    progress = tqdm(range(steps + 1), desc="ascent", unit="step")
    for _ in progress:
        (loss, after), gradient = loss_and_gradient(poisoned, labels, test)
        failed += int(after.status != jl.Status.SOLVED)
        losses.append(float(loss))
        progress.set_postfix(loss=f"{loss:.4f}")
        if len(losses) <= steps:
            moved = poisoned + 5 * BOUND / steps * np.sign(gradient)
            poisoned = np.clip(moved, X - BOUND, X + BOUND)
    return Outcome(float(clean), random, losses, before, after, poisoned, failed)


def draw_boundary(axes: Axes, classifier: Classifier, **style) -> None:
    """The line on which w'x + b = 0."""
    w, b = np.asarray(classifier.w), float(classifier.b)
    foot, along = -b * w / (w @ w), np.array([-w[1], w[0]]) / np.linalg.norm(w)
    ends = foot + np.outer([-10, 10], along)
    axes.plot(*ends.T, **style)


def save_figure(path: Path, data: Points, outcome: Outcome) -> None:
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    first, second, third = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    for label, color in ((1.0, BLUE), (-1.0, ORANGE)):
        chosen = data.labels == label
        start, moved = data.X[chosen], outcome.poisoned[chosen]
        first.quiver(
            *start.T, *(moved - start).T, angles="xy", scale_units="xy", scale=1, color=color,
            width=0.003, alpha=0.6,
        )  # fmt: skip
        first.plot(*start.T, ".", color=color, label=f"label {label:+.0f}")
    draw_boundary(first, outcome.before, color=FAINT, ls="--", label="boundary before")
    draw_boundary(first, outcome.after, color=INK, label="boundary after")
    low, high = data.X.min(axis=0) - 0.4, data.X.max(axis=0) + 0.4
    first.set(
        xlim=(low[0], high[0]), ylim=(low[1], high[1]), title="Training points, and the shifts"
    )
    first.legend(frameon=False, fontsize="small")
    second.plot(outcome.losses, color=INK, label="attack")
    second.axhline(outcome.random.max(), color=ORANGE, label="worst random shift")
    second.axhline(outcome.clean, color=FAINT, ls="--", label="untouched")
    second.set(xlabel="step", title="Mean loss on the test points")
    second.legend(frameon=False, fontsize="small")
    third.hist(outcome.random - outcome.clean, bins=15, color=ORANGE, label="random shifts")
    third.axvline(outcome.losses[-1] - outcome.clean, color=INK, label="attack")
    third.set(xlabel="rise of the loss", title=f"{outcome.ratio:.1f} times the worst of chance")
    third.legend(frameon=False, fontsize="small")
    for axes in (first, second, third):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)


def accuracy(classifier: Classifier, test: Points) -> float:
    return float(np.mean(test.labels * (test.X @ np.asarray(classifier.w) + classifier.b) > 0))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if the attack does enough harm."""
    parser = argparse.ArgumentParser(
        description="Attack logistic regression through its training data.",
        epilog=f"Fails (exit code 1) below {RATIO:g} times the rise of the worst random shift,"
        " or if a program isn't solved.",
    )
    add = parser.add_argument
    default = Path("data_poisoning.png")
    add("--output", type=Path, default=default, help="the figure (default: %(default)s)")
    add("--steps", type=int, default=25, help="of the ascent (default: %(default)s)")
    add("--shifts", type=int, default=100, help="at random (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the data (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.shifts < 1:
        parser.error("--steps and --shifts must be positive")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return run(args)


def run(args: argparse.Namespace) -> int:
    points, limit, needed = (20, 10, 1.0) if args.fast else (100, None, RATIO)
    rng = np.random.default_rng(args.seed)
    data, test = generate(points, rng), generate(points, rng)
    steps, shifts = (min(n, limit or n) for n in (args.steps, args.shifts))
    outcome = attack(data, test, steps, shifts, rng)
    harm = outcome.losses[-1] - outcome.clean
    print(f"loss on test points     {outcome.clean:.4f}")
    print(f"worst of random shifts  +{outcome.random.max() - outcome.clean:.4f}")
    print(f"attack                  +{harm:.4f}")
    right = (100 * accuracy(found, test) for found in (outcome.before, outcome.after))
    print("classified rightly      {:.0f} %, after the attack {:.0f} %".format(*right))
    good = outcome.ratio > needed and not outcome.failed
    print(f"{outcome.ratio:.2f} times the worst of chance   {'ok' if good else 'FAILED'}")
    if outcome.failed:
        print(f"{outcome.failed} programs weren't solved")
    save_figure(args.output, data, outcome)
    print(f"figure: {args.output}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
