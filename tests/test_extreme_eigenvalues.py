"""The smallest and the largest eigenvalue against NumPy's, also in clusters and where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_layers.extreme_eigenvalues import extreme_eigenvalues, smallest_eigenvalue

extremes_of = jax.jit(extreme_eigenvalues)


def spectra(rng, n):
    return {
        "random": rng.normal(size=n),
        "equal": np.ones(n),
        "two clusters": np.r_[-np.ones(n // 2), np.zeros(n - n // 2)],
        "graded": np.geomspace(1e-16, 1e3, n),
        "negative": -np.geomspace(1e-16, 1e8, n),
        "zero": np.zeros(n),
    }


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 2e-4)])
@pytest.mark.parametrize("n", [1, 2, 10, 70])
def test_extremes(n, dtype, tolerance, rng):
    for name, values in spectra(rng, n).items():
        basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
        matrix = (basis * values) @ basis.T
        found = extremes_of(jnp.asarray((matrix + matrix.T) / 2, dtype))
        assert found[0].dtype == dtype
        expected = values.min(), values.max()
        size = np.abs(values).max()
        np.testing.assert_allclose(found, expected, atol=tolerance * size, err_msg=name)
        # From the outside: a step that is made of them is never too long, but for rounding.
        rounding = 100 * n * np.finfo(dtype).eps * size
        assert found[0] <= expected[0] + rounding
        assert found[1] >= expected[1] - rounding


def test_members_of_a_batch(rng):
    """One that is not finite gives NaN, and the others what they are."""
    matrices = rng.normal(size=(4, 5, 5))
    matrices = matrices + matrices.swapaxes(1, 2)
    expected = np.linalg.eigvalsh(matrices)[:, 0]
    matrices[2, 0, 0] = np.nan
    found = jax.jit(jax.vmap(smallest_eigenvalue))(matrices)
    assert np.isnan(found[2])
    kept = [0, 1, 3]
    np.testing.assert_allclose(np.asarray(found)[kept], expected[kept], atol=1e-12)
