"""Block <-> irreps: exact, orthonormal, and covariant under every rotation and the inversion."""

import itertools

import numpy as np
import pytest

from harmose.so3.coupling import block_coupling, onsite_coupling
from harmose.so3.wigner import random_rotation, shells_wigner, wigner_d

PAIRS = list(itertools.product(range(5), repeat=2))
SHELLS = [(0,), (0, 0, 1), (0, 0, 0, 1, 1, 2), (1, 0, 2), (3, 1), (4, 4), (0, 1, 2, 3, 4)]


def random_blocks(n1, n2, count=3, seed=0):
    return np.random.default_rng(seed).normal(size=(count, n1, n2))


def irreps_of(coupling, blocks):
    """Coefficients (..., n) of blocks (..., n1, n2)."""
    return blocks.reshape(*blocks.shape[:-2], -1) @ coupling.matrix.T


def blocks_of(coupling, coefficients, n1, n2):
    """Blocks (..., n1, n2) of coefficients (..., n)."""
    return (coefficients @ coupling.matrix).reshape(*coefficients.shape[:-1], n1, n2)


def size(shells):
    return sum(2 * l + 1 for l in shells)


def rotate_irreps(coupling, coefficients, rotation, inversion=False):
    """Each irrep of its own degree and parity: w -> D(L)(Q) w, under inversion times parity (-1)^L."""
    out = np.zeros_like(coefficients)
    for l in np.unique(coupling.degree).tolist():
        for parity in (1, -1):
            d = wigner_d(l, rotation) * (parity * (-1) ** l if inversion else 1)
            for copy in range(coupling.multiplicity(l, parity)):
                at = (coupling.degree == l) & (coupling.parity == parity) & (coupling.copy == copy)
                assert coupling.order[at].tolist() == list(range(-l, l + 1))
                out[..., at] = coefficients[..., at] @ d.T
    return out


@pytest.mark.parametrize(("l1", "l2"), PAIRS)
def test_round_trip(l1, l2):
    coupling = block_coupling((l1,), (l2,))
    blocks = random_blocks(2 * l1 + 1, 2 * l2 + 1)
    back = blocks_of(coupling, irreps_of(coupling, blocks), 2 * l1 + 1, 2 * l2 + 1)
    assert np.abs(back - blocks).max() < 1e-12
    identity = np.eye(coupling.n_coefficients)
    assert coupling.n_coefficients == (2 * l1 + 1) * (2 * l2 + 1)
    assert abs(coupling.matrix @ coupling.matrix.T - identity).max() < 1e-12


@pytest.mark.parametrize(("l1", "l2"), PAIRS)
def test_irreps_are_covariant(l1, l2):
    """H -> D(l1) H D(l2)^T means w[L] -> D(L) w[L]; the inversion multiplies H by (-1)^(l1 + l2)."""
    coupling = block_coupling((l1,), (l2,))
    blocks = random_blocks(2 * l1 + 1, 2 * l2 + 1)
    for seed in range(3):
        q = random_rotation(np.random.default_rng(seed))
        turned = wigner_d(l1, q) @ blocks @ wigner_d(l2, q).T
        irreps = irreps_of(coupling, blocks)
        assert np.abs(irreps_of(coupling, turned) - rotate_irreps(coupling, irreps, q)).max() < 1e-12
        improper = irreps_of(coupling, turned * (-1) ** (l1 + l2))
        assert np.abs(improper - rotate_irreps(coupling, irreps, q, inversion=True)).max() < 1e-12


@pytest.mark.parametrize("left", SHELLS)
@pytest.mark.parametrize("right", SHELLS)
def test_blocks_of_many_shells(left, right):
    coupling = block_coupling(left, right)
    n1, n2 = size(left), size(right)
    blocks = random_blocks(n1, n2)
    assert coupling.matrix.shape == (n1 * n2, n1 * n2)
    assert abs(coupling.matrix @ coupling.matrix.T - np.eye(n1 * n2)).max() < 1e-12
    assert np.abs(blocks_of(coupling, irreps_of(coupling, blocks), n1, n2) - blocks).max() < 1e-12
    q = random_rotation(np.random.default_rng(1))
    d1, d2 = (shells_wigner(shells, q) for shells in (left, right))
    turned = irreps_of(coupling, d1 @ blocks @ d2.T)
    assert np.abs(turned - rotate_irreps(coupling, irreps_of(coupling, blocks), q)).max() < 1e-12


def test_rows_are_sorted():
    coupling = block_coupling((0, 1), (1, 2))
    keys = list(zip(coupling.degree, -coupling.parity, coupling.copy, coupling.order))
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    for row, (a, b) in zip(coupling.matrix, coupling.shells):
        block = np.abs(row.reshape(4, 8))
        rows, cols = (slice(0, 1), slice(1, 4))[a], (slice(0, 3), slice(3, 8))[b]
        assert block[rows, cols].sum() == pytest.approx(block.sum())
        assert block.sum() > 0
    assert coupling.multiplicity(1, 1) == 2  # s-p and p-d
    assert coupling.multiplicity(1, -1) == 1  # p-p: the pseudovector
    assert coupling.multiplicity(0, -1) == 0


@pytest.mark.parametrize("shells", SHELLS)
def test_onsite_coupling_is_complete_for_symmetric_blocks(shells):
    coupling, n = onsite_coupling(shells), size(shells)
    assert coupling.matrix.shape == (n * (n + 1) // 2, n * n)
    assert abs(coupling.matrix @ coupling.matrix.T - np.eye(len(coupling.matrix))).max() < 1e-12
    blocks = random_blocks(n, n)
    symmetric = (blocks + blocks.swapaxes(1, 2)) / 2
    assert np.abs(blocks_of(coupling, irreps_of(coupling, symmetric), n, n) - symmetric).max() < 1e-12
    # of a general block it keeps the symmetric part, of an antisymmetric one nothing
    assert np.abs(blocks_of(coupling, irreps_of(coupling, blocks), n, n) - symmetric).max() < 1e-12
    assert np.abs(irreps_of(coupling, blocks - blocks.swapaxes(1, 2))).max() < 1e-12


@pytest.mark.parametrize("shells", SHELLS)
def test_onsite_irreps_are_covariant(shells):
    coupling, n = onsite_coupling(shells), size(shells)
    blocks = random_blocks(n, n)
    blocks = blocks + blocks.swapaxes(1, 2)
    q = random_rotation(np.random.default_rng(2))
    d = shells_wigner(shells, q)
    irreps = irreps_of(coupling, blocks)
    assert np.abs(irreps_of(coupling, d @ blocks @ d.T) - rotate_irreps(coupling, irreps, q)).max() < 1e-12
    signs = np.concatenate([np.full(2 * l + 1, (-1.0) ** l) for l in shells])
    improper = irreps_of(coupling, (d @ blocks @ d.T) * signs[:, None] * signs)
    assert np.abs(improper - rotate_irreps(coupling, irreps, q, inversion=True)).max() < 1e-12


def test_norms_are_kept():
    blocks = random_blocks(4, 9)
    irreps = irreps_of(block_coupling((0, 1), (1, 1, 1)), blocks)
    np.testing.assert_allclose((irreps**2).sum(-1), (blocks**2).sum((-1, -2)), rtol=1e-13)
