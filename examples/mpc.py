"""Learn the cost of a short-sighted controller by gradient through its closed loop.

Three masses on a line, joined by springs, are pushed to rest by a force on the first of them, which is
limited, against random knocks. Every step a receding-horizon (model predictive) controller solves

    minimize    sum_k x_k' diag(e) x_k + r u_k^2  +  x_N' L L' x_N       over u_0 .. u_(N-1)
    subject to  x_(k+1) = A x_k + B u_k,  x_0 the state now,  -1 <= u_k <= 1,

a quadratic program in the forces once the states are written as functions of them, applies u_0 and starts
again. With N = 4 steps and the stage cost x'x + u^2 / 10 alone it doesn't see far enough to stop the
masses. What is learned are e, r and L: the loss is the stage cost of the closed loop over 100 steps
(Amos et al., "Differentiable MPC for End-to-end Planning and Control", NeurIPS 2018; Agrawal et al.,
"Learning Convex Optimization Control Policies", L4DC 2020). The loop is a `lax.scan` that is compiled
as a whole with its gradient, and each program starts from the last solution, moved on by a step.

    python examples/mpc.py       # learns, writes mpc.png

From states never seen it must cost at most three quarters of what the stage cost alone does, and within
5 % of what the cost-to-go of the unlimited problem (the solution of the Riccati equation, which is not
told to it) does as the terminal cost. The gradient must be that of central differences to 1e-5, and
starting from the last solution must save iterations.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from tqdm import trange

import jaxopt_layers as jl

MASSES, STATES, HORIZON, STEPS = 3, 6, 4, 100
INTERVAL, SPRING, EFFORT = 0.4, 1.0, 0.1
KNOCK = 0.02  # standard deviation of the change of a velocity in a step
TO_START, TO_RICCATI, TO_DIFFERENCES = 0.75, 1.05, 1e-5
FAINT, BLUE, ORANGE = "#9aa2ab", "#2b6cb0", "#c05621"


class Cost(NamedTuple):
    """What is learned: log e (STATES,), log r, and L (STATES, STATES)."""

    log_state: jax.Array
    log_effort: jax.Array
    terminal: jax.Array


class Trials(NamedTuple):
    """Starts (k, STATES) and knocks (k, STEPS, STATES)."""

    starts: jax.Array
    knocks: jax.Array


class Run(NamedTuple):
    """A closed loop: states (STEPS, STATES), forces, iterations and whether each program was solved."""

    states: jax.Array
    forces: jax.Array
    iterations: jax.Array
    solved: jax.Array


# Of a cost and trials, warm or not: the mean stage cost, its gradient and the runs.
Assessment = Callable[[Cost, Trials, bool], tuple[tuple[jax.Array, Run], Cost]]


def plant() -> tuple[np.ndarray, np.ndarray]:
    """A and B: x = (positions, velocities), the force held over an interval."""
    springs = -SPRING * (np.diag([1.0, 2.0, 1.0]) - np.eye(3, k=1) - np.eye(3, k=-1))
    rate = np.zeros((STATES + 1, STATES + 1))
    rate[:MASSES, MASSES:STATES] = np.eye(MASSES)
    rate[MASSES:STATES, :MASSES] = springs
    rate[MASSES, STATES] = 1.0
    # The exponential by its series, which converges fast for so short an interval.
    total = term = np.eye(STATES + 1)
    for k in range(1, 20):
        term = term @ rate * INTERVAL / k
        total = total + term
    return total[:STATES, :STATES], total[:STATES, STATES]


def rollout(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x_1 .. x_N) = free x_0 + forced u: free (N, STATES, STATES) and forced (N, STATES, N)."""
    powers = [np.eye(STATES)]
    for _ in range(HORIZON):
        powers.append(A @ powers[-1])
    forced = np.zeros((HORIZON, STATES, HORIZON))
    for k in range(HORIZON):
        for j in range(k + 1):
            forced[k, :, j] = powers[k - j] @ B
    return np.stack(powers[1:]), forced


def cost_to_go(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """L with L L' the solution of the Riccati equation: what x costs from here on, without limits."""
    P = np.eye(STATES)
    for _ in range(2000):
        gain = B @ P @ A / (EFFORT + B @ P @ B)
        P = np.eye(STATES) + A.T @ P @ (A - np.outer(B, gain))
    return np.linalg.cholesky(P)


def draw(trials: int, rng: np.random.Generator) -> Trials:
    starts = rng.uniform(-1, 1, (trials, STATES))
    knocks = np.zeros((trials, STEPS, STATES))
    knocks[..., MASSES:] = KNOCK * rng.standard_normal((trials, STEPS, MASSES))
    return Trials(jnp.asarray(starts), jnp.asarray(knocks))


def moved_on(solution: jl.QPSolution) -> jl.QPSolution:
    """A plan and its multipliers one step later, the last entry twice."""

    def shift(v: jax.Array) -> jax.Array:
        return jnp.append(v[1:], v[-1])

    parts = {name: shift(getattr(solution, name)) for name in ("x", "z_lower", "z_upper")}
    return replace(solution, **parts)


def assessment() -> Assessment:
    """Compiled once, for learning, testing and comparing."""
    A, B = plant()
    free, forced = map(jnp.asarray, rollout(A, B))

    def close_loop(cost: Cost, start: jax.Array, knocks: jax.Array, warm: jax.Array) -> Run:
        weights = jnp.tile(jnp.diag(jnp.exp(cost.log_state)), (HORIZON, 1, 1))
        weights = weights.at[-1].add(cost.terminal @ cost.terminal.T)
        effort = jnp.exp(cost.log_effort)
        weighted = jnp.einsum("kij,kjn->kin", weights, forced)
        H = 2 * jnp.einsum("kim,kin->mn", forced, weighted) + 2 * effort * jnp.eye(HORIZON)
        F = 2 * jnp.einsum("kin,kij->nj", weighted, free)

        def plan(x: jax.Array, init: jl.QPSolution | None) -> jl.QPSolution:
            return jl.solve_qp(H, F @ x, lower=-1.0, upper=1.0, init=init)

        def step(carry: tuple[jax.Array, jl.QPSolution], knock: jax.Array) -> tuple:
            x, last = carry
            solution = plan(x, last)
            force = solution.x[0]
            now = Run(x, force, solution.iterations, solution.status == jl.Status.SOLVED)
            # A start that had failed is ignored, which makes the next one a cold one.
            status = jnp.where(warm, solution.status, jl.Status.MAX_ITERATIONS)
            following = moved_on(replace(solution, status=status))
            return (A @ x + B * force + knock, following), now

        shapes = jax.eval_shape(lambda x: plan(x, None), start)
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        nothing = replace(nothing, status=jnp.full_like(nothing.status, jl.Status.MAX_ITERATIONS))
        return jax.lax.scan(step, (start, nothing), knocks)[1]

    def loss(cost: Cost, trials: Trials, warm: jax.Array) -> tuple[jax.Array, Run]:
        runs = jax.vmap(close_loop, in_axes=(None, 0, 0, None))(cost, *trials, warm)
        stage = jnp.sum(runs.states**2, axis=-1) + EFFORT * runs.forces**2
        return jnp.mean(stage), runs

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def gradient_error(
    assess: Assessment, cost: Cost, trials: Trials, rng: np.random.Generator
) -> float:
    """Against a central difference in a random direction, relative; away from the optimum, where both vanish.

    The difference is narrow, because the loss has a kink wherever a force reaches its limit.
    """
    parts = (rng.standard_normal(np.shape(part)) for part in cost)
    direction = Cost(*map(jnp.asarray, parts))
    width = 1e-6

    def at(shift: float) -> float:
        moved = jax.tree.map(lambda c, d: c + shift * d, cost, direction)
        return float(assess(moved, trials, True)[0][0])

    difference = (at(width) - at(-width)) / (2 * width)
    gradient = assess(cost, trials, True)[1]
    pairs = zip(gradient, direction, strict=True)
    slope = float(sum(np.vdot(np.asarray(g), np.asarray(d)) for g, d in pairs))
    return abs(slope - difference) / abs(difference)


def stage_cost_alone() -> Cost:
    """Where learning starts. The gradient in L vanishes at zero, so it starts small instead."""
    return Cost(jnp.zeros(STATES), jnp.asarray(np.log(EFFORT)), 0.1 * jnp.eye(STATES))


def learn(
    assess: Assessment, cost: Cost, trials: Trials, steps: int, learning_rate: float
) -> tuple[Cost, list[float]]:
    """Adam; also the loss at each step."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, alpha=0.05))

    @jax.jit
    def update(gradient: Cost, state: optax.OptState, cost: Cost) -> tuple:
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(cost, change), state

    state, losses = optimizer.init(cost), []
    progress = trange(steps, desc="learning the controller's cost", unit="step")
    for _ in progress:
        (loss, runs), gradient = assess(cost, trials, True)
        losses.append(float(loss))
        progress.set_postfix(cost=f"{loss:.4f}")
        if failed := int(np.sum(~np.asarray(runs.solved))):
            progress.write(f"warning: {failed} programs weren't solved")
        cost, state = update(gradient, state, cost)
    return cost, losses


def save_figure(path: Path, losses: list[float], runs: dict[str, Run], counts: dict) -> None:
    figure = Figure(figsize=(12, 7), layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    first.plot(losses, color=BLUE)
    first.set(
        xlabel="step of learning",
        ylabel="cost",
        title="Closed loop, training",
        ylim=(0, 1.05 * max(losses)),
    )
    styles = {"color": (ORANGE, BLUE, FAINT), "ls": ("-", "-", "--")}
    for (name, run), color, dashes in zip(runs.items(), *styles.values(), strict=True):
        second.plot(run.states[0, :, MASSES - 1], color=color, ls=dashes, label=name)
        third.step(
            np.arange(STEPS), run.forces[0], color=color, ls=dashes, where="post", label=name
        )
    second.set(ylabel="position", title="The mass farthest from the force, one trial")
    third.set(ylabel="force", title="The force, which is limited")
    for (name, iterations), color in zip(counts.items(), (BLUE, ORANGE), strict=True):
        fourth.plot(iterations, color=color, label=name)
    fourth.set(ylabel="iterations", title="Iterations of the solver (mean)", ylim=0)
    for axes in (second, third, fourth):
        axes.set_xlabel("time step")
        axes.legend(frameon=False)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if the learned cost is good enough."""
    parser = argparse.ArgumentParser(
        description="Learn a model predictive controller's cost through its closed loop.",
        epilog=f"Fails (exit code 1) above {TO_START} times the start's cost or {TO_RICCATI} times that"
        f" of the Riccati equation, if the gradient errs by more than {TO_DIFFERENCES}, or if warm"
        " starts save no iterations.",
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("mpc.png"), help="the figure (default: %(default)s)")
    add("--steps", type=int, default=80, help="of Adam (default: %(default)s)")
    add("--learning-rate", type=float, default=0.2, help="at the start (default: %(default)s)")
    add("--seed", type=int, default=0, help="of starts and knocks (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.learning_rate <= 0:
        parser.error("--steps and --learning-rate must be positive")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return run(args)


def run(args: argparse.Namespace) -> int:
    trials, steps = (2, min(args.steps, 5)) if args.fast else (16, args.steps)
    rng = np.random.default_rng(args.seed)
    train, test = draw(trials, rng), draw(trials, rng)
    assess, start = assessment(), stage_cost_alone()
    learned, losses = learn(assess, start, train, steps, args.learning_rate)
    riccati = start._replace(terminal=jnp.asarray(cost_to_go(*plant())))
    costs = {"stage cost alone": start, "learned": learned, "Riccati": riccati}
    results = {name: assess(cost, test, True)[0] for name, cost in costs.items()}
    totals = {name: float(loss) for name, (loss, _) in results.items()}
    runs = {name: run for name, (_, run) in results.items()}
    cold = assess(learned, test, False)[0][1]
    counts = {
        "from the last solution": np.mean(runs["learned"].iterations, axis=0),
        "from scratch": np.mean(cold.iterations, axis=0),
    }
    for name, total in totals.items():
        print(f"{name:<20}{total:8.4f}")
    to_start, to_riccati = (
        totals["learned"] / totals[name] for name in ("stage cost alone", "Riccati")
    )
    good = to_start < 1 if args.fast else to_start <= TO_START and to_riccati <= TO_RICCATI
    verdict = "ok" if good else "FAILED"
    print(f"{to_start:.3f} times the start, {to_riccati:.3f} times Riccati   {verdict}")
    error = gradient_error(assess, start, train, rng)
    precise = error <= TO_DIFFERENCES
    print(f"gradient against differences: {error:.0e}   {'ok' if precise else 'FAILED'}")
    warm, scratch = (float(np.mean(count)) for count in counts.values())
    verdict = "ok" if warm < scratch else "FAILED"
    print(f"iterations: {warm:.1f} from the last solution, {scratch:.1f} from scratch   {verdict}")
    save_figure(args.output, losses, runs, counts)
    print(f"figure: {args.output}")
    return 0 if good and precise and warm < scratch else 1


if __name__ == "__main__":
    sys.exit(main())
