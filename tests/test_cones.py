"""The cones' interface: steps end on the boundary, scalings map z to s, pairs stand on the path."""

import copy

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_layers.cones import Product, orthant_product
from jaxopt_layers.cones.nonnegative import Nonnegative
from jaxopt_layers.cones.zero import Zero

CONES = {
    "zero": Zero(4),
    "nonnegative": Nonnegative(5),
    "product": orthant_product(3, 4),
    "interleaved": Product((Nonnegative(2), Zero(2), Nonnegative(1))),
}
EMPTY = {
    "zero": Zero(0),
    "nonnegative": Nonnegative(0),
    "product": Product(()),
    "orthant": orthant_product(0, 0),
    "of empty": Product((Zero(0), Nonnegative(0))),
}
every_cone = pytest.mark.parametrize("cone", CONES.values(), ids=CONES)
empty_cone = pytest.mark.parametrize("cone", EMPTY.values(), ids=EMPTY)


def inequality_rows(cone):
    return np.asarray(cone.unit(jnp.float64)) > 0


def interior_pair(cone, rng):
    """s and z in the cone; s is zero on equality rows, where z is free."""
    rows = inequality_rows(cone)
    s = np.where(rows, rng.uniform(0.1, 3, cone.size), 0)
    z = np.where(rows, rng.uniform(0.1, 3, cone.size), rng.normal(size=cone.size))
    return jnp.asarray(s), jnp.asarray(z)


@every_cone
def test_sizes_and_degrees(cone):
    unit = cone.unit(jnp.float32)
    chex.assert_shape(unit, (cone.size,))
    chex.assert_type(unit, jnp.float32)
    assert cone.degree == np.sum(np.asarray(unit) > 0) == np.asarray(unit) @ np.asarray(unit)
    assert hash(cone) == hash(copy.deepcopy(cone))


def test_orthant_product_leaves_empty_factors_out():
    assert orthant_product(0, 3).cones == (Nonnegative(3),)
    assert orthant_product(2, 0).cones == (Zero(2),)
    assert orthant_product(2, 3).cones == (Zero(2), Nonnegative(3))


@every_cone
def test_margin_is_the_distance_to_the_boundary_along_the_unit(cone, rng):
    v = jnp.asarray(rng.normal(size=cone.size))
    margin = cone.margin(v)
    rows = inequality_rows(cone)
    chex.assert_shape(margin, ())
    if not rows.any():
        assert margin == jnp.inf
        return
    assert margin == np.min(np.asarray(v)[rows])
    assert cone.margin(v - margin * cone.unit(v.dtype)) == 0


@every_cone
@pytest.mark.parametrize("leaving", ["s", "z"])
def test_longest_step_ends_on_the_boundary(cone, leaving, rng):
    """Of the pair, where the one named falls and the other grows."""
    rows = inequality_rows(cone)
    pair = dict(zip("sz", interior_pair(cone, rng), strict=True))
    falling = jnp.asarray(
        rng.normal(size=cone.size) - 3 * (np.arange(cone.size) == np.argmax(rows))
    )
    steps = {name: falling if name == leaving else jnp.ones(cone.size) for name in "sz"}
    steps["s"] = steps["s"] * rows
    step = cone.max_step(pair["s"], pair["z"], steps["s"], steps["z"])
    chex.assert_shape(step, ())
    if not rows.any():
        assert step == jnp.inf
        return
    v, dv = pair[leaving], steps[leaving]
    assert abs(np.asarray(v + step * dv)[rows].min()) <= 4 * np.finfo(float).eps * float(step)
    assert np.asarray(v + 1.001 * step * dv)[rows].min() < 0


@every_cone
def test_the_pair_takes_the_shorter_of_two_steps(cone, rng):
    s, z = interior_pair(cone, rng)
    ds, dz = -2 * s, -4 * z
    expected = 0.25 if inequality_rows(cone).any() else jnp.inf
    assert cone.max_step(s, z, ds, dz) == expected
    assert cone.max_step(s, z, 4 * ds, dz) == expected / 2


@every_cone
def test_no_step_leaves_the_cone_along_its_own_elements(cone, rng):
    s, z = interior_pair(cone, rng)
    assert cone.max_step(s, z, *interior_pair(cone, rng)) == jnp.inf
    assert cone.max_step(s, z, jnp.zeros_like(s), jnp.zeros_like(z)) == jnp.inf


@every_cone
def test_no_step_can_be_taken_from_the_boundary_outwards(cone, rng):
    rows = inequality_rows(cone)
    if not rows.any():
        return
    first = int(np.argmax(rows))
    s, z = interior_pair(cone, rng)
    outwards, zero = jnp.zeros_like(s).at[first].set(-1), jnp.zeros_like(s)
    assert cone.max_step(s.at[first].set(0), z, outwards, zero) == 0
    assert cone.max_step(s, z.at[first].set(0), zero, outwards) == 0


@every_cone
def test_hessian_maps_z_to_s(cone, rng):
    s, z = interior_pair(cone, rng)
    hessian = cone.hessian_diagonal(cone.scaling(s, z), s.dtype)
    chex.assert_shape(hessian, (cone.size,))
    np.testing.assert_allclose(hessian * z, s, rtol=4e-16, atol=0)


@every_cone
def test_hessian_stays_finite_where_z_underflows(cone):
    unit = cone.unit(jnp.float32)
    tiny = jnp.zeros(cone.size, jnp.float32)
    hessian = cone.hessian_diagonal(cone.scaling(1e-6 * unit, tiny), jnp.float32)
    chex.assert_tree_all_finite(hessian)


@every_cone
def test_affine_shift_aims_at_zero_complementarity(cone, rng):
    """H dz + ds = -s is s o z + z o ds + s o dz = 0, divided by z."""
    s, z = interior_pair(cone, rng)
    dz = jnp.asarray(rng.normal(size=cone.size))
    scaling = cone.scaling(s, z)
    ds = -cone.affine_shift(scaling, s) - cone.hessian_diagonal(scaling, s.dtype) * dz
    np.testing.assert_allclose(s * z + z * ds + s * dz, 0, atol=1e-14)


@every_cone
def test_combined_shift_aims_at_the_target_with_the_second_order_term(cone, rng):
    """s o z + z o ds + s o dz + ds_affine o dz_affine = target on the rows of a barrier."""
    s, z = interior_pair(cone, rng)
    rows = inequality_rows(cone)
    ds_affine = jnp.asarray(np.where(rows, rng.normal(size=cone.size), 0))
    dz_affine, dz = jnp.asarray(rng.normal(size=(2, cone.size)))
    target = jnp.array(0.3)
    scaling = cone.scaling(s, z)
    shift = cone.combined_shift(scaling, s, z, ds_affine, dz_affine, target)
    ds = -shift - cone.hessian_diagonal(scaling, s.dtype) * dz
    reached = s * z + z * ds + s * dz + ds_affine * dz_affine
    np.testing.assert_allclose(reached, np.where(rows, 0.3, 0), atol=1e-14)


@every_cone
@pytest.mark.parametrize("mu", [1e-20, 1e-6, 1.0, 1e6])
def test_central_pair(cone, mu, rng):
    v = jnp.asarray(rng.normal(size=cone.size) * 10.0 ** rng.uniform(-3, 3, cone.size))
    s, z = cone.central_pair(v, jnp.array(mu))
    rows = inequality_rows(cone)
    np.testing.assert_allclose(s - z, v, rtol=1e-12, atol=1e-12 * np.sqrt(mu))
    np.testing.assert_allclose((s * z)[rows], mu, rtol=1e-14)
    assert np.all(np.asarray(s)[rows] > 0)
    assert np.all(np.asarray(z)[rows] > 0)
    assert np.all(np.asarray(s)[~rows] == 0)


@every_cone
def test_central_pair_without_mu_is_the_projection(cone, rng):
    v = jnp.asarray(rng.normal(size=cone.size)).at[0].set(0)
    s, z = cone.central_pair(v, jnp.array(0.0))
    rows = inequality_rows(cone)
    np.testing.assert_array_equal(s, np.where(rows, np.maximum(v, 0), 0))
    np.testing.assert_array_equal(z, np.where(rows, np.maximum(-v, 0), -v))


@every_cone
def test_row_scaling_keeps_the_cone(cone, rng):
    scale = jnp.asarray(rng.uniform(0.1, 10, cone.size))
    rectified = cone.rectify_scaling(scale)
    s, _ = interior_pair(cone, rng)
    assert np.all(np.asarray(rectified) > 0)
    assert cone.margin(rectified * s) > 0


@empty_cone
def test_empty_cones_are_total(cone):
    none, one = jnp.zeros(0, jnp.float32), jnp.ones((), jnp.float32)
    assert (cone.size, cone.degree) == (0, 0)
    scaling = cone.scaling(none, none)
    vectors = [
        cone.unit(jnp.float32),
        cone.rectify_scaling(none),
        cone.hessian_diagonal(scaling, jnp.float32),
        cone.affine_shift(scaling, none),
        cone.combined_shift(scaling, none, none, none, none, one),
        *cone.central_pair(none, one),
    ]
    for vector in vectors:
        chex.assert_shape(vector, (0,))
        chex.assert_type(vector, jnp.float32)
    assert cone.margin(none) == jnp.inf
    assert cone.max_step(none, none, none, none) == jnp.inf


def test_product_is_its_factors_side_by_side(rng):
    cone = CONES["interleaved"]
    v = jnp.asarray(rng.normal(size=cone.size))
    parts = cone.split(v)
    assert [part.shape[0] for part in parts] == [2, 2, 1]
    np.testing.assert_array_equal(jnp.concatenate(parts), v)
    assert cone.margin(v) == min(float(v[0]), float(v[1]), float(v[4]))
