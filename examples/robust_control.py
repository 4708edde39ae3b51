"""Tune a convex control policy through the closed loop: three carts joined by springs, weak motors.

The state x holds positions and velocities of three carts on a track, with springs between them. Motors push
the outer two with forces u, at most 0.3 in size, and random blows w hit all three:

    x_{t+1} = A x_t + B u_t + w_t,   cost  mean_t (|x_t|^2 + |u_t|^2),   -0.3 <= u_t <= 0.3.

Without the limits the best policy is known: minimize |u|^2 + V(A x + B u) with V(x) = x'P x from Riccati's
equation. With limits it isn't, but the same policy makes sense for any P = S'S, a quadratic program a step,

    u(x; S) = argmin_u |u|^2 + |S (A x + B u)|^2  subject to  -0.3 <= u <= 0.3,

a convex approximate dynamic programming policy. Its S is tuned by the gradient of the cost of whole closed
loops (Agrawal, Barratt, Boyd, Stellato, "Learning convex optimization control policies", L4DC 2020): it goes
through 100 steps, each with its program, by `jax.lax.scan`, and `jax.vmap` over draws of the blows.

    python examples/robust_control.py       # tunes, writes robust_control.png

On blows never seen it must cost at least 10 % less than the policy with Riccati's P.
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

CARTS, STEPS, BATCH, HELD_OUT = 3, 100, 16, 8
INTERVAL, FRICTION, BLOWS, LIMIT = 0.5, 0.05, 0.3, 0.3
TO_UNTUNED = 0.9
INK, FAINT, BLUE, ORANGE = "#22262b", "#9aa2ab", "#2b6cb0", "#c05621"


class System(NamedTuple):
    """x_next = A x + B u."""

    A: np.ndarray
    B: np.ndarray


def carts() -> System:
    """Unit masses and springs in continuous time, then exactly over one interval of constant force."""
    springs = np.array([[1.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]])
    pushed = np.eye(CARTS)[:, [0, 2]]
    flow = np.zeros((8, 8))  # of (positions, velocities, forces)
    flow[:3, 3:6] = np.eye(CARTS)
    flow[3:6, :6] = np.hstack([-springs, -FRICTION * np.eye(CARTS)])
    flow[3:6, 6:] = pushed
    total = term = np.eye(8)
    for k in range(1, 30):  # the exponential's series
        term = term @ (INTERVAL * flow) / k
        total = total + term
    return System(total[:6, :6], total[:6, 6:])


def riccati(system: System) -> np.ndarray:
    """P of the best policy without limits: the fixed point of dynamic programming."""
    A, B = system
    P = np.eye(len(A))
    for _ in range(1000):
        P = np.eye(len(A)) + A.T @ P @ A - A.T @ P @ B @ gain(system, P)
    return P


def gain(system: System, P: np.ndarray) -> np.ndarray:
    """K of the policy u = -K x that minimizes |u|^2 + (A x + B u)'P(A x + B u) without limits."""
    A, B = system
    return np.linalg.solve(np.eye(B.shape[1]) + B.T @ P @ B, B.T @ P @ A)


def blows(batch: int, rng: np.random.Generator) -> np.ndarray:
    """(batch, STEPS + 1, state): velocities change at random, positions do not; the first is the start."""
    drawn = BLOWS * rng.standard_normal((batch, STEPS + 1, 2 * CARTS))
    drawn[..., :CARTS] = 0
    return drawn


class Loops(NamedTuple):
    """Costs (batch,) of closed loops, states (batch, STEPS, state), and programs not solved."""

    costs: jax.Array
    states: jax.Array
    failed: jax.Array


def closed_loop(root: jax.Array, system: System, drawn: jax.Array) -> Loops:
    """One draw of the blows under the policy with P = root' root."""
    A, B = (jnp.asarray(matrix) for matrix in system)
    SA, SB = root @ A, root @ B
    Q = 2 * (jnp.eye(B.shape[1]) + SB.T @ SB)
    slope = 2 * SB.T @ SA

    def step(x: jax.Array, blow: jax.Array) -> tuple[jax.Array, tuple]:
        program = jl.solve_qp(Q, slope @ x, lower=-LIMIT, upper=LIMIT)
        u = program.x
        cost = x @ x + u @ u
        return A @ x + B @ u + blow, (cost, x, program.status != jl.Status.SOLVED)

    _, (costs, states, failed) = jax.lax.scan(step, drawn[0], drawn[1:])
    return Loops(jnp.mean(costs), states, jnp.sum(failed))


def mean_cost(root: jax.Array, system: System, drawn: jax.Array) -> tuple[jax.Array, Loops]:
    loops = jax.vmap(closed_loop, in_axes=(None, None, 0))(root, system, drawn)
    return jnp.mean(loops.costs), loops


# The one program that is compiled: for the tuning, and, without its gradient, for the test.
cost_and_gradient = jax.jit(jax.value_and_grad(mean_cost, has_aux=True))


def tune(
    root: jax.Array, system: System, batch: int, steps: int, rate: float, rng: np.random.Generator
) -> jax.Array:
    """S after Adam, with new blows at every step."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps, alpha=0.05))
    state = optimizer.init(root)

    @jax.jit
    def update(root: jax.Array, state: optax.OptState, gradient: jax.Array) -> tuple:
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(root, change), state

    progress = trange(steps, desc="tuning the policy", unit="step")
    for _ in progress:
        (cost, loops), gradient = cost_and_gradient(root, system, blows(batch, rng))
        root, state = update(root, state, gradient)
        progress.set_postfix(cost=f"{cost:.3f}")
        if failed := int(jnp.sum(loops.failed)):
            progress.write(f"warning: {failed} programs weren't solved")
    return root


class Outcome(NamedTuple):
    """Costs (draws,) on blows held out, and the states of the first batch."""

    costs: np.ndarray
    states: np.ndarray
    failed: int


def evaluate(root: jax.Array, system: System, held_out: list[np.ndarray]) -> Outcome:
    batches = [cost_and_gradient(root, system, drawn)[0][1] for drawn in held_out]
    costs = np.concatenate([np.asarray(loops.costs) for loops in batches])
    failed = sum(int(jnp.sum(loops.failed)) for loops in batches)
    return Outcome(costs, np.asarray(batches[0].states), failed)


def clipped_costs(system: System, held_out: list[np.ndarray]) -> np.ndarray:
    """Costs (draws,) of the best policy without limits, its forces cut off at the limits."""
    A, B = system
    drawn = np.concatenate(held_out)
    feedback = gain(system, riccati(system))
    x, costs = drawn[:, 0], np.zeros(len(drawn))
    for t in range(1, STEPS + 1):
        u = np.clip(-x @ feedback.T, -LIMIT, LIMIT)
        costs += (np.sum(x**2, axis=1) + np.sum(u**2, axis=1)) / STEPS
        x = x @ A.T + u @ B.T + drawn[:, t]
    return costs


def save_figure(path: Path, untuned: Outcome, tuned: Outcome, costs: dict[str, float]) -> None:
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    worst = int(np.argmax(untuned.costs[: len(untuned.states)]))
    for test, color, name in ((untuned, ORANGE, "untuned"), (tuned, BLUE, "tuned")):
        lines = first.plot(test.states[worst, :, :CARTS], color=color, lw=1)
        lines[0].set_label(name)
    first.set(xlabel="time step", title="Positions, under the same blows")
    first.legend(frameon=False)
    ends = np.array([min(tuned.costs.min(), untuned.costs.min()), untuned.costs.max()])
    second.plot(ends, ends, color=FAINT, ls="--", lw=1)
    second.plot(untuned.costs, tuned.costs, ".", color=BLUE, alpha=0.6)
    second.set(
        xscale="log", yscale="log", xlabel="untuned", ylabel="tuned", title="Cost of each draw"
    )
    bars = third.barh(list(costs), list(costs.values()), color=(FAINT, ORANGE, BLUE))
    third.bar_label(bars, fmt="%.2f", padding=3)
    third.invert_yaxis()
    third.set(title="Mean cost, blows held out", xlim=(0, 1.2 * max(costs.values())))
    for axes in (first, second, third):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if the tuned policy is good enough."""
    parser = argparse.ArgumentParser(
        description="Tune a convex control policy by gradient through the closed loop.",
        epilog=f"Fails (exit code 1) above {TO_UNTUNED} times the cost of the untuned policy,"
        " or if a program isn't solved.",
    )
    add = parser.add_argument
    default = Path("robust_control.png")
    add("--output", type=Path, default=default, help="the figure (default: %(default)s)")
    add("--steps", type=int, default=60, help="of Adam (default: %(default)s)")
    add("--learning-rate", type=float, default=0.1, help="at the start (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the blows (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.learning_rate <= 0:
        parser.error("--steps and --learning-rate must be positive")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return run(args)


def run(args: argparse.Namespace) -> int:
    steps, tests = (min(args.steps, 10), 2) if args.fast else (args.steps, HELD_OUT)
    rng, system = np.random.default_rng(args.seed), carts()
    held_out = [blows(BATCH, rng) for _ in range(tests)]
    start = jnp.asarray(np.linalg.cholesky(riccati(system)).T)
    tuned_root = tune(start, system, BATCH, steps, args.learning_rate, rng)
    untuned, tuned = (evaluate(root, system, held_out) for root in (start, tuned_root))
    costs = {
        "no limits, clipped": float(clipped_costs(system, held_out).mean()),
        "untuned": float(untuned.costs.mean()),
        "tuned": float(tuned.costs.mean()),
    }
    for name, cost in costs.items():
        print(f"{name:<20}{cost:8.3f}")
    ratio, failed = costs["tuned"] / costs["untuned"], untuned.failed + tuned.failed
    good = ratio <= (1.0 if args.fast else TO_UNTUNED) and not failed
    print(f"{ratio:.3f} times the cost of the untuned policy   {'ok' if good else 'FAILED'}")
    if failed:
        print(f"{failed} programs weren't solved")
    save_figure(args.output, untuned, tuned, costs)
    print(f"figure: {args.output}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
