"""Predict, then allocate: train a forecast for the decision that it serves instead of for its own accuracy.

Every day a team's hours go to ten projects. An hour's worth v differs from day to day; it must be predicted
from five features z (and a constant) before the hours are given out, as v_hat = W'z. The share x_j that each
project gets of what it asks for solves a quadratic program: with diminishing returns, demands a and a budget,

    x(v_hat) = argmax_x v_hat'x - 1/4 |x|^2  subject to  a'x <= budget,  0 <= x <= 1,

and earns v'x - 1/4 |x|^2. What is lost against x(v) is the regret of the forecast. The true v is a polynomial
of degree four of the features, with noise, so no linear forecast is right. The usual W minimizes the squared
error; the other one, the same model, starts there and follows the gradient of the regret, which goes through
the program. It errs more, but where that costs little. Data as in Elmachtoub and Grigas ("Smart predict, then
optimize", Management Science 2022); the gradient as in Donti, Amos and Kolter ("Task-based end-to-end model
learning in stochastic optimization", NeurIPS 2017).

    python examples/resource_allocation.py       # five seeds, writes resource_allocation.png

On days never seen, its regret must be lower for each of five seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from tqdm import trange

import jaxopt_layers as jl

PROJECTS, FEATURES, DEGREE, NOISE = 10, 5, 4, 0.3
CURVATURE, SHARE = 0.5, 0.3  # of the objective; the budget, as a part of all demands
TEST_BATCHES = 3
INK, FAINT, BLUE, ORANGE = "#22262b", "#9aa2ab", "#2b6cb0", "#c05621"


class Team(NamedTuple):
    """What stays the same: how worth depends on the features, demands (PROJECTS,), the budget."""

    mixing: np.ndarray
    demands: np.ndarray
    budget: float


class Days(NamedTuple):
    """Features with a constant (days, FEATURES + 1), and what an hour was worth (days, PROJECTS)."""

    features: np.ndarray
    worth: np.ndarray


def draw_team(rng: np.random.Generator) -> Team:
    mixing = rng.binomial(1, 0.5, (FEATURES, PROJECTS)) / np.sqrt(FEATURES)
    demands = rng.uniform(1, 3, PROJECTS)
    return Team(mixing, demands, SHARE * demands.sum())


def draw_days(team: Team, days: int, rng: np.random.Generator) -> Days:
    features = rng.standard_normal((days, FEATURES))
    worth = ((features @ team.mixing + 3) / 3.5) ** DEGREE
    worth = worth * rng.uniform(1 - NOISE, 1 + NOISE, worth.shape)
    return Days(np.hstack([features, np.ones((days, 1))]), worth)


def allocate(forecast: jax.Array, team: Team) -> tuple[jax.Array, jax.Array]:
    """The best shares x for a forecast of the worth, and the status."""
    solution = jl.solve_qp(
        jnp.full(PROJECTS, CURVATURE),
        -forecast,
        G=jnp.asarray(team.demands)[None, :],
        h=jnp.asarray(team.budget)[None],
        lower=0,
        upper=1,
    )
    return solution.x, solution.status


@partial(jax.value_and_grad, has_aux=True)
def loss(forecasts: jax.Array, worth: jax.Array, team: Team) -> tuple[jax.Array, jax.Array]:
    """Minus the mean earnings of many days, and how many programs weren't solved."""
    shares, status = jax.vmap(allocate, in_axes=(0, None))(forecasts, team)
    earned = jnp.sum(worth * shares, axis=1) - 0.5 * CURVATURE * jnp.sum(shares**2, axis=1)
    return -jnp.mean(earned), jnp.sum(status != jl.Status.SOLVED)


# The one program that is compiled, in the forecasts; a linear model's gradient follows by a product.
loss_and_gradient = jax.jit(loss)


def regret(weights: np.ndarray, days: Days, team: Team) -> float:
    """What the forecasts Z W lose, as a part of what would have been earned if the worth were known."""
    best = float(loss_and_gradient(days.worth, days.worth, team)[0][0])
    return 1 - float(loss_and_gradient(days.features @ weights, days.worth, team)[0][0]) / best


def least_squares(days: Days) -> np.ndarray:
    """W (FEATURES + 1, PROJECTS) of the smallest squared error."""
    return np.linalg.lstsq(days.features, days.worth, rcond=None)[0]


class History(NamedTuple):
    regrets: list[float]  # in training, before each step
    weights: np.ndarray  # after the last


def learn(days: Days, team: Team, steps: int, learning_rate: float, name: str) -> History:
    """Adam on the regret, from the W of the smallest squared error."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, alpha=0.05))
    update = jax.jit(optimizer.update)
    weights = jnp.asarray(least_squares(days))
    state = optimizer.init(weights)
    best = float(loss_and_gradient(days.worth, days.worth, team)[0][0])
    regrets = []
    progress = trange(steps, desc=name, unit="step")
    for _ in progress:
        (value, failed), slope = loss_and_gradient(days.features @ weights, days.worth, team)
        change, state = update(days.features.T @ slope, state)
        weights = weights + change
        regrets.append(1 - float(value) / best)
        progress.set_postfix(regret=f"{regrets[-1]:.4f}")
        if failed:
            progress.write(f"warning: {failed} programs weren't solved")
    return History(regrets, np.asarray(weights))


class Result(NamedTuple):
    """One seed: regrets and mean squared errors on days never seen, least squares first."""

    regrets: tuple[float, float]
    errors: tuple[float, float]
    history: History
    forecasts: tuple[np.ndarray, np.ndarray]
    worth: np.ndarray


def compare(seed: int, days: int, steps: int, learning_rate: float) -> Result:
    rng = np.random.default_rng(seed)
    team = draw_team(rng)
    train = draw_days(team, days, rng)
    tests = [draw_days(team, days, rng) for _ in range(TEST_BATCHES)]
    history = learn(train, team, steps, learning_rate, f"seed {seed}")
    regrets, errors, forecasts = [], [], []
    for weights in (least_squares(train), history.weights):
        regrets.append(float(np.mean([regret(weights, test, team) for test in tests])))
        forecasts.append(tests[0].features @ weights)
        errors.append(float(np.mean((forecasts[-1] - tests[0].worth) ** 2)))
    return Result(tuple(regrets), tuple(errors), history, tuple(forecasts), tests[0].worth)


def save_figure(path: Path, results: list[Result]) -> None:
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    for result in results:
        first.plot(100 * np.array(result.history.regrets), color=BLUE, lw=1)
        second.plot([0, 1], 100 * np.array(result.regrets), color=FAINT, lw=1, zorder=1)
        for place, color in ((0, ORANGE), (1, BLUE)):
            second.plot(place, 100 * result.regrets[place], "o", color=color)
    first.set(xlabel="step", ylabel="regret, %", title="Training for the decision", ylim=(0, None))
    second.set_xticks([0, 1], ["least squares", "for the decision"])
    second.set(
        ylabel="regret, %", title="Days never seen, each seed", xlim=(-0.4, 1.4), ylim=(0, None)
    )
    shown = results[0]
    for place, color, name in ((0, ORANGE, "least squares"), (1, BLUE, "for the decision")):
        label = f"{name}: error {shown.errors[place]:.2f}"
        forecast, worth = shown.forecasts[place][:, 0], shown.worth[:, 0]
        third.plot(worth, forecast, ".", color=color, ms=3, label=label)
    ends = np.array([0, shown.worth[:, 0].max()])
    third.plot(ends, ends, color=FAINT, ls="--", lw=1)
    third.set(xlabel="worth", ylabel="forecast", title="Forecasts for one project")
    third.legend(frameon=False, fontsize="small")
    for axes in (first, second, third):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if the regret is lower for every seed."""
    parser = argparse.ArgumentParser(
        description="Train a forecast by the regret of the decisions that it leads to.",
        epilog="Fails (exit code 1) if the regret isn't lower than that of least squares for every seed.",
    )
    add = parser.add_argument
    default = Path("resource_allocation.png")
    add("--output", type=Path, default=default, help="the figure (default: %(default)s)")
    add("--steps", type=int, default=60, help="of Adam (default: %(default)s)")
    add("--learning-rate", type=float, default=0.03, help="at the start (default: %(default)s)")
    add("--seeds", type=int, default=5, help="how many (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.seeds < 1 or args.learning_rate <= 0:
        parser.error("--steps, --seeds and --learning-rate must be positive")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return run(args)


def run(args: argparse.Namespace) -> int:
    days, steps, seeds = 400, args.steps, args.seeds
    if args.fast:
        days, steps, seeds = 200, min(steps, 20), min(seeds, 2)
    results = [compare(seed, days, steps, args.learning_rate) for seed in range(seeds)]
    print("regret on days never seen   least squares   for the decision")
    for seed, result in enumerate(results):
        usual, focused = (100 * value for value in result.regrets)
        print(f"seed {seed:<20}{usual:14.2f} %{focused:17.2f} %")
    lower = sum(result.regrets[1] < result.regrets[0] for result in results)
    good = lower == len(results)
    print(f"lower for {lower} of {len(results)} seeds   {'ok' if good else 'FAILED'}")
    save_figure(args.output, results)
    print(f"figure: {args.output}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
