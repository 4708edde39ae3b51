"""`SparseMatrix`: the same as the dense matrix, with a static pattern and traced values."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.experimental.sparse import BCOO

import jaxopt_layers as jl
from jaxopt_layers.pattern import sum_along


@pytest.fixture
def dense(rng):
    return rng.normal(size=(7, 5)) * (rng.uniform(size=(7, 5)) < 0.4)


def test_conversions_and_products(dense, rng):
    matrix = jl.SparseMatrix.from_dense(dense)
    x, X, z = rng.normal(size=5), rng.normal(size=(5, 3)), rng.normal(size=7)
    for other in (
        jl.SparseMatrix.from_scipy(scipy.sparse.csc_matrix(dense)),
        jl.SparseMatrix.from_bcoo(BCOO.fromdense(jnp.asarray(dense), nse=30)),
    ):
        assert other.pattern == matrix.pattern
        assert hash(other.pattern) == hash(matrix.pattern)
        np.testing.assert_array_equal(other.todense(), dense)
    np.testing.assert_allclose(matrix @ x, dense @ x, atol=1e-14)
    np.testing.assert_allclose(matrix @ X, dense @ X, atol=1e-14)
    np.testing.assert_allclose(matrix.T @ z, dense.T @ z, atol=1e-14)
    np.testing.assert_array_equal(matrix.T.T.todense(), dense)
    assert matrix.shape == (7, 5)
    assert matrix.astype(jnp.float32).dtype == jnp.float32


def test_duplicates_are_added():
    twice = scipy.sparse.coo_matrix(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2))
    np.testing.assert_array_equal(jl.SparseMatrix.from_scipy(twice).todense(), [[0, 3], [0, 0]])
    bcoo = BCOO((jnp.array([1.0, 2.0]), jnp.array([[0, 1], [0, 1]])), shape=(2, 2))
    np.testing.assert_array_equal(jl.SparseMatrix.from_bcoo(bcoo).todense(), [[0, 3], [0, 0]])


def test_empty():
    matrix = jl.SparseMatrix.from_dense(np.zeros((2, 3)))
    np.testing.assert_array_equal(matrix @ jnp.ones(3), [0, 0])
    np.testing.assert_array_equal(matrix.T.todense(), np.zeros((3, 2)))


def test_the_same_pattern_compiles_once(dense):
    traces = []

    @jax.jit
    def total(matrix):
        traces.append(1)
        return jnp.sum(matrix @ jnp.ones(5))

    total(jl.SparseMatrix.from_dense(dense))
    total(jl.SparseMatrix.from_dense(2 * dense))
    assert len(traces) == 1


def quadratic_program(rng):
    root = rng.normal(size=(5, 5)) * (rng.uniform(size=(5, 5)) < 0.5)
    Q = root @ root.T + np.eye(5)
    A = np.array([[1.0, 0, 1, 0, 1]])
    G = rng.normal(size=(6, 5)) * (rng.uniform(size=(6, 5)) < 0.5)
    return Q, rng.normal(size=5), A, np.ones(1), G, np.ones(6)


def test_quadratic_programs_and_their_cotangents(rng):
    Q, q, A, b, G, h = quadratic_program(rng)
    sparse = [jl.SparseMatrix.from_dense(matrix) for matrix in (Q, A, G)]

    def loss(Q, A, G):
        return jnp.sum(jnp.sin(jl.solve_qp(Q, q, A, b, G, h).x))

    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*sparse)
    expected_value, expected = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(Q, A, G)
    chex.assert_trees_all_close(value, expected_value, rtol=1e-12)
    for gradient, full, matrix in zip(gradients, expected, sparse, strict=True):
        assert isinstance(gradient, jl.SparseMatrix)
        assert gradient.pattern == matrix.pattern
        pattern = matrix.pattern
        np.testing.assert_allclose(gradient.values, full[pattern.rows, pattern.columns], atol=1e-11)


@pytest.mark.slow
def test_cone_programs_batched_over_values(rng):
    Q, q, _, _, G, h = quadratic_program(rng)
    matrix, cones = jl.SparseMatrix.from_dense(G), jl.Cones(nonnegative=6)
    scales = np.array([1.0, 2.0, 3.0])
    values = jnp.asarray(scales[:, None]) * matrix.values[None, :]
    batch = jl.SparseMatrix(values, matrix.pattern)
    P = jl.SparseMatrix.from_dense(Q)
    solve = jax.jit(jax.vmap(lambda A: jl.solve_cone(A, h, q, cones, P=P).x))
    expected = [jl.solve_cone(scale * G, h, q, cones, P=Q).x for scale in scales]
    np.testing.assert_allclose(solve(batch), np.stack(expected), atol=1e-8)


@pytest.mark.slow
def test_bcoo_is_converted(rng):
    Q, q, A, b, G, h = quadratic_program(rng)
    solution = jl.solve_qp(
        BCOO.fromdense(jnp.asarray(Q)), q, A, b, BCOO.fromdense(jnp.asarray(G)), h
    )
    np.testing.assert_allclose(solution.x, jl.solve_qp(Q, q, A, b, G, h).x, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jl.SparseMatrix.from_dense(np.ones(3)), "two dimensions"),
        (lambda: jl.SparseMatrix.from_scipy(np.eye(2)), "SciPy sparse"),
        (lambda: jl.SparseMatrix.from_bcoo(np.eye(2)), "BCOO"),
        (lambda: jax.jit(jl.SparseMatrix.from_dense)(jnp.eye(2)), "being traced"),
        (lambda: jl.SparseMatrix.from_dense(np.eye(2)) @ jnp.ones(3), "can't multiply"),
        (lambda: jl.solve_qp(scipy.sparse.eye(2), np.ones(2)), "`Q`"),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((40, 30), slice(3, 20), slice(5, 25)),
        ((40, 30), slice(0, 40), slice(0, 30)),
        ((30, 40), slice(22, 30), slice(0, 40)),
        ((12, 400), slice(0, 2), slice(100, 400)),
    ],
)
def test_dense_block(shape, rows, columns, rng):
    """A part without zeros is multiplied as a matrix; what is around it, entry by entry."""
    dense = np.where(rng.uniform(size=shape) < 0.05, rng.normal(size=shape), 0)
    dense[rows] = 0
    dense[rows, columns] = rng.normal(size=dense[rows, columns].shape)
    matrix = jl.SparseMatrix.from_dense(dense)
    block = matrix.pattern.dense_block
    assert block is not None
    assert (block.rows, block.columns) == (rows, columns)
    x, y = rng.normal(size=shape[1]), rng.normal(size=shape[0])
    np.testing.assert_allclose(matrix.product(x), dense @ x, atol=1e-13)
    np.testing.assert_allclose(matrix.transposed_product(y), y @ dense, atol=1e-13)
    few = jl.SparseMatrix.from_dense(dense[rows, columns][:2, :20])
    assert few.pattern.dense_block is None


@pytest.mark.parametrize("axis", [0, 1])
def test_sums(axis, rng):
    """The sum that is compiled otherwise is a sum, to any order of derivative."""
    values = rng.normal(size=(5, 7))
    np.testing.assert_allclose(sum_along(values, axis), values.sum(axis), rtol=1e-14)

    def square(values):
        return jnp.sum(sum_along(values, axis) ** 2)

    expected = 2 * np.broadcast_to(values.sum(axis, keepdims=True), values.shape)
    np.testing.assert_allclose(jax.grad(square)(values), expected, rtol=1e-14)
    _, second = jax.jvp(jax.grad(square), (values,), (np.ones_like(values),))
    np.testing.assert_allclose(second, np.full(values.shape, 2.0 * values.shape[axis]), rtol=1e-14)
