"""Batches taken in chunks: any size, shared arguments, nested maps, and members that stay themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers.chunks import _chunk_size, in_chunks


def squares(x, y):
    return {"product": x @ y, "sum": jnp.sum(x) + y}


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 37])
def test_equals_the_plain_map(size, rng):
    x, y = rng.normal(size=(size, 3, 4)), rng.normal(size=(size, 4))
    chunked = jax.vmap(in_chunks(squares, member_bytes=10**9))
    jax.tree.map(np.testing.assert_array_equal, chunked(x, y), jax.vmap(squares)(x, y))


def test_shared_arguments_are_not_copied(rng):
    x, y = rng.normal(size=(3, 4)), rng.normal(size=(37, 4))
    chunked = jax.vmap(in_chunks(squares, member_bytes=10**9), in_axes=(None, 0))
    np.testing.assert_allclose(chunked(x, y)["product"], y @ x.T, rtol=1e-12)
    assert "37,3,4" not in str(jax.make_jaxpr(chunked)(x, y))


def test_nested_maps(rng):
    x, y = rng.normal(size=(5, 11, 3, 4)), rng.normal(size=(5, 11, 4))
    chunked = jax.vmap(jax.vmap(in_chunks(squares, member_bytes=10**9)))
    expected = jax.vmap(jax.vmap(squares))(x, y)
    jax.tree.map(np.testing.assert_array_equal, chunked(x, y), expected)


@pytest.mark.parametrize(
    ("size", "members", "expected"),
    [
        (128, 6, 4),
        (128, 15, 8),
        (16, 15, 8),
        (21, 15, 11),
        (37, 8, 8),
        (100, 25, 25),
        (7, 6, 4),
        (10, 4, 4),
    ],
)
def test_chunks_divide_the_batch_where_they_can(size, members, expected):
    assert _chunk_size(size, members) == expected


@pytest.mark.slow
def test_large_programs_in_chunks(rng):
    """40 variables and 21 members make two chunks, the last with padding."""
    n, size = 40, 21
    root = rng.normal(size=(size, n, n))
    Q = root @ root.transpose(0, 2, 1) / n + np.eye(n)
    q = rng.normal(size=(size, n))

    def loss(Q, q):
        solution = jl.solve_qp(Q, q, lower=-0.1, upper=0.1)
        return jnp.sum(solution.x**3), solution

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    batched = jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)))
    (_, solution), gradients = batched(Q, q)
    assert np.all(solution.status == jl.Status.SOLVED)
    for i in (0, 10, 20):
        (_, alone), expected = gradient(Q[i], q[i])
        np.testing.assert_allclose(solution.x[i], alone.x, rtol=0, atol=1e-10)
        for ours, theirs in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(ours[i], theirs, rtol=0, atol=1e-9)
