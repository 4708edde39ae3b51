"""The sparse factorization against dense NumPy, for patterns of every shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_layers import multifrontal
from jaxopt_layers.kkt.keep import keep, restore
from jaxopt_layers.multifrontal.coupling import DenseCoupling, SparseCoupling
from jaxopt_layers.multifrontal.fronts import WIDEST, find_fronts
from jaxopt_layers.multifrontal.ordering import adjacency, dissection_order
from jaxopt_layers.multifrontal.schedule import CHILDREN, with_few_children
from jaxopt_layers.pattern import Segments
from jaxopt_layers.pivots import signed_inverse_factor


def path(n):
    return np.arange(1, n), np.arange(n - 1)


def star(n):
    return np.full(n - 1, n - 1), np.arange(n - 1)


def grid(n):
    nodes = np.arange(n * n).reshape(n, n)
    rows = np.concatenate([nodes[1:].ravel(), nodes[:, 1:].ravel()])
    return rows, np.concatenate([nodes[:-1].ravel(), nodes[:, :-1].ravel()])


def complete(n):
    return np.tril_indices(n, -1)


def scattered(n):
    rng = np.random.default_rng(n)
    keys = np.unique([n * max(i, j) + min(i, j) for i, j in rng.integers(n, size=(2 * n, 2))])
    rows, columns = keys // n, keys % n
    return rows[rows != columns], columns[rows != columns]


def bipartite(n, m):
    rows, columns = np.indices((m, n))
    return n + rows.ravel(), columns.ravel()


GRAPHS = {
    "one node": (1, path(1)),
    "no edges": (40, (np.zeros(0, int), np.zeros(0, int))),
    "path": (200, path(200)),
    "star": (90, star(90)),
    "grid": (100, grid(10)),
    "complete": (40, complete(40)),
    "scattered": (120, scattered(120)),
    "large grid": (900, grid(30)),
    "bipartite": (80, bipartite(20, 60)),
    "large complete": (150, complete(150)),
}


def quasi_definite(graph, seed=0):
    """Signs, a diagonal and entries: between equal signs they are small, so that the signs hold."""
    size, (rows, columns) = GRAPHS[graph]
    rng = np.random.default_rng(seed)
    signs = np.where(rng.uniform(size=size) < 0.5, 1, -1)
    diagonal = signs * rng.uniform(1, 2, size)
    degree = 1 + np.bincount(np.concatenate([rows, columns]), minlength=size).max(initial=0)
    entries = rng.normal(size=len(rows))
    entries = np.where(signs[rows] == signs[columns], np.clip(entries, -1, 1) / degree, entries)
    return size, rows, columns, signs, diagonal, entries


def as_dense(size, rows, columns, diagonal, entries):
    matrix = np.diag(diagonal)
    matrix[rows, columns] = matrix[columns, rows] = entries
    return matrix


@pytest.mark.parametrize("safe", ["none", "all"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_solve(graph, safe):
    size, rows, columns, signs, diagonal, entries = quasi_definite(graph)
    plan = multifrontal.make_plan(size, rows, columns, signs, np.full(size, int(safe == "all")))
    right = np.random.default_rng(1).normal(size=(2, size))

    @jax.jit
    def solve(diagonal, entries, right):
        return multifrontal.solve(plan, multifrontal.factor(plan, diagonal, entries), right)

    found = solve(jnp.asarray(diagonal), jnp.asarray(entries), jnp.asarray(right))
    matrix = as_dense(size, rows, columns, diagonal, entries)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right.T).T, rtol=1e-9, atol=1e-11)


def test_batched():
    size, rows, columns, signs, diagonal, entries = quasi_definite("grid")
    plan = multifrontal.make_plan(size, rows, columns, signs, np.ones(size, int))
    scales = np.array([1.0, 2.0, 0.5])[:, None]
    right = np.random.default_rng(1).normal(size=(3, 1, size))

    @jax.jit
    @jax.vmap
    def solve(diagonal, entries, right):
        return multifrontal.solve(plan, multifrontal.factor(plan, diagonal, entries), right)

    found = solve(scales * diagonal, scales * entries, right)
    for scale, b, x in zip(scales[:, 0], right, found, strict=True):
        matrix = as_dense(size, rows, columns, scale * diagonal, scale * entries)
        np.testing.assert_allclose(x @ matrix, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("graph", ["grid", "star"])
def test_kept_as_one_vector(graph):
    size, rows, columns, signs, diagonal, entries = quasi_definite(graph)
    plan = multifrontal.make_plan(size, rows, columns, signs, np.ones(size, int))
    scales = np.array([1.0, 2.0, 0.5])[:, None]

    @jax.jit
    @jax.vmap
    def factor_and_keep(diagonal, entries):
        factor = multifrontal.factor(plan, diagonal, entries)
        return factor, keep(factor)

    factor, kept = factor_and_keep(scales * diagonal, scales * entries)
    assert len(jax.tree.leaves(kept)) == 1
    restored = jax.jit(jax.vmap(restore))(kept)
    jax.tree.map(np.testing.assert_array_equal, restored, factor)


def test_a_wrong_sign_gives_nan():
    size, rows, columns, signs, diagonal, entries = quasi_definite("path")
    plan = multifrontal.make_plan(size, rows, columns, signs, np.zeros(size, int))
    factor = jax.jit(lambda d, e: multifrontal.factor(plan, d, e))(-diagonal, entries)
    assert any(np.any(np.isnan(leaf)) for leaf in jax.tree.leaves(factor))


def plan_of(graph, safe):
    size, rows, columns, signs, _, _ = quasi_definite(graph)
    return multifrontal.make_plan(size, rows, columns, signs, np.full(size, safe))


def test_the_graphs_come_to_every_stage():
    """So that `test_solve` is about all of them."""
    grid, path = plan_of("large grid", 0), plan_of("path", 1)
    assert grid.phases
    assert not grid.condensations
    assert sum(len(children) for children in grid.root.children) > 1
    assert len(path.condensations) > 1
    assert path.condensations[0].gone.shape[0] > 1
    assert all(isinstance(step.coupling, SparseCoupling) for step in path.condensations)
    assert isinstance(plan_of("bipartite", 1).condensations[0].coupling, DenseCoupling)
    large = plan_of("large complete", 0).root
    assert large.size == 150
    assert 0 < large.positive < large.size


def test_nodes_that_become_a_matrix_are_eliminated_on_their_own():
    """Joined with the leaves before them, they would be multiplied with a column of zeros for each."""
    count, reached = 60, 40
    rows, columns = bipartite(count, reached)
    leaves = count + reached + np.arange(count)
    rows, columns = np.append(rows, leaves), np.append(columns, np.arange(count))
    signs = np.concatenate([np.ones(count), -np.ones(reached), -np.ones(count)])
    safe = np.concatenate([np.zeros(count + reached, int), np.full(count, 2)])
    plan = multifrontal.make_plan(len(signs), rows, columns, signs, safe)
    first, second = plan.condensations
    assert first.gone.size == second.gone.size == count
    assert isinstance(second.coupling, DenseCoupling)


@pytest.mark.parametrize("size", [4, 12, 32])
def test_signed_inverse_factor(size, rng):
    signs = np.where(rng.uniform(size=size) < 0.5, 1.0, -1.0)
    matrix = rng.normal(size=(size, size))
    matrix = np.where(signs[:, None] == signs[None, :], 0, matrix + matrix.T)
    matrix += np.diag(signs * rng.uniform(1, 2, size))
    R = np.asarray(jax.jit(signed_inverse_factor)(matrix, signs))
    assert np.all(np.triu(R, 1) == 0)
    np.testing.assert_allclose(R @ matrix @ R.T, np.diag(signs), atol=1e-13)


@pytest.mark.parametrize("graph", GRAPHS)
def test_fronts_partition_the_nodes_and_hold_the_fill_in(graph):
    """Every node is a pivot once; what elimination fills in lies inside the fronts and the root."""
    size, (rows, columns) = GRAPHS[graph]
    neighbours, starts = adjacency(size, rows, columns)
    order, rooted = dissection_order(neighbours, starts), size // 5
    top = order[size - rooted :]
    fronts = with_few_children(find_fronts(neighbours, starts, order, rooted))
    pivots = np.concatenate(fronts.pivots)
    assert sorted([*pivots, *top]) == list(range(size))
    assert max(map(len, fronts.pivots)) <= WIDEST
    assert np.bincount(fronts.parent[fronts.parent >= 0], minlength=1).max() <= CHILDREN
    for front, parent in enumerate(fronts.parent):
        below = set(fronts.below[front].tolist())
        if parent < 0:
            assert below <= set(top.tolist())
        else:
            assert below <= {*fronts.pivots[parent].tolist(), *fronts.below[parent].tolist()}
    inside = np.eye(size, dtype=bool)
    for own, below in zip(fronts.pivots, fronts.below, strict=True):
        inside[np.ix_(own, np.concatenate([own, below]))] = True
    inside[np.ix_(top, top)] = True
    assert np.all((inside | inside.T)[rows, columns])


def test_what_is_compiled_does_not_grow_with_the_number_of_fronts():
    lines = []
    for n in (1_000, 8_000):
        plan = multifrontal.make_plan(n, *path(n), np.ones(n), np.zeros(n, int))
        lowered = jax.jit(lambda d, e, plan=plan: multifrontal.factor(plan, d, e)).lower(
            jnp.ones(n), jnp.ones(n - 1)
        )
        assert len(plan.phases) <= 4
        lines.append(lowered.as_text().count("\n") / len(plan.phases))
        assert plan.operations < 2_000 * n
    assert lines[1] <= 1.2 * lines[0]


@pytest.mark.parametrize("lengths", [[1], [0, 3, 0, 5, 2, 2, 17], [0, 0], [4, 4, 4]])
def test_segments(lengths, rng):
    numbers = rng.permutation(np.repeat(np.arange(len(lengths)), lengths))
    values = rng.normal(size=len(numbers))
    segments = Segments(numbers, len(lengths))
    found = segments.reduce(lambda entries: jnp.asarray(values)[entries], jnp.sum, values.dtype)
    expected = np.bincount(numbers, values, minlength=len(lengths))
    np.testing.assert_allclose(found, expected, rtol=1e-13)
