"""Samples: the check before storing and training, occupations, energies relative to the Fermi level."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix, block_values, empty_matrix
from harmose.core.graph import build_graph
from harmose.core.sample import Sample, check_sample, relative_to_fermi_level
from harmose.errors import MatrixError, StructureError
from harmose.physics.eigen import eigenvalues
from harmose.spin import Spin

BASIS = BasisSet("test", {1: (Shell(1, 0),), 8: (Shell(2, 0), Shell(2, 1))}, {1: 1.5, 8: 2.0})


def operator(atoms, diagonal, seed, spin=Spin.NONE, basis=BASIS):
    graph = build_graph(atoms, basis)
    layout = empty_matrix(basis, graph.numbers, graph.pairs, spin)
    random = 0.1 * np.random.default_rng(seed).normal(size=(spin.n_components, layout.n_orbitals, layout.n_orbitals))
    dense = random + random.transpose(0, 2, 1) + diagonal * np.eye(layout.n_orbitals)
    return block_values(dense if spin is Spin.COLLINEAR else dense[0], layout)


def water(**changes):
    atoms = molecule("H2O")
    overlap = operator(atoms, 0.0, 2)
    values = overlap.values.copy()
    _, row, col = overlap.indices
    values[0, row == col] = 1.0
    sample = Sample(
        "water 7", atoms, BASIS, operator(atoms, -5.0, 1), overlap.with_values(values), operator(atoms, -4.0, 3),
        n_electrons=8.0,
    )  # fmt: skip
    return replace(sample, **changes)


def changed(matrix, at, by):
    values = matrix.values.copy()
    values[0, at] += by
    return matrix.with_values(values)


def test_good_samples_pass():
    assert check_sample(water()) is None
    assert check_sample(water(overlap=None, prior=None)) is None


def test_a_collinear_sample_passes():
    atoms = molecule("H2O")
    h, h0 = operator(atoms, -5.0, 1, Spin.COLLINEAR), operator(atoms, -4.0, 2, Spin.COLLINEAR)
    assert check_sample(water(spin=Spin.COLLINEAR, hamiltonian=h, prior=h0)) is None


def test_overlap_of_a_crystal_may_be_negative_at_gamma():
    atoms = Atoms("H", cell=[1.5, 4, 4], pbc=True)
    graph = build_graph(atoms, BASIS)
    layout = empty_matrix(BASIS, graph.numbers, graph.pairs)
    assert layout.values.shape == (1, 2)
    overlap, hamiltonian = (layout.with_values(np.array([values])) for values in ([1.0, -0.9], [-5.0, 1.0]))
    assert overlap.dense()[0, 0] < 0
    assert check_sample(Sample("chain", atoms, BASIS, hamiltonian, overlap)) is None


def fewer_pairs():
    atoms = molecule("H2O")
    matrix = operator(atoms, -4.0, 3)
    return BlockMatrix(BASIS, matrix.numbers, matrix.pairs[:-1], matrix.values[:, : matrix.offsets[-2]])


def hydrogens_first():
    """The operator of H, H, O."""
    atoms = molecule("H2O")[[1, 2, 0]]
    return operator(atoms, -4.0, 3)


def broken():
    good = water()
    other = BasisSet("other", BASIS.shells, BASIS.radii)
    atoms = good.structure
    on_top = atoms.copy()
    on_top.positions[2] = on_top.positions[1]
    indefinite = good.overlap.with_values(np.where(good.overlap.values == 1.0, 1.0, -0.9))
    return {
        "structure": (water(structure=on_top), StructureError, "sample water 7: expected atoms at least 0.3 angstrom"),
        "other atoms in H": (
            water(hamiltonian=hydrogens_first()), MatrixError, "sample water 7: H belongs to other atoms than the structure",
        ),
        "other atoms in S": (
            water(overlap=hydrogens_first()), MatrixError, "sample water 7: S belongs to other atoms than the structure",
        ),
        "other basis": (
            water(prior=operator(atoms, -4.0, 3, basis=other)),
            MatrixError,
            "sample water 7: H0 belongs to another basis set than test",
        ),
        "other spin": (
            water(hamiltonian=operator(atoms, -5.0, 1, Spin.COLLINEAR)),
            MatrixError,
            "sample water 7: expected H of spin none, got collinear",
        ),
        "missing block": (water(prior=fewer_pairs()), MatrixError, "sample water 7: H0 has other blocks than H"),
        "NaN": (
            water(hamiltonian=changed(good.hamiltonian, 3, np.nan)),
            MatrixError,
            "sample water 7: expected finite values in H, got NaN or infinity",
        ),
        "not Hermitian": (
            water(hamiltonian=changed(good.hamiltonian, 1, 0.01)),
            MatrixError,
            r"sample water 7: H is not Hermitian \(asymmetry 1.00e-02\)",
        ),
        "not run": (
            water(prior=good.hamiltonian), MatrixError, "sample water 7: H equals H0, so the calculation has not run",
        ),
        "S not positive": (
            water(overlap=indefinite), MatrixError, "sample water 7: S is not positive definite",
        ),
        "S in eV": (
            water(overlap=good.overlap.with_values(27.2 * good.overlap.values)),
            MatrixError,
            "sample water 7: expected a diagonal of S near 1, got 27.2 to 27.2",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("case", broken())
def test_error_names_the_bad_sample(case):
    sample, error, message = broken()[case]
    with pytest.raises(error, match=message) as caught:
        check_sample(sample)
    assert "\n" not in str(caught.value)


def test_repr():
    assert repr(water()) == "Sample('water 7': H2O, H and H0 in eV, S, 8 electrons, spin none, basis 'test')"
    bare = water(overlap=None, prior=None, n_electrons=None)
    assert repr(bare) == "Sample('water 7': H2O, H in eV, spin none, basis 'test')"


def test_n_occupied():
    assert water().n_occupied == 4
    assert water(n_electrons=9.9999999).n_occupied == 5
    with pytest.raises(MatrixError, match="sample water 7: expected a number of electrons, got none"):
        _ = water(n_electrons=None).n_occupied


@pytest.mark.parametrize("spin", list(Spin))
def test_energies_relative_to_the_fermi_level(spin):
    atoms = Atoms("H", cell=[1.5, 9, 9], pbc=True)
    graph = build_graph(atoms, BASIS)
    layout = empty_matrix(BASIS, graph.numbers, graph.pairs, spin)
    generator = np.random.default_rng(0)
    onsite, hopping = (generator.normal(size=spin.n_components) for _ in range(2))
    onsite[2:3] = onsite[1:2]  # Hermitian where ud and du are
    h = layout.with_values(np.stack([onsite, hopping], 1).astype(spin.dtype))
    overlap = empty_matrix(BASIS, graph.numbers, graph.pairs).with_values(np.array([[1.0, 0.3]]))
    sample = Sample("chain", atoms, BASIS, h, overlap, spin=spin, fermi_level=-1.7)
    moved = relative_to_fermi_level(sample)
    kpoints = [[0, 0, 0], [0.2, 0, 0]]
    before, after = (eigenvalues(s.hamiltonian, overlap, kpoints) for s in (sample, moved))
    np.testing.assert_allclose(after, before + 1.7, atol=1e-12)
    assert moved.fermi_level == 0
    np.testing.assert_array_equal(relative_to_fermi_level(moved).hamiltonian.values, moved.hamiltonian.values)


@pytest.mark.parametrize(("lacking", "named"), [("overlap", "overlap"), ("fermi_level", "Fermi level")])
def test_energies_relative_to_the_fermi_level_need_overlap_and_level(lacking, named):
    sample = water(fermi_level=-3.0)
    with pytest.raises(
        MatrixError,
        match=f"sample water 7: energies relative to the Fermi level need S and a Fermi level, got no {named}",
    ):
        relative_to_fermi_level(replace(sample, **{lacking: None}))
