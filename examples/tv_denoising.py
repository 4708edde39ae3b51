"""Learn the weight of total-variation denoising, then its operator, through the optimization problem.

A signal that is constant but for some jumps is read with noise. Total-variation denoising (Rudin, Osher
and Fatemi, Physica D 1992) finds, from readings y,

    x(y) = argmin_x  1/2 |x - y|^2 + w |D x|_1,

with D the operator of differences. Its weight w is usually tuned by hand or by grid search. Here w is
learned by gradient from pairs of clean and noisy signals, and then D as well, as in Amos and Kolter,
"OptNet: Differentiable Optimization as a Layer in Neural Networks" (ICML 2017), section 4.2. The signals
come from a machine that switches mostly at certain times, the same for every signal; D has four numbers
for each place in the signal, so it can learn that timetable, which nobody tells it. In the end a small
convolutional network learns from the same pairs.

The layer solves the dual problem, a box-constrained one (Chambolle, J. Math. Imaging Vis. 2004),

    u(y) = argmin_u  1/2 |y - D'u|^2   subject to   -w <= u <= w,       x = y - D'u,

written as a `convex_layer` with D and w as parameters; that is four times faster than the primal one,
with which it is compared.

    python examples/tv_denoising.py       # learns, writes tv_denoising.png

On signals never seen, the mean squared error with the learned weight must come within 1 % of the best of
a grid of weights, chosen on those very signals, and the learned D must lower it by 15 % more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm, trange
from tv_denoising_network import network_error
from tv_denoising_plot import Shown, save_figure

import jaxopt_layers as jl

NOISE, SWITCH, JUMP = (
    0.3,
    0.4,
    0.015,
)  # standard deviation; jumps per time of the timetable, elsewhere
TO_GRID, TO_WEIGHT, TO_PRIMAL = 1.01, 0.85, 1e-6
UNTUNED = 1.0  # the weight at the start
TAPS = 4  # of a row of D; the second and third are -1 and 1 at the start


class Signals(NamedTuple):
    """Pairs of k signals of n numbers: (k, n) each."""

    noisy: jax.Array
    clean: jax.Array

    def at(self, rows: np.ndarray | slice) -> Signals:
        return Signals(self.noisy[rows], self.clean[rows])


class Sizes(NamedTuple):
    n: int
    batch: int
    train: int
    test: int
    weights: int  # in the grid


FULL = Sizes(n=60, batch=32, train=1024, test=256, weights=21)
FAST = Sizes(n=30, batch=16, train=128, test=32, weights=4)


class Machine:
    """Makes signals whose level, drawn anew at each jump, jumps mostly at its own times."""

    def __init__(self, n: int, rng: np.random.Generator):
        self.rate = np.full(n, JUMP)
        self.rate[rng.choice(np.arange(3, n - 2), n // 6, replace=False)] = SWITCH
        self.rng = rng

    def signals(self, count: int) -> Signals:
        n = len(self.rate)
        jumps = self.rng.random((count, n)) < self.rate
        began = np.maximum.accumulate(np.where(jumps, np.arange(n), 0), axis=1)
        clean = np.take_along_axis(self.rng.standard_normal((count, n)), began, axis=1)
        noisy = clean + NOISE * self.rng.standard_normal(clean.shape)
        return Signals(jnp.asarray(noisy), jnp.asarray(clean))


class Parameters(NamedTuple):
    """The logarithm of the weight, and the taps of D (n - 1, TAPS)."""

    log_weight: jax.Array
    taps: jax.Array


def at_start(n: int, weight: float = UNTUNED) -> Parameters:
    differences = np.tile([0.0, -1.0, 1.0, 0.0], (n - 1, 1))
    return Parameters(jnp.asarray(np.log(np.float64(weight))), jnp.asarray(differences))


def operator(taps: jax.Array) -> jax.Array:
    """D (n - 1, n): row i holds its taps at the places i - 1 to i + 2, as far as there are any."""
    rows = taps.shape[0]
    row, tap = np.indices(taps.shape)
    wide = jnp.zeros((rows, rows + TAPS - 1), taps.dtype).at[row, row + tap].set(taps)
    return wide[:, 1 : rows + 2]


def dual_of_denoising(u, y, D, weight):
    bounds = [u <= weight, u >= -weight]
    return jl.minimize(0.5 * jl.sum_squares(y - D.T @ u), subject_to=bounds)


def denoising(x, y, weight):
    return jl.minimize(0.5 * jl.sum_squares(y - x) + jl.nonneg(weight) * jl.norm1(jnp.diff(x)))


class Denoised(NamedTuple):
    """The signals (batch, n), and how many programs weren't solved."""

    x: jax.Array
    failed: jax.Array


def value_and_gradient(n: int) -> Callable:
    """The mean squared error of a batch with its denoised signals, and its gradient, compiled.

    This one program learns the weight, learns D, searches the grid and tests."""
    layer = jl.convex_layer(dual_of_denoising, u=(n - 1,))

    def loss(parameters: Parameters, signals: Signals) -> tuple[jax.Array, Denoised]:
        D, weight = operator(parameters.taps), jnp.exp(parameters.log_weight)

        def denoise(y: jax.Array) -> tuple[jax.Array, jax.Array]:
            solution = layer(y=y, D=D, weight=weight)
            return y - D.T @ solution.variables["u"], solution.status

        x, status = jax.vmap(denoise)(signals.noisy)
        failed = jnp.sum(status != jl.Status.SOLVED)
        return jnp.mean((x - signals.clean) ** 2), Denoised(x, failed)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


class Trainer:
    """Learns from pairs of signals, a batch at a time, and tests on others."""

    def __init__(self, sizes: Sizes, train: Signals, test: Signals, seed: int):
        self.sizes, self.train, self.test = sizes, train, test
        self.rng = np.random.default_rng(seed)
        self.evaluate = value_and_gradient(sizes.n)

    def batches(self, signals: Signals) -> list[Signals]:
        ends = range(0, len(signals.noisy), self.sizes.batch)
        return [signals.at(slice(i, i + self.sizes.batch)) for i in ends]

    def error(self, parameters: Parameters) -> float:
        """Of the test signals."""
        parts = self.batches(self.test)
        return float(np.mean([self.evaluate(parameters, part)[0][0] for part in parts]))

    def denoised(self, parameters: Parameters) -> np.ndarray:
        """The first batch of test signals."""
        return np.asarray(self.evaluate(parameters, self.batches(self.test)[0])[0][1].x)

    def learn(
        self, parameters: Parameters, what: str, steps: int, learning_rate: float
    ) -> Parameters:
        """Adam on random batches; `what` is "weight", which leaves D as it is, or "D"."""
        optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, alpha=0.05))
        update, state = jax.jit(optimizer.update), optimizer.init(parameters)  # pyright: ignore[reportArgumentType]
        progress = trange(steps, desc=f"learning the {what}", unit="step")
        for _ in progress:
            rows = self.rng.choice(len(self.train.noisy), self.sizes.batch, replace=False)
            signals = self.train.at(rows)
            (loss, denoised), gradient = self.evaluate(parameters, signals)
            if what == "weight":
                gradient = gradient._replace(taps=jnp.zeros_like(gradient.taps))
            change, state = update(gradient, state)
            parameters = optax.apply_updates(parameters, change)  # pyright: ignore
            progress.set_postfix(error=f"{loss:.4f}")
            if denoised.failed:
                progress.write(f"warning: {denoised.failed} programs weren't solved")
        return parameters


def distance_to_primal(trainer: Trainer, weight: float) -> float:
    """The largest difference between the two forms of the problem, on a few test signals."""
    n = trainer.sizes.n
    layer = jl.convex_layer(denoising, x=(n,))
    dual = trainer.denoised(at_start(n, weight))
    primal = [layer(y=trainer.test.noisy[k], weight=weight).variables["x"] for k in range(4)]
    return float(np.abs(np.stack(primal) - dual[:4]).max())


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if the learned weight and the learned D are good enough."""
    parser = argparse.ArgumentParser(
        description="Learn the weight and the operator of total-variation denoising by gradient.",
        epilog=f"Fails (exit code 1) above {TO_GRID} times the best weight's error of a grid, or if D"
        f" isn't below {TO_WEIGHT} times the learned weight's.",
    )
    add = parser.add_argument
    default = Path("tv_denoising.png")
    add("--output", type=Path, default=default, help="the figure (default: %(default)s)")
    add("--steps", type=int, default=150, help="of Adam for D (default: %(default)s)")
    add("--learning-rate", type=float, default=0.05, help="for D (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the data (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.learning_rate <= 0:
        parser.error("--steps and --learning-rate must be positive")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return run(args)


def run(args: argparse.Namespace) -> int:
    sizes, steps = (FAST, min(args.steps, 15)) if args.fast else (FULL, args.steps)
    machine = Machine(sizes.n, np.random.default_rng(args.seed))
    trainer = Trainer(sizes, machine.signals(sizes.train), machine.signals(sizes.test), args.seed)
    untuned = at_start(sizes.n)
    weight = trainer.learn(untuned, "weight", 15 if args.fast else 50, 0.1)
    learned = trainer.learn(weight, "D", steps, args.learning_rate)
    grid = {
        each: trainer.error(at_start(sizes.n, each))
        for each in tqdm(np.geomspace(0.1, 2, sizes.weights).tolist(), "grid", unit="weight")
    }
    errors = {
        "readings": float(jnp.mean((trainer.test.noisy - trainer.test.clean) ** 2)),
        f"w = {UNTUNED:g}": trainer.error(untuned),
        "best w of the grid": min(grid.values()),
        "learned w": trainer.error(weight),
        "learned D": trainer.error(learned),
        "network": network_error(trainer.train, trainer.test, 20 if args.fast else 800, args.seed),
    }
    for name, error in errors.items():
        print(f"{name:<20}{error:8.5f}")
    verdicts = []
    if not args.fast:
        distance = distance_to_primal(trainer, float(jnp.exp(weight.log_weight)))
        verdicts.append(distance <= TO_PRIMAL)
        print(f"dual and primal problem differ by {distance:.1e}   {_verdict(verdicts[-1])}")
    to_grid = errors["learned w"] / errors["best w of the grid"]
    to_weight = errors["learned D"] / errors["learned w"]
    verdicts.append(to_grid <= (1.1 if args.fast else TO_GRID))
    print(f"learned w: {to_grid:.4f} times the grid's error   {_verdict(verdicts[-1])}")
    verdicts.append(to_weight <= (1 if args.fast else TO_WEIGHT))
    print(f"learned D: {to_weight:.4f} times the learned weight's   {_verdict(verdicts[-1])}")
    shown = Shown(
        noisy=np.asarray(trainer.test.noisy[0]),
        clean=np.asarray(trainer.test.clean[0]),
        weight=trainer.denoised(weight)[0],
        learned=trainer.denoised(learned)[0],
    )
    size = np.linalg.norm(np.asarray(learned.taps), axis=1) * np.exp(float(learned.log_weight))
    at_best = float(jnp.exp(weight.log_weight))
    save_figure(
        args.output, shown, grid, (at_best, errors["learned w"]), size, machine.rate, errors
    )
    print(f"figure: {args.output}")
    return 0 if all(verdicts) else 1


def _verdict(good: bool) -> str:
    return "ok" if good else "FAILED"


if __name__ == "__main__":
    sys.exit(main())
