"""Derivatives through cone programs: every input, output, method and mode, against differences."""

from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers import Status
from tests.helpers import cone_compiled as compiled
from tests.helpers import cone_geometry as geometry
from tests.helpers.cone_gradients import (
    COTANGENTS,
    cotangents,
    differences,
    implicit_derivatives,
    worst_error,
)
from tests.helpers.cone_oracles import clarabel_cone, newton
from tests.helpers.cone_problems import (
    CASES,
    OUTPUTS,
    known_program,
    quadratic_product,
    stack,
)
from tests.helpers.cone_results import (
    BATCH,
    FEASIBLE,
    every_case,
    known_results,
    products,
    random_results,
    run,
)

GRADIENT = 1e-6
#: What is compiled once for each kind of derivative: a curved symmetric cone and one that isn't.
SMALL = CASES["few"]
SMALL_DATA, SMALL_KNOWN = known_program(np.random.default_rng(5), SMALL)


def derivative(**choices):
    return jl.Settings(derivative=jl.Derivative(**choices))


@every_case
def test_against_central_differences(case):
    """All of x, y, s and the objective in all of P, A, b and c, at known solutions."""
    results = known_results(case)
    for i in range(3):
        expected = differences(case, results.programs[i], results.known[i])
        gradients = {name: value[i] for name, value in results.gradients.items()}
        for pair, error in worst_error(cotangents(case), gradients, expected).items():
            assert error < GRADIENT, (i, pair)


@every_case
def test_at_solutions_that_nobody_chose(case):
    """Of programs with interior points: whatever faces their solutions lie on."""
    results = random_results(case)
    checked = 0
    for i in range(FEASIBLE):
        data = results.programs[i]
        try:
            solution = newton(data, case.cones, clarabel_cone(data, case.cones))
        except (RuntimeError, ValueError, np.linalg.LinAlgError):
            continue  # too near to a kink
        expected = implicit_derivatives(case, data, solution)
        gradients = {name: value[i] for name, value in results.gradients.items()}
        for pair, error in worst_error(cotangents(case), gradients, expected).items():
            assert error < 1e-5, (i, pair)
        checked += 1
    assert checked >= FEASIBLE // 2


@every_case
def test_failed_members_have_zero_gradients(case):
    for gradient in random_results(case).gradients.values():
        assert np.all(np.isfinite(gradient))
        assert np.all(gradient[FEASIBLE:] == 0)
        assert np.all(np.any(gradient[:FEASIBLE] != 0, axis=tuple(range(1, gradient.ndim))))


def test_failed_members_have_nan_gradients_where_asked_for():
    case = CASES["nonnegative"]
    results = random_results(case)
    settings = jl.Settings(failed_gradient="nan")
    stacked = cotangents(case)
    _, gradients = compiled.pull_batch(stack(results.programs), stacked, case.cones, settings)
    for name, gradient in gradients.items():
        assert np.all(np.isnan(gradient[FEASIBLE:]))
        expected = results.gradients[name][:FEASIBLE]  # of another program: equal but for rounding
        np.testing.assert_allclose(gradient[:FEASIBLE], expected, rtol=1e-10, atol=1e-12)


# --- degenerate programs ---------------------------------------------------------------------


def degenerate_pair(block, pair, kind):
    """A pair without strict complementarity: one of the two at the boundary and the other zero."""
    s, y = pair
    if block.kind == "zero":
        return s, y
    return {"inactive": (s, 0 * y), "apex": (0 * s, y), "both zero": (0 * s, 0 * y)}[kind]


def degenerate_programs(case):
    rng = np.random.default_rng(11)
    for i in range(BATCH):
        data, known = known_program(rng, case)
        kind = ("inactive", "apex", "both zero", "redundant")[i % 4]
        if kind == "redundant":  # more rows that hold with equality than there are variables
            data["A"] = data["A"].copy()
            data["A"][:, -2:] = data["A"][:, :2]
            data["c"] = data["c"].copy()
            data["c"] = -quadratic_product(data.get("P"), known["x"]) - data["A"].T @ known["y"]
            data["b"] = data["A"] @ known["x"] + known["s"]
        else:
            s, y = np.zeros(case.cones.size), np.zeros(case.cones.size)
            for block in geometry.blocks(case.cones):
                pair = geometry.random_pair(rng, block)
                s[block.rows], y[block.rows] = degenerate_pair(block, pair, kind)
            x = known["x"]
            c = -quadratic_product(data.get("P"), x) - data["A"].T @ y
            data |= {"b": data["A"] @ x + s, "c": c}
            known = known | {"x": x, "y": y, "s": s}
        yield data, known


@every_case
def test_degenerate_programs_have_finite_values_and_gradients(case):
    programs, known = zip(*degenerate_programs(case), strict=True)
    results = run(case, list(programs), list(known))
    assert np.all(np.asarray(results.solution.status) <= Status.ALMOST_SOLVED)
    for i, solution in enumerate(known):
        assert results.solution.primal_residual[i] < 1e-8, i
        assert results.solution.dual_residual[i] < 1e-8, i
        if case.quadratic is not None and i % 4 < 3:
            np.testing.assert_allclose(results.solution.x[i], solution["x"], atol=1e-4)
    for gradient in results.gradients.values():
        assert np.all(np.isfinite(gradient))
        assert np.max(np.abs(gradient)) < 1e6


# --- quadratic programs ----------------------------------------------------------------------


def test_quadratic_programs_agree_with_solve_qp():
    """Values and gradients to 1e-8."""
    case = CASES["nonnegative"]
    results, stacked = known_results(case), cotangents(case)

    def qp(data):
        split = {"A": data["A"][:1], "b": data["b"][:1], "G": data["A"][1:], "h": data["b"][1:]}
        solution = jl.solve_qp(data["P"], data["c"], **split)
        y = jnp.concatenate([solution.y, solution.z])
        s = jnp.concatenate([jnp.zeros(1), solution.s])
        return dict(zip(OUTPUTS, (solution.x, y, s, *[solution.objective] * 2), strict=True))

    @jax.jit
    @jax.vmap
    def pull(data):
        values, back = jax.vjp(qp, data)
        return values, jax.vmap(lambda cotangent: back(cotangent)[0])(stacked)

    values, gradients = pull(stack(results.programs))
    for name, value in values.items():
        np.testing.assert_allclose(getattr(results.solution, name), value, rtol=1e-8, atol=1e-8)
    for name, gradient in results.gradients.items():
        scale = 1 + np.max(np.abs(gradient), axis=tuple(range(2, gradient.ndim)), keepdims=True)
        np.testing.assert_allclose(gradient / scale, gradients[name] / scale, atol=1e-8)


# --- methods, solvers and modes, on one small program ----------------------------------------


@cache
def small_gradients(settings=compiled.DEFAULT):
    solution, gradients = compiled.pull(SMALL_DATA, cotangents(SMALL), SMALL.cones, settings)
    assert solution.status == Status.SOLVED
    return {name: np.asarray(value) for name, value in gradients.items()}


def assert_close(got, expected, tolerance):
    for name, gradient in expected.items():
        scale = 1 + np.max(np.abs(gradient))
        np.testing.assert_allclose(got[name] / scale, gradient / scale, atol=tolerance)


CHOICES = {
    "least squares": (dict(solver="least_squares"), 1e-9),
    "lsmr": (dict(solver="lsmr"), 1e-8),
    "kkt": (dict(method="kkt"), 1e-4),
    "forward": (dict(mode="forward"), 1e-9),
    "smoothed a little": (dict(smoothing=1e-9), 1e-4),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choices", "tolerance"),
    [
        pytest.param(*choice, marks=[] if name == "least squares" else pytest.mark.slow, id=name)
        for name, choice in CHOICES.items()
    ],
)
def test_every_way_gives_the_same_gradients(choices, tolerance):
    if choices.get("solver") == "lsmr":
        pytest.importorskip("lineax")
    assert_close(small_gradients(derivative(**choices)), small_gradients(), tolerance)


def test_small_program_against_differences():
    expected = differences(SMALL, SMALL_DATA, SMALL_KNOWN)
    for pair, error in worst_error(cotangents(SMALL), small_gradients(), expected).items():
        assert error < GRADIENT, pair


@pytest.mark.slow
def test_smoothing_converges_to_the_exact_gradient():
    """In proportion to the barrier parameter, or to its root at a curved face."""
    exact = small_gradients()

    def error(mu):
        smoothed = small_gradients(derivative(smoothing=mu))
        return max(
            np.max(np.abs(smoothed[name] - gradient)) / (1 + np.max(np.abs(gradient)))
            for name, gradient in exact.items()
        )

    errors = [error(mu) for mu in (1e-2, 1e-4, 1e-6)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 1e-3])
def test_lsmr_that_may_not_iterate_shows_it(smoothing):
    """One iteration is not enough, and the gradients show that: no other limit is at work."""
    pytest.importorskip("lineax")
    poor = small_gradients(derivative(solver="lsmr", max_iterations=1, smoothing=smoothing))
    good = small_gradients(derivative(solver="least_squares", smoothing=smoothing))
    assert max(np.max(np.abs(poor[name] - good[name])) for name in good) > 1e-3


FORWARD = derivative(mode="forward")


def named(data, settings=FORWARD):
    return compiled.solve_named(data, SMALL.cones, settings)


def test_jvp_is_the_gradients_adjoint():
    """<cotangent, D u> = <D' cotangent, u> for all outputs, in forward mode against reverse mode."""
    rng = np.random.default_rng(2)
    direction = {name: rng.normal(size=array.shape) for name, array in SMALL_DATA.items()}
    direction["P"] = direction["P"] + direction["P"].T
    values, moved = jax.jit(lambda data, change: jax.jvp(named, (data,), (change,)))(
        SMALL_DATA, direction
    )
    stacked, gradients = cotangents(SMALL), small_gradients()
    for name in OUTPUTS:
        np.testing.assert_allclose(values[name], SMALL_KNOWN[name], atol=1e-8)
    for row in range(len(OUTPUTS) * COTANGENTS):
        forward = sum(np.sum(stacked[name][row] * moved[name]) for name in OUTPUTS)
        backward = sum(np.sum(gradients[name][row] * direction[name]) for name in direction)
        np.testing.assert_allclose(forward, backward, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_jacfwd_is_jacrev():
    def x_and_y(b, settings):
        outputs = named(SMALL_DATA | {"b": b}, settings)
        return outputs["x"], outputs["y"]

    forward = jax.jit(jax.jacfwd(partial(x_and_y, settings=FORWARD)))(SMALL_DATA["b"])
    reverse = jax.jit(jax.jacrev(partial(x_and_y, settings=compiled.DEFAULT)))(SMALL_DATA["b"])
    chex.assert_trees_all_close(forward, reverse, rtol=1e-8, atol=1e-8)


def second_differences(name, direction, weights, step=1e-4):
    """Central differences of the gradients, which are compiled already, along a direction."""
    stacked = {key: np.zeros_like(value) for key, value in cotangents(SMALL).items()}
    for key, weight in weights.items():
        stacked[key][0] = weight
    moved = []
    for sign in (1, -1):
        data = SMALL_DATA | {name: SMALL_DATA[name] + sign * step * direction}
        _, gradients = compiled.pull(data, stacked, SMALL.cones)
        moved.append({key: np.asarray(value[0]) for key, value in gradients.items()})
    return {key: (moved[0][key] - moved[1][key]) / (2 * step) for key in moved[0]}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [compiled.DEFAULT, FORWARD], ids=["reverse", "forward"])
def test_second_derivatives(settings):
    """Reverse over reverse, all of P, A, b and c, against differences of gradients."""
    rng = np.random.default_rng(3)
    weights = {"x": rng.normal(size=SMALL.n), "y": rng.normal(size=SMALL.cones.size)}

    def loss(data):
        outputs = named(data, settings)
        return sum(weight @ outputs[name] for name, weight in weights.items())

    @jax.jit
    def second(data, direction):
        def slope(data):
            gradient = jax.grad(loss)(data)
            return sum(jnp.sum(gradient[key] * direction[key]) for key in direction)

        return jax.grad(slope)(data)

    for name, array in SMALL_DATA.items():
        direction = {key: np.zeros_like(value) for key, value in SMALL_DATA.items()}
        direction[name] = rng.normal(size=array.shape)
        if name == "P":
            direction[name] = direction[name] + direction[name].T
        got = second(SMALL_DATA, direction)
        expected = second_differences(name, direction[name], weights)
        for key, value in expected.items():
            scale = 1 + np.max(np.abs(value))
            np.testing.assert_allclose(
                got[key] / scale, value / scale, atol=1e-4, err_msg=f"{key} along {name}"
            )


@pytest.mark.slow
def test_hessian_of_the_objective():
    """In forward mode: the objective's Hessian in c is dx/dc."""
    hessian, slope = jax.jit(
        lambda c: (
            jax.hessian(lambda c: named(SMALL_DATA | {"c": c})["objective"])(c),
            jax.jacfwd(lambda c: named(SMALL_DATA | {"c": c})["x"])(c),
        )
    )(SMALL_DATA["c"])
    np.testing.assert_allclose(hessian, slope, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-8, atol=1e-8)


@products
def test_an_outer_loss_falls(case):
    """One step against the gradient of |x - target|^2 in c makes it smaller by what it predicts."""
    results = known_results(case)
    stacked = {name: np.zeros_like(value) for name, value in cotangents(case).items()}
    target = np.ones(case.n)
    stacked["x"][0] = np.asarray(results.solution.x[0]) - target
    _, gradients = compiled.pull_batch(stack(results.programs), stacked, case.cones)
    slope = np.asarray(gradients["c"][0, 0])
    step = 1e-6 / (1 + np.linalg.norm(slope))
    programs = [dict(program) for program in results.programs]
    programs[0]["c"] = programs[0]["c"] - step * slope
    after = run(case, programs).solution.x[0]

    def loss(x):
        return 0.5 * np.sum((np.asarray(x) - target) ** 2)

    fall = loss(results.solution.x[0]) - loss(after)
    np.testing.assert_allclose(fall, step * slope @ slope, rtol=1e-2)
