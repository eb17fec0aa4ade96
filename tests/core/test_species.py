"""Species: several sets of orbitals of one element in structures, basis sets and matrices."""

import copy

import numpy as np
import pytest
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import empty_matrix
from harmose.core.graph import build_graph
from harmose.core.species import atomic_number_of, atomic_numbers_of, species_of, symbol_of, with_species
from harmose.errors import BasisError

BASIS = BasisSet("x", {1: (Shell(1, 0), Shell(2, 0)), 1001: (Shell(1, 0),)}, {1: 1.0, 1001: 2.0})


def test_structures_keep_atomic_numbers():
    atoms = Atoms("H2O", [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert species_of(atoms).tolist() == [1, 1, 8]
    placed = with_species(atoms, np.array([1, 2001, 8]))
    assert placed.numbers.tolist() == [1, 1, 8]
    assert species_of(placed).tolist() == species_of(placed.copy()).tolist() == [1, 2001, 8]
    assert species_of(placed[[1, 2]]).tolist() == [2001, 8]
    assert "orbital_set" not in atoms.arrays
    assert with_species(placed, np.array([1, 1, 8])) == atoms


def test_symbols():
    assert [symbol_of(z) for z in (6, 1006, 2006)] == ["C", "C(2)", "C(3)"]
    assert symbol_of(0) == "atomic number 0"
    assert symbol_of(40006) == "atomic number 40006"
    assert atomic_number_of(2006) == 6
    assert atomic_numbers_of(np.array([1, 1001])).tolist() == [1, 1]


def test_basis_sets():
    assert repr(BASIS) == "BasisSet('x': H 1s 2s, H(2) 1s; radii up to 2 angstrom)"
    assert BASIS.sets_of(1) == (1, 1001)
    assert BASIS.sets_of(6) == ()
    assert BasisSet.from_json(BASIS.to_json()) == copy.deepcopy(BASIS) == BASIS
    with pytest.raises(BasisError, match=r"expected one of H, H\(2\), got H\(3\)"):
        BASIS.n_orbitals(2001)
    with pytest.raises(BasisError, match="expected an element, got atomic number 1000"):
        BasisSet("x", {1000: (Shell(1, 0),)}, {1000: 1.0})
    with pytest.raises(BasisError, match="expected an element, got atomic number 32001"):
        BasisSet("x", {32001: (Shell(1, 0),)}, {32001: 1.0})


def test_graphs_and_matrices_count_by_species():
    atoms = with_species(Atoms("H2", [[0, 0, 0], [2.5, 0, 0]]), np.array([1001, 1]))
    graph = build_graph(atoms, BASIS)
    assert graph.numbers.tolist() == [1001, 1]
    assert graph.n_pairs == 1  # 2.5 < 1 + 2
    matrix = empty_matrix(BASIS, graph.numbers, graph.pairs)
    assert matrix.block(0, 1).shape == (1, 2)
    assert repr(matrix) == "BlockMatrix(H2, 3 orbitals, blocks of 2 atoms and 1 pairs, spin none, basis 'x')"
