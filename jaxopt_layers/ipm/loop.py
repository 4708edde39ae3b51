"""The one loop: it alone counts iterations, tests for the end and handles breakdown."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxopt_layers.cones import Product
from jaxopt_layers.equilibrate import Scaling
from jaxopt_layers.ipm.carry import Floats, Point, Progress, State
from jaxopt_layers.ipm.focus import Focus
from jaxopt_layers.ipm.outcome import Outcome
from jaxopt_layers.ipm.regularization import MOST_REGULARIZATION, next_regularization
from jaxopt_layers.ipm.start import WarmStart, unit_point, warm_point
from jaxopt_layers.ipm.state import RUNNING, Iterate, Residuals, evaluate
from jaxopt_layers.ipm.step import Step, predictor_corrector_step
from jaxopt_layers.ipm.terminate import Measure, certificate, measure, vanished
from jaxopt_layers.kkt import Form
from jaxopt_layers.matrix import constant_like, norm_inf
from jaxopt_layers.problem import Program
from jaxopt_layers.settings import Settings, Tolerances
from jaxopt_layers.status import Status

# The linear solves are refined once a step leaves this much more residual than it should have. Beside curved
# cones programs without an interior are common, whose steps get nowhere while they aren't accurate.
_LINEAR_ERROR, _CURVED_LINEAR_ERROR = 0.1, 1e-3
# Iterations without a better iterate, once near a solution, and the shortest step, after which a
# problem is given up.
_NEAR = 1e-3
_PATIENCE = 12
_SHORTEST_STEP = 1e-10
_SHORT_STEP = 0.2
# Iterations without tau after which a certificate need not get purer.
_WAIT_FOR_PURITY = 20
# A solved problem takes another step while it is not this much better than asked and the last step
# made it this much better. Or while the smaller one of an inequality's slack and multiplier is more than
# this part of the larger one, and the last step took mu to less than this part; it takes about a quarter
# where both are zero in the end, which no number of steps can tell apart.
_POLISHED, _WORTHWHILE_GAIN = 1e-4, 0.5
_SEPARATED, _SEPARATING_GAIN = 1e-7, 0.2

_Tree = TypeVar("_Tree")


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

    unmeasured = jnp.full(len(Measure._fields), jnp.inf, first.u.dtype)
    one = jnp.ones((), first.u.dtype)
    everything = Focus(one, one)
    start = State(
        floats=Floats(
            current=Point(first, unmeasured),
            residuals=everything.residuals(program, first, evaluate(program, first)),
            focus=everything,
            best=Point(first, unmeasured),
            regularization=jnp.array(limits.regularization, first.u.dtype),
        ),
        progress=Progress(
            status=jnp.where(valid, RUNNING, Status.INVALID_INPUT).astype(jnp.int32),
            iterations=jnp.zeros((), jnp.int32),
            stalled=jnp.zeros((), jnp.int32),
            refine=jnp.zeros((), bool),
            cautious=jnp.zeros((), bool),
        ),
    )
    # The floats travel as one vector: under vmap each array of the carry costs a kernel of its own.
    vector, unravel = ravel_pytree(start.floats)
    anchor = program.anchor + jnp.where(valid, vector[0], 0)
    vector = vector + constant_like(0, anchor, vector.dtype)
    progress = jax.tree.map(
        lambda v: (
            v | (constant_like(0, anchor, jnp.int32) > 0)
            if v.dtype == bool
            else v + constant_like(0, anchor, v.dtype)
        ),
        start.progress,
    )

    def unfinished(carry: tuple[Array, Progress]) -> Array:
        progress = carry[1]
        return (progress.status == RUNNING) & (progress.iterations < settings.max_iterations)

    def advance(carry: tuple[Array, Progress]) -> tuple[Array, Progress]:
        state = State(unravel(carry[0]), carry[1])
        starting = cold & (state.progress.iterations == 0) & cone.symmetric
        polishing = Measure(*state.floats.current.measured).worst <= limits.tolerance
        step = predictor_corrector_step(
            state.floats.focus.program(program),
            cone,
            form,
            state.floats.current.iterate,
            state.floats.residuals,
            regularization=state.floats.regularization,
            refinement=jnp.where(state.progress.refine | polishing, settings.refinement_steps, 0),
            starting=starting,
            cautious=state.progress.cautious,
            polishing=polishing,
        )
        state = _judge(program, cone, scaling, limits, state, step, starting)
        return ravel_pytree(state.floats)[0], state.progress

    vector, progress = lax.while_loop(unfinished, advance, (vector, progress))
    return _conclude(State(unravel(vector), progress), limits)


def _judge(
    program: Program,
    cone: Product,
    scaling: Scaling,
    limits: Tolerances,
    state: State,
    step: Step,
    starting: Array,
) -> State:
    """Accept the step, or end with NUMERICAL_ERROR where it leads nowhere."""
    floats, progress = state.floats, state.progress
    terms = evaluate(program, step.iterate)
    vector = measure(program, scaling, step.iterate, terms)
    measured = Measure(*vector)
    # The equations that the step was for, and those that the next one will be for.
    expected = floats.focus.residuals(program, step.iterate, terms)
    focus = Focus.on(step.iterate, measured)
    reached = focus.residuals(program, step.iterate, terms)
    finite = jnp.isfinite(jnp.sum(expected.equations) + expected.gap)
    best_before = Measure(*floats.best.measured).worst
    better = finite & (measured.worst < best_before)
    near = best_before < _NEAR
    gone = vanished(step.iterate)
    # One that is worse than the best but better than the last may be on its way.
    worse = ~(measured.worst < Measure(*floats.current.measured).worst)
    stalled = jnp.where(gone | (near & ~better), progress.stalled + (gone | worse), 0)
    # Convergence is superlinear in the end: one or two more steps buy the accuracy that derivatives
    # need, which suffer from every multiplier that is not yet small against its slack. With curved cones
    # it is not, and Newton's method on the residual map follows.
    solved = measured.worst <= limits.tolerance
    gained = measured.worst <= _WORTHWHILE_GAIN * Measure(*floats.current.measured).worst
    polish = jnp.zeros((), bool)
    if cone.is_orthant:
        polish = gained & (measured.worst > _POLISHED * limits.tolerance)
        polish = polish | _is_separating(program, cone, floats.current.iterate, step.iterate)
    done = jnp.where(finite & solved, ~polish, best_before <= limits.tolerance)
    tolerable = _LINEAR_ERROR if cone.is_orthant else _CURVED_LINEAR_ERROR
    inaccurate, diverged = _inaccurate(floats.residuals, step, expected, tolerable)
    inaccurate, diverged = ~starting & inaccurate, ~starting & diverged
    regularization = next_regularization(
        floats.regularization, limits.regularization, progress.refine, finite, inaccurate, diverged
    )
    # Next to a cone that isn't symmetric a short step is tried again with more centring.
    cautious = (step.length < _SHORT_STEP) & (not cone.symmetric)
    stuck = (step.length < _SHORTEST_STEP) & (progress.cautious | cone.symmetric)
    hopeless = stuck | (stalled > jnp.where(gone, 3 * _PATIENCE, _PATIENCE))
    hopeless = jnp.where(finite, hopeless, regularization > MOST_REGULARIZATION)

    final = hopeless | (gone & (stalled >= _WAIT_FOR_PURITY)) | _is_ray(step.iterate)
    proven = certificate(measured, step.iterate, limits, final)
    status = jnp.where(finite, proven, RUNNING)
    status = jnp.where(hopeless & (status == RUNNING), Status.NUMERICAL_ERROR, status)
    status = jnp.where(done, Status.SOLVED, status)

    return State(
        floats=Floats(
            current=_pick(finite, Point(step.iterate, vector), floats.current),
            residuals=_pick(finite, reached, floats.residuals),
            focus=_pick(finite, focus, floats.focus),
            best=_pick(better, Point(step.iterate, vector), floats.best),
            regularization=regularization,
        ),
        progress=Progress(
            status=status.astype(jnp.int32),
            iterations=progress.iterations + 1,
            stalled=stalled,
            refine=progress.refine | ~finite | inaccurate,
            cautious=cautious,
        ),
    )


def _is_ray(iterate: Iterate) -> Array:
    """Whether tau is less than rounding makes of it: what violates a certificate then is rounding, too."""
    return iterate.tau < float(jnp.finfo(iterate.tau.dtype).eps) ** 2 * iterate.kappa


def _is_separating(program: Program, cone: Product, before: Iterate, reached: Iterate) -> Array:
    """Whether some row is not yet clearly active or inactive, on which derivatives depend, and steps help."""
    _, z = program.split(reached.u)
    smaller, larger = jnp.minimum(reached.s, z), jnp.maximum(reached.s, z)
    unclear = (smaller > _SEPARATED * larger) & cone.has_slack
    return jnp.any(unclear) & (reached.mu(cone) < _SEPARATING_GAIN * before.mu(cone))


def _inaccurate(
    before: Residuals, step: Step, reached: Residuals, tolerable: float
) -> tuple[Array, Array]:
    """Whether the residuals differ much from what an exact Newton step would have left; whether they grew.

    They are linear in the step, so the residuals of the next iterate, which are needed anyway, show
    the error of the linear solves at no cost.
    """
    old, new = before.equations, reached.equations
    expected = step.remaining * old
    norms = norm_inf(jnp.stack([new - expected, expected, new, old]))
    return norms[0] > tolerable * norms[1], norms[2] > norms[3]


def _conclude(state: State, limits: Tolerances) -> Outcome:
    """A problem without a certificate gets its best iterate, and the status that this deserves."""
    floats, reached = state.floats, state.progress.status
    merit = Measure(*floats.best.measured).worst
    status = jnp.where(reached == RUNNING, Status.MAX_ITERATIONS, reached)
    certified = (status == Status.PRIMAL_INFEASIBLE) | (status == Status.DUAL_INFEASIBLE)
    final = certified | (status == Status.INVALID_INPUT)
    status = jnp.where(~final & (merit <= limits.reduced_tolerance), Status.ALMOST_SOLVED, status)
    status = jnp.where(~final & (merit <= limits.tolerance), Status.SOLVED, status)
    point = _pick(~final & jnp.isfinite(merit), floats.best, floats.current)
    return Outcome(
        point.iterate, point.measured, status.astype(jnp.int32), state.progress.iterations
    )


def _pick(condition: Array, new: _Tree, old: _Tree) -> _Tree:
    """Choose between two trees, as one vector: a single kernel instead of one an array."""
    new_vector, unravel = ravel_pytree(new)
    return unravel(jnp.where(condition, new_vector, ravel_pytree(old)[0]))
