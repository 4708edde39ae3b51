"""The quadratic program of an OptNet layer, written in CVXPY, against `solve_qp`.

OptNet (Amos and Kolter, "OptNet: Differentiable Optimization as a Layer in Neural Networks", ICML 2017)
makes a layer of

    z(q) = argmin_z 1/2 |Q_sqrt z|^2 + q'z   subject to   A z = b,  G z <= h,    Q = Q_sqrt'Q_sqrt,

where q comes from the layer before and all the rest is learned. A parameter Q would have to be positive
semidefinite; Q_sqrt may be any matrix, and with it the program is disciplined parametrized (DPP), so that
CVXPY can turn it into a layer once and for all (Agrawal et al., "Differentiable Convex Optimization
Layers", NeurIPS 2019). With b = A z0 and h = G z0 + s0, s0 > 0, it is feasible whatever is learned.

The same student is learned twice, from the answers of a teacher that is such a program itself: once
through `CvxpyLayer` and once through `solve_qp` with Q = Q_sqrt'Q_sqrt.

    python examples/optnet_in_cvxpy.py       # learns, writes optnet_in_cvxpy.png

Before learning and after it, the two must agree to 1e-6 in the answers and to 1e-5 in the gradients of
every parameter, and the student must have come closer to the teacher.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from tqdm import trange

import jaxopt_layers as jl
from jaxopt_layers.cvxpy_layer import CvxpyLayer

VARIABLES, EQUALITIES, INEQUALITIES = 8, 2, 8
VALUES_AGREE, GRADIENTS_AGREE = 1e-6, 1e-5
FAINT, BLUE, ORANGE = "#9aa2ab", "#2b6cb0", "#c05621"


class Program(NamedTuple):
    """What is learned; s0 = exp(log_s0)."""

    Q_sqrt: jax.Array
    A: jax.Array
    G: jax.Array
    z0: jax.Array
    log_s0: jax.Array

    @property
    def b(self) -> jax.Array:
        return self.A @ self.z0

    @property
    def h(self) -> jax.Array:
        return self.G @ self.z0 + jnp.exp(self.log_s0)


# From q (k, n) to z (k, n), and the number of programs that weren't solved.
Layer = Callable[[Program, jax.Array], tuple[jax.Array, jax.Array]]


def random_program(rng: np.random.Generator) -> Program:
    n, p, m = VARIABLES, EQUALITIES, INEQUALITIES
    parts = (
        np.eye(n) + 0.3 * rng.standard_normal((n, n)),
        rng.standard_normal((p, n)),
        rng.standard_normal((m, n)),
        0.1 * rng.standard_normal(n),
        np.full(m, -0.5),
    )
    return Program(*map(jnp.asarray, parts))


def in_cvxpy() -> Layer:
    """The program as CVXPY writes it; the layer takes batches as they are."""
    z = cp.Variable(VARIABLES)
    Q_sqrt = cp.Parameter((VARIABLES, VARIABLES))
    q = cp.Parameter(VARIABLES)
    A, b = cp.Parameter((EQUALITIES, VARIABLES)), cp.Parameter(EQUALITIES)
    G, h = cp.Parameter((INEQUALITIES, VARIABLES)), cp.Parameter(INEQUALITIES)
    objective = cp.Minimize(0.5 * cp.sum_squares(Q_sqrt @ z) + q @ z)
    problem = cp.Problem(objective, [A @ z == b, G @ z <= h])
    layer = CvxpyLayer(problem, parameters=[Q_sqrt, q, A, b, G, h], variables=[z])

    def answer(program: Program, q: jax.Array) -> tuple[jax.Array, jax.Array]:
        data = (program.Q_sqrt, q, program.A, program.b, program.G, program.h)
        solution = layer.solve(*data)
        return solution.variables[0], jnp.sum(solution.status != jl.Status.SOLVED)

    return answer


def by_solve_qp(program: Program, q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same by hand: one program, mapped over the batch of q."""
    Q = program.Q_sqrt.T @ program.Q_sqrt

    def one(q: jax.Array) -> jl.QPSolution:
        return jl.solve_qp(Q, q, program.A, program.b, program.G, program.h)

    solution = jax.vmap(one)(q)
    return solution.x, jnp.sum(solution.status != jl.Status.SOLVED)


class Lesson(NamedTuple):
    """The loss of a student, its gradient, its answers, and how many programs weren't solved."""

    loss: jax.Array
    gradient: Program
    answers: jax.Array
    failed: jax.Array


def lesson(layer: Layer) -> Callable[[Program, jax.Array, jax.Array], Lesson]:
    """Compiled: the mean squared error of the answers and its gradient."""

    def error(program: Program, q: jax.Array, wanted: jax.Array) -> tuple[jax.Array, tuple]:
        answers, failed = layer(program, q)
        return jnp.mean(jnp.sum((answers - wanted) ** 2, axis=1)), (answers, failed)

    @jax.jit
    def teach(program: Program, q: jax.Array, wanted: jax.Array) -> Lesson:
        value_and_grad = jax.value_and_grad(error, has_aux=True)
        (loss, (answers, failed)), gradient = value_and_grad(program, q, wanted)
        return Lesson(loss, gradient, answers, failed)

    return teach


class Student(NamedTuple):
    """The first and the last lesson, the losses between them, and what was learned."""

    first: Lesson
    last: Lesson
    losses: list[float]
    program: Program


def learn(
    name: str, teach: Callable, program: Program, q: jax.Array, wanted: jax.Array, steps: int
) -> Student:
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, steps, alpha=0.05))

    @jax.jit
    def update(gradient: Program, state: optax.OptState, program: Program) -> tuple:
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(program, change), state

    state = optimizer.init(program)
    first = now = teach(program, q, wanted)
    losses = [float(now.loss)]
    progress = trange(steps, desc=f"learning through {name}", unit="step")
    for _ in progress:
        program, state = update(now.gradient, state, program)
        now = teach(program, q, wanted)
        losses.append(float(now.loss))
        progress.set_postfix(error=f"{now.loss:.4f}")
        if now.failed:
            progress.write(f"warning: {now.failed} programs weren't solved")
    return Student(first, now, losses, program)


def disagreements(one: Lesson, other: Lesson) -> dict[str, float]:
    """The largest difference of the answers and of each gradient, relative to one plus its size."""

    def relative(a: jax.Array, b: jax.Array) -> float:
        return float(jnp.max(jnp.abs(a - b)) / (1 + jnp.max(jnp.abs(b))))

    gradients = zip(Program._fields, one.gradient, other.gradient, strict=True)
    return {"z": relative(one.answers, other.answers)} | {
        name: relative(a, b) for name, a, b in gradients
    }


def save_figure(path: Path, students: dict[str, Student], agree: dict[str, dict]) -> None:
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    through, by_hand = students.values()
    wide, thin = {"color": FAINT, "lw": 4}, {"color": BLUE, "lw": 1.2}
    for (name, student), style in zip(students.items(), (thin, wide), strict=True):
        first.plot(student.losses, label=name, zorder=2 if style is thin else 1, **style)
    first.set(xlabel="step", ylabel="squared error", yscale="log", title="Learning from a teacher")
    first.legend(frameon=False)
    x, y = np.ravel(by_hand.first.answers), np.ravel(through.first.answers)
    ends = np.array([x.min(), x.max()])
    second.plot(ends, ends, color=FAINT, lw=1, zorder=1)
    second.plot(x, y, ".", color=BLUE, ms=3, zorder=2)
    second.set(xlabel="solve_qp", ylabel="CvxpyLayer", title="Entries of z, before learning")
    place = np.arange(1 + len(Program._fields))
    styles = zip(agree.items(), (ORANGE, BLUE), (-0.1, 0.1), strict=True)
    for (when, errors), color, shift in styles:
        heights = np.maximum(list(errors.values()), 1e-17)
        third.plot(place + shift, heights, "o", color=color, label=when)
    bounds = [VALUES_AGREE] + [GRADIENTS_AGREE] * len(Program._fields)
    third.plot(place, bounds, "_", color=FAINT, ms=24, label="allowed")
    third.set(yscale="log", title="Largest relative difference")
    third.set_xticks(place, ["z", *(f"d{name}" for name in Program._fields)])
    third.legend(frameon=False)
    for axes in (first, second, third):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if the two layers agree and the student learns."""
    parser = argparse.ArgumentParser(
        description="Learn an OptNet layer through CVXPY and through solve_qp, and compare.",
        epilog=f"Fails (exit code 1) if answers differ by more than {VALUES_AGREE} or gradients by"
        f" more than {GRADIENTS_AGREE}, or if the student doesn't come closer to the teacher.",
    )
    add = parser.add_argument
    default = Path("optnet_in_cvxpy.png")
    add("--output", type=Path, default=default, help="the figure (default: %(default)s)")
    add("--steps", type=int, default=300, help="of Adam (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the data (default: %(default)s)")
    add("--fast", action="store_true", help="a run of some seconds that only shows that it works")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error("--steps must be positive")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        return run(args)


def run(args: argparse.Namespace) -> int:
    batch, steps = (8, min(args.steps, 15)) if args.fast else (64, args.steps)
    rng = np.random.default_rng(args.seed)
    teacher, start = random_program(rng), random_program(rng)
    q = jnp.asarray(rng.standard_normal((batch, VARIABLES)))
    layers = {"CvxpyLayer": lesson(in_cvxpy()), "solve_qp": lesson(by_solve_qp)}
    wanted = layers["solve_qp"](teacher, q, q).answers
    students = {name: learn(name, teach, start, q, wanted, steps) for name, teach in layers.items()}
    through = students["CvxpyLayer"]
    # Both at the parameters that were learned through CVXPY: the two runs drift apart in rounding.
    by_hand = layers["solve_qp"](through.program, q, wanted)
    agree = {
        "before learning": disagreements(through.first, students["solve_qp"].first),
        "after learning": disagreements(through.last, by_hand),
    }
    good = True
    for when, errors in agree.items():
        values, gradients = errors["z"], max(list(errors.values())[1:])
        fine = values <= VALUES_AGREE and gradients <= GRADIENTS_AGREE
        good &= fine
        verdict = "ok" if fine else "FAILED"
        print(f"{when:<17}answers differ by {values:.0e}, gradients by {gradients:.0e}   {verdict}")
    for name, student in students.items():
        fine = student.losses[-1] < (0.9 if args.fast else 0.1) * student.losses[0]
        good &= fine
        change = f"{student.losses[0]:.4f} -> {student.losses[-1]:.4f}"
        print(f"{name:<17}squared error {change}   {'ok' if fine else 'FAILED'}")
    save_figure(args.output, students, agree)
    print(f"figure: {args.output}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
