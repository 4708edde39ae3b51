"""Second-order cones of different sizes, mapped together, are what each of them is alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers.cones.padded import PaddedSecondOrder, grouped
from jaxopt_layers.cones.product import Product
from jaxopt_layers.cones.second_order import SecondOrder
from jaxopt_layers.cones.stack import Stack

SIZES = (3, 3, 2, 5)
PADDED = Product((PaddedSecondOrder(SIZES),))
ALONE = Product(tuple(SecondOrder(size) for size in SIZES))
MU = 0.3


def interior(rng):
    parts = [rng.normal(size=size) for size in SIZES]
    for part in parts:
        part[0] = np.linalg.norm(part[1:]) + rng.uniform(0.05, 1)
    return np.concatenate(parts)


def dense(spectrum):
    """The matrix of a spectrum."""
    values, rotation = spectrum
    columns = jax.vmap(lambda v: rotation.out(values * rotation.into(v)))
    return columns(jnp.eye(values.shape[0], dtype=values.dtype)).T


def everything(cone, s, z, ds, dz, v, u):
    scaling = cone.scaling(s, z, MU)
    one = jnp.ones((), s.dtype)
    return dict(
        unit=cone.unit(s.dtype),
        margin=cone.margin(s),
        rectified=cone.rectify_scaling(jnp.exp(v)),
        hessian_product=cone.hessian_product(scaling, v),
        hessian=dense(cone.spectrum(scaling, s.dtype)),
        affine=cone.affine_shift(scaling, s),
        shift=cone.combined_shift(scaling, s, z, ds, dz, MU * one),
        step=cone.max_step(scaling, s, z, ds, dz),
        distance=jnp.sum(cone.distance(s, z)),
        projected=cone.project(v),
        slopes=dense(cone.project_spectrum(v)),
        projected_product=cone.project_product(v, u),
        pair=cone.central_pair(v, MU * one),
        smoothed=dense(cone.central_spectrum(v, MU * one)),
        smoothed_product=cone.central_product(v, MU * one, u),
    )


def test_every_method(rng):
    for _ in range(3):
        given = [interior(rng), interior(rng), *rng.normal(size=(4, sum(SIZES)))]
        ours = jax.jit(everything, static_argnums=0)(PADDED, *given)
        theirs = jax.jit(everything, static_argnums=0)(ALONE, *given)
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-12, atol=1e-13, err_msg=name)
    assert (PADDED.size, PADDED.degree, PADDED.symmetric) == (ALONE.size, ALONE.degree, True)


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ((), []),
        ((4, 4), [(4, 4)]),
        ((3, 3, 5), [(3, 3, 5)]),
        ((1, 1, 2), [(1, 1), (2,)]),  # a half line has no second coordinate
        ((3, 100, 100), [(3, 100, 100)]),
        ((3, 3, 3, 100), [(3, 3, 3), (100,)]),  # nearly all zeros
        ((100, 3, 3), [(100,), (3, 3)]),
    ],
)
def test_grouped(sizes, groups):
    assert grouped(sizes) == groups


def test_cones_group_what_is_second_order():
    cones = jl.Cones(zero=2, second_order=(3, 5, 3, 4), exponential=1)
    kinds = [type(cone) for cone in cones.padded.cones]
    assert [kind.__name__ for kind in kinds] == ["Zero", "PaddedSecondOrder", "Stack"]
    assert cones.padded.cones[1] == PaddedSecondOrder((3, 3, 5, 4))
    assert cones.padded.size == cones.product.size == cones.size
    alike = jl.Cones(second_order=(3, 3), psd=(2,))
    assert alike.padded == alike.product
    assert isinstance(alike.padded.cones[0], Stack)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["hsd", "kkt"])
def test_solutions_and_gradients(method, rng):
    """Against the sparse path, which keeps the cones apart."""
    cones, n = jl.Cones(nonnegative=2, second_order=(3, 5, 2, 3)), 6
    s = np.concatenate([[1.0, 0.5], *(np.eye(size)[0] * 2 for size in (3, 5, 2, 3))])
    A = rng.normal(size=(cones.size, n))
    b = A @ rng.normal(size=n) + s
    q = rng.normal(size=n)
    P = np.eye(n)
    cotangents = [rng.normal(size=size) for size in (n, cones.size, cones.size)]

    def loss(data, factorization):
        settings = jl.Settings(factorization=factorization, derivative=jl.Derivative(method=method))
        A, b, c, P = data
        solution = jl.solve_cone(A, b, c, cones, P=P, settings=settings)
        values = (solution.x, solution.y, solution.s)
        return sum(jnp.vdot(g, v) for g, v in zip(cotangents, values, strict=True)), solution

    gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    data = [jnp.asarray(v) for v in (A, b, q, P)]
    padded, solution = gradient(data, "dense")
    apart, expected = gradient(data, "sparse")
    assert solution.status == jl.Status.SOLVED
    np.testing.assert_allclose(solution.x, expected.x, atol=1e-9)
    for one, other in zip(padded, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-8)
