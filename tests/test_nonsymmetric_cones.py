"""Exponential and power cones: barriers, scalings, corrections, central pairs, and all in a solve."""

import copy
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_layers.cones import Product
from jaxopt_layers.cones.exponential import DualExponential, Exponential
from jaxopt_layers.cones.nonsymmetric import DualCone
from jaxopt_layers.cones.power import DualPower, Power
from jaxopt_layers.cones.stack import Stack
from jaxopt_layers.cones.three_dimensional import factor_product, factor_spectrum
from jaxopt_layers.cones.zero import Zero
from jaxopt_layers.ipm.line_search import central_step, interior_step
from jaxopt_layers.ipm.state import Iterate

CONES = {
    "exponential": Exponential(),
    "dual exponential": DualExponential(),
    "power": Power(0.3),
    "dual power": DualPower(0.97),
}
every_cone = pytest.mark.parametrize("cone", CONES.values(), ids=CONES)
#: f* has one formula for a cone and its dual.
every_barrier = pytest.mark.parametrize(
    "cone", [cone for cone in CONES.values() if not isinstance(cone, DualCone)]
)
#: One of each kind, for what takes long to compile.
one_of_each = pytest.mark.parametrize(
    "name", ["power", pytest.param("dual exponential", marks=pytest.mark.slow)]
)
#: All batches have this length, so that each function compiles once.
BATCH = 24


def conjugate_barrier(cone, z):
    """f* as the papers write it."""
    if isinstance(cone, Exponential | DualExponential):
        r = z[1] - z[0] - z[0] * jnp.log(-z[2] / z[0])
        return -jnp.log(r) - jnp.log(-z[0]) - jnp.log(z[2])
    a = cone.exponent
    product = (z[0] / a) ** (2 * a) * (z[1] / (1 - a)) ** (2 - 2 * a)
    return -jnp.log(product - z[2] ** 2) - (1 - a) * jnp.log(z[0]) - a * jnp.log(z[1])


@cache
def batched(cone, name):
    """A method of the cone over a batch of each of its arguments, compiled."""
    return jax.jit(jax.vmap(getattr(cone, name)))


@cache
def batched_function(cone, name):
    return jax.jit(jax.vmap(getattr(cone.functions, name)))


def full(value, dtype=jnp.float64):
    return jnp.full(BATCH, value, dtype)


def central_pairs(cone, rng, mu, size=1.0):
    v = jnp.asarray(size * rng.normal(size=(BATCH, 3)))
    return batched(cone, "central_pair")(v, full(mu))


def interior_pairs(cone, rng, mu=1.0):
    """Pairs off the central path, from two points on it."""
    s, _ = central_pairs(cone, rng, mu)
    _, z = central_pairs(cone, rng, mu)
    return s, z


def swapped(cone, s, z):
    """The pair as one of K x K*, for K the cone that the barriers belong to."""
    return (z, s) if isinstance(cone, DualCone) else (s, z)


def shadows(cone, s, z):
    """The points s~, z~ that stand on the central path with z and with s."""
    first, second = swapped(cone, s, z)
    dual_gradient = batched_function(cone, "dual_gradient")
    distance = batched_function(cone, "distance")(second)
    return swapped(
        cone, -dual_gradient(second, distance), -batched_function(cone, "gradient")(first)
    )


@every_cone
def test_the_unit_is_central(cone):
    unit = cone.unit(jnp.float32)
    chex.assert_shape(unit, (cone.size,))
    chex.assert_type(unit, jnp.float32)
    assert cone.size == cone.degree == 3
    assert not cone.symmetric
    assert hash(cone) == hash(copy.deepcopy(cone))
    unit = cone.unit(jnp.float64)
    np.testing.assert_allclose(unit @ unit, cone.degree, rtol=1e-15)
    for part in batched(cone, "central_pair")(jnp.zeros((BATCH, 3)), full(1.0)):
        np.testing.assert_allclose(part[0], unit, rtol=1e-14)


@every_cone
def test_rows_are_scaled_alike_and_no_row_bounds_the_step(cone, rng):
    rows = cone.rectify_scaling(jnp.array([1.0, 4.0, 16.0]))
    np.testing.assert_allclose(rows, [4.0, 4.0, 4.0])
    unit = cone.unit(jnp.float64)
    assert cone.max_step(jnp.eye(3), unit, unit, -2 * unit, unit) == jnp.inf
    assert cone.margin(unit) == jnp.inf
    assert cone.margin(-unit) == -jnp.inf
    np.testing.assert_array_equal(cone.affine_shift(jnp.eye(3), unit), unit)


@every_barrier
def test_derivatives_of_the_conjugate_barrier(cone, rng):
    _, z = central_pairs(cone, rng, 0.3)
    distance = batched_function(cone, "distance")(z)

    def formula(z):
        return conjugate_barrier(cone, z)

    np.testing.assert_allclose(
        batched_function(cone, "dual_value")(z), jax.vmap(formula)(z), rtol=1e-12, atol=1e-12
    )
    gradient = batched_function(cone, "dual_gradient")(z, distance)
    np.testing.assert_allclose(gradient, jax.jit(jax.vmap(jax.grad(formula)))(z), rtol=1e-9)
    factor = np.asarray(batched_function(cone, "dual_factor")(z, distance))
    hessian = np.asarray(jax.jit(jax.vmap(jax.hessian(formula)))(z))
    size = np.max(np.abs(hessian), axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(
        factor @ factor.swapaxes(1, 2) / size, hessian / size, rtol=0, atol=1e-10
    )


@every_barrier
@pytest.mark.parametrize("mu", [1.0, 1e-6])
def test_gradients_of_the_two_barriers_are_inverse(cone, rng, mu):
    """And f is the conjugate: ``f(s) + f*(z) = -3`` for ``z = -grad f(s)``."""
    s, z = central_pairs(cone, rng, mu, size=np.sqrt(mu) * 5)
    recovered = -batched_function(cone, "gradient")(s / mu)
    scale = np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(recovered / scale, z / scale, rtol=0, atol=1e-11)
    values = batched_function(cone, "value")(s / mu) + batched_function(cone, "dual_value")(z)
    np.testing.assert_allclose(values, -3, atol=1e-10)


@every_cone
def test_scaling_maps_the_pair_and_its_shadows(cone, rng):
    s, z = interior_pairs(cone, rng)
    s_shadow, z_shadow = shadows(cone, s, z)
    scaling = batched(cone, "scaling")(s, z, full(1.0))
    for image, v in [(s, z), (s_shadow, z_shadow)]:
        product = batched(cone, "hessian_product")(scaling, v)
        scale = np.linalg.norm(image, axis=1, keepdims=True)
        np.testing.assert_allclose(product / scale, image / scale, rtol=0, atol=1e-10)


@every_cone
def test_scaling_on_the_central_path_is_the_hessian_of_the_barrier(cone, rng):
    mu = 0.2
    s, z = central_pairs(cone, rng, mu)
    _, point = swapped(cone, s, z)
    hessian = jax.jit(jax.vmap(jax.hessian(lambda z: mu * conjugate_barrier(cone, z))))(point)
    if isinstance(cone, DualCone):
        hessian = jnp.linalg.inv(hessian)
    scaling = np.asarray(batched(cone, "scaling")(s, z, full(mu)))
    np.testing.assert_allclose(
        scaling @ scaling.swapaxes(1, 2), hessian, rtol=1e-8, atol=1e-8 * np.max(np.abs(hessian))
    )


@every_cone
@pytest.mark.parametrize("mu", [1.0, 1e-5, 1e-9])
def test_spectrum_is_that_of_the_product(cone, rng, mu):
    s, z = interior_pairs(cone, rng, 1.0)
    s_near, z_near = central_pairs(cone, rng, mu)
    scaling = batched(cone, "scaling")(s_near + 0.1 * mu * s, z_near + 0.1 * mu * z, full(mu))
    values, rotation = batched(cone, "spectrum")(scaling)
    assert np.all(np.asarray(values) > 0)
    identity = np.broadcast_to(np.eye(3), (BATCH, 3, 3))
    gram = np.asarray(rotation).swapaxes(1, 2) @ np.asarray(rotation)
    np.testing.assert_allclose(gram, identity, atol=1e-14)
    u = jnp.asarray(rng.normal(size=(BATCH, 3)))
    rotated = batched(cone, "rotate")(rotation, u)
    product = batched(cone, "unrotate")(rotation, values * rotated)
    scale = np.max(np.asarray(values), axis=1, keepdims=True)
    np.testing.assert_allclose(
        product / scale, batched(cone, "hessian_product")(scaling, u) / scale, rtol=0, atol=1e-14
    )


def test_small_eigenvalues_are_relatively_accurate(rng):
    """Of factors with graded columns: against 1 / (largest eigenvalue of the inverse)."""
    for grade in (1.0, 1e-4, 1e-9):
        columns = rng.normal(size=(3, 3)) * [grade, 1, 1 / grade]
        inverse = np.linalg.inv(columns / [grade, 1, 1 / grade]) / [[grade], [1], [1 / grade]]
        values, _ = factor_spectrum(jnp.asarray(columns))
        smallest = 1 / np.linalg.norm(inverse, 2) ** 2
        np.testing.assert_allclose(np.min(values), smallest, rtol=1e-12)
        np.testing.assert_allclose(np.max(values), np.linalg.norm(columns, 2) ** 2, rtol=1e-13)


@pytest.mark.parametrize("factor", [np.zeros((3, 3)), np.eye(3), np.ones((3, 3))])
def test_spectrum_at_ties_and_without_rank(factor):
    values, rotation = factor_spectrum(jnp.asarray(factor))
    assert np.all(np.isfinite(rotation))
    np.testing.assert_allclose(rotation @ jnp.diag(values) @ rotation.T, factor @ factor.T)


@one_of_each
def test_correction_is_the_curvature_of_the_central_path(name, rng):
    """Along any curve of central pairs, s'' + H z'' = -2 eta (the module's derivation)."""
    cone = CONES[name]
    v, w = rng.normal(size=(2, BATCH, 3))

    def curvature(v, w):
        def pair(t):
            return cone.central_pair(v + t * w, 0.5 - 0.4 * t)

        (s, z), (ds, dz) = jax.jvp(pair, (0.0,), (1.0,))
        _, (dds, ddz) = jax.jvp(lambda t: jax.jvp(pair, (t,), (1.0,))[1], (0.0,), (1.0,))
        scaling = cone.scaling(s, z, 0.5)
        eta = cone.combined_shift(scaling, s, z, ds, dz, 0.0) - s
        centring = cone.combined_shift(scaling, s, z, 0 * ds, 0 * dz, 0.5) - s
        return dds + cone.hessian_product(scaling, ddz), -2 * eta, centring, s

    left, right, centring, s = jax.jit(jax.vmap(curvature))(jnp.asarray(v), jnp.asarray(w))
    scale = np.max(np.abs(right), axis=1, keepdims=True)
    np.testing.assert_allclose(left / scale, right / scale, rtol=0, atol=1e-7)
    np.testing.assert_allclose(centring, -s, rtol=1e-9)


@every_cone
def test_distance_from_the_central_path(cone, rng):
    mu = 0.02
    s, z = central_pairs(cone, rng, mu)
    distance = batched(cone, "distance")
    np.testing.assert_allclose(distance(s, z), 0, atol=1e-10)
    assert np.all(batched(cone, "interior")(s, z))
    s, z = interior_pairs(cone, rng)
    found = np.asarray(distance(s, z))
    assert np.all(found > -1e-12)
    assert np.max(found) > 0.1
    np.testing.assert_allclose(distance(1e3 * s, 1e-7 * z), found, atol=1e-8)
    for pair in ((-s, z), (s, -z), (0 * s, z), (s, 0 * z)):
        assert np.all(np.isinf(distance(*pair)))
        assert not np.any(batched(cone, "interior")(*pair))


@every_cone
def test_interior_is_where_the_distance_is_finite(cone, rng):
    """On both sides of the boundary of K and of K*, and where numbers are missing."""
    s, z = central_pairs(cone, rng, 1.0)
    ends = rng.normal(size=(2, BATCH, 3))
    shares = rng.uniform(size=(2, BATCH, 1)) ** 2
    s, z = s + shares[0] * ends[0], z + shares[1] * ends[1]
    inside = np.asarray(batched(cone, "interior")(s, z))
    np.testing.assert_array_equal(inside, np.isfinite(batched(cone, "distance")(s, z)))
    assert 0 < np.sum(inside) < BATCH
    for i in range(3):
        assert not np.any(batched(cone, "interior")(s.at[:, i].set(jnp.nan), z))
        assert not np.any(batched(cone, "interior")(s, z.at[:, i].set(jnp.nan)))


SEARCHED = Product((Zero(1), Stack(Exponential(), 2), Stack(DualPower(0.3), 2, (0.3, 0.6))))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("search", [interior_step, central_step])
def test_line_search_takes_the_first_admissible_length(search, dtype, rng):
    """Of the list 0.88^(k + k^2 / 10), for each member of a batch; 0 where there is none."""
    unit, size = SEARCHED.unit(dtype), (BATCH, SEARCHED.size)
    scales = 10.0 ** rng.uniform(-1, 3, size=(BATCH, 1))
    ds, dz = (jnp.asarray(scales * rng.normal(size=size), dtype) for _ in range(2))
    longest = np.append([0, np.nan], rng.uniform(0.5, 2, size=BATCH - 2)).astype(dtype)
    one = jnp.ones((), dtype)

    @jax.jit
    @jax.vmap
    def found(ds, dz, longest):
        zero = jnp.zeros((), dtype)
        point, direction = Iterate(unit, unit, one, one), Iterate(dz, ds, zero, zero)
        return search(SEARCHED, point, direction, longest)

    lengths = np.asarray(found(ds, dz, longest))
    assert lengths.dtype == dtype
    powers = np.arange(24) * (1 + np.arange(24) / 10)
    tried = np.minimum(longest, 1)[:, None] * np.asarray(0.88**powers, dtype)
    steps = [tried[:, :, None] * np.asarray(change)[:, None] for change in (ds, dz)]
    distance = jax.jit(jax.vmap(jax.vmap(SEARCHED.distance)))(
        *(np.asarray(unit) + step for step in steps)
    )
    limit = np.inf if search is interior_step else 3.0
    admissible = np.all(distance < limit, axis=2)
    expected = np.max(np.where(admissible, tried, 0), axis=1)
    np.testing.assert_array_equal(lengths, expected)
    np.testing.assert_array_equal(lengths[:2], 0)
    assert len(np.unique(np.argmax(admissible, axis=1))) > 5


@every_cone
@pytest.mark.parametrize("mu", [10.0, 1e-3, 1e-12])
def test_central_pairs(cone, rng, mu):
    """At all sizes s - z = v and s'z = 3 mu; where the numbers resolve it, s = -mu grad f*(z)."""
    sizes = 10.0 ** rng.uniform(-4, 4, size=(BATCH, 1))
    v = rng.normal(size=(BATCH, 3)) * sizes
    v[:3] *= np.eye(3)
    v[3] = 0
    s, z = (np.asarray(part) for part in batched(cone, "central_pair")(jnp.asarray(v), full(mu)))
    scale = np.maximum(np.linalg.norm(v, axis=1), np.sqrt(mu))
    assert np.max(np.abs(s - z - v) / scale[:, None]) < 1e-13
    lengths = np.linalg.norm(s, axis=1) * np.linalg.norm(z, axis=1)
    np.testing.assert_allclose(np.sum(s * z, axis=1), 3 * mu, rtol=0, atol=1e-12 * lengths.max())
    resolved = scale**2 < 1e3 * mu
    assert np.any(resolved)
    shadow, _ = shadows(cone, jnp.asarray(s), jnp.asarray(z))
    error = np.max(np.abs(s - mu * np.asarray(shadow)), axis=1) / scale
    assert np.all(error[resolved] < 1e-11)


@every_cone
@pytest.mark.parametrize("mu", [1.0, 1e-4])
def test_derivative_of_the_central_pair(cone, rng, mu):
    v, u = (jnp.asarray(part) for part in rng.normal(size=(2, BATCH, 3)))
    step = 1e-5 * np.sqrt(mu)
    pair, product = batched(cone, "central_pair"), batched(cone, "central_product")
    difference = pair(v + step * u, full(mu))[0] - pair(v - step * u, full(mu))[0]
    derivative = product(v, full(mu), u)
    np.testing.assert_allclose(derivative, difference / (2 * step), rtol=0, atol=1e-7)
    values, rotation = batched(cone, "central_spectrum")(v, full(mu))
    assert np.all((np.asarray(values) > 0) & (np.asarray(values) < 1))
    rotated = batched(cone, "rotate")(rotation, u)
    np.testing.assert_allclose(
        batched(cone, "unrotate")(rotation, values * rotated), derivative, rtol=0, atol=1e-10
    )


@one_of_each
def test_second_derivative_of_the_central_pair(name, rng):
    cone, mu, step = CONES[name], 0.01, 1e-6
    v, u, w = (jnp.asarray(part) for part in rng.normal(size=(3, BATCH, 3)))
    product = batched(cone, "central_product")

    def pulled(v, mu, u, w):
        return w @ cone.central_product(v, mu, u)

    gradients = jax.jit(jax.vmap(jax.grad(pulled, argnums=(0, 2))))(v, full(mu), u, w)
    change = product(v + step * u, full(mu), u) - product(v - step * u, full(mu), u)
    np.testing.assert_allclose(
        np.sum(gradients[0] * u, axis=1), np.sum(change * w, axis=1) / (2 * step), atol=2e-6
    )
    np.testing.assert_allclose(gradients[1], product(v, full(mu), w), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exponential", "dual power"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_everything_is_finite_and_keeps_its_dtype(name, rng, dtype):
    """At points inside and outside, of sizes from 1e-8 to 1e8."""
    cone = CONES[name]
    sizes = 10.0 ** rng.integers(-8, 9, size=(BATCH, 1))
    inside = jnp.asarray(np.asarray(cone.unit(dtype)) * sizes, dtype)
    outside = rng.normal(size=(BATCH, 3))
    v = jnp.asarray(outside * sizes, dtype).at[0].set(0)
    mu = full(1e-3, dtype)
    for s, z in [(inside, inside[::-1]), (v, inside), (inside, v), (v, v)]:
        scaling = batched(cone, "scaling")(s, z, mu)
        results = [
            scaling,
            batched(cone, "spectrum")(scaling),
            batched(cone, "combined_shift")(scaling, s, z, 0.1 * s, -0.1 * z, mu),
        ]
        for leaf in jax.tree.leaves(results):
            chex.assert_type(leaf, dtype)
            assert np.all(np.isfinite(leaf))
    results = [
        batched(cone, "central_pair")(v, mu),
        batched(cone, "central_spectrum")(v, mu),
        batched(cone, "central_product")(v, mu, v),
    ]
    for leaf in jax.tree.leaves(results):
        chex.assert_type(leaf, dtype)
        assert np.all(np.isfinite(leaf))


@pytest.mark.slow
def test_exponents_may_be_traced(rng):
    """A batch of power cones with an exponent each agrees with the cones one by one."""
    exponents = jnp.array([0.1, 0.8])
    v = jnp.asarray(rng.normal(size=(2, 3)))

    def shift(exponent, v):
        cone = DualPower(exponent)
        s, z = cone.central_pair(v, 0.1)
        unit = cone.unit(v.dtype)
        s = s + 0.1 * unit
        return cone.combined_shift(cone.scaling(s, z, 0.1), s, z, -0.2 * unit, 0.3 * unit, 0.05)

    together = jax.jit(jax.vmap(shift))(exponents, v)
    for exponent, part, expected in zip(exponents, v, together, strict=True):
        alone = jax.jit(shift, static_argnums=0)(float(exponent), part)
        np.testing.assert_allclose(alone, expected, rtol=1e-8)


PRODUCTS = [
    pytest.param([Exponential(), Exponential()], id="exponential"),
    pytest.param(list(CONES.values()), id="mixed", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("cones", PRODUCTS)
def test_an_interior_point_method_converges(cones, rng):
    """Minimize c'x subject to b - A x in the cones, from their unit points."""
    rows = 3 * len(cones)
    for _ in range(2):
        matrix = rng.normal(size=(rows, 2 * len(cones) - 1))
        pairs = [cone.central_pair(jnp.asarray(rng.normal(size=3)), 0.3) for cone in cones]
        b = matrix @ rng.normal(size=matrix.shape[1]) + np.concatenate([s for s, _ in pairs])
        c = -matrix.T @ np.concatenate([z for _, z in pairs])
        x, s, z, iterations = interior_point(cones, matrix, b, c)
        assert iterations < 22
        np.testing.assert_allclose(matrix @ x + s, b, atol=1e-7)
        np.testing.assert_allclose(c + matrix.T @ z, 0, atol=1e-7)
        np.testing.assert_allclose(c @ x + b @ z, 0, atol=1e-7)


def interior_point(cones, matrix, b, c):
    """A predictor-corrector method with dense systems; until s'z and the residuals fall to 1e-9."""
    size, degree = matrix.shape[1], 3 * len(cones)
    s = z = np.concatenate([cone.unit(np.float64) for cone in cones])
    x, iteration, each = np.zeros(size), 0, range(len(cones))

    def over_cones(name, *arrays):
        parts = [part.reshape(len(cones), 3) for part in arrays]
        return [compiled(cones[i], name)(*(part[i] for part in parts)) for i in each]

    def longest_step(ds, dz, centred):
        step = 1.0
        while step > 1e-8:
            s_next, z_next = s + step * ds, z + step * dz
            if centred:
                mu = s_next @ z_next / degree
                own = np.sum((s_next * z_next).reshape(len(cones), 3), axis=1) / 3
                away = sum(over_cones("distance", s_next, z_next))
                if np.all(own > 0) and away + 3 * np.sum(np.log(mu / own)) < 1:
                    break
            elif all(over_cones("interior", s_next, z_next)):
                break
            step *= 0.8
        return step

    while True:
        mu, dual, primal = s @ z / degree, c + matrix.T @ z, matrix @ x + s - b
        if max(mu, np.max(np.abs(dual)), np.max(np.abs(primal))) < 1e-9 or iteration == 30:
            return x, s, z, iteration
        scalings = over_cones("scaling", s, z)
        hessian = np.zeros((3 * len(cones), 3 * len(cones)))
        for i, factor in enumerate(scalings):
            hessian[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = factor @ factor.T
        kkt = np.block([[np.zeros((size, size)), matrix.T], [matrix, -hessian]])

        def direction(shift, fraction, kkt=kkt, dual=dual, primal=primal):
            right = np.concatenate([-fraction * dual, shift - fraction * primal])
            solution = np.linalg.solve(kkt, right)
            solution += np.linalg.solve(kkt, right - kkt @ solution)
            dx, dz = solution[:size], solution[size:]
            return dx, -fraction * primal - matrix @ dx, dz

        _, ds, dz = direction(s, 1.0)
        step = longest_step(ds, dz, centred=False)
        # The correction counts for what can be gone of the affine step: with all of it, short steps
        # are followed by ever shorter ones.
        parts = [v.reshape(len(cones), 3) for v in (s, z, step * ds, dz)]
        target = (1 - step) ** 3 * mu
        shifts = [
            compiled(cones[i], "combined_shift")(scalings[i], *(v[i] for v in parts), target)
            for i in each
        ]
        dx, ds, dz = direction(np.concatenate(shifts), 1 - (1 - step) ** 3)
        step = 0.99 * longest_step(ds, dz, centred=True)
        x, s, z, iteration = x + step * dx, s + step * ds, z + step * dz, iteration + 1


@cache
def compiled(cone, name):
    if name == "scaling":
        return jax.jit(lambda s, z: cone.scaling(s, z, 1.0))
    return jax.jit(getattr(cone, name))


def test_factor_product_is_the_product(rng):
    factor, v = rng.normal(size=(3, 3)), rng.normal(size=3)
    np.testing.assert_allclose(
        factor_product(jnp.asarray(factor), jnp.asarray(v)), factor @ (factor.T @ v)
    )
