import numpy as np
import pytest

from gs_ssd.render import simd
from gs_ssd.render.compilation import kernel
from gs_ssd.render.simd import LANES


@kernel
def _exp2(source, target):
    for i in range(0, len(source), LANES):
        simd.store(target, i, simd.exp2(simd.load(source, i)))


@kernel
def _log2(source, target):
    for i in range(0, len(source), LANES):
        simd.store(target, i, simd.log2(simd.load(source, i)))


@kernel
def _sums(a, b, target):
    x, y = simd.load(a, 0), simd.load(b, 0)
    simd.store(target, 0, simd.lane_sums((x, y, x * y)))
    return simd.lane_bits((x < y) & ~(x < -0.5))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2.5e-7), (np.float64, 1e-15)])
def test_exp2_and_log2(dtype, tolerance):
    x = np.linspace(-12, 0.5, 64 * LANES).astype(dtype)
    got = np.empty_like(x)
    _exp2(x, got)
    exact = np.exp2(x.astype(np.float64))
    assert np.abs(got / exact - 1).max() < tolerance
    source = np.geomspace(1 / 255, 2, 64 * LANES).astype(dtype)
    _log2(source, got)
    assert np.abs(got - np.log2(source.astype(np.float64))).max() < 4 * tolerance


def test_aligned_arrays_start_on_a_cache_line():
    for count in (1, 16, 1000):
        array = simd.aligned(count, np.empty(0, np.float32))
        assert array.ctypes.data % 64 == 0 and array.shape == (count,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_and_masks(dtype):
    a, b = np.random.default_rng(0).normal(size=(2, LANES)).astype(dtype)
    got = np.empty(LANES, dtype)
    bits = _sums(a, b, got)
    np.testing.assert_allclose(got[:3], [a.sum(), b.sum(), (a * b).sum()], rtol=1e-5)
    assert not got[3:].any()
    assert bits == sum(1 << lane for lane in np.flatnonzero((a < b) & ~(a < -0.5)))
