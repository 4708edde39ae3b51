"""The cones' interface: steps end on the boundary, scalings map z to s, pairs stand on the path."""

import copy

import chex
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers.cones import Product, Rotation, orthant_product
from jaxopt_layers.cones.exponential import DualExponential, Exponential
from jaxopt_layers.cones.nonnegative import Nonnegative
from jaxopt_layers.cones.positive_semidefinite import PositiveSemidefinite
from jaxopt_layers.cones.power import DualPower, Power
from jaxopt_layers.cones.second_order import SecondOrder
from jaxopt_layers.cones.stack import Stack
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


def max_step(cone, s, z, ds, dz):
    return cone.max_step(cone.scaling(s, z, jnp.ones((), s.dtype)), s, z, ds, dz)


every_cone = pytest.mark.parametrize("cone", CONES.values(), ids=CONES)
empty_cone = pytest.mark.parametrize("cone", EMPTY.values(), ids=EMPTY)


#: Orthants have no use for the barrier parameter that others scale by.
MU = jnp.ones(())


def spectrum(cone, scaling, dtype):
    """Eigenvalues and rotation of H; a product needs the dtype, which it may have no array of."""
    return cone.spectrum(scaling, dtype) if isinstance(cone, Product) else cone.spectrum(scaling)


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
    step = max_step(cone, pair["s"], pair["z"], steps["s"], steps["z"])
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
    assert max_step(cone, s, z, ds, dz) == expected
    assert max_step(cone, s, z, 4 * ds, dz) == expected / 2


@every_cone
def test_no_step_leaves_the_cone_along_its_own_elements(cone, rng):
    s, z = interior_pair(cone, rng)
    assert max_step(cone, s, z, *interior_pair(cone, rng)) == jnp.inf
    assert max_step(cone, s, z, jnp.zeros_like(s), jnp.zeros_like(z)) == jnp.inf


@every_cone
def test_no_step_can_be_taken_from_the_boundary_outwards(cone, rng):
    rows = inequality_rows(cone)
    if not rows.any():
        return
    first = int(np.argmax(rows))
    s, z = interior_pair(cone, rng)
    outwards, zero = jnp.zeros_like(s).at[first].set(-1), jnp.zeros_like(s)
    assert max_step(cone, s.at[first].set(0), z, outwards, zero) == 0
    assert max_step(cone, s, z.at[first].set(0), zero, outwards) == 0


@every_cone
def test_hessian_maps_z_to_s(cone, rng):
    s, z = interior_pair(cone, rng)
    hessian, _ = spectrum(cone, cone.scaling(s, z, MU), s.dtype)
    chex.assert_shape(hessian, (cone.size,))
    np.testing.assert_allclose(hessian * z, s, rtol=4e-16, atol=0)
    product = cone.hessian_product(cone.scaling(s, z, MU), z)
    np.testing.assert_allclose(product, s, rtol=4e-16, atol=0)


@every_cone
def test_hessian_stays_finite_where_z_underflows(cone):
    unit = cone.unit(jnp.float32)
    tiny = jnp.zeros(cone.size, jnp.float32)
    hessian, _ = spectrum(cone, cone.scaling(1e-6 * unit, tiny, MU), jnp.float32)
    chex.assert_type(hessian, jnp.float32)
    chex.assert_tree_all_finite(hessian)


@every_cone
def test_affine_shift_aims_at_zero_complementarity(cone, rng):
    """H dz + ds = -s is s o z + z o ds + s o dz = 0, divided by z."""
    s, z = interior_pair(cone, rng)
    dz = jnp.asarray(rng.normal(size=cone.size))
    scaling = cone.scaling(s, z, MU)
    ds = -cone.affine_shift(scaling, s) - cone.hessian_product(scaling, dz)
    np.testing.assert_allclose(s * z + z * ds + s * dz, 0, atol=1e-14)


@every_cone
def test_combined_shift_aims_at_the_target_with_the_second_order_term(cone, rng):
    """s o z + z o ds + s o dz + ds_affine o dz_affine = target on the rows of a barrier."""
    s, z = interior_pair(cone, rng)
    rows = inequality_rows(cone)
    ds_affine = jnp.asarray(np.where(rows, rng.normal(size=cone.size), 0))
    dz_affine, dz = jnp.asarray(rng.normal(size=(2, cone.size)))
    target = jnp.array(0.3)
    scaling = cone.scaling(s, z, MU)
    shift = cone.combined_shift(scaling, s, z, ds_affine, dz_affine, target)
    ds = -shift - cone.hessian_product(scaling, dz)
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
    scaling = cone.scaling(none, none, one)
    vectors = [
        cone.unit(jnp.float32),
        cone.rectify_scaling(none),
        spectrum(cone, scaling, jnp.float32)[0],
        cone.hessian_product(scaling, none),
        cone.project(none),
        cone.project_spectrum(none)[0],
        cone.project_product(none, none),
        cone.central_spectrum(none, one)[0],
        cone.central_product(none, one, none),
        cone.affine_shift(scaling, none),
        cone.combined_shift(scaling, none, none, none, none, one),
        *cone.central_pair(none, one),
    ]
    for vector in vectors:
        chex.assert_shape(vector, (0,))
        chex.assert_type(vector, jnp.float32)
    assert cone.margin(none) == jnp.inf
    assert max_step(cone, none, none, none, none) == jnp.inf


def test_product_is_its_factors_side_by_side(rng):
    cone = CONES["interleaved"]
    v = jnp.asarray(rng.normal(size=cone.size))
    parts = cone.split(v)
    assert [part.shape[0] for part in parts] == [2, 2, 1]
    np.testing.assert_array_equal(jnp.concatenate(parts), v)
    assert cone.margin(v) == min(float(v[0]), float(v[1]), float(v[4]))


@every_cone
def test_orthants_project_entry_by_entry(cone, rng):
    """The projection, its spectrum and its product with a vector; the smoothed one nearby."""
    v, u = jnp.asarray(rng.normal(size=(2, cone.size)))
    rows = inequality_rows(cone)
    slopes = rows & (np.asarray(v) > 0)
    np.testing.assert_array_equal(cone.project(v), np.where(slopes, v, 0))
    np.testing.assert_array_equal(cone.project_spectrum(v)[0], slopes)
    np.testing.assert_array_equal(cone.project_product(v, u), np.where(slopes, u, 0))
    mu = jnp.array(1e-12)
    np.testing.assert_allclose(cone.central_spectrum(v, mu)[0], slopes, atol=1e-8)
    np.testing.assert_allclose(cone.central_product(v, mu, u), np.where(slopes, u, 0), atol=1e-8)


STACKS = {
    "second order": Stack(SecondOrder(3), 2),
    "semidefinite": Stack(PositiveSemidefinite(2), 2),
    "exponential": Stack(DualExponential(), 2),
    "power": Stack(Power(0.2), 2, (0.2, 0.7)),
}
every_stack = pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)


def members(stack):
    exponents = stack.exponents or [None] * stack.count
    return [stack.cone if a is None else Power(a) for a in exponents]


@pytest.mark.slow
@every_stack
def test_a_stack_is_its_members_side_by_side(stack, rng):
    copies = members(stack)
    v, u = jnp.asarray(rng.normal(size=(2, stack.size)))
    parts, directions = v.reshape(2, -1), u.reshape(2, -1)
    assert stack.degree == sum(cone.degree for cone in copies)
    assert stack.symmetric == copies[0].symmetric
    assert hash(stack) == hash(copy.deepcopy(stack))

    def joined(function):
        return np.concatenate([function(cone, i) for i, cone in enumerate(copies)])

    unit = stack.unit(jnp.float64)
    np.testing.assert_allclose(unit, joined(lambda cone, _: cone.unit(jnp.float64)), rtol=1e-12)
    margins = [float(cone.margin(part)) for cone, part in zip(copies, parts, strict=True)]
    np.testing.assert_allclose(stack.margin(v), min(margins), rtol=1e-12)
    tolerance = dict(rtol=1e-9, atol=1e-12)
    expected = joined(lambda cone, i: cone.project(parts[i]))
    np.testing.assert_allclose(stack.project(v), expected, **tolerance)
    expected = joined(lambda cone, i: cone.project_product(parts[i], directions[i]))
    np.testing.assert_allclose(stack.project_product(v, u), expected, **tolerance)
    expected = joined(lambda cone, i: cone.rectify_scaling(jnp.exp(parts[i])))
    np.testing.assert_allclose(stack.rectify_scaling(jnp.exp(v)), expected, **tolerance)
    distance = stack.distance(unit, unit)
    chex.assert_shape(distance, (0 if stack.symmetric else 2,))
    np.testing.assert_allclose(distance, 0, atol=1e-12)


@pytest.mark.parametrize("stack", [STACKS["second order"], STACKS["power"]], ids=["soc", "power"])
def test_spectra_are_the_projections_derivative(stack, rng):
    """``U diag(values) U'`` is what `project_product` applies, and U is orthogonal."""
    v, u = jnp.asarray(rng.normal(size=(2, stack.size)))
    product = Product((Nonnegative(2), stack, Zero(1)))
    v, u = jnp.concatenate([-v[:2], v, v[:1]]), jnp.concatenate([u[:2], u, u[:1]])
    values, rotation = product.project_spectrum(v)
    assert isinstance(rotation, Rotation)
    assert not rotation.is_identity
    through = rotation.out(values * rotation.into(u))
    np.testing.assert_allclose(through, product.project_product(v, u), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(rotation.out(rotation.into(u)), u, rtol=1e-12)
    rows = jnp.stack([u, 2 * v, v - u])  # a stack of vectors, and rows that end with a cone
    expected = np.stack([rotation.into(row) for row in rows])
    np.testing.assert_allclose(rotation.into(rows), expected, rtol=1e-12)
    np.testing.assert_allclose(rotation.into(u[:-1]), expected[0, :-1], rtol=1e-12)
    np.testing.assert_allclose(rotation.into(rows[:, :2]), rows[:, :2], rtol=1e-12)


def test_the_rotation_of_orthants_is_the_identity(rng):
    cone = CONES["interleaved"]
    v = jnp.asarray(rng.normal(size=cone.size))
    _, rotation = cone.project_spectrum(v)
    assert rotation.is_identity
    assert rotation.into(v) is v
    assert rotation.out(v) is v


class TestCones:
    """Which cones the rows belong to, as the user says it."""

    everything = jl.Cones(
        zero=2,
        nonnegative=3,
        second_order=(3, 4, 3),
        psd=(2, 1, 2),
        exponential=2,
        dual_exponential=1,
        power=(0.3, -0.4, 0.8),
    )

    def test_sizes(self):
        assert jl.Cones().size == 0
        assert self.everything.size == 2 + 3 + 10 + 7 + 6 + 3 + 9
        assert self.everything.product.size == self.everything.size
        assert jl.Cones(psd=(4,)).size == 10

    def test_equal_cones_are_stacked(self):
        assert self.everything.product.cones == (
            Zero(2),
            Nonnegative(3),
            Stack(SecondOrder(3), 2),
            Stack(SecondOrder(4), 1),
            Stack(PositiveSemidefinite(2), 2),
            Stack(PositiveSemidefinite(1), 1),
            Stack(Exponential(), 2),
            Stack(DualExponential(), 1),
            Stack(Power(0.3), 2, (0.3, 0.8)),
            Stack(DualPower(0.4), 1, (0.4,)),
        )

    def test_order_puts_the_users_rows_to_their_stacks(self):
        order = self.everything.order
        assert order is not None
        np.testing.assert_array_equal(np.sort(order), np.arange(self.everything.size))
        # The third second-order cone comes before the second, the third matrix before the second.
        np.testing.assert_array_equal(order[5:15], [5, 6, 7, 12, 13, 14, 8, 9, 10, 11])
        np.testing.assert_array_equal(order[15:22], [15, 16, 17, 19, 20, 21, 18])
        np.testing.assert_array_equal(order[-9:], [31, 32, 33, 37, 38, 39, 34, 35, 36])

    @pytest.mark.parametrize(
        "cones",
        [
            jl.Cones(),
            jl.Cones(zero=1, nonnegative=2, second_order=(3, 3), exponential=2),
            jl.Cones(power=(0.5, 0.1, -0.1)),
        ],
    )
    def test_no_order_where_the_rows_stand_right(self, cones):
        assert cones.order is None

    def test_hashable_and_equal_by_content(self):
        same = jl.Cones(zero=np.int64(1), second_order=[3, np.int32(4)], power=np.array([0.5]))
        assert same == jl.Cones(zero=1, second_order=(3, 4), power=(0.5,))
        assert hash(same) == hash(jl.Cones(zero=1, second_order=(3, 4), power=(0.5,)))
        assert same != jl.Cones(zero=1, second_order=(4, 3), power=(0.5,))
        assert hash(self.everything) == hash(copy.deepcopy(self.everything))
        with pytest.raises(AttributeError):
            same.zero = 2

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"zero": -1}, ValueError),
            ({"zero": 1.0}, TypeError),
            ({"zero": True}, TypeError),
            ({"zero": None}, TypeError),
            ({"nonnegative": -2}, ValueError),
            ({"nonnegative": (2,)}, TypeError),
            ({"nonnegative": jnp.array(2)}, TypeError),
            ({"second_order": 3}, TypeError),
            ({"second_order": "3"}, TypeError),
            ({"second_order": (3, 0)}, ValueError),
            ({"second_order": (3.0,)}, TypeError),
            ({"second_order": None}, TypeError),
            ({"psd": 2}, TypeError),
            ({"psd": (0,)}, ValueError),
            ({"psd": ((2, 2),)}, TypeError),
            ({"exponential": (3,)}, TypeError),
            ({"exponential": -1}, ValueError),
            ({"dual_exponential": 1.5}, TypeError),
            ({"power": 0.5}, TypeError),
            ({"power": (0.0,)}, ValueError),
            ({"power": (1.0,)}, ValueError),
            ({"power": (-1.0,)}, ValueError),
            ({"power": (2,)}, ValueError),
            ({"power": (float("nan"),)}, ValueError),
            ({"power": ("0.5",)}, TypeError),
            ({"power": (True,)}, TypeError),
            ({"semidefinite": (2,)}, TypeError),
        ],
        ids=str,
    )
    def test_wrong_fields_are_named(self, fields, error):
        with pytest.raises(error) as info:
            jl.Cones(**fields)
        (name,) = fields
        assert name in str(info.value)
        assert "Cones" in str(info.value)
