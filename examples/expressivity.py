"""Well-known layers as quadratic programs, checked against their closed forms, and one learned.

The layers are in `expressivity_layers.py`: ReLU, sparsemax, softmax, the maximum of three numbers
and a general piecewise-linear function (Amos and Kolter, "OptNet", ICML 2017, Theorems 2 and 3).
Values and gradients are compared with the closed forms at random points; a gradient is that of a
random linear function of the output, in every argument. At the end a piecewise-linear function is
learned by gradient descent through its program, and drawn.

    python examples/expressivity.py            # prints a table, writes expressivity.png
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
from expressivity_layers import (
    Pieces,
    maximum,
    piecewise_linear,
    piecewise_linear_closed_form,
    relu,
    softmax,
    sparsemax,
    sparsemax_closed_form,
)
from matplotlib.figure import Figure
from tqdm import trange

VALUE_TOLERANCE, GRADIENT_TOLERANCE = 1e-7, 1e-6
Layer = Callable[..., jax.Array]


class Case(NamedTuple):
    name: str
    layer: Layer
    closed_form: Layer
    draw: Callable[[np.random.Generator], tuple]  # the arguments, away from kinks


def apart(rng: np.random.Generator, *shape: int) -> jax.Array:
    """Numbers at least 0.1 from zero."""
    return jnp.asarray(rng.uniform(0.1, 2, shape) * rng.choice([-1, 1], shape))


def draw_sparsemax(rng: np.random.Generator) -> tuple[jax.Array]:
    """A point whose projection has 1 to 8 positive numbers, with the rest clearly outside."""
    positive = rng.permutation(8) <= rng.integers(8)
    weights = positive * rng.uniform(0.2, 1, 8)
    x = np.where(positive, weights / weights.sum(), -rng.uniform(0.1, 2, 8)) + rng.normal()
    return (jnp.asarray(x),)


def draw_maximum(rng: np.random.Generator) -> tuple[jax.Array]:
    return (jnp.asarray(rng.permutation(rng.normal() + np.array([0, 0.2, 0.9]))),)


def draw_pieces(rng: np.random.Generator) -> tuple[jax.Array, Pieces]:
    """A point and a function of 6 kinks with a_i x + b_i away from zero."""
    x, a, offset = rng.normal(), apart(rng, 6), apart(rng, 6)
    return jnp.asarray(x), Pieces(a, offset - a * x, apart(rng, 6), *apart(rng, 2))


CASES = (
    Case("ReLU", relu, lambda x: jnp.maximum(x, 0), lambda rng: (apart(rng, 8),)),
    Case("sparsemax", sparsemax, sparsemax_closed_form, draw_sparsemax),
    Case("softmax", softmax, jax.nn.softmax, lambda rng: (2 * apart(rng, 8),)),
    Case("max of three", maximum, jnp.max, draw_maximum),
    Case("piecewise linear", piecewise_linear, piecewise_linear_closed_form, draw_pieces),
)


def errors_of(case: Case, points: int, seed: int) -> tuple[float, float]:
    """The largest errors of the value and of the gradient in all arguments, over random points."""
    rng = np.random.default_rng(seed)
    arguments = [case.draw(rng) for _ in range(points)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arguments)
    shape = jax.eval_shape(case.closed_form, *arguments[0]).shape
    cotangents = jnp.asarray(rng.normal(size=(points, *shape)))

    def value_and_gradient(function: Layer) -> tuple:
        def pulled(cotangent: jax.Array, *args: jax.Array) -> tuple:
            value, pull = jax.vjp(function, *args)
            return value, pull(cotangent)

        return jax.jit(jax.vmap(pulled))(cotangents, *batch)

    ours, theirs = value_and_gradient(case.layer), value_and_gradient(case.closed_form)
    gaps = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), ours, theirs)
    return gaps[0], max(jax.tree.leaves(gaps[1]))


def check_all(points: int, seed: int) -> bool:
    """Print the table of errors; true if all are within tolerance."""
    print(f"largest error over {points} random points (float64)")
    print(f"{'layer':<18}{'value':>10}{'gradient':>10}")
    all_good = True
    for case in CASES:
        value, gradient = errors_of(case, points, seed)
        good = value <= VALUE_TOLERANCE and gradient <= GRADIENT_TOLERANCE
        all_good &= good
        print(f"{case.name:<18}{value:>10.1e}{gradient:>10.1e}   {'ok' if good else 'FAILED'}")
    print(f"{'tolerance':<18}{VALUE_TOLERANCE:>10.1e}{GRADIENT_TOLERANCE:>10.1e}")
    return all_good


def target(x: np.ndarray) -> np.ndarray:
    """Neither convex nor concave, with kinks at -1.2, -0.4, 0.5 and 1.1."""
    return np.interp(x, [-2, -1.2, -0.4, 0.5, 1.1, 2], [0.3, 1.2, -0.9, 0.4, -0.2, 1.0])


def learn(steps: int, seed: int) -> tuple[np.ndarray, list[float], list[np.ndarray]]:
    """Fit `target` with 12 pieces by Adam; x, the loss of each step, f(x) before and after."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-2, 2, 101)
    signs = np.where(np.arange(12) % 2, 1.0, -1.0)
    kinks = np.linspace(-2, 2, 14)[1:-1]
    weights, zero = 0.3 * rng.normal(size=12), np.zeros(())
    f = Pieces(*map(jnp.asarray, (signs, -signs * kinks, weights, zero, zero)))
    layer = jax.jit(jax.vmap(piecewise_linear, in_axes=(0, None)))
    optimizer = optax.adam(optax.cosine_decay_schedule(0.06, steps))
    state, y = optimizer.init(f), jnp.asarray(target(x))

    @jax.jit
    def update(f: Pieces, state: optax.OptState) -> tuple[Pieces, optax.OptState, jax.Array]:
        loss, gradient = jax.value_and_grad(lambda f: jnp.mean((layer(x, f) - y) ** 2))(f)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(f, change), state, loss

    losses, curves = [], [np.asarray(layer(x, f))]
    for _ in trange(steps, desc="learning a piecewise-linear function", unit="step"):
        f, state, loss = update(f, state)
        losses.append(float(loss))
    return x, losses, [*curves, np.asarray(layer(x, f))]


def save_figure(path: Path, x: np.ndarray, losses: list[float], curves: list[np.ndarray]) -> None:
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(x, target(x), color="#9aa2ab", lw=5, label="target")
    left.plot(x, curves[0], "--", color="#c05621", label="layer, untrained")
    left.plot(x, curves[1], color="#2b6cb0", label="layer, trained")
    left.set(xlabel="x", ylabel="f(x)", title="A piecewise-linear function as one QP")
    left.legend(frameon=False)
    right.semilogy(np.arange(1, len(losses) + 1), losses, color="#2b6cb0")
    right.set(xlabel="step", ylabel="mean squared error", title="Training loss")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if every layer agrees with its closed form and learning works."""
    parser = argparse.ArgumentParser(description="Well-known layers as quadratic programs.")
    add = parser.add_argument
    add("--output", type=Path, default=Path("expressivity.png"), help="default: %(default)s")
    add("--points", type=int, default=200, help="to check each layer at (default: %(default)s)")
    add("--steps", type=int, default=600, help="of learning (default: %(default)s)")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--fast", action="store_true", help="10 points and 40 steps")
    args = parser.parse_args(argv)
    if args.points < 1 or args.steps < 1:
        parser.error("--points and --steps must be at least 1")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    points, steps = (10, 40) if args.fast else (args.points, args.steps)
    with jax.enable_x64(True):
        good = check_all(points, args.seed)
        x, losses, curves = learn(steps, args.seed)
    learned = losses[-1] < (0.5 * losses[0] if args.fast else 1e-4)
    print(f"learned: loss {losses[0]:.2e} -> {losses[-1]:.2e}   {'ok' if learned else 'FAILED'}")
    save_figure(args.output, x, losses, curves)
    print(f"figure: {args.output}")
    return 0 if good and learned else 1


if __name__ == "__main__":
    sys.exit(main())
