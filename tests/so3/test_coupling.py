"""Block <-> irreps: exact, orthonormal, and covariant under every rotation and the inversion."""

import itertools

import numpy as np
import pytest
import torch

from harmose.so3.coupling import block_coupling, onsite_coupling
from harmose.so3.wigner import random_rotation, shells_wigner, wigner_d

PAIRS = list(itertools.product(range(5), repeat=2))
SHELLS = [(0,), (0, 0, 1), (0, 0, 0, 1, 1, 2), (1, 0, 2), (3, 1), (4, 4), (0, 1, 2, 3, 4)]


def random_blocks(n1, n2, count=3, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(count, n1, n2)))


def size(shells):
    return sum(2 * l + 1 for l in shells)


def rotate_irreps(coupling, coefficients, rotation, inversion=False):
    """Each irrep of its own degree and parity: w -> D(L)(Q) w, under inversion times parity (-1)^L."""
    out = torch.zeros_like(coefficients)
    for l in np.unique(coupling.degree).tolist():
        for parity in (1, -1):
            d = wigner_d(l, torch.as_tensor(rotation)) * (parity * (-1) ** l if inversion else 1)
            for copy in range(coupling.multiplicity(l, parity)):
                at = (coupling.degree == l) & (coupling.parity == parity) & (coupling.copy == copy)
                assert coupling.order[at].tolist() == list(range(-l, l + 1))
                out[..., at] = coefficients[..., at] @ d.T
    return out


@pytest.mark.parametrize(("l1", "l2"), PAIRS)
def test_round_trip(l1, l2):
    coupling = block_coupling((l1,), (l2,))
    blocks = random_blocks(2 * l1 + 1, 2 * l2 + 1)
    back = coupling.to_blocks(coupling.to_irreps(blocks), 2 * l1 + 1, 2 * l2 + 1)
    assert (back - blocks).abs().max() < 1e-12
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
        turned = wigner_d(l1, torch.as_tensor(q)) @ blocks @ wigner_d(l2, torch.as_tensor(q)).T
        irreps = coupling.to_irreps(blocks)
        assert (coupling.to_irreps(turned) - rotate_irreps(coupling, irreps, q)).abs().max() < 1e-12
        improper = coupling.to_irreps(turned * (-1) ** (l1 + l2))
        assert (improper - rotate_irreps(coupling, irreps, q, inversion=True)).abs().max() < 1e-12


@pytest.mark.parametrize("left", SHELLS)
@pytest.mark.parametrize("right", SHELLS)
def test_blocks_of_many_shells(left, right):
    coupling = block_coupling(left, right)
    n1, n2 = size(left), size(right)
    blocks = random_blocks(n1, n2)
    assert coupling.matrix.shape == (n1 * n2, n1 * n2)
    assert abs(coupling.matrix @ coupling.matrix.T - np.eye(n1 * n2)).max() < 1e-12
    assert (coupling.to_blocks(coupling.to_irreps(blocks), n1, n2) - blocks).abs().max() < 1e-12
    q = random_rotation(np.random.default_rng(1))
    d1, d2 = (torch.as_tensor(shells_wigner(shells, q)) for shells in (left, right))
    turned = coupling.to_irreps(d1 @ blocks @ d2.T)
    assert (turned - rotate_irreps(coupling, coupling.to_irreps(blocks), q)).abs().max() < 1e-12


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
    symmetric = (blocks + blocks.mT) / 2
    assert (coupling.to_blocks(coupling.to_irreps(symmetric), n, n) - symmetric).abs().max() < 1e-12
    # of a general block it keeps the symmetric part, of an antisymmetric one nothing
    assert (coupling.to_blocks(coupling.to_irreps(blocks), n, n) - symmetric).abs().max() < 1e-12
    assert coupling.to_irreps(blocks - blocks.mT).abs().max() < 1e-12


@pytest.mark.parametrize("shells", SHELLS)
def test_onsite_irreps_are_covariant(shells):
    coupling, n = onsite_coupling(shells), size(shells)
    blocks = random_blocks(n, n)
    blocks = blocks + blocks.mT
    q = random_rotation(np.random.default_rng(2))
    d = torch.as_tensor(shells_wigner(shells, q))
    irreps = coupling.to_irreps(blocks)
    assert (coupling.to_irreps(d @ blocks @ d.T) - rotate_irreps(coupling, irreps, q)).abs().max() < 1e-12
    signs = torch.cat([torch.full((2 * l + 1,), (-1.0) ** l, dtype=torch.float64) for l in shells])
    improper = coupling.to_irreps((d @ blocks @ d.T) * signs[:, None] * signs)
    assert (improper - rotate_irreps(coupling, irreps, q, inversion=True)).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_that_of_the_input(dtype):
    coupling = block_coupling((0, 1), (2,))
    blocks = random_blocks(4, 5).to(dtype)
    irreps = coupling.to_irreps(blocks)
    assert irreps.dtype == dtype
    back = coupling.to_blocks(irreps, 4, 5)
    assert back.dtype == dtype
    assert (back - blocks).abs().max() < (1e-6 if dtype == torch.float32 else 1e-14)


def test_norms_are_kept():
    blocks = random_blocks(4, 9)
    irreps = block_coupling((0, 1), (1, 1, 1)).to_irreps(blocks)
    assert torch.allclose(irreps.square().sum(-1), blocks.square().sum((-1, -2)), rtol=1e-13)
