"""The second-order cone: projections, their derivatives, the scaling and the steps obey their laws."""

import copy
from decimal import Decimal, localcontext
from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_layers.cones.second_order import SecondOrder

CONES = [SecondOrder(1), SecondOrder(2), SecondOrder(5)]
every_size = pytest.mark.parametrize("cone", CONES, ids="size {0.size}".format)
larger = pytest.mark.parametrize("cone", CONES[1:], ids="size {0.size}".format)
EPSILON = float(np.finfo(float).eps)


def compiled(name):
    """A method of the cone as a function of the cone and of arrays, compiled once per size and dtype."""
    return jax.jit(getattr(SecondOrder, name), static_argnums=0)


margin, project, combined_shift = map(compiled, ("margin", "project", "combined_shift"))
project_product, central_product, central_pair = map(
    compiled, ("project_product", "central_product", "central_pair")
)
scaling = compiled("scaling")


@partial(jax.jit, static_argnums=0)
def max_step(cone, s, z, ds, dz):
    return cone.max_step(None, s, z, ds, dz)  # the step needs no scaling


@cache
def in_full(cone, method):
    """Values, U by `unrotate` and U by `rotate` from the arguments of a method that gives a spectrum."""

    def function(*arguments):
        values, rotation = getattr(cone, method)(*arguments)
        identity = jnp.eye(cone.size, dtype=values.dtype)
        rows = jax.vmap(lambda v: cone.unrotate(rotation, v))(identity)
        columns = jax.vmap(lambda v: cone.rotate(rotation, v))(identity)
        return values, rows.T, columns

    return jax.jit(function)


@cache
def jacobian(cone, method):
    """Derivative of a method in its first argument."""
    return jax.jit(jax.jacrev(getattr(cone, method)))


@cache
def hessian_matrix(cone):
    return jax.jit(
        lambda scale: jax.vmap(lambda v: cone.hessian_product(scale, v))(
            jnp.eye(cone.size, dtype=scale.eta.dtype)
        )
    )


def spectral_matrix(cone, method, *arguments):
    """The matrix that a spectrum stands for; the rotation is orthogonal."""
    values, rotation, same = map(np.asarray, in_full(cone, method)(*arguments))
    tolerance = 20 * np.finfo(values.dtype).eps
    np.testing.assert_allclose(rotation, same, atol=tolerance)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(cone.size), atol=tolerance)
    return values, rotation @ np.diag(values) @ rotation.T


def reflection(cone):
    """J = diag(1, -1, ..., -1)."""
    return np.diag([1.0] + [-1.0] * (cone.size - 1))


def interior(cone, rng, distance=None):
    tail = rng.normal(size=cone.size - 1)
    distance = rng.uniform(0.1, 3) if distance is None else distance
    return np.concatenate([[np.linalg.norm(tail) + distance], tail])


def jordan(s, z):
    return np.concatenate([[s @ z], s[0] * z[1:] + z[0] * s[1:]])


def regions(cone, rng):
    """Points inside the cone, inside its opposite, between both, and on the axis of the cone."""
    tail = rng.normal(size=cone.size - 1)
    length = np.linalg.norm(tail)
    heads = [length + 0.7, -length - 0.4, 0.6 * length, -0.3 * length, 0.0]
    points = [np.concatenate([[head], tail]) for head in heads if head or cone.size > 1]
    axis = np.eye(cone.size)[0]
    return [*points, 1.3 * axis, -0.8 * axis]


def kinks(cone, rng):
    tail = rng.normal(size=cone.size - 1)
    tail = np.round(tail / np.linalg.norm(tail) * 3) if cone.size == 2 else tail
    if cone.size > 2:
        tail = np.pad([3.0, -4.0], (0, cone.size - 3))
    length = np.linalg.norm(tail)
    return [np.concatenate([[head], tail]) for head in (length, -length)] + [np.zeros(cone.size)]


def differences(function, v, step=1e-6):
    """Jacobian by central differences."""
    columns = [
        (np.asarray(function(v + step * e)) - np.asarray(function(v - step * e))) / (2 * step)
        for e in np.eye(v.size)
    ]
    return np.stack(columns, axis=-1)


@every_size
def test_sizes_units_and_hashes(cone):
    unit = cone.unit(jnp.float32)
    chex.assert_type(unit, jnp.float32)
    np.testing.assert_array_equal(unit, np.eye(cone.size)[0])
    assert cone.degree == 1
    assert cone.distance(unit, unit) == 0
    assert cone.symmetric
    assert hash(cone) == hash(copy.deepcopy(cone))


@every_size
def test_margin_and_row_scaling(cone, rng):
    v = rng.normal(size=cone.size)
    shifted = v - margin(cone, v) * cone.unit(v.dtype)
    assert abs(float(margin(cone, shifted))) < 1e-15
    rows = rng.uniform(0.1, 10, cone.size)
    rectified = np.asarray(cone.rectify_scaling(jnp.asarray(rows)))
    np.testing.assert_allclose(rectified, np.prod(rows) ** (1 / cone.size), rtol=1e-14)


@every_size
def test_projection_is_the_nearest_point(cone, rng):
    """Moreau: v = p - q with p and q in the self-dual cone and orthogonal; p is left where it is."""
    for v in [*regions(cone, rng), *kinks(cone, rng), 1e8 * rng.normal(size=cone.size)]:
        nearest = np.asarray(project(cone, v))
        rest, size = nearest - v, np.linalg.norm(v)
        assert margin(cone, nearest) >= -2 * EPSILON * size
        assert margin(cone, rest) >= -2 * EPSILON * size
        assert abs(nearest @ rest) <= 4 * EPSILON * size**2
        again = np.asarray(project(cone, nearest))
        np.testing.assert_allclose(again, nearest, atol=4 * EPSILON * size, rtol=0)
    inside = interior(cone, rng)
    np.testing.assert_array_equal(project(cone, inside), inside)
    np.testing.assert_array_equal(project(cone, -inside), 0)


@every_size
def test_derivative_of_the_projection(cone, rng):
    for v in regions(cone, rng):
        values, matrix = spectral_matrix(cone, "project_spectrum", v)
        assert values.min() >= 0
        assert values.max() <= 1
        expected = differences(lambda x: project(cone, x), v)
        np.testing.assert_allclose(matrix, expected, atol=2e-9)
        u = rng.normal(size=cone.size)
        np.testing.assert_allclose(project_product(cone, v, u), matrix @ u, atol=1e-14)


@every_size
def test_derivative_at_a_kink_is_a_limit_of_derivatives(cone, rng):
    for v in kinks(cone, rng):
        _, matrix = spectral_matrix(cone, "project_spectrum", v)
        u = rng.normal(size=cone.size)
        np.testing.assert_allclose(project_product(cone, v, u), matrix @ u, atol=1e-14)
        nearby = [
            spectral_matrix(cone, "project_spectrum", v + side * 1e-9 * np.eye(cone.size)[0])[1]
            for side in (1, -1)
        ]
        assert min(np.abs(matrix - limit).max() for limit in nearby) < 1e-8


@every_size
@pytest.mark.parametrize("mu", [0.0, 1e-4, 0.3])
def test_the_product_can_be_differentiated_again(cone, mu, rng):
    """Equal to differences where there is no kink, as on the cone's axis, and finite on the kinks."""
    u = rng.normal(size=cone.size)
    name, smoothing = ("central_product", [mu]) if mu else ("project_product", [])
    product = central_product if mu else project_product
    for v in regions(cone, rng):
        exact = jacobian(cone, name)(v, *smoothing, u)
        step = 1e-5 if mu == 1e-4 else 1e-4
        approximate = differences(lambda x: product(cone, x, *smoothing, u), v, step)
        np.testing.assert_allclose(exact, approximate, atol=1e-6, rtol=1e-6)
    for v in kinks(cone, rng):
        chex.assert_tree_all_finite(jacobian(cone, name)(v, *smoothing, u))


@larger
def test_derivatives_near_the_axis_of_the_cone(cone):
    """A hundred decades of |v1|, down to zero: nothing is divided by it."""
    mu, u = 0.3, np.linspace(1, 2, cone.size)
    derivative = jacobian(cone, "central_product")
    limit = derivative(np.eye(cone.size)[0], mu, u)
    for length in (1e-9, 1e-30, 1e-100, 1e-300):
        v = np.concatenate([[1.0], np.full(cone.size - 1, length)])
        np.testing.assert_allclose(derivative(v, mu, u), limit, atol=1e-8)


def exact_pair(v, mu):
    """The smoothed projections in fifty digits."""
    with localcontext() as context:
        context.prec = 50
        head, *tail = [Decimal(float(entry)) for entry in v]
        length = sum((x * x for x in tail), Decimal(0)).sqrt()
        mu = Decimal(float(mu))
        roots = [(x + (x * x + 4 * mu).sqrt()) / 2 for x in (head + length, head - length)]
        half = sum(roots) / 2
        chord = (roots[0] - roots[1]) / (2 * length) if length else Decimal(0)
        s = [half, *(chord * x for x in tail)]
        z = [half - head, *((chord - 1) * x for x in tail)]
        return np.array([float(x) for x in s]), np.array([float(x) for x in z])


@every_size
@pytest.mark.parametrize("mu", [1e-12, 1e-6, 1.0, 10.0])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_central_pair(cone, mu, size, rng):
    for v in [size * v for v in (*regions(cone, rng), *kinks(cone, rng))]:
        s, z = map(np.asarray, central_pair(cone, v, mu))
        for reached, exact in zip((s, z), exact_pair(v, mu), strict=True):
            error = np.abs(reached - exact).max()
            assert error <= 8 * EPSILON * max(np.abs(v).max(), np.abs(exact).max())
        scale = max(np.linalg.norm(v), np.sqrt(mu))
        np.testing.assert_allclose(s - z, v, atol=4 * EPSILON * scale, rtol=1e-15)
        target = mu * np.eye(cone.size)[0]
        np.testing.assert_allclose(jordan(s, z), target, atol=8 * EPSILON * scale**2)


@every_size
def test_central_pair_is_the_gradient_of_the_barrier(cone, rng):
    """s = -mu grad f*(z) with f* = -1/2 log(t^2 - |x|^2)."""
    quadratic = reflection(cone)
    gradient = jax.grad(lambda z: -0.5 * jnp.log(z @ quadratic @ z))
    for v in regions(cone, rng):
        s, z = central_pair(cone, v, 0.3)
        np.testing.assert_allclose(s, -0.3 * gradient(z), rtol=1e-12, atol=1e-13)


@every_size
def test_central_pair_without_mu_is_the_projection(cone, rng):
    for v in [*regions(cone, rng), *kinks(cone, rng)]:
        s, z = central_pair(cone, v, 0.0)
        np.testing.assert_allclose(s, project(cone, v), atol=1e-15)
        np.testing.assert_allclose(z, project(cone, -v), atol=1e-15)


@every_size
@pytest.mark.parametrize("mu", [1e-12, 1e-2, 3.0])
def test_derivative_of_the_central_pair(cone, mu, rng):
    for v in [*regions(cone, rng), *kinks(cone, rng)]:
        values, matrix = spectral_matrix(cone, "central_spectrum", v, mu)
        assert values.min() > 0
        assert values.max() < 1 or mu < 1e-2
        of_s, of_z = jacobian(cone, "central_pair")(v, mu)
        np.testing.assert_allclose(matrix, of_s, atol=1e-13)
        np.testing.assert_allclose(matrix - np.eye(cone.size), of_z, atol=1e-13)
        if mu > 1e-3:
            expected = differences(lambda x: central_pair(cone, x, mu)[0], v)
            np.testing.assert_allclose(matrix, expected, atol=1e-8)
        u = rng.normal(size=cone.size)
        np.testing.assert_allclose(central_product(cone, v, mu, u), matrix @ u, atol=1e-14)


@every_size
@pytest.mark.parametrize("distance", [1.0, 1e-5, 1e-10])
@pytest.mark.parametrize("central", [False, True])
def test_scaling_maps_z_to_s(cone, distance, central, rng):
    """H and its spectrum agree, H is positive definite, H z = s, and lambda'lambda = s'z."""
    s, z = interior(cone, rng, distance), interior(cone, rng, distance)
    if central:
        z = 1e-3 * reflection(cone) @ s / (s @ reflection(cone) @ s)
    at = scaling(cone, s, z, 1.0)
    hessian = np.asarray(hessian_matrix(cone)(at))
    values, matrix = spectral_matrix(cone, "spectrum", at)
    largest = np.abs(hessian).max()
    assert values.min() > 0
    np.testing.assert_allclose(matrix, hessian, atol=10 * EPSILON * largest)
    np.testing.assert_allclose(hessian @ z, s, atol=10 * EPSILON * largest * np.abs(z).max())
    np.testing.assert_array_equal(values[2:], at.eta**2)
    if cone.size > 1:
        assert values[0] * values[1] == pytest.approx(float(at.eta) ** 4, rel=1e-14)
    # Near the boundary s'z is itself known no better than this.
    rounding = 10 * EPSILON * np.linalg.norm(s) * np.linalg.norm(z) / distance
    centre = np.asarray(at.magnitude * at.centre)
    assert abs(centre @ centre - s @ z) <= rounding


@every_size
def test_shifts_aim_at_their_targets(cone, rng):
    """In the scaled space: ``lambda o (lambda + ds' + dz') + ds_a' o dz_a' = target e``."""
    s, z = interior(cone, rng), interior(cone, rng)
    at = scaling(cone, s, z, 1.0)
    hessian = np.asarray(hessian_matrix(cone)(at))
    squares, vectors = np.linalg.eigh(hessian)
    root = vectors @ np.diag(np.sqrt(squares)) @ vectors.T
    inverse = vectors @ np.diag(1 / np.sqrt(squares)) @ vectors.T
    centre = root @ z
    np.testing.assert_allclose(at.magnitude * at.centre, centre, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(cone.affine_shift(at, s), s)

    ds_affine, dz_affine, dz = rng.normal(size=(3, cone.size))
    shift = np.asarray(combined_shift(cone, at, s, z, ds_affine, dz_affine, 0.3))
    ds = -shift - hessian @ dz
    linear = jordan(centre, centre + inverse @ ds + root @ dz)
    reached = linear + jordan(inverse @ ds_affine, root @ dz_affine)
    np.testing.assert_allclose(reached, 0.3 * np.eye(cone.size)[0], atol=1e-12)


@every_size
def test_combined_step_reaches_the_target_to_second_order(cone, rng):
    """s o z of the step, at the centre of the cone where the scaling doesn't turn anything."""
    unit = np.eye(cone.size)[0]
    at = scaling(cone, unit, unit, 1.0)
    for size in (1e-2, 1e-3):
        dz = size * rng.normal(size=cone.size)
        ds = -np.asarray(combined_shift(cone, at, unit, unit, 0 * dz, 0 * dz, 1.0)) - dz
        shift = np.asarray(combined_shift(cone, at, unit, unit, ds, dz, 1.0))
        reached = jordan(unit - shift - dz, unit + dz)
        np.testing.assert_allclose(reached, unit, atol=20 * size**3)


@every_size
@pytest.mark.parametrize("leaving", [0, 1])
def test_longest_step_ends_on_the_boundary(cone, leaving, rng):
    for distance in (1.0, 1e-6):
        points = [interior(cone, rng, distance), interior(cone, rng, distance)]
        for _ in range(5):
            falling = rng.normal(size=cone.size)
            falling[0] = rng.uniform(-2, 0.9) * np.linalg.norm(falling[1:]) - 0.1
            steps = [np.eye(cone.size)[0]] * 2
            steps[leaving] = falling
            step = float(max_step(cone, *points, *steps))
            v, size = points[leaving] + step * falling, 1 + step
            assert abs(float(margin(cone, v))) <= 20 * EPSILON * size
            assert margin(cone, points[leaving] + 1.01 * step * falling) < 0


@every_size
def test_the_pair_takes_the_shorter_of_two_steps(cone, rng):
    """Straight at the apex, where the boundary is met twice at once."""
    s, z = interior(cone, rng), interior(cone, rng)
    assert max_step(cone, s, z, -2 * s, -4 * z) == pytest.approx(0.25, rel=1e-14)
    assert max_step(cone, s, z, -8 * s, -4 * z) == pytest.approx(0.125, rel=1e-14)


@every_size
def test_no_step_leaves_the_cone_along_its_own_elements(cone, rng):
    s, z, ds, dz = (interior(cone, rng) for _ in range(4))
    assert max_step(cone, s, z, ds, dz) == np.inf
    assert max_step(cone, s, z, 0 * s, 0 * z) == np.inf


@every_size
def test_no_step_can_be_taken_from_the_boundary_outwards(cone, rng):
    inside, zero = interior(cone, rng), np.zeros(cone.size)
    outwards = -np.eye(cone.size)[0]
    for v in (kinks(cone, rng)[0], zero):
        assert max_step(cone, v, inside, outwards, zero) == 0
        assert max_step(cone, inside, v, zero, outwards) == 0


def test_steps_from_the_boundary_inwards():
    """Across the cone to its other side, and along a ray of the boundary to the apex."""
    cone = SecondOrder(2)
    inside, zero = np.array([1.0, 0.0]), np.zeros(2)
    boundary = np.array([1.0, 1.0])
    assert max_step(cone, boundary, inside, np.array([0.0, -1.0]), zero) == 2
    assert max_step(cone, boundary, inside, -boundary, zero) == 1


def everything(cone, s, z, v, u, mu):
    """Every output of the cone, at a pair inside it and at any point."""
    at = cone.scaling(s, z, mu)
    rotated = [cone.spectrum(at), cone.project_spectrum(v), cone.central_spectrum(v, mu)]
    return {
        "scaling": at,
        "rotated": [(*pair, cone.rotate(pair[1], u)) for pair in rotated],
        "unrotated": [cone.unrotate(rotation, u) for _, rotation in rotated],
        "hessian": cone.hessian_product(at, u),
        "shift": cone.combined_shift(at, s, z, u, v, mu),
        "margin": cone.margin(v),
        "rows": cone.rectify_scaling(jnp.abs(u) + 1),
        "unit": cone.unit(v.dtype),
        "projection": cone.project(v),
        "pair": cone.central_pair(v, mu),
        "products": [cone.project_product(v, u), cone.central_product(v, mu, u)],
        "second": [
            jax.grad(lambda v: jnp.sum(cone.project_product(v, u)))(v),
            jax.grad(lambda v: jnp.sum(cone.central_product(v, mu, u)))(v),
        ],
    }


@pytest.mark.slow
@pytest.mark.parametrize(("size", "dtype"), [(1, "float32"), (4, "float32"), (4, "float64")])
def test_finite_in_its_own_dtype_whatever_the_point(size, dtype, rng):
    """Batched and compiled: inside, on the boundary and outside, from 1e-8 to 1e8."""
    cone = SecondOrder(size)
    points = [*regions(cone, rng), *kinks(cone, rng), interior(cone, rng, 1e-7)]
    points = np.stack([scale * v for scale in (1e-8, 1.0, 1e8) for v in points])
    count = len(points)
    rolled = np.roll(points, 1, axis=0)
    u = rng.normal(size=points.shape)
    arguments = [jnp.asarray(x, dtype) for x in (points, rolled, points, u)]
    mu = jnp.asarray(10 ** rng.uniform(-12, 1, count), dtype)
    batched = jax.jit(jax.vmap(lambda *xs: everything(cone, *xs)))
    results = batched(*arguments, mu)
    chex.assert_tree_all_finite(results)
    for leaf in jax.tree.leaves(results):
        chex.assert_type(leaf, dtype)
    steps = jax.jit(jax.vmap(partial(max_step, cone)))(*arguments)
    chex.assert_type(steps, dtype)
    assert np.all(np.asarray(steps) >= 0)


@larger
def test_single_precision_agrees_with_double(cone, rng):
    for v in regions(cone, rng):
        v_single = v.astype(np.float32)
        u, mu = rng.normal(size=cone.size).astype(np.float32), np.float32(0.01)
        values = [project, project_product, central_product]
        single = [(v_single,), (v_single, u), (v_single, mu, u)]
        for function, arguments in zip(values, single, strict=True):
            exact = function(cone, *(np.asarray(x, np.float64) for x in arguments))
            np.testing.assert_allclose(function(cone, *arguments), exact, atol=2e-6)
