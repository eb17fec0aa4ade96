"""The compiled sums over angles against those in numpy, and what they refuse."""

import numpy as np
import pytest

from harmose.kernel_regression import angles
from harmose.kernel_regression.angles import LANES, ORDERS, Overlaps, over_angles

EDGES = 3

needs_compiler = pytest.mark.skipif(angles.compiled is None, reason="harmose was installed without a C compiler")


def overlaps(seed: int, references: int) -> Overlaps:
    generator = np.random.default_rng(seed)
    around = generator.normal(size=(ORDERS, 2, EDGES, 2, references)) / 10
    return Overlaps(generator.normal(size=(EDGES, references)) / 10, around)


@needs_compiler
@pytest.mark.parametrize("references", [LANES, 13, 24])
@pytest.mark.parametrize("power", [1, 2, 4, 8])
@pytest.mark.parametrize("orders", [(0,), (0, 1), tuple(range(3)), tuple(range(5)), tuple(range(7)), (3,), (1, 4)])
@pytest.mark.parametrize("sides", [1, 2])
def test_compiled_sums_are_those_in_numpy(monkeypatch, references, power, orders, sides):
    parts = [overlaps(seed, references) for seed in range(sides)]
    alike = np.random.default_rng(5).uniform(size=(EDGES, references))
    found = over_angles(parts, alike, power, orders)
    monkeypatch.setattr(angles, "compiled", None)
    for side, expected in zip(found, over_angles(parts, alike, power, orders), strict=True):
        for x, y in zip(side.of(orders), expected.of(orders), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-15 + 1e-13 * np.abs(y).max())


@needs_compiler
def test_arrays_of_another_size_or_kind_are_refused():
    part, alike = overlaps(0, LANES), np.ones((EDGES, LANES))
    assert over_angles([part], alike, 4, (0, 1))
    with pytest.raises(ValueError, match="expected 24 contiguous numbers"):
        over_angles([Overlaps(part.scalar[1:], part.around)], alike, 4, (0, 1))
    with pytest.raises(ValueError, match="numbers of 8 bytes"):
        over_angles([part], alike.astype(np.float32), 4, (0, 1))
    with pytest.raises((ValueError, BufferError)):
        over_angles([Overlaps(part.scalar, part.around[:, :, ::-1])], alike, 4, (0, 1))


def test_few_references_need_no_compiler():
    few, alike = overlaps(0, LANES - 1), np.ones((EDGES, LANES - 1))
    assert over_angles([few], alike, 4, (0, 1))[0].scalar.shape == (2, EDGES, LANES - 1)
