"""Learn how unreliable each sensor is, through a robust least-squares problem.

A quantity g is predicted as F w from eight sensors. The weights are fitted in the laboratory, where
all sensors are exact; in the field each of them errs, some much more than others, and nobody has
measured by how much. Robust least squares (El Ghaoui and Lebret, "Robust solutions to least-squares
problems with uncertain data", SIAM J. Matrix Anal. Appl. 1997) guards against errors of size r_j in
sensor j. With the worst case over all D whose Frobenius norm is at most one,

    w(r) = argmin_w max_D |(F + D diag(r)) w - g| = argmin_w |F w - g| + |diag(r) w|,

a program with two second-order cones. Here r is what is learned: the loss is the error of w(r) on
field data of 24 machines, and its gradient in r goes through the program. The weights of other
machines are then fitted in the laboratory with that r and tested in the field.

    python examples/robust_least_squares.py       # learns, writes robust_least_squares.png

On those it must come within 10 % of the error of the best weights for known sensor errors (which are
not told to it), and halve the error that one r for all sensors gives.
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

SENSORS, FACTORS, SAMPLES, FIELD_SAMPLES = 8, 3, 30, 200
ERRORS = np.array([0.05, 1.6, 0.2, 0.9, 0.1, 1.2, 0.4, 0.7])  # of the sensors in the field
TO_BEST, TO_START = 1.1, 0.5
INK, FAINT, BLUE, ORANGE = "#22262b", "#9aa2ab", "#2b6cb0", "#c05621"


class Machines(NamedTuple):
    """Laboratory data F (k, SAMPLES, SENSORS) and g (k, SAMPLES), and the same from the field."""

    lab_F: jax.Array
    lab_g: jax.Array
    field_F: jax.Array
    field_g: jax.Array


def generate(machines: int, rng: np.random.Generator) -> Machines:
    """Every machine has three hidden factors, which the sensors see in mixtures of its own."""
    mixtures = rng.standard_normal((machines, FACTORS, SENSORS))
    truth = rng.standard_normal((machines, FACTORS))

    def draw(samples: int) -> tuple[np.ndarray, np.ndarray]:
        factors = rng.standard_normal((machines, samples, FACTORS))
        noise = 0.3 * rng.standard_normal((machines, samples))
        own = 0.1 * rng.standard_normal((machines, samples, SENSORS))
        return factors @ mixtures + own, (factors @ truth[..., None])[..., 0] + noise

    lab_F, lab_g = draw(SAMPLES)
    field_F, field_g = draw(FIELD_SAMPLES)
    field_F = field_F + ERRORS * rng.standard_normal(field_F.shape)
    return Machines(*map(jnp.asarray, (lab_F, lab_g, field_F, field_g)))


def robust_weights(F: jax.Array, g: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
    """argmin |F w - g| + |diag(r) w|, and the status: x = (w, t, u), |F w - g| <= t, |diag(r) w| <= u."""
    samples, sensors = F.shape
    A = jnp.zeros((samples + sensors + 2, sensors + 2))
    A = A.at[0, sensors].set(-1.0).at[1 : samples + 1, :sensors].set(F)
    A = A.at[samples + 1, sensors + 1].set(-1.0)
    A = A.at[samples + 2 :, :sensors].set(jnp.diag(-r))
    b = jnp.concatenate([jnp.zeros(1), g, jnp.zeros(sensors + 1)])
    c = jnp.zeros(sensors + 2).at[sensors:].set(1.0)
    solution = jl.solve_cone(A, b, c, jl.Cones(second_order=(samples + 1, sensors + 1)))
    return solution.x[:sensors], solution.status


def field_error(weights: jax.Array, machines: Machines) -> jax.Array:
    """Mean squared error in the field, of weights (k, SENSORS)."""
    predicted = jnp.einsum("kij,kj->ki", machines.field_F, weights)
    return jnp.mean((predicted - machines.field_g) ** 2)


@jax.jit
def robust_error(log_r: jax.Array, machines: Machines) -> tuple[jax.Array, jax.Array]:
    """The error with weights fitted for r = exp(log_r), and how many programs weren't solved."""
    fit = jax.vmap(robust_weights, in_axes=(0, 0, None))
    weights, status = fit(machines.lab_F, machines.lab_g, jnp.exp(log_r))
    return field_error(weights, machines), jnp.sum(status != jl.Status.SOLVED)


def ridge_error(machines: Machines, errors: np.ndarray) -> float:
    """With weights that minimize the error expected in the field for sensor errors of that size."""
    weights = [
        np.linalg.solve(F.T @ F + len(F) * np.diag(errors**2), F.T @ g)
        for F, g in zip(np.asarray(machines.lab_F), np.asarray(machines.lab_g), strict=True)
    ]
    return float(field_error(jnp.asarray(np.stack(weights)), machines))


class History(NamedTuple):
    losses: list[float]
    sizes: list[np.ndarray]  # r after each step, the start first


def learn(machines: Machines, steps: int, learning_rate: float) -> History:
    """Adam on log r from r = 0.3 for every sensor."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, alpha=0.05))

    @jax.jit
    def update(log_r: jax.Array, state: optax.OptState) -> tuple:
        value_and_grad = jax.value_and_grad(robust_error, has_aux=True)
        (loss, failed), gradient = value_and_grad(log_r, machines)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(log_r, change), state, loss, failed

    log_r = jnp.asarray(np.log(np.full(SENSORS, 0.3)))
    state = optimizer.init(log_r)
    history = History([], [np.exp(np.asarray(log_r))])
    progress = trange(steps, desc="learning the sensors' errors", unit="step")
    for _ in progress:
        log_r, state, loss, failed = update(log_r, state)
        history.losses.append(float(loss))
        history.sizes.append(np.exp(np.asarray(log_r)))
        progress.set_postfix(error=f"{loss:.4f}")
        if failed:
            progress.write(f"warning: {failed} programs weren't solved")
    return history


def save_figure(path: Path, history: History, errors: dict[str, float]) -> None:
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    first.plot(history.losses, color=BLUE)
    first.set(xlabel="step", ylabel="mean squared error", title="Error in the field, training")
    learned = history.sizes[-1]
    scale = float(learned @ ERRORS / (ERRORS @ ERRORS))
    line = np.array([0, 1.05 * ERRORS.max()])
    second.plot(line, scale * line, color=FAINT, ls="--", lw=1, label="proportional")
    second.plot(ERRORS, history.sizes[0], "o", color=ORANGE, label="start")
    second.plot(ERRORS, learned, "o", color=BLUE, label="learned")
    second.set(xlabel="true error of the sensor", ylabel="r", title="Uncertainty, sensor by sensor")
    second.legend(frameon=False)
    colors = (FAINT, ORANGE, BLUE, INK)
    bars = third.barh(list(errors), list(errors.values()), color=colors)
    third.bar_label(bars, fmt="%.3f", padding=3)
    third.invert_yaxis()
    third.set(title="Error in the field, other machines", xlim=(0, 1.15 * max(errors.values())))
    for axes in (first, second, third):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if the learned uncertainty is good enough."""
    parser = argparse.ArgumentParser(
        description="Learn the uncertainty of a robust least-squares problem by gradient.",
        epilog=f"Fails (exit code 1) above {TO_BEST} times the error of the best weights"
        f" or {TO_START} times that of one r for all sensors.",
    )
    add = parser.add_argument
    default = Path("robust_least_squares.png")
    add("--output", type=Path, default=default, help="the figure (default: %(default)s)")
    add("--steps", type=int, default=200, help="of Adam (default: %(default)s)")
    add("--learning-rate", type=float, default=0.1, help="at the start (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the data (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.learning_rate <= 0:
        parser.error("--steps and --learning-rate must be positive")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return run(args)


def run(args: argparse.Namespace) -> int:
    machines, steps = (8, min(args.steps, 15)) if args.fast else (24, args.steps)
    rng = np.random.default_rng(args.seed)
    train, test = generate(machines, rng), generate(machines, rng)
    history = learn(train, steps, args.learning_rate)
    start, learned = (float(robust_error(jnp.log(history.sizes[i]), test)[0]) for i in (0, -1))
    errors = {
        "least squares": ridge_error(test, np.zeros(SENSORS)),
        "robust, all alike": start,
        "robust, learned": learned,
        "errors known": ridge_error(test, ERRORS),
    }
    for name, error in errors.items():
        print(f"{name:<20}{error:8.4f}")
    if args.fast:
        good = learned < start
    else:
        good = learned <= min(TO_BEST * errors["errors known"], TO_START * start)
    to_best, to_start = learned / errors["errors known"], learned / start
    verdict = "ok" if good else "FAILED"
    print(f"{to_best:.3f} times the best, {to_start:.3f} times all alike   {verdict}")
    save_figure(args.output, history, errors)
    print(f"figure: {args.output}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
