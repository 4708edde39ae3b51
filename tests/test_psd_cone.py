"""The positive semidefinite cone: laws of its scaling, its steps, its projection and their derivatives."""

from functools import cache
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_layers.cones.positive_semidefinite import PositiveSemidefinite
from jaxopt_layers.cones.vectorize import smat, svec

METHODS = (
    "margin scaling hessian_product spectrum rotate unrotate combined_shift project"
    " project_spectrum project_product central_pair central_spectrum central_product"
).split()
every_side = pytest.mark.parametrize("side", [1, 4])
# Eigenvalues of side 4, away from kinks; the derivatives of the projection are smooth at these ties.
SMOOTH = {
    "both signs": [2.0, 0.5, -1.0, -3.0],
    "ties": [1.0, 1.0, -1.0, -1.0],
    "tie across signs": [2.0, 1.0, -2.0, -2.0],
    "definite": [1.0, 1.0, 1.0, 3.0],
    "negative": [-1.0, -1.0, -2.0, -2.0],
}
KINKS = {
    "zero": [0.0, 0.0, 0.0, 0.0],
    "boundary": [2.0, 1.0, 0.0, 0.0],
    "polar boundary": [0.0, 0.0, -1.0, -2.0],
    "mixed": [2.0, 0.0, 0.0, -1.0],
}
smooth_points = pytest.mark.parametrize("eigenvalues", SMOOTH.values(), ids=SMOOTH)
kinks = pytest.mark.parametrize("eigenvalues", KINKS.values(), ids=KINKS)


@cache
def compiled(side):
    """The cone's methods, compiled once for all tests, and derivatives of its products."""
    cone = PositiveSemidefinite(side)
    methods = {name: jax.jit(getattr(cone, name)) for name in METHODS}

    def tangent(v, u, w):
        return jax.jvp(lambda v: cone.project_product(v, u), (v,), (w,))[1]

    def cotangent(v, u, w):
        return jax.grad(lambda v, u: cone.project_product(v, u) @ w, argnums=(0, 1))(v, u)

    def central_tangent(v, mu, u, w, dmu):
        return jax.jvp(lambda v, mu: cone.central_product(v, mu, u), (v, mu), (w, dmu))[1]

    def pair_tangent(v, mu, u, dmu):
        return jax.jvp(cone.central_pair, (v, mu), (u, dmu))[1]

    def max_step(s, z, ds, dz):
        return cone.max_step(cone.scaling(s, z, None), s, z, ds, dz)

    derivatives = {
        "max_step": max_step,
        "tangent": tangent,
        "cotangent": cotangent,
        "central_tangent": central_tangent,
        "pair_tangent": pair_tangent,
    }
    return cone, SimpleNamespace(**methods, **{k: jax.jit(f) for k, f in derivatives.items()})


def with_eigenvalues(eigenvalues, rng):
    side = len(eigenvalues)
    basis = np.linalg.qr(rng.normal(size=(side, side)))[0]
    return svec(basis @ np.diag(eigenvalues) @ basis.T)


def interior_pair(side, rng):
    return tuple(with_eigenvalues(rng.uniform(0.1, 3, side), rng) for _ in range(2))


def vectors(count, side, rng):
    return tuple(jnp.asarray(rng.normal(size=(count, side * (side + 1) // 2))))


def eigenvalues_of(v):
    return np.linalg.eigvalsh(np.asarray(smat(v)))


def jordan(x, y):
    """svec of (XY + YX) / 2."""
    return svec(smat(x) @ smat(y))


# The vectors


def test_the_lower_triangle_is_read_by_columns():
    X = np.array([[1.0, 2, 3], [2, 4, 5], [3, 5, 6]])
    root = np.sqrt(2)
    np.testing.assert_array_equal(svec(X), [1, 2 * root, 3 * root, 4, 5 * root, 6])
    np.testing.assert_allclose(smat(svec(X)), X, rtol=3e-16)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_inner_products_are_kept_in_batches(batch, rng):
    X, Y = rng.normal(size=(2, *batch, 5, 5))
    X, Y = X + np.swapaxes(X, -1, -2), Y + np.swapaxes(Y, -1, -2)
    chex.assert_shape(svec(X), (*batch, 15))
    chex.assert_shape(smat(svec(X)), (*batch, 5, 5))
    traces = np.trace(X @ Y, axis1=-2, axis2=-1)
    np.testing.assert_allclose(np.sum(svec(X) * svec(Y), axis=-1), traces, rtol=1e-12)
    np.testing.assert_allclose(smat(svec(X)), X, rtol=1e-15)
    if batch:
        np.testing.assert_array_equal(jax.vmap(svec)(jnp.asarray(X)), svec(X))
        np.testing.assert_array_equal(jax.jit(jax.vmap(smat))(svec(Y)), smat(svec(Y)))


def test_the_symmetric_part_counts_and_gradients_are_symmetric(rng):
    X, v = jnp.asarray(rng.normal(size=(4, 4))), jnp.asarray(rng.normal(size=10))
    np.testing.assert_array_equal(svec(X), svec((X + X.T) / 2))
    np.testing.assert_allclose(jax.grad(lambda X: svec(X) @ v)(X), smat(v), rtol=1e-15)
    gradient = jax.grad(lambda v: jnp.sum(smat(v) * X))(v)
    np.testing.assert_allclose(gradient, svec(X), rtol=1e-14)


def test_dtypes_are_kept_and_integers_converted():
    chex.assert_type([svec(np.eye(2, dtype=np.float32)), smat(jnp.ones(3, jnp.float32))], "float32")
    chex.assert_type([svec(np.eye(2, dtype=int)), smat([1, 0, 1])], "float64")


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (4, 4, 2)])
def test_matrices_that_are_not_square_are_refused(shape):
    with pytest.raises(ValueError, match=r"`X` must be a square matrix.*got shape"):
        svec(np.zeros(shape))


@pytest.mark.parametrize("length", [2, 4, 5, 7])
def test_lengths_that_are_not_triangular_are_refused(length):
    with pytest.raises(ValueError, match=f"got {length}.*between .* for n = "):
        smat(np.zeros((2, length)))


def test_what_is_no_array_of_real_vectors_is_refused():
    with pytest.raises(ValueError, match="got a scalar"):
        smat(1.0)
    with pytest.raises(TypeError, match="`X` must hold real numbers"):
        svec(np.eye(2) * 1j)


def test_the_empty_matrix_is_an_empty_vector():
    chex.assert_shape(smat(np.zeros(0)), (0, 0))
    chex.assert_shape(svec(np.zeros((0, 0))), (0,))


# The cone


@every_side
def test_size_degree_and_unit(side):
    cone, _ = compiled(side)
    unit = cone.unit(jnp.float32)
    chex.assert_type(unit, jnp.float32)
    chex.assert_shape(unit, (cone.size,))
    np.testing.assert_array_equal(smat(unit), np.eye(side))
    assert unit @ unit == cone.degree == side
    assert cone == PositiveSemidefinite(side)
    assert hash(cone) == hash(PositiveSemidefinite(side))


@every_side
def test_margin_is_the_smallest_eigenvalue(side, rng):
    cone, run = compiled(side)
    eigenvalues = rng.normal(size=side)
    v = with_eigenvalues(eigenvalues, rng)
    np.testing.assert_allclose(run.margin(v), eigenvalues.min(), rtol=1e-13)
    assert abs(run.margin(v - run.margin(v) * cone.unit(v.dtype))) < 1e-14


@every_side
def test_row_scaling_is_one_factor(side, rng):
    cone, _ = compiled(side)
    rows = jnp.asarray(rng.uniform(0.1, 10, cone.size))
    expected = np.full(cone.size, np.prod(rows) ** (1 / cone.size))
    np.testing.assert_allclose(cone.rectify_scaling(rows), expected, rtol=1e-14)


@every_side
def test_both_factors_of_the_scaling_map_the_pair_to_one_point(side, rng):
    _, run = compiled(side)
    s, z = interior_pair(side, rng)
    scaling = run.scaling(s, z)
    root, inverse = scaling.root, scaling.inverse_root
    point = np.diag(scaled := np.asarray(scaling.scaled))
    np.testing.assert_allclose(root.T @ smat(z) @ root, point, atol=1e-13)
    np.testing.assert_allclose(inverse @ smat(s) @ inverse.T, point, atol=1e-13)
    np.testing.assert_allclose(inverse @ root, np.eye(side), atol=1e-13)
    np.testing.assert_allclose(np.sum(scaled**2), s @ z, rtol=1e-13)


@every_side
def test_hessian_maps_z_to_s(side, rng):
    _, run = compiled(side)
    s, z = interior_pair(side, rng)
    np.testing.assert_allclose(run.hessian_product(run.scaling(s, z), z), s, atol=1e-13)


@pytest.mark.parametrize("mu", [1e-4, 1e-8, 1e-12])
def test_hessian_maps_z_to_s_near_the_boundary(mu, rng):
    """Eigenvalues of S from 1 to mu, and of Z from mu to 1: as accurate as the products allow."""
    _, run = compiled(4)
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    values = np.geomspace(1, mu, 4)
    s = svec(basis @ np.diag(values) @ basis.T)
    z = svec(basis @ np.diag(mu * rng.uniform(0.2, 5, 4) / values) @ basis.T)
    scaling = run.scaling(s, z)
    eigenvalues, rotation = run.spectrum(scaling)
    assert np.all(np.asarray(eigenvalues) > 0)
    tolerance = 1e-14 / mu
    np.testing.assert_allclose(run.hessian_product(scaling, z), s, atol=tolerance)
    by_spectrum = run.unrotate(rotation, eigenvalues * run.rotate(rotation, z))
    np.testing.assert_allclose(by_spectrum, s, atol=tolerance)
    np.testing.assert_allclose(np.sum(scaling.scaled**2), s @ z, rtol=1e-2)


@every_side
def test_spectrum_is_that_of_the_hessian(side, rng):
    cone, run = compiled(side)
    scaling = run.scaling(*interior_pair(side, rng))
    hessian = jax.vmap(lambda v: cone.hessian_product(scaling, v))(jnp.eye(cone.size))
    values, rotation = run.spectrum(scaling)
    basis = jax.vmap(lambda v: cone.rotate(rotation, v))(jnp.eye(cone.size))
    inverse = jax.vmap(lambda v: cone.unrotate(rotation, v))(jnp.eye(cone.size))
    np.testing.assert_allclose(basis @ basis.T, np.eye(cone.size), atol=1e-14)
    np.testing.assert_allclose(inverse, basis.T, atol=1e-15)
    size = float(jnp.max(values))
    np.testing.assert_allclose(basis @ np.diag(values) @ basis.T, hessian, atol=1e-14 * size)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-14 * size)
    np.testing.assert_allclose(
        np.sort(values), np.linalg.eigvalsh(np.asarray(hessian)), atol=1e-13 * size
    )


@every_side
def test_combined_shift_aims_at_the_target_with_the_second_order_term(side, rng):
    """lambda o lambda + lambda o (W dz + W^-T ds) + W^-T ds_affine o W dz_affine = target e."""
    cone, run = compiled(side)
    s, z = interior_pair(side, rng)
    ds_affine, dz_affine, dz = vectors(3, side, rng)
    scaling = run.scaling(s, z)
    shift = run.combined_shift(scaling, s, z, ds_affine, dz_affine, jnp.array(0.3))
    ds = -shift - run.hessian_product(scaling, dz)
    point = svec(np.diag(scaling.scaled))

    def scale_s(v):
        return svec(scaling.inverse_root @ smat(v) @ scaling.inverse_root.T)

    def scale_z(v):
        return svec(scaling.root.T @ smat(v) @ scaling.root)

    second_order = jordan(scale_s(ds_affine), scale_z(dz_affine))
    reached = jordan(point, point + scale_s(ds) + scale_z(dz)) + second_order
    size = 1 + float(jnp.max(jnp.abs(second_order)))
    np.testing.assert_allclose(reached, 0.3 * cone.unit(s.dtype), atol=1e-13 * size)
    np.testing.assert_array_equal(cone.affine_shift(scaling, s), s)


@every_side
@pytest.mark.parametrize("leaving", ["s", "z"])
def test_longest_step_ends_on_the_boundary(side, leaving, rng):
    _, run = compiled(side)
    pair = dict(zip("sz", interior_pair(side, rng), strict=True))
    falling = with_eigenvalues(np.linspace(-1, 0.5, side), rng)
    growing = with_eigenvalues(np.ones(side), rng)
    steps = {name: falling if name == leaving else growing for name in "sz"}
    step = run.max_step(pair["s"], pair["z"], steps["s"], steps["z"])
    chex.assert_shape(step, ())
    assert abs(eigenvalues_of(pair[leaving] + step * falling)[0]) < 1e-13 * (1 + float(step))
    assert eigenvalues_of(pair[leaving] + 1.001 * step * falling)[0] < 0
    both = run.max_step(pair["s"], pair["z"], -4 * pair["s"], -2 * pair["z"])
    np.testing.assert_allclose(both, 0.25, rtol=1e-13)


@every_side
def test_no_step_leaves_the_cone_along_its_own_elements(side, rng):
    _, run = compiled(side)
    s, z = interior_pair(side, rng)
    assert run.max_step(s, z, z, s) == jnp.inf
    assert run.max_step(s, z, 0 * s, 0 * z) == jnp.inf


@every_side
def test_the_affine_step_is_told_from_one_of_its_matrices(side, rng):
    """``H dz + ds = -s``, whichever of s and z reaches the boundary first."""
    cone, run = compiled(side)
    s, z = interior_pair(side, rng)
    scaling = run.scaling(s, z, None)
    for dz in vectors(6, side, rng):
        ds = -s - run.hessian_product(scaling, dz)
        step = cone.max_step(scaling, s, z, ds, dz, affine=True)
        np.testing.assert_allclose(step, cone.max_step(scaling, s, z, ds, dz), rtol=1e-9)


def test_no_step_can_be_taken_from_the_boundary_outwards(rng):
    _, run = compiled(4)
    s, z = svec(np.diag([1.0, 2, 3, 0])), with_eigenvalues([1.0, 2, 3, 4], rng)
    outwards = svec(np.diag([0.0, 0, 0, -1]))
    assert 0 <= run.max_step(s, z, outwards, 0 * z) < 1e-13
    assert 0 <= run.max_step(z, s, 0 * z, outwards) < 1e-13


# The projection


@every_side
def test_projection_splits_a_matrix_into_orthogonal_parts(side, rng):
    """Moreau (1962): v = s - z, s and z in the cone, s'z = 0."""
    _, run = compiled(side)
    v = with_eigenvalues(rng.normal(size=side), rng)
    s, z = run.project(v), run.project(-v)
    np.testing.assert_allclose(s - z, v, atol=1e-14)
    assert abs(s @ z) < 1e-14
    assert min(eigenvalues_of(s)[0], eigenvalues_of(z)[0]) > -1e-15
    np.testing.assert_allclose(run.project(s), s, atol=1e-14)
    np.testing.assert_allclose(run.project(-s), 0, atol=1e-14)


@smooth_points
def test_projection_derivative_is_that_of_central_differences(eigenvalues, rng):
    _, run = compiled(4)
    v, u = with_eigenvalues(eigenvalues, rng), vectors(1, 4, rng)[0]
    h = 1e-6
    differences = (run.project(v + h * u) - run.project(v - h * u)) / (2 * h)
    np.testing.assert_allclose(run.project_product(v, u), differences, atol=1e-8)


@pytest.mark.parametrize("eigenvalues", (SMOOTH | KINKS).values(), ids=SMOOTH | KINKS)
def test_projection_spectrum_is_that_of_its_product(eigenvalues, rng):
    cone, run = compiled(4)
    v = with_eigenvalues(eigenvalues, rng)
    values, rotation = run.project_spectrum(v)
    assert np.all((np.asarray(values) >= 0) & (np.asarray(values) <= 1))
    basis = jax.vmap(lambda u: cone.rotate(rotation, u))(jnp.eye(cone.size))
    product = jax.vmap(lambda u: cone.project_product(v, u))(jnp.eye(cone.size))
    np.testing.assert_allclose(basis @ basis.T, np.eye(cone.size), atol=1e-14)
    np.testing.assert_allclose(basis @ np.diag(values) @ basis.T, product, atol=1e-14)


@kinks
def test_kinks_have_a_mean_of_the_derivatives_around(eigenvalues, rng):
    """Convex combinations of limits are what the generalized derivative consists of (Clarke 1983)."""
    cone, run = compiled(4)
    v, u = with_eigenvalues(eigenvalues, rng), vectors(1, 4, rng)[0]
    shift = 1e-7 * cone.unit(v.dtype)
    around = [run.project_product(v + sign * shift, u) for sign in (1, -1)]
    np.testing.assert_allclose(run.project_product(v, u), (around[0] + around[1]) / 2, atol=1e-6)


@smooth_points
def test_second_derivative_is_that_of_central_differences(eigenvalues, rng):
    """At ties of eigenvalues too, in both modes."""
    _, run = compiled(4)
    v, (u, w, g) = with_eigenvalues(eigenvalues, rng), vectors(3, 4, rng)
    h = 1e-5
    tangent = run.tangent(v, u, w)
    differences = (run.project_product(v + h * w, u) - run.project_product(v - h * w, u)) / (2 * h)
    np.testing.assert_allclose(tangent, differences, atol=1e-7)
    np.testing.assert_allclose(tangent, run.tangent(v, w, u), atol=1e-13)
    v_cotangent, u_cotangent = run.cotangent(v, u, g)
    np.testing.assert_allclose(v_cotangent @ w, tangent @ g, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(u_cotangent, run.project_product(v, g), atol=1e-14)


@kinks
def test_second_derivatives_are_finite_at_kinks(eigenvalues, rng):
    _, run = compiled(4)
    v, (u, w) = with_eigenvalues(eigenvalues, rng), vectors(2, 4, rng)
    tree = run.tangent(v, u, w), run.cotangent(v, u, w)
    chex.assert_tree_all_finite(tree)
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(tree)) < 1e3


def test_higher_derivatives_agree_between_modes(rng):
    """Reverse over reverse over a projection, at a tie, where eigenvectors have no derivative."""
    cone, run = compiled(4)
    v, (u, w) = with_eigenvalues(SMOOTH["ties"], rng), vectors(2, 4, rng)

    def value(v):
        return jnp.sum(cone.project(v) ** 3)

    def slope(v):
        return jax.grad(value)(v) @ u

    def curvature(v):
        return jax.grad(slope)(v) @ w

    gradient = jax.jit(jax.grad(value))
    h = 1e-5
    expected = (gradient(v + h * w) - gradient(v - h * w)) @ u / (2 * h)
    compiled_curvature = jax.jit(jax.value_and_grad(curvature))
    bending, third = compiled_curvature(v)
    np.testing.assert_allclose(bending, expected, rtol=1e-7)
    expected = (compiled_curvature(v + h * w)[0] - compiled_curvature(v - h * w)[0]) / (2 * h)
    np.testing.assert_allclose(third @ w, expected, rtol=1e-6)
    forward = jax.jit(lambda v: jax.jvp(gradient, (v,), (w,))[1])(v)
    np.testing.assert_allclose(forward @ u, bending, rtol=1e-12)
    by_jvp = jax.jit(lambda v: jax.jvp(cone.project, (v,), (u,))[1])(v)
    np.testing.assert_allclose(by_jvp, run.project_product(v, u), atol=1e-14)


# The smoothed projection


@every_side
@pytest.mark.parametrize("mu", [1e-12, 1e-4, 10.0])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_central_pair(side, mu, size, rng):
    cone, run = compiled(side)
    v = size * with_eigenvalues(rng.normal(size=side), rng)
    s, z = run.central_pair(v, jnp.array(mu))
    scale = float(jnp.max(jnp.abs(v))) + np.sqrt(mu)
    np.testing.assert_allclose(s - z, v, atol=1e-14 * scale)
    product = smat(s) @ smat(z)
    np.testing.assert_allclose(product, mu * np.eye(side), atol=1e-14 * scale**2 + 1e-14 * mu)
    exact = (eigenvalues_of(v) + np.sqrt(eigenvalues_of(v) ** 2 + 4 * mu)) / 2
    np.testing.assert_allclose(eigenvalues_of(s), exact, atol=1e-14 * scale)
    np.testing.assert_allclose(smat(s) @ smat(v), smat(v) @ smat(s), atol=1e-14 * scale**2)
    assert cone.size == s.shape[0]


def test_central_pair_without_mu_is_the_projection(rng):
    _, run = compiled(4)
    v = with_eigenvalues([1.0, 0, -1, -2], rng)
    s, z = run.central_pair(v, jnp.array(0.0))
    np.testing.assert_allclose(s, run.project(v), atol=1e-15)
    np.testing.assert_allclose(z, run.project(-v), atol=1e-15)


@every_side
@pytest.mark.parametrize("mu", [1e-3, 0.5])
def test_central_derivatives_are_those_of_central_differences(side, mu, rng):
    _, run = compiled(side)
    v, (u, w) = with_eigenvalues(rng.normal(size=side), rng), vectors(2, side, rng)
    mu, h = jnp.array(mu), 1e-6
    product = run.central_product(v, mu, u)
    differences = (run.central_pair(v + h * u, mu)[0] - run.central_pair(v - h * u, mu)[0]) / 2 / h
    np.testing.assert_allclose(product, differences, atol=1e-8)
    values, rotation = run.central_spectrum(v, mu)
    assert np.all((np.asarray(values) > 0) & (np.asarray(values) < 1))
    by_spectrum = run.unrotate(rotation, values * run.rotate(rotation, u))
    np.testing.assert_allclose(by_spectrum, product, atol=1e-14)

    along = [run.central_product(v + t * w, mu + t * 0.1 * mu, u) for t in (h, -h)]
    tangent = run.central_tangent(v, mu, u, w, 0.1 * mu)
    np.testing.assert_allclose(tangent, (along[0] - along[1]) / (2 * h), atol=1e-6)
    pair_tangent = run.pair_tangent(v, mu, u, 0.1 * mu)
    pairs = [run.central_pair(v + t * u, mu + t * 0.1 * mu) for t in (h, -h)]
    expected = jax.tree.map(lambda a, b: (a - b) / (2 * h), *pairs)
    chex.assert_trees_all_close(pair_tangent, expected, atol=1e-8)


# Everything is total


@pytest.mark.parametrize(("dtype", "side"), [(jnp.float32, 1), (jnp.float32, 4), (jnp.float64, 4)])
def test_everything_is_finite_in_extremes_and_keeps_its_dtype(dtype, side, rng):
    """A batch of scaled pairs, and of points outside of the cone, which have no true scaling."""
    cone = PositiveSemidefinite(side)
    s, z = interior_pair(side, rng)
    zero, outside = 0 * s, with_eigenvalues(rng.normal(size=side) - 1, rng)
    pairs = [(s, z), (1e8 * s, 1e-8 * z), (1e-8 * s, 1e8 * z), (1e8 * s, 1e8 * z)]
    pairs += [(1e-8 * s, 1e-8 * z), (zero, z), (s, zero), (zero, zero), (outside, -s), (s, outside)]
    s, z = (jnp.stack(side).astype(dtype) for side in zip(*pairs, strict=True))
    ds, dz = jnp.asarray(rng.normal(size=(2, *s.shape)), dtype)

    def everything(s, z, ds, dz):
        mu = jnp.array(1e-6, dtype)
        scaling = cone.scaling(s, z, mu)
        values, rotation = cone.spectrum(scaling)
        finite = (
            scaling,
            values,
            cone.margin(s),
            cone.rotate(rotation, ds),
            cone.project_spectrum(s),
            cone.project_product(s, ds),
            cone.central_pair(s, mu),
            cone.central_spectrum(s, mu),
            cone.central_product(s, mu, ds),
        )
        derivative = jax.grad(lambda s: cone.project_product(s, ds) @ dz)(s)
        large = (
            cone.hessian_product(scaling, dz),
            cone.combined_shift(scaling, s, z, ds, dz, mu),
            cone.max_step(scaling, s, z, ds, dz),
        )
        return finite, derivative, large

    finite, derivative, large = jax.jit(jax.vmap(everything))(s, z, ds, dz)
    chex.assert_type(jax.tree.leaves((finite, derivative, large)), dtype)
    chex.assert_tree_all_finite((finite, derivative))
    assert np.all(np.asarray(finite[1]) > 0)
    assert not np.any(np.isnan(np.asarray(large[2])))
    # Where s and z both vanish, lambda \ target has no finite value.
    chex.assert_tree_all_finite(jax.tree.map(lambda leaf: jnp.delete(leaf, 7, axis=0), large[:2]))


def test_float32_is_accurate(rng):
    _, run = compiled(4)
    s, z = (v.astype(jnp.float32) for v in interior_pair(4, rng))
    v = with_eigenvalues([2.0, 1, -1, -3], rng).astype(jnp.float32)
    np.testing.assert_allclose(run.hessian_product(run.scaling(s, z), z), s, atol=1e-5)
    np.testing.assert_allclose(run.project(v) - run.project(-v), v, atol=1e-5)


def test_batches_of_large_matrices(rng):
    """Laws at the sides that matter for speed."""
    cone = PositiveSemidefinite(30)
    pairs = [jnp.stack(interior_pair(30, rng)) for _ in range(3)]
    s, z = jnp.stack(pairs, axis=1)
    map_back = jax.jit(jax.vmap(lambda s, z: cone.hessian_product(cone.scaling(s, z), z)))
    reached = map_back(s, z)
    np.testing.assert_allclose(reached, s, atol=1e-11)
