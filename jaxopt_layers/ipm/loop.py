"""The one loop: it alone counts iterations, tests for the end and handles breakdown."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.cones import Product
from jaxopt_layers.equilibrate import Scaling
from jaxopt_layers.ipm.outcome import Outcome
from jaxopt_layers.ipm.start import WarmStart, unit_point, warm_point
from jaxopt_layers.ipm.state import RUNNING, Iterate, Residuals, State, evaluate
from jaxopt_layers.ipm.step import Step, predictor_corrector_step
from jaxopt_layers.ipm.terminate import Measure, certificate, measure
from jaxopt_layers.kkt import Form
from jaxopt_layers.matrix import norm_inf
from jaxopt_layers.problem import Program
from jaxopt_layers.settings import Settings, Tolerances
from jaxopt_layers.status import Status

# The linear solves are refined once a step leaves this much more residual than it should have.
_LINEAR_ERROR = 0.1
# Iterations without a better iterate, and the shortest step, after which a problem is given up.
_PATIENCE = 12
_SHORTEST_STEP = 1e-7
# How the regularization grows when a factorization breaks down, and where that ends.
_MORE_REGULARIZATION = 100
_MOST_REGULARIZATION = 1e-2


def interior_point(
    program: Program,
    cone: Product,
    form: Form,
    scaling: Scaling,
    settings: Settings,
    limits: Tolerances,
    valid: Array,
    warm: WarmStart | None,
) -> Outcome:
    """Solve the scaled program; where not `valid`, end at once with INVALID_INPUT.

    A member of a batch that is finished is frozen: under vmap `lax.while_loop` keeps its carry.
    """
    cold = jnp.ones((), bool)
    first = unit_point(program, cone)
    if warm is not None:
        cold = warm.usable <= 0
        moved = warm_point(program, cone, scaling, warm)
        first = jax.tree.map(lambda a, b: jnp.where(cold, a, b), first, moved)

    def unfinished(state: State) -> Array:
        return (state.status == RUNNING) & (state.iterations < settings.max_iterations)

    def advance(state: State) -> State:
        starting = cold & (state.iterations == 0)
        step = predictor_corrector_step(
            program,
            cone,
            form,
            state.iterate,
            state.residuals,
            regularization=state.regularization,
            refinement=jnp.where(state.refine, settings.refinement_steps, 0),
            starting=starting,
        )
        return _judge(program, scaling, limits, state, step, starting)

    unmeasured = jnp.full(len(Measure._fields), jnp.inf, first.u.dtype)
    start = State(
        iterate=first,
        residuals=evaluate(program, first)[0],
        status=jnp.where(valid, RUNNING, Status.INVALID_INPUT).astype(jnp.int32),
        iterations=jnp.zeros((), jnp.int32),
        refine=jnp.zeros((), bool),
        regularization=jnp.array(limits.regularization, first.u.dtype),
        measured=unmeasured,
        best=first,
        best_measured=unmeasured,
        best_merit=jnp.array(jnp.inf, first.u.dtype),
        stalled=jnp.zeros((), jnp.int32),
    )
    return _conclude(lax.while_loop(unfinished, advance, start), limits)


def _judge(
    program: Program,
    scaling: Scaling,
    limits: Tolerances,
    state: State,
    step: Step,
    starting: Array,
) -> State:
    """Accept the step, or end with NUMERICAL_ERROR where it leads nowhere."""
    reached, terms = evaluate(program, step.iterate)
    vector = measure(program, scaling, step.iterate, terms)
    measured = Measure(*vector)
    merit = measured.worst
    finite = jnp.isfinite(jnp.sum(reached.equations) + reached.gap)
    better = finite & (merit < state.best_merit)
    stalled = jnp.where(better, 0, state.stalled + 1)
    status = certificate(measured, step.iterate, limits)
    status = jnp.where(merit <= limits.tolerance, Status.SOLVED, status)
    # A breakdown is met by staying where we are and regularizing more, a few times.
    regularization = jnp.where(finite, 1, _MORE_REGULARIZATION) * state.regularization
    hopeless = (step.length < _SHORTEST_STEP) | (stalled > _PATIENCE)
    hopeless = jnp.where(finite, hopeless, regularization > _MOST_REGULARIZATION)
    status = jnp.where(finite, status, RUNNING)
    status = jnp.where(hopeless & (status == RUNNING), Status.NUMERICAL_ERROR, status)

    def pick(condition: Array, new: Iterate, old: Iterate) -> Iterate:
        return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)

    return State(
        iterate=pick(finite, step.iterate, state.iterate),
        residuals=jax.tree.map(
            lambda a, b: jnp.where(finite, a, b), reached, state.residuals
        ),
        status=status.astype(jnp.int32),
        iterations=state.iterations + 1,
        regularization=regularization,
        refine=state.refine | ~finite | (~starting & _inaccurate(state.residuals, step, reached)),
        measured=jnp.where(finite, vector, state.measured),
        best=pick(better, step.iterate, state.best),
        best_measured=jnp.where(better, vector, state.best_measured),
        best_merit=jnp.where(better, merit, state.best_merit),
        stalled=stalled,
    )


def _inaccurate(before: Residuals, step: Step, reached: Residuals) -> Array:
    """Whether the residuals differ from what an exact Newton step would have left.

    They are linear in the step, so the residuals of the next iterate, which are needed anyway, show
    the error of the linear solves at no cost.
    """
    expected = step.remaining * before.equations
    norms = norm_inf(jnp.stack([reached.equations - expected, expected]))
    return norms[0] > _LINEAR_ERROR * norms[1]


def _conclude(state: State, limits: Tolerances) -> Outcome:
    """Give a problem that did not finish its best iterate, which may do."""
    unsolved = (state.status == RUNNING) | (state.status == Status.NUMERICAL_ERROR)
    status = jnp.where(state.status == RUNNING, Status.MAX_ITERATIONS, state.status)
    almost = unsolved & (state.best_merit <= limits.reduced_tolerance)
    status = jnp.where(almost, Status.ALMOST_SOLVED, status).astype(jnp.int32)
    usable = unsolved & jnp.isfinite(state.best_merit)
    best, last = (state.best, state.best_measured), (state.iterate, state.measured)
    iterate, measured = jax.tree.map(lambda a, b: jnp.where(usable, a, b), best, last)
    return Outcome(iterate, measured, status, state.iterations)
