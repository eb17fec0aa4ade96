"""Graphs against a brute-force search over all images, and their canonical order."""

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule

from harmose.core.basis import BasisSet, Shell
from harmose.core.graph import build_graph, canonical_pairs, is_canonical, pair_vectors, reversed_pairs
from harmose.errors import BasisError, StructureError


def basis_of(atoms, radius):
    """One s shell per element; radii differ a little between elements."""
    elements = sorted(set(atoms.numbers.tolist()))
    radii = {z: radius + 0.13 * k for k, z in enumerate(elements)}
    return BasisSet("test", dict.fromkeys(elements, (Shell(1, 0),)), radii)


def brute_force(atoms, basis):
    """Every (i, j, R) with |r_j + R cell - r_i| below the sum of the radii, of both directions the canonical one."""
    radius = [basis.radii[z] for z in atoms.numbers]
    heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.complete().array), axis=0)
    spread = np.ptp(atoms.positions @ np.linalg.inv(atoms.cell.complete().array), axis=0)
    images = [int(np.ceil(2 * max(radius) / h + s)) if p else 0 for h, s, p in zip(heights, spread, atoms.pbc)]
    pairs = []
    for i, j in itertools.product(range(len(atoms)), repeat=2):
        for cell in itertools.product(*[range(-n, n + 1) for n in images]):
            vector = atoms.positions[j] + np.array(cell) @ atoms.cell.array - atoms.positions[i]
            canonical = i < j or (i == j and cell > (0, 0, 0))
            if canonical and np.linalg.norm(vector) < radius[i] + radius[j]:
                pairs.append((i, j, *cell))
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 5)


def shaken(atoms, seed=0, size=0.07):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=size, size=atoms.positions.shape)
    return atoms


SKEWED = Atoms(
    "CO", positions=[[0.1, 0, 0], [1.2, 0.4, 0.3]], cell=[[3.0, 0.2, 0], [2.1, 2.6, 0], [-1.7, 0.9, 3.3]], pbc=True
)
STRUCTURES = {
    "atom": (Atoms("He"), 2.0),
    "molecule": (shaken(molecule("CH3CH2OH")), 1.6),
    "molecule in a cell": (molecule("H2O", cell=[4, 4, 4]), 3.0),
    "crystal": (shaken(bulk("NaCl", "rocksalt", 5.6)), 2.6),
    "skewed crystal": (SKEWED, 2.4),
    "one atom, many images": (bulk("Al"), 4.1),
    "tiny cell, large cutoff": (Atoms("H", cell=[1.0, 1.1, 1.2], pbc=True), 2.3),
    "slab without a third vector": (shaken(graphene()), 3.0),
    "slab with vacuum": (shaken(fcc111("Al", (1, 1, 3), vacuum=6.0)), 2.7),
    "slab along b, c": (Atoms("HC", [[0, 0, 0], [0.9, 0.2, 0.4]], cell=[[0, 0, 0], [0, 2, 0.5], [0, 0, 3]], pbc=[0, 1, 1]), 2.4),
    "slab along a, c, own second vector": (
        Atoms("HC", [[0, 0, 0], [0.9, 5.2, 0.4]], cell=[[2, 0, 0.3], [1, 1.5, 1], [0, 0, 3]], pbc=[1, 0, 1]),
        3.1,
    ),
    "wire": (Atoms("CH", [[0, 0, 0], [1.1, 0.2, 0.7]], cell=[0, 0, 1.6], pbc=[0, 0, 1]), 2.9),
    "wire along a diagonal": (Atoms("CH", [[0, 0, 0], [1.1, 0, 0.7]], cell=[[1, 1, 1], [0] * 3, [0] * 3], pbc=[1, 0, 0]), 2.2),
}  # fmt: skip


@pytest.mark.parametrize(("atoms", "radius"), STRUCTURES.values(), ids=STRUCTURES)
def test_agrees_with_brute_force(atoms, radius):
    basis = basis_of(atoms, radius)
    graph = build_graph(atoms, basis)
    expected = brute_force(atoms, basis)
    assert len(expected) or len(atoms) == 1
    assert np.array_equal(graph.pairs, expected)
    assert graph.pairs.dtype == graph.numbers.dtype == np.int64
    assert (graph.n_atoms, graph.n_pairs) == (len(atoms), len(expected))
    for (i, j, *cell), vector in zip(graph.pairs, graph.vectors):
        np.testing.assert_allclose(
            vector, atoms.positions[j] + np.array(cell) @ atoms.cell.array - atoms.positions[i], atol=1e-12
        )


@pytest.mark.parametrize(
    "case", ["skewed crystal", "slab without a third vector", "slab along a, c, own second vector"]
)
def test_atoms_outside_the_cell(case):
    """An atom moved by lattice vectors keeps its neighbours; only R changes, by that vector."""
    atoms, radius = STRUCTURES[case]
    basis, graph = basis_of(atoms, radius), build_graph(atoms, basis_of(atoms, radius))
    shift = np.where(atoms.pbc, [[0, 0, 0], [2, -3, 1]], 0)
    moved = atoms.copy()
    moved.positions += shift @ atoms.cell.array
    there = build_graph(moved, basis)
    back = there.pairs.copy()
    back[:, 2:] += shift[there.pairs[:, 1]] - shift[there.pairs[:, 0]]
    assert np.array_equal(canonical_pairs(back), graph.pairs)
    assert np.array_equal(there.pairs, brute_force(moved, basis))


@pytest.mark.parametrize("case", ["molecule", "skewed crystal", "slab with vacuum", "wire"])
def test_translation_keeps_the_graph(case):
    atoms, radius = STRUCTURES[case]
    moved = atoms.copy()
    moved.positions += [12.3, -45.6, 7.8]
    graph, there = (build_graph(a, basis_of(a, radius)) for a in (atoms, moved))
    assert np.array_equal(graph.pairs, there.pairs)
    np.testing.assert_allclose(graph.vectors, there.vectors, atol=1e-12)


@pytest.mark.parametrize("case", ["molecule", "skewed crystal", "slab with vacuum"])
def test_permuting_atoms_permutes_pairs(case):
    atoms, radius = STRUCTURES[case]
    basis = basis_of(atoms, radius)
    order = np.random.default_rng(1).permutation(len(atoms))
    graph, permuted = build_graph(atoms, basis), build_graph(atoms[order], basis)
    renamed = permuted.pairs.copy()
    renamed[:, :2] = order[permuted.pairs[:, :2]]
    assert np.array_equal(canonical_pairs(renamed), graph.pairs)


def test_rotation_keeps_the_pairs():
    atoms, radius = STRUCTURES["skewed crystal"]
    turned = atoms.copy()
    turned.rotate(33, (1, 2, 3), rotate_cell=True)
    basis = basis_of(atoms, radius)
    assert np.array_equal(build_graph(atoms, basis).pairs, build_graph(turned, basis).pairs)


def test_canonical_order():
    pairs = np.array(
        [[1, 0, 0, 0, 0], [0, 0, -1, 0, 0], [1, 1, 0, 0, 2], [0, 1, 1, 0, 0], [0, 1, -1, 5, 5], [0, 0, 0, -1, 9]]
    )
    assert is_canonical(pairs).tolist() == [False, False, True, True, True, False]
    assert canonical_pairs(pairs).tolist() == [
        [0, 0, 0, 1, -9],
        [0, 0, 1, 0, 0],
        [0, 1, -1, 5, 5],
        [0, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [1, 1, 0, 0, 2],
    ]
    assert np.array_equal(reversed_pairs(reversed_pairs(pairs)), pairs)
    assert (is_canonical(pairs) != is_canonical(reversed_pairs(pairs))).all()
    assert canonical_pairs(np.zeros((0, 5))).shape == (0, 5)


def test_reversed_pairs_have_the_opposite_vector():
    atoms, radius = STRUCTURES["skewed crystal"]
    graph = build_graph(atoms, basis_of(atoms, radius))
    np.testing.assert_allclose(pair_vectors(atoms, reversed_pairs(graph.pairs)), -graph.vectors, atol=1e-13)


def test_reach_is_the_sum_of_the_two_radii():
    basis = BasisSet("test", {1: (Shell(1, 0),), 8: (Shell(1, 0),)}, {1: 1.0, 8: 2.0})
    atoms = Atoms("HHO", positions=[[0, 0, 0], [0, 0, 2.1], [0, 0, -2.9]])
    assert build_graph(atoms, basis).pairs.tolist() == [[0, 2, 0, 0, 0]]


def test_errors():
    basis = BasisSet("test", {1: (Shell(1, 0),)}, {1: 1.0})
    with pytest.raises(BasisError, match="basis test: expected one of H, got O"):
        build_graph(molecule("H2O"), basis)
    with pytest.raises(StructureError, match="expected a lattice vector for each periodic direction, got none for b"):
        build_graph(Atoms("H", cell=[3, 0, 3], pbc=True), basis)
    for radius in (1.0, 0.05):  # within each other's reach or not
        near = BasisSet("test", {1: (Shell(1, 0),)}, {1: radius})
        with pytest.raises(StructureError, match=r"at least 0\.3 angstrom apart, got 0\.200 between atoms 1 and 2"):
            build_graph(Atoms("H3", [[0, 0, 0], [0, 0, 3], [0, 0, 3.2]]), near)


def test_no_atoms():
    graph = build_graph(Atoms(), BasisSet("test", {1: (Shell(1, 0),)}, {1: 1.0}))
    assert (graph.n_atoms, graph.n_pairs, graph.vectors.shape) == (0, 0, (0, 3))
