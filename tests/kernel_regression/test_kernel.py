"""The covariant kernel of edges against its integral, and under the turns and mirrors that its equation names."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.kernel_regression.descriptors import Triangles
from harmose.kernel_regression.kernel import (
    DAMPING,
    DIVERSE_PAIRS,
    PAIR_KERNEL,
    Compared,
    EdgeDescriptor,
    KernelParameters,
    edge_kernels,
    environments,
    weighted,
)

EDGES, THIRD = 5, 4


def scene(seed: int) -> tuple[Triangles, np.ndarray]:
    """Edges of 1 to 1.5 angstrom with four atoms of two species around each, in cylindrical coordinates of their frames."""
    generator = np.random.default_rng(seed)
    length = generator.uniform(1, 1.5, EDGES)
    edge = np.repeat(np.arange(EDGES), THIRD)
    rho, z = generator.uniform(0.5, 2, EDGES * THIRD), generator.uniform(-1, 2, EDGES * THIRD)
    axis = rho * np.exp(2j * np.pi * generator.uniform(size=EDGES * THIRD))
    sides = np.stack([length[edge], np.hypot(rho, z), np.hypot(rho, z - length[edge])], 1)
    return Triangles(edge, generator.integers(0, 2, EDGES * THIRD), sides, axis), length


def seen(triangles: Triangles, length: np.ndarray, likeness: KernelParameters = PAIR_KERNEL) -> EdgeDescriptor:
    return environments(triangles, length, 2, likeness)


def changed(triangles: Triangles, angle: float = 0.0, mirror: bool = False) -> Triangles:
    axis = triangles.axis.conj() if mirror else triangles.axis
    return Triangles(triangles.edge, triangles.third, triangles.sides, axis * np.exp(1j * angle))


@pytest.mark.parametrize("likeness", [PAIR_KERNEL, DIVERSE_PAIRS])
def test_it_is_the_integral_over_turns_and_mirror_images(likeness):
    (one, r), (other, s) = scene(0), scene(1)
    a, b = seen(one, r, likeness), seen(other, s, likeness)
    kernels = edge_kernels(a, Compared(b), range(4))
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    images = {m: [seen(changed(one, -x, m), r).so2 for x in angles] for m in (False, True)}

    def overlaps(mirror: bool) -> np.ndarray:
        return np.array([np.einsum("meq,mfq->ef", x, b.so2) for x in images[mirror]])

    lengths = (r[:, None] - s) ** 2 / 2 / PAIR_KERNEL.spread**2 + (r[:, None] + s - 2.2) / PAIR_KERNEL.reach
    envelope = np.exp(-lengths)
    straight = [
        (overlaps(False) ** likeness.power * np.exp(1j * k * angles)[:, None, None]).mean(0) * envelope
        for k in range(4)
    ]
    mirrored = [(overlaps(True) ** likeness.power).mean(0) * envelope]
    np.testing.assert_allclose(kernels[0][0], (straight[0] + mirrored[0]).real / 2, atol=1e-10)
    np.testing.assert_allclose(kernels[0][1], (straight[0] - mirrored[0]).real / 2, atol=1e-10)
    assert np.abs(straight[3]).max() > 1e-4
    assert 0 < DAMPING <= 1


@pytest.mark.parametrize("order", [1, 2, 4])
def test_turning_an_edge_turns_its_rows(order):
    (one, r), (other, s) = scene(0), scene(1)
    kernel = edge_kernels(seen(one, r), Compared(seen(other, s)), [order])[0]
    turned = edge_kernels(seen(changed(one, 0.7), r), Compared(seen(other, s)), [order])[0]
    cos, sin = np.cos(0.7 * order), np.sin(0.7 * order)
    even, odd = np.split(kernel, 2)
    np.testing.assert_allclose(turned, np.concatenate([cos * even - sin * odd, sin * even + cos * odd]), atol=1e-13)


def test_a_mirror_image_turns_odd_halves_and_pseudoscalars_over():
    (one, r), (other, s) = scene(0), scene(1)
    kernels = edge_kernels(seen(one, r), Compared(seen(other, s)), range(3))
    mirrored = edge_kernels(seen(changed(one, mirror=True), r), Compared(seen(other, s)), range(3))
    np.testing.assert_allclose(mirrored[0][0], kernels[0][0], atol=1e-13)
    np.testing.assert_allclose(mirrored[0][1], -kernels[0][1], atol=1e-13)
    np.testing.assert_allclose(mirrored[2][:EDGES], kernels[2][:EDGES], atol=1e-13)
    np.testing.assert_allclose(mirrored[2][EDGES:], -kernels[2][EDGES:], atol=1e-13)


def test_it_is_a_positive_symmetric_kernel():
    a = seen(*scene(0))
    for k, kernel in enumerate(edge_kernels(a, Compared(a), range(5))):
        for matrix in kernel if k == 0 else [kernel]:
            np.testing.assert_allclose(matrix, matrix.T, atol=1e-13)
            assert np.linalg.eigvalsh(matrix).min() > -1e-12


def test_without_third_atoms_there_is_no_likeness():
    empty = Triangles(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3)), np.zeros(0, complex))
    alone = seen(empty, np.array([1.0, 2.0]))
    assert not np.any(edge_kernels(alone, Compared(seen(*scene(0))), [0])[0])


def repeated(triangles: Triangles, length: np.ndarray, times: int) -> tuple[Triangles, np.ndarray]:
    edge = np.concatenate([triangles.edge + k * len(length) for k in range(times)])
    third, sides, axis = (np.concatenate([x] * times) for x in (triangles.third, triangles.sides, triangles.axis))
    return Triangles(edge, third, sides, axis), np.tile(length, times)


@pytest.mark.parametrize(
    "times", [1, 30]
)  # many references that differ in few combinations of cells are compared in these
@pytest.mark.parametrize("numbers", [[0, 2], [1, 0], [4, 3]])
def test_elements_that_are_around_one_of_the_edges_alone_count_for_nothing(times, numbers):
    (one, r), (other, s) = scene(0), repeated(*scene(1), times)
    one = replace(one, third=np.ones_like(one.third))
    assert (Compared(seen(other, s)).whole.basis is None) == (times == 1)
    expected = edge_kernels(seen(one, r), Compared(seen(other, s)), range(5))
    a, b = (
        environments(replace(x, third=np.array(numbers)[x.third]), length, 5, PAIR_KERNEL)
        for x, length in ((one, r), (other, s))
    )
    for x, y in zip(edge_kernels(a, Compared(b), range(5)), expected, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-13)
        assert np.abs(y).max() > 1e-3


@pytest.mark.parametrize("at_once", [1, 10**6])
def test_weighted_sums_are_those_of_the_kernels(at_once, monkeypatch):
    monkeypatch.setattr("harmose.kernel_regression.kernel.AT_ONCE", at_once)
    generator, a, b = np.random.default_rng(2), seen(*scene(0)), Compared(seen(*scene(1)))
    weights = [generator.normal(size=(EDGES * (2 if m else 1), 7)) for m in range(4)]
    (scalar, pseudoscalar), *around = edge_kernels(a, b, range(4))
    expected = [np.concatenate([scalar @ weights[0][:, :3], pseudoscalar @ weights[0][:, 3:]], 1)]
    expected += [kernel @ w for kernel, w in zip(around, weights[1:], strict=True)]
    for found, x in zip(weighted(a, b, weights, 3)[0], expected, strict=True):
        np.testing.assert_allclose(found, x, atol=1e-13)


def test_the_other_end_of_an_edge_is_seen_without_looking_from_there():
    generator, (one, r), b = np.random.default_rng(2), scene(0), Compared(seen(*scene(1)))
    weights = [generator.normal(size=(EDGES * (2 if m else 1), 7)) for m in range(4)]
    reversed_edges = Triangles(one.edge, one.third, one.sides[:, [0, 2, 1]], one.axis.conj())
    found = weighted(seen(one, r), b, weights, 3, both=True)
    for side, edges in zip(found, (one, reversed_edges), strict=True):
        for x, expected in zip(side, weighted(seen(edges, r), b, weights, 3)[0], strict=True):
            np.testing.assert_allclose(x, expected, atol=1e-13)


def test_one_order_alone_is_that_of_all_together():
    a, b = seen(*scene(0)), Compared(seen(*scene(1)))
    for m, kernel in enumerate(edge_kernels(a, b, range(5))):
        np.testing.assert_allclose(edge_kernels(a, b, [m])[0], kernel, atol=1e-14)
