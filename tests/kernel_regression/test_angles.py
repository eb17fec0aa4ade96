"""Kernels from overlaps: compiled and in numpy."""

import numpy as np
import pytest

from harmose.kernel_regression import angles
from harmose.kernel_regression.angles import (
    LANES,
    ORDERS,
    DescriptorOverlaps,
    kernels_compiled,
    kernels_from_overlaps,
    kernels_numpy,
)

EDGES = 3

needs_compiler = pytest.mark.skipif(angles.compiled is None, reason="harmose was installed without a C compiler")


def overlaps(seed: int, points: int) -> DescriptorOverlaps:
    generator = np.random.default_rng(seed)
    so2 = generator.normal(size=(ORDERS, 2, EDGES, 2, points)) / 10
    return DescriptorOverlaps(generator.normal(size=(EDGES, points)) / 10, so2)


@needs_compiler
@pytest.mark.parametrize("points", [LANES, 13, 24])
@pytest.mark.parametrize("exponent", [1, 2, 4, 8])
@pytest.mark.parametrize("orders", [(0,), (0, 1), tuple(range(3)), tuple(range(5)), tuple(range(7)), (3,), (1, 4)])
@pytest.mark.parametrize("sides", [1, 2])
def test_compiled_code_agrees_with_numpy(points, exponent, orders, sides):
    parts = [overlaps(seed, points) for seed in range(sides)]
    envelope = np.random.default_rng(5).uniform(size=(EDGES, points))
    compiled, expected = (f(parts, envelope, exponent, orders) for f in (kernels_compiled, kernels_numpy))
    for a, b in zip(compiled, expected, strict=True):
        for x, y in zip(a.by_order(orders), b.by_order(orders), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-15 + 1e-13 * np.abs(y).max())


def test_order_zero_is_the_mean_over_angles():
    """Without SO(2) parts k(a) is a constant c: K_0 is c^exponent for scalars, 0 for pseudoscalars."""
    scalar = np.array([[0.5, -2.0]])
    part = DescriptorOverlaps(scalar, np.zeros((ORDERS, 2, 1, 2, 2)))
    (kernels,) = kernels_from_overlaps([part], np.full((1, 2), 3.0), 4, (0, 1))
    np.testing.assert_allclose(kernels.scalar[0], 3 * scalar**4)
    np.testing.assert_allclose(kernels.scalar[1], 0, atol=1e-14)
    np.testing.assert_allclose(kernels.so2, 0, atol=1e-14)


@needs_compiler
def test_arrays_of_wrong_size_or_type_are_refused():
    part, envelope = overlaps(0, LANES), np.ones((EDGES, LANES))
    with pytest.raises(ValueError, match="expected 24 contiguous numbers"):
        kernels_compiled([DescriptorOverlaps(part.scalar[1:], part.so2)], envelope, 4, (0, 1))
    with pytest.raises(ValueError, match="numbers of 8 bytes"):
        kernels_compiled([part], envelope.astype(np.float32), 4, (0, 1))
    with pytest.raises((ValueError, BufferError)):
        kernels_compiled([DescriptorOverlaps(part.scalar, part.so2[:, :, ::-1])], envelope, 4, (0, 1))


def test_few_sparse_points_need_no_compiler():
    (kernels,) = kernels_from_overlaps([overlaps(0, LANES - 1)], np.ones((EDGES, LANES - 1)), 4, (0, 1))
    assert kernels.scalar.shape == (2, EDGES, LANES - 1)
