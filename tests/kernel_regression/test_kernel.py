"""The covariant kernel of edges against its integral, and under rotations, mirror images and reversal."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.kernel_regression.descriptors import Triangles
from harmose.kernel_regression.kernel import (
    MANY_MOLECULES_PAIR_KERNEL,
    PAIR_KERNEL,
    EdgeDescriptor,
    KernelParameters,
    SparseReferences,
    edge_descriptors,
    edge_kernels,
    kernel_sums,
)

EDGES, THIRD = 5, 4


def scene(seed: int) -> tuple[Triangles, np.ndarray]:
    """Edges of 1 to 1.5 angstrom, each with four third atoms of two species, in cylindrical coordinates of their frames."""
    generator = np.random.default_rng(seed)
    length = generator.uniform(1, 1.5, EDGES)
    edge = np.repeat(np.arange(EDGES), THIRD)
    rho, z = generator.uniform(0.5, 2, EDGES * THIRD), generator.uniform(-1, 2, EDGES * THIRD)
    axis = rho * np.exp(2j * np.pi * generator.uniform(size=EDGES * THIRD))
    sides = np.stack([length[edge], np.hypot(rho, z), np.hypot(rho, z - length[edge])], 1)
    return Triangles(edge, generator.integers(0, 2, EDGES * THIRD), sides, axis), length


def describe(triangles: Triangles, length: np.ndarray, parameters: KernelParameters = PAIR_KERNEL) -> EdgeDescriptor:
    return edge_descriptors(triangles, length, 2, parameters)


def transformed(triangles: Triangles, angle: float = 0.0, mirror: bool = False) -> Triangles:
    axis = triangles.axis.conj() if mirror else triangles.axis
    return Triangles(triangles.edge, triangles.third, triangles.sides, axis * np.exp(1j * angle))


@pytest.mark.parametrize("parameters", [PAIR_KERNEL, MANY_MOLECULES_PAIR_KERNEL])
def test_the_kernel_is_an_integral_over_turns_and_mirror_images(parameters):
    (one, r), (other, s) = scene(0), scene(1)
    a, b = describe(one, r, parameters), describe(other, s, parameters)
    kernels = edge_kernels(a, SparseReferences(b), range(4))
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)

    def powers(mirror: bool) -> np.ndarray:
        images = (describe(transformed(one, -angle, mirror), r, parameters).so2 for angle in angles)
        return np.array([np.einsum("meq,mfq->ef", x, b.so2) for x in images]) ** parameters.exponent

    exponents = (r[:, None] - s) ** 2 / 2 / parameters.length_scale**2 + (
        r[:, None] + s - 2.2
    ) / parameters.amplitude_decay
    direct, mirrored = (powers(mirror).mean(0) * np.exp(-exponents) for mirror in (False, True))
    np.testing.assert_allclose(kernels[0][0], (direct + mirrored) / 2, atol=1e-10)
    np.testing.assert_allclose(kernels[0][1], (direct - mirrored) / 2, atol=1e-10)
    assert np.abs(direct).max() > 1e-4


@pytest.mark.parametrize("order", [1, 2, 4])
def test_turning_an_edge_turns_its_rows(order):
    (one, r), (other, s) = scene(0), scene(1)
    references = SparseReferences(describe(other, s))
    (kernel,) = edge_kernels(describe(one, r), references, [order])
    (turned,) = edge_kernels(describe(transformed(one, 0.7), r), references, [order])
    cos, sin = np.cos(0.7 * order), np.sin(0.7 * order)
    even, odd = np.split(kernel, 2)
    np.testing.assert_allclose(turned, np.concatenate([cos * even - sin * odd, sin * even + cos * odd]), atol=1e-13)


def test_a_mirror_image_flips_odd_halves_and_pseudoscalars():
    (one, r), (other, s) = scene(0), scene(1)
    references = SparseReferences(describe(other, s))
    kernels = edge_kernels(describe(one, r), references, range(3))
    mirrored = edge_kernels(describe(transformed(one, mirror=True), r), references, range(3))
    np.testing.assert_allclose(mirrored[0][0], kernels[0][0], atol=1e-13)
    np.testing.assert_allclose(mirrored[0][1], -kernels[0][1], atol=1e-13)
    np.testing.assert_allclose(mirrored[2][:EDGES], kernels[2][:EDGES], atol=1e-13)
    np.testing.assert_allclose(mirrored[2][EDGES:], -kernels[2][EDGES:], atol=1e-13)


def test_the_kernel_is_symmetric_and_positive():
    a = describe(*scene(0))
    for k, kernel in enumerate(edge_kernels(a, SparseReferences(a), range(5))):
        for matrix in kernel if k == 0 else [kernel]:
            np.testing.assert_allclose(matrix, matrix.T, atol=1e-13)
            assert np.linalg.eigvalsh(matrix).min() > -1e-12


def test_an_edge_without_third_atoms_has_no_kernel():
    empty = Triangles(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3)), np.zeros(0, complex))
    alone = describe(empty, np.array([1.0, 2.0]))
    assert not np.any(edge_kernels(alone, SparseReferences(describe(*scene(0))), [0])[0])


def repeated(triangles: Triangles, length: np.ndarray, times: int) -> tuple[Triangles, np.ndarray]:
    edge = np.concatenate([triangles.edge + k * len(length) for k in range(times)])
    third, sides, axis = (np.concatenate([x] * times) for x in (triangles.third, triangles.sides, triangles.axis))
    return Triangles(edge, third, sides, axis), np.tile(length, times)


@pytest.mark.parametrize("times", [1, 30])  # many sparse points with the same few descriptors are compressed
@pytest.mark.parametrize("numbers", [[0, 2], [1, 0], [4, 3]])
def test_species_that_only_one_edge_has_do_not_count(times, numbers):
    (one, r), (other, s) = scene(0), repeated(*scene(1), times)
    one = replace(one, third=np.ones_like(one.third))
    assert (SparseReferences(describe(other, s)).whole.basis is None) == (times == 1)
    expected = edge_kernels(describe(one, r), SparseReferences(describe(other, s)), range(5))
    a, b = (
        edge_descriptors(replace(x, third=np.array(numbers)[x.third]), length, 5, PAIR_KERNEL)
        for x, length in ((one, r), (other, s))
    )
    for x, y in zip(edge_kernels(a, SparseReferences(b), range(5)), expected, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-13)
        assert np.abs(y).max() > 1e-3


def weights(orders: int) -> list[np.ndarray]:
    generator = np.random.default_rng(2)
    return [generator.normal(size=(EDGES * (2 if m else 1), 7)) for m in range(orders)]


@pytest.mark.parametrize("block", [1, 10**6])
def test_sums_are_products_of_kernels_and_weights(block):
    a, b, w = describe(*scene(0)), SparseReferences(describe(*scene(1))), weights(4)
    (scalar, pseudoscalar), *others = edge_kernels(a, b, range(4), block)
    expected = [np.concatenate([scalar @ w[0][:, :3], pseudoscalar @ w[0][:, 3:]], 1)]
    expected += [kernel @ x for kernel, x in zip(others, w[1:], strict=True)]
    for x, y in zip(kernel_sums(a, b, w, 3, block=block)[0], expected, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-13)


def test_sums_of_both_directions_are_those_of_each_direction():
    (one, r), b, w = scene(0), SparseReferences(describe(*scene(1))), weights(4)
    backward = Triangles(one.edge, one.third, one.sides[:, [0, 2, 1]], one.axis.conj())
    both = kernel_sums(describe(one, r), b, w, 3, both=True)
    for sums, triangles in zip(both, (one, backward), strict=True):
        for x, y in zip(sums, kernel_sums(describe(triangles, r), b, w, 3)[0], strict=True):
            np.testing.assert_allclose(x, y, atol=1e-13)


def test_one_order_alone_agrees_with_all_orders():
    a, b = describe(*scene(0)), SparseReferences(describe(*scene(1)))
    for m, kernel in enumerate(edge_kernels(a, b, range(5))):
        np.testing.assert_allclose(edge_kernels(a, b, [m])[0], kernel, atol=1e-14)
