"""The linear systems against dense NumPy: inverse factors, both condensed forms, refinement."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_layers.cholesky import _by_library, inverse_factor
from jaxopt_layers.cones import orthant_product
from jaxopt_layers.implicit.data import Data, Layout, Marks
from jaxopt_layers.kkt import (
    System,
    choose_form,
    choose_loop_form,
    refined_solve,
    restore,
    robust_factor,
)
from jaxopt_layers.kkt.dual import DualForm
from jaxopt_layers.kkt.gram import GramForm
from jaxopt_layers.kkt.primal import PrimalForm
from jaxopt_layers.rows import SparseRows
from jaxopt_layers.settings import Settings

EPS = np.finfo(float).eps
factor_of = jax.jit(inverse_factor)


def positive_definite(rng, size, condition=1e3):
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    matrix = (basis * np.geomspace(1, 1 / condition, size)) @ basis.T
    return (matrix + matrix.T) / 2


def check_factor(matrix, factor, tolerance):
    factor, size = np.asarray(factor), len(matrix)
    assert np.all(np.triu(factor, 1) == 0)
    np.testing.assert_allclose(factor @ matrix @ factor.T, np.eye(size), atol=tolerance)
    inverse = np.linalg.inv(np.linalg.cholesky(matrix))
    np.testing.assert_allclose(factor, inverse, atol=tolerance * np.max(np.abs(inverse)))


class TestInverseFactor:
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 11, 13, 40, 52, 53, 106, 300])
    def test_by_recursion(self, size, rng):
        matrix = positive_definite(rng, size)
        check_factor(matrix, factor_of(matrix), 1e-12)

    @pytest.mark.parametrize("size", [1, 13, 40])
    def test_on_accelerators(self, size, rng):
        """The factorization that other devices than CPUs use; it is the same on all of them."""
        matrix = positive_definite(rng, size)
        check_factor(matrix, jax.jit(_by_library)(matrix), 1e-11)
        assert np.any(np.isnan(_by_library(matrix - 2 * np.eye(size))))

    @pytest.mark.slow
    @pytest.mark.parametrize("size", [*range(1, 61), 104, 105, 256, 257, 500])
    def test_all_sizes(self, size, rng):
        matrix = positive_definite(rng, size)
        check_factor(matrix, factor_of(matrix), 1e-11)

    @pytest.mark.parametrize("size", [1, 30])
    def test_float32(self, size, rng):
        matrix = np.float32(positive_definite(rng, size, 10))
        factor = factor_of(matrix)
        assert factor.dtype == np.float32
        check_factor(np.float64(matrix), factor, 1e-4)

    def test_backward_stable_where_ill_conditioned(self, rng):
        """The solve by products leaves a residual as small as a triangular solve would."""
        matrix = positive_definite(rng, 30, 1e12)
        right = rng.normal(size=30)
        factor = np.asarray(factor_of(matrix))
        x = factor.T @ (factor @ right)
        residual = np.abs(matrix @ x - right).max()
        assert residual <= 1e3 * EPS * np.abs(x).max() * np.abs(matrix).max()

    @pytest.mark.parametrize("size", [1, 13, 60])
    @pytest.mark.parametrize("place", ["first", "last"])
    def test_not_positive_definite_gives_nan(self, size, place):
        diagonal = np.ones(size)
        diagonal[0 if place == "first" else -1] = -1e-3
        assert np.any(np.isnan(factor_of(np.diag(diagonal))))

    def test_batched(self, rng):
        matrices = np.stack([positive_definite(rng, 13) for _ in range(3)])
        factors = jax.jit(jax.vmap(inverse_factor))(matrices)
        for matrix, factor in zip(matrices, factors, strict=True):
            check_factor(matrix, factor, 1e-12)


CASES = {
    "equalities": dict(p=3),
    "inequalities": dict(m=4),
    "both": dict(p=3, m=4),
    "bounds": dict(bounds=True),
    "all": dict(p=2, m=4, bounds=True),
    "absent rows": dict(p=2, m=4, bounds=True, absent=True),
    "fixed variables": dict(p=2, m=4, bounds=True, absent=True, fixed=True),
    "many rows": dict(m=12),
}
QUADRATICS = ("dense", "diagonal", "sparse")


def make_system(rng, quadratic, n=6, p=0, m=0, bounds=False, absent=False, fixed=False):
    """A system of late iterations' kind, and its matrix [P R'; R -H] in NumPy."""
    count = p + m + 2 * n * bounds
    dense = rng.normal(size=(p + m, n)) if p + m else None
    P = (
        np.diag(rng.uniform(0.5, 2, n))
        if quadratic == "diagonal"
        else positive_definite(rng, n, 100)
    )
    active = np.ones(count)
    if absent:
        active[p:] = np.arange(count - p) % 3 > 0
    data = Data(
        quadratic=np.diag(P) if quadratic == "diagonal" else P,
        linear=rng.normal(size=n),
        matrix=None if dense is None else jnp.asarray(dense),
        offset=rng.normal(size=count),
    )
    layout = Layout(equalities=p, lower=bounds, upper=bounds, cone=orthant_product(p, count - p))
    if quadratic == "sparse":
        data = layout.stored(data, Settings(factorization="sparse"))
    program = layout.program(data, Marks(active=jnp.asarray(active), valid=jnp.ones(())))
    free = np.ones(n)
    if fixed:
        free[[1, 4]] = 0
        program = replace(program, rows=replace(program.rows, free=jnp.asarray(free)))
    program = replace(program, quadratic_scale=jnp.array(0.7))
    hessian = np.concatenate([np.zeros(p), 10.0 ** rng.uniform(-3, 3, count - p)])

    parts = [np.zeros((0, n))] if dense is None else [dense]
    parts += [-np.eye(n), np.eye(n)] if bounds else []
    rows = active[:, None] * np.concatenate(parts) * free[None, :] if count else np.zeros((0, n))
    P = 0.7 * P * np.outer(free, free)
    matrix = np.block([[P, rows.T], [rows, -np.diag(hessian)]])
    system = System(program, jnp.asarray(hessian), jnp.array(1e-8))
    # Fixed variables, and nothing else, have empty rows; the solution is zero there.
    return system, matrix, np.concatenate([free, np.ones(count)])


def systems():
    for name, case in CASES.items():
        for quadratic in QUADRATICS:
            yield pytest.param(quadratic, case, id=f"{quadratic}-{name}")


def forms_of(system):
    """Every form that can factor a system."""
    if isinstance(system.program.rows, SparseRows):
        cone = orthant_product(system.program.rows.equalities, 0)
        return [choose_form(system.program, cone)]
    if system.program.quadratic.ndim == 1:
        return [PrimalForm(), DualForm()]
    if system.program.rows.lower:
        return [PrimalForm()]
    return [PrimalForm(), GramForm.of(system.program, 1e-8)]


every_system = pytest.mark.parametrize(("quadratic", "case"), [*systems()])


def exact(matrix, mask, right):
    """The solution by NumPy, with identity rows for what is fixed."""
    return np.linalg.solve(matrix + np.diag(1 - mask), right.T).T


@every_system
def test_product_is_the_matrix(quadratic, case, rng):
    system, matrix, _ = make_system(rng, quadratic, **case)
    u = rng.normal(size=(3, len(matrix)))
    np.testing.assert_allclose(system.product(jnp.asarray(u)), u @ matrix, rtol=1e-12, atol=1e-12)


@every_system
def test_solve_is_exact_but_for_the_regularization(quadratic, case, rng):
    system, matrix, mask = make_system(rng, quadratic, **case)
    right = mask * rng.normal(size=(2, len(matrix)))
    expected = exact(matrix, mask, right)
    scale = np.abs(expected).max()
    for form in forms_of(system):
        solve = jax.jit(lambda s, r, f=form: f.solve(s, f.factor(s), r))
        plain = solve(system, jnp.asarray(right))
        np.testing.assert_allclose(plain, expected, atol=1e-5 * scale)


class TestGramForm:
    """What is made before the loop, for every Hessian that comes."""

    @pytest.mark.parametrize("scale", [0.0, 1e-3, 30.0])
    def test_the_objective_may_be_scaled_later(self, scale, rng):
        """By the scaling of a batch's member, or by nothing, where a certificate is in sight."""
        system, _, _ = make_system(rng, "dense", n=6, p=2, m=6)
        form = GramForm.of(system.program, 1e-8)
        system = replace(system, program=replace(system.program, quadratic_scale=jnp.array(scale)))
        right = jnp.asarray(rng.normal(size=(2, 14)))
        solved = form.solve(system, form.factor(system), right)
        np.testing.assert_allclose(system.product(solved), right, atol=1e-4)

    def test_an_absent_row_keeps_its_own_equation(self, rng):
        system, matrix, _ = make_system(rng, "dense", p=2, m=4)
        form = GramForm.of(system.program, 1e-8)  # made with the row: a batch may share it
        active = jnp.ones(6).at[3].set(0)
        rows = replace(system.program.rows, active=active)
        system = replace(system, program=replace(system.program, rows=rows))
        matrix[9], matrix[:, 9] = 0, 0
        matrix[9, 9] = -system.hessian[3]
        right = jnp.asarray(rng.normal(size=(1, 12)))
        solved = form.solve(system, form.factor(system), right)
        np.testing.assert_allclose(solved @ matrix, right, atol=1e-5)

    def test_a_quadratic_that_is_indefinite_by_rounding(self, rng):
        system, *_ = make_system(rng, "dense", p=2, m=4)
        direction = np.linalg.svd(rng.normal(size=(1, 6)))[2][0]
        quadratic = system.program.quadratic - 1.0001 * np.min(
            np.linalg.eigvalsh(system.program.quadratic)
        ) * np.outer(direction, direction)
        program = replace(system.program, quadratic=quadratic - 1e-6 * jnp.eye(6))
        form = jax.jit(lambda p: GramForm.of(p, 1e-8))(program)
        chex.assert_tree_all_finite(form)

    def test_a_batch_that_shares_its_matrices_shares_the_form(self, rng):
        system, *_ = make_system(rng, "dense", p=2, m=4)

        def form_of(scale):
            return GramForm.of(replace(system.program, quadratic_scale=scale), 1e-8)

        # It would be an error if the form depended on the member.
        jax.vmap(form_of, out_axes=None)(jnp.arange(1.0, 4.0))

    @pytest.mark.parametrize(
        ("case", "expected"),
        [
            (dict(n=40, m=20), GramForm),
            (dict(n=12, p=6, m=2), GramForm),
            (dict(n=6, m=24), PrimalForm),
            (dict(n=12, m=6, bounds=True), PrimalForm),
        ],
    )
    def test_where_it_is_cheaper(self, case, expected, rng):
        system, *_ = make_system(rng, "dense", **case)
        cone = orthant_product(case.get("p", 0), system.hessian.size - case.get("p", 0))
        assert isinstance(choose_loop_form(system.program, cone, 1e-8), expected)


@jax.jit
def refined(system, right):
    """Both forms where both apply, unrefined and refined."""
    results = {}
    for form in forms_of(system):
        factor = form.factor(system)
        results[type(form).__name__] = [
            refined_solve(form, system, factor, right, steps) for steps in (0, 1, 8)
        ]
    return results


@pytest.mark.parametrize("quadratic", QUADRATICS)
@pytest.mark.parametrize("name", ["both", "fixed variables"])
def test_refinement_takes_the_regularization_out(quadratic, name, rng):
    system, matrix, mask = make_system(rng, quadratic, **CASES[name])
    system = replace(system, regularization=jnp.array(1e-4))
    right = mask * rng.normal(size=(2, len(matrix)))
    expected = exact(matrix, mask, right)
    found = refined(system, right)
    two = quadratic == "diagonal" or (quadratic, name) == ("dense", "both")
    assert len(found) == (2 if two else 1)
    for results in found.values():
        errors = [np.abs(right - np.asarray(u) @ matrix).max() for u in results]
        assert errors[0] > 1e-6, "the regularization must show without refinement"
        assert errors[1] < 0.1 * errors[0]
        assert errors[2] < 1e-11 * np.abs(expected).max()
        np.testing.assert_allclose(results[2], expected, rtol=1e-9, atol=1e-9)


def test_refinement_never_makes_a_solution_worse(rng):
    """With a factor of another system, whose steps lead nowhere, the best iterate is kept."""
    system, matrix, mask = make_system(rng, "dense", p=2, m=4)
    other, *_ = make_system(np.random.default_rng(9), "dense", p=2, m=4)
    form = PrimalForm()
    factor, right = form.factor(other), jnp.asarray(mask * rng.normal(size=(2, len(matrix))))
    first = form.solve(other, factor, right)
    last = refined_solve(form, system, factor, right, 5)
    before = jnp.max(jnp.abs(right - system.product(first)), axis=1)
    after = jnp.max(jnp.abs(right - system.product(last)), axis=1)
    assert np.all(np.isfinite(after))
    assert np.all(after <= before)


def test_factorization_is_repeated_with_more_regularization(rng):
    """A P that is indefinite by rounding: the first attempt fails, a later one does not."""
    system, _, _ = make_system(rng, "dense", p=2)
    direction = np.linalg.svd(rng.normal(size=(1, 6)))[2][0]
    indefinite = jnp.asarray(-1e-7 * np.outer(direction, direction))
    broken = replace(system, program=replace(system.program, quadratic=indefinite))
    factored, factor = jax.jit(lambda s: robust_factor(PrimalForm(), s))(broken)
    assert factored.regularization > broken.regularization
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(factor))
    untouched, kept = jax.jit(lambda s: robust_factor(PrimalForm(), s))(system)
    assert untouched.regularization == system.regularization
    chex.assert_trees_all_close(restore(kept), PrimalForm().factor(system), rtol=1e-12)


@pytest.mark.parametrize(
    ("quadratic", "case", "expected"),
    [
        ("dense", dict(p=1), PrimalForm),
        ("dense", dict(bounds=True), PrimalForm),
        ("diagonal", dict(p=1), DualForm),
        ("diagonal", dict(bounds=True), DualForm),
        ("diagonal", dict(p=1, bounds=True), DualForm),
        ("diagonal", dict(m=12), PrimalForm),
    ],
)
def test_the_smaller_side_is_factored(quadratic, case, expected, rng):
    system, *_ = make_system(rng, quadratic, **case)
    cone = orthant_product(case.get("p", 0), 0)
    assert isinstance(choose_form(system.program, cone), expected)


def test_a_linear_program_without_bounds_has_no_diagonal_to_divide_by(rng):
    system, *_ = make_system(rng, "diagonal", p=1)
    program = replace(system.program, quadratic=None)
    assert isinstance(choose_form(program, orthant_product(1, 0)), PrimalForm)
