"""Every member of a batch stands alone: neighbours that fail change no bit of it."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

import jaxopt_layers as jl
from jaxopt_layers import Status
from tests.helpers.problems import random_qp, stack
from tests.helpers.tolerances import F64

ORDER = ("Q", "q", "A", "b", "G", "h")
SIZE, VARIABLES, ROWS, EQUALITIES = 1000, 10, 6, 3
INFEASIBLE, UNBOUNDED, INVALID = np.arange(50), np.arange(50, 100), np.arange(100, 110)
WEIGHTS = np.random.default_rng(1).normal(size=(SIZE, VARIABLES))


def loss(arguments, weights):
    """Touches every output, so that the gradient goes through all of them."""
    s = jl.solve_qp(*arguments)
    duals = jnp.sum(s.y) + jnp.sum(s.z) + jnp.sum(s.s)
    return weights @ s.x + 0.1 * duals + 0.1 * s.objective, s


value_and_gradient = jax.jit(jax.vmap(jax.value_and_grad(loss, has_aux=True)))
values = jax.jit(jax.vmap(jl.solve_qp))


def break_members(good, rng):
    """A copy in which the members of INFEASIBLE, UNBOUNDED and INVALID are what they're called."""
    bad = {name: array.copy() for name, array in good.items()}
    for i in INFEASIBLE:
        bad["G"][i, 1] = -bad["G"][i, 0]
        bad["h"][i, 1] = -bad["h"][i, 0] - 0.5
    for i in UNBOUNDED:
        ray = np.linalg.svd(bad["A"][i])[2][-1]  # A ray = 0
        bad["G"][i] -= np.outer(bad["G"][i] @ ray, ray)
        bad["Q"][i] -= np.outer(bad["Q"][i] @ ray, ray)
        bad["Q"][i] -= np.outer(ray, ray @ bad["Q"][i])
        bad["Q"][i] = (bad["Q"][i] + bad["Q"][i].T) / 2
        bad["q"][i] = -ray
    for i in INVALID:
        array = bad[ORDER[i % len(ORDER)]][i]
        array[tuple(rng.integers(size) for size in array.shape)] = np.nan
    return bad


@pytest.fixture(scope="module")
def problems():
    rng = np.random.default_rng(0)
    good = stack([random_qp(rng, VARIABLES, ROWS, EQUALITIES) for _ in range(SIZE)]).data
    return good, break_members(good, rng)


@pytest.fixture(scope="module")
def results(problems):
    return [value_and_gradient([data[name] for name in ORDER], WEIGHTS) for data in problems]


class TestThousandMembers:
    def test_every_status_is_right(self, results):
        (_, good), (_, mixed) = (result[0] for result in results)
        expected = np.full(SIZE, Status.SOLVED)
        np.testing.assert_array_equal(good.status, expected)
        expected[INFEASIBLE] = Status.PRIMAL_INFEASIBLE
        expected[UNBOUNDED] = Status.DUAL_INFEASIBLE
        expected[INVALID] = Status.INVALID_INPUT
        np.testing.assert_array_equal(mixed.status, expected)

    def test_other_members_are_the_same_bit_for_bit(self, results):
        """Values, records and gradients alike."""
        first = INVALID[-1] + 1
        good, mixed = (jax.tree.map(lambda v: np.asarray(v)[first:], r) for r in results)
        chex.assert_trees_all_equal(good, mixed)

    def test_gradients_are_finite_and_zero_where_failed(self, results):
        gradients = results[1][1]
        chex.assert_tree_all_finite(gradients)
        for gradient in gradients:
            assert np.all(np.asarray(gradient)[: INVALID[-1] + 1] == 0)
            moved = np.abs(np.asarray(gradient)[INVALID[-1] + 1 :]).reshape(SIZE - 110, -1)
            assert np.all(moved.max(axis=1) > 0)

    def test_the_order_of_members_changes_rounding_only(self, problems, results):
        order = np.random.default_rng(3).permutation(SIZE)
        arguments = [problems[1][name][order] for name in ORDER]
        shuffled = value_and_gradient(arguments, WEIGHTS[order])
        expected = jax.tree.map(lambda v: np.asarray(v)[order], results[1])
        chex.assert_trees_all_close(shuffled, expected, rtol=F64.exact, atol=F64.exact)

    def test_the_error_names_members(self, results):
        with pytest.raises(jl.SolverError, match=r"110 of 1000 .*member \[0\]: PRIMAL_INFEASIBLE"):
            jl.raise_if_failed(results[1][0][1])


def test_empty_batch(problems):
    arguments = [problems[0][name][:0] for name in ORDER]
    (loss_values, solution), gradient = value_and_gradient(arguments, WEIGHTS[:0])
    chex.assert_shape(loss_values, (0,))
    chex.assert_shape(solution.x, (0, VARIABLES))
    chex.assert_trees_all_equal_shapes(gradient, arguments)
    jl.raise_if_failed(solution)


@pytest.fixture(scope="module")
def small():
    """Four problems of fewer variables, which compile faster."""
    rng = np.random.default_rng(4)
    data = stack([random_qp(rng, 4, 3, 1) for _ in range(4)]).data
    return [data[name] for name in ORDER]


def test_batch_of_one_is_the_problem_itself(small):
    single = jax.jit(jl.solve_qp)(*[array[2] for array in small])
    batch = values(*[array[2:3] for array in small])
    assert single.status == batch.status[0] == Status.SOLVED
    assert single.iterations == batch.iterations[0]
    batch = jax.tree.map(lambda v: v[0], batch)
    chex.assert_trees_all_close(single, batch, rtol=1e-9, atol=1e-9)


SHARED = {
    "linear term": (None, 0, None, None, None, None),
    "right-hand sides": (None, None, None, 0, None, 0),
    "matrices": (0, None, 0, None, 0, None),
}


@pytest.mark.parametrize("in_axes", SHARED.values(), ids=SHARED)
def test_shared_data_give_what_copies_give(small, in_axes):
    count = len(small[0])
    arguments = []
    for array, axis in zip(small, in_axes, strict=True):
        changes = 1e-2 * np.arange(count).reshape(count, *[1] * array[0].ndim)
        arguments.append(array[0] if axis is None else array[:1] + changes)
    copied = [
        np.stack([array] * count) if axis is None else array
        for array, axis in zip(arguments, in_axes, strict=True)
    ]
    shared = jax.jit(jax.vmap(jl.solve_qp, in_axes))(*arguments)
    expected = values(*copied)
    np.testing.assert_array_equal(shared.status, expected.status)
    np.testing.assert_array_equal(expected.status, Status.SOLVED)
    chex.assert_trees_all_close(shared.x, expected.x, atol=1e-7)
    chex.assert_trees_all_close(shared.z, expected.z, atol=1e-6)


def all_shapes(jaxpr):
    """The shape of every intermediate, those of loops and calls within included."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            yield variable.aval.shape
        for parameter in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(parameter):
                yield from all_shapes(getattr(parameter, "jaxpr", parameter))


def _is_jaxpr(value):
    return isinstance(value, (core.Jaxpr, core.ClosedJaxpr))


class TestOneFactorizationForSharedMatrices:
    """Without inequalities no matrix of the solver or its gradient has the batch dimension."""

    BATCH, EQUALITIES = 37, 7  # more than the vectors that are ever stacked

    def arguments(self, equalities=True):
        """Q and A shared, q and b not, and their `in_axes`."""
        rng = np.random.default_rng(5)
        known = random_qp(rng, VARIABLES, 0, self.EQUALITIES).data
        own = [known[name] + rng.normal(size=(self.BATCH, known[name].size)) for name in "qb"]
        arguments, axes = [known["Q"], own[0], known["A"], own[1]], (None, 0, None, 0)
        return (arguments, axes) if equalities else (arguments[:2], axes[:2])

    def per_member(self, shapes):
        """The shapes with the batch dimension and two more that make a matrix."""
        large = lambda shape: sum(size >= self.EQUALITIES for size in shape)  # noqa: E731
        return {shape for shape in shapes if self.BATCH in shape and large(shape) >= 3}

    @pytest.mark.parametrize("equalities", [False, True])
    def test_value(self, equalities):
        arguments, axes = self.arguments(equalities)
        jaxpr = jax.make_jaxpr(jax.vmap(jl.solve_qp, axes))(*arguments)
        shapes = set(all_shapes(jaxpr.jaxpr))
        assert (self.BATCH, VARIABLES) in shapes
        assert not self.per_member(shapes)

    def test_compiled_gradient(self):
        """In the compiled program, where unused cotangents of Q and A are gone."""
        (Q, q, A, b), axes = self.arguments()

        @jax.jit
        def gradient(q, b):
            total = lambda q, b: jnp.sum(jax.vmap(jl.solve_qp, axes)(Q, q, A, b).x ** 2)  # noqa: E731
            return jax.grad(total, (0, 1))(q, b)

        text = gradient.lower(q, b).compile().as_text()
        found = re.findall(r"\bf64\[([\d,]+)\]", text)
        shapes = {tuple(map(int, shape.split(","))) for shape in found}
        assert (self.BATCH, VARIABLES) in shapes
        assert not self.per_member(shapes)

    def test_the_check_sees_matrices_that_are_not_shared(self):
        (Q, q, *_), _ = self.arguments()
        jaxpr = jax.make_jaxpr(jax.vmap(jl.solve_qp))(np.stack([Q] * self.BATCH), q)
        shapes = self.per_member(all_shapes(jaxpr.jaxpr))
        assert (self.BATCH, VARIABLES, VARIABLES) in shapes


def test_shared_rows_are_not_copied_with_inequalities(problems):
    """Of G only the one weighted copy that the condensed matrix needs is made per member."""
    good, batch, rows = problems[0], 37, 7
    G = np.random.default_rng(2).normal(size=(rows, VARIABLES))
    q, h = good["q"][:batch], np.ones((batch, rows))
    mapped = jax.vmap(lambda Q, q, G, h: jl.solve_qp(Q, q, G=G, h=h), (None, 0, None, 0))
    shapes = set(all_shapes(jax.make_jaxpr(mapped)(good["Q"][0], q, G, h).jaxpr))
    weighted = (batch, VARIABLES, rows)
    assert {shape for shape in shapes if sorted(shape) == sorted(weighted)} == {weighted}
