"""Learn to trade: a portfolio layer trained on what it earns, not on how well it predicts.

Every period a portfolio w of assets is chosen from two noisy signals for each asset's next return, one
that lasts for weeks and one that is gone by the next period. With forecasts mu of the returns, their
covariance Sigma, a risk aversion gamma, and trading at kappa times the amount traded, from holdings h,

    maximize  mu'w - gamma/2 w'Sigma w - kappa |w - h|_1   subject to  1'w = 1,  w >= 0

(Markowitz, "Portfolio Selection", Journal of Finance 1952). Predicting first, by least squares, and then
optimizing with the true costs is right for one period only: a signal that lasts is worth a trade that
doesn't pay at once, and one that fades isn't worth the trade back (Garleanu and Pedersen, "Dynamic
Trading with Predictable Returns and Transaction Costs", Journal of Finance 2013). End to end (Donti, Amos
and Kolter, "Task-based End-to-end Model Learning in Stochastic Optimization", NeurIPS 2017), the weights
of the two signals in mu, gamma and kappa are learned instead, by the gradient of the utility of whole
histories, each portfolio being where the next one starts:

    net return - gamma/2 variance,  with the true costs and the true gamma.

    python examples/portfolio.py       # learns, writes portfolio.png

On markets never seen the utility must beat that of two stages by four standard errors of the mean over the
markets, and the net return by 15 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from tqdm import trange

import jaxopt_layers as jl
from jaxopt_layers.cvxpy_layer import CvxpyLayer

ASSETS, FACTORS = 6, 2
COST, AVERSION = 0.3, 0.2  # percent of what is traded; utility in percent
MEMORY = np.array([0.97, 0.0])  # of the two signals, from period to period
STRENGTH = np.array([0.1, 0.2])  # percent of return for one standard deviation of each
NOISE = 0.7  # percent, of each asset alone
RETURN_RATIO, STANDARD_ERRORS = 1.15, 4.0
FAINT, BLUE, ORANGE = "#9aa2ab", "#2b6cb0", "#c05621"


class Markets(NamedTuple):
    """Histories: signals (T, k, ASSETS, 2), returns in percent (T, k, ASSETS), Sigma (ASSETS, ASSETS)."""

    signals: jax.Array
    returns: jax.Array
    covariance: jax.Array


class Policy(NamedTuple):
    """The weights (2,) of the signals in mu, and the logarithms of gamma and kappa."""

    weights: jax.Array
    log_aversion: jax.Array
    log_cost: jax.Array


class Outcome(NamedTuple):
    """For every period and market, in percent: (T, k) each; and how many programs weren't solved."""

    net: jax.Array
    variance: jax.Array
    turnover: jax.Array
    failed: jax.Array

    @property
    def utility(self) -> jax.Array:
        """(k,), the mean over time."""
        return jnp.mean(self.net - AVERSION / 2 * self.variance, axis=0)


def loadings(rng: np.random.Generator) -> np.ndarray:
    """The exposure of each asset to the common factors, (ASSETS, FACTORS)."""
    return rng.uniform(0.2, 0.6, (ASSETS, FACTORS))


def generate(
    markets: int, periods: int, exposure: np.ndarray, rng: np.random.Generator, noise: bool = True
) -> Markets:
    """Signals are autoregressions of unit variance; returns are what they say, plus factors and noise.

    Without `noise` the returns are those that can be expected: what no policy can foresee only blurs a
    comparison.
    """
    signals = np.zeros((periods, markets, ASSETS, 2))
    signal = rng.standard_normal((markets, ASSETS, 2))
    for t in range(periods):
        signals[t] = signal
        shock = rng.standard_normal(signal.shape)
        signal = MEMORY * signal + np.sqrt(1 - MEMORY**2) * shock
    returns = signals @ STRENGTH
    if noise:
        returns += rng.standard_normal((periods, markets, FACTORS)) @ exposure.T
        returns += NOISE * rng.standard_normal(returns.shape)
    covariance = exposure @ exposure.T + NOISE**2 * np.eye(ASSETS)
    return Markets(*map(jnp.asarray, (signals, returns, covariance)))


def markowitz() -> CvxpyLayer:
    """The portfolio as a layer of (mu, gamma Sigma, kappa, h): what is bought and sold are variables."""
    w = cp.Variable(ASSETS, nonneg=True)
    bought, sold = cp.Variable(ASSETS, nonneg=True), cp.Variable(ASSETS, nonneg=True)
    mu, held = cp.Parameter(ASSETS), cp.Parameter(ASSETS)
    risk, cost = cp.Parameter((ASSETS, ASSETS), PSD=True), cp.Parameter(nonneg=True)
    utility = mu @ w - 0.5 * cp.quad_form(w, risk) - cost * cp.sum(bought + sold)
    constraints: list[Any] = [cp.sum(w) == 1, w == held + bought - sold]
    problem = cp.Problem(cp.Maximize(utility), constraints)
    return CvxpyLayer(problem, parameters=[mu, risk, cost, held], variables=[w])


def trade(layer: CvxpyLayer, policy: Policy, markets: Markets) -> Outcome:
    """Go through the histories with that policy, from equal weights."""
    risk = jnp.exp(policy.log_aversion) * markets.covariance

    def period(held: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Outcome]:
        signals, returns = now
        solution = layer.solve(signals @ policy.weights, risk, jnp.exp(policy.log_cost), held)
        w = solution.variables[0]
        turnover = jnp.sum(jnp.abs(w - held), axis=1)
        gross = jnp.sum(w * returns, axis=1)
        variance = jnp.sum((w @ markets.covariance) * w, axis=1)
        failed = jnp.sum(solution.status != jl.Status.SOLVED)
        # What is held has grown with its returns by the next period.
        grown = w * (1 + returns / 100)
        held = grown / jnp.sum(grown, axis=1, keepdims=True)
        return held, Outcome(gross - COST * turnover, variance, turnover, failed)

    equal = jnp.full(markets.returns.shape[1:], 1 / ASSETS)
    return jax.lax.scan(period, equal, (markets.signals, markets.returns))[1]


# From a policy and markets to the gradient of the negative utility, and the outcome.
Assessment = Callable[[Policy, Markets], tuple[Policy, Outcome]]


def assessment() -> Assessment:
    """Compiled once, for learning and for testing alike."""

    def loss(policy: Policy, markets: Markets, layer: CvxpyLayer) -> tuple[jax.Array, Outcome]:
        outcome = trade(layer, policy, markets)
        return -jnp.mean(outcome.utility), outcome

    return jax.jit(jax.grad(partial(loss, layer=markowitz()), has_aux=True))


def two_stages(markets: Markets) -> Policy:
    """The signals' weights by least squares on the returns; risk aversion and cost as they are."""
    signals = np.asarray(markets.signals).reshape(-1, 2)
    weights, *_ = np.linalg.lstsq(signals, np.ravel(markets.returns), rcond=None)
    return Policy(*map(jnp.asarray, (weights, np.log(AVERSION), np.log(COST))))


def learn(
    assess: Assessment, policy: Policy, markets: Markets, steps: int, learning_rate: float
) -> tuple[Policy, list[float]]:
    """Adam from the two-stage policy; also the utility at each step."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, alpha=0.05))
    # Steps of one size suit the logarithms; the weights are a tenth of that.
    scale = Policy(*map(jnp.asarray, (0.2, 1.0, 1.0)))

    @jax.jit
    def update(gradient: Policy, state: optax.OptState, policy: Policy) -> tuple:
        change, state = optimizer.update(gradient, state)
        return jax.tree.map(lambda p, c, s: p + s * c, policy, change, scale), state

    state, utilities = optimizer.init(policy), []
    progress = trange(steps, desc="learning to trade", unit="step")
    for _ in progress:
        gradient, outcome = assess(policy, markets)
        utilities.append(float(np.mean(outcome.utility)))
        progress.set_postfix(utility=f"{utilities[-1]:.4f}")
        if failed := int(np.sum(outcome.failed)):
            progress.write(f"warning: {failed} programs weren't solved")
        policy, state = update(gradient, state, policy)
    return policy, utilities


def save_figure(path: Path, utilities: list[float], outcomes: dict[str, Outcome]) -> None:
    figure = Figure(figsize=(12, 7), layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    first.plot(utilities, color=BLUE)
    first.set(xlabel="step", ylabel="percent a period", title="Utility, training markets")
    for (name, outcome), color in zip(outcomes.items(), (ORANGE, BLUE), strict=True):
        wealth = np.cumsum(np.asarray(outcome.net), axis=0)
        middle = wealth.mean(axis=1)
        error = wealth.std(axis=1) / np.sqrt(wealth.shape[1])
        time = np.arange(1, len(wealth) + 1)
        second.plot(time, middle, color=color, label=name)
        second.fill_between(time, middle - error, middle + error, color=color, alpha=0.15, lw=0)
        risk = np.sqrt(np.asarray(outcome.variance).mean(axis=1))
        third.plot(time, risk, color=color, label=name)
        turnover = np.cumsum(np.asarray(outcome.turnover).mean(axis=1))
        fourth.plot(time, turnover, color=color, label=name)
    second.set(ylabel="percent", title="Return after costs, other markets (mean, standard error)")
    third.set(ylabel="percent", title="Risk (standard deviation of the portfolio)", ylim=0)
    fourth.set(ylabel="times the wealth", title="Turnover so far")
    for axes in (second, third, fourth):
        axes.set_xlabel("period")
        axes.legend(frameon=False)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if what was learned is good enough."""
    parser = argparse.ArgumentParser(
        description="Learn a Markowitz portfolio end to end, against predicting and then optimizing.",
        epilog=f"Fails (exit code 1) below {RETURN_RATIO} times the net return of two stages, or if the"
        f" gain in utility is less than {STANDARD_ERRORS:g} standard errors.",
    )
    add = parser.add_argument
    default = Path("portfolio.png")
    add("--output", type=Path, default=default, help="the figure (default: %(default)s)")
    add("--steps", type=int, default=40, help="of Adam (default: %(default)s)")
    add("--learning-rate", type=float, default=0.15, help="at the start (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the markets (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.learning_rate <= 0:
        parser.error("--steps and --learning-rate must be positive")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return run(args)


def run(args: argparse.Namespace) -> int:
    fast = (8, 12, min(args.steps, 5))
    markets, periods, steps = fast if args.fast else (32, 60, args.steps)
    rng = np.random.default_rng(args.seed)
    exposure = loadings(rng)
    train = generate(markets, periods, exposure, rng)
    test = generate(markets, periods, exposure, rng, noise=False)
    assess, start = assessment(), two_stages(train)
    learned, utilities = learn(assess, start, train, steps, args.learning_rate)
    policies = {"two stages": start, "end to end": learned}
    outcomes = {name: assess(policy, test)[1] for name, policy in policies.items()}
    for name, policy in policies.items():
        outcome = outcomes[name]
        slow, fading = np.asarray(policy.weights)
        gamma, kappa = np.exp([policy.log_aversion, policy.log_cost])
        print(
            f"{name}: net return {np.mean(outcome.net):.3f} %, risk"
            f" {np.sqrt(np.mean(outcome.variance)):.3f} %, turnover {np.mean(outcome.turnover):.3f} a"
            f" period; weights {slow:.3f} and {fading:.3f}, gamma {gamma:.3f}, kappa {kappa:.3f}"
        )
    before, after = (np.asarray(outcome.utility) for outcome in outcomes.values())
    gain = after - before
    error = float(np.std(gain, ddof=1) / np.sqrt(markets))
    errors = float(np.mean(gain)) / error
    ratio = float(np.mean(outcomes["end to end"].net) / np.mean(outcomes["two stages"].net))
    if args.fast:
        good = utilities[-1] > utilities[0]
    else:
        good = ratio >= RETURN_RATIO and errors >= STANDARD_ERRORS
    print(
        f"utility {np.mean(before):.4f} -> {np.mean(after):.4f} % a period, by {errors:.1f} standard"
        f" errors; net return {ratio:.2f} times   {'ok' if good else 'FAILED'}"
    )
    save_figure(args.output, utilities, outcomes)
    print(f"figure: {args.output}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
