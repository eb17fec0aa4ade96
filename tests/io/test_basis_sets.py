"""`harmose.basis` and `harmose.overlap`."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import graphene, molecule

import harmose
from harmose.core.basis import BasisSet, Shell
from harmose.errors import BasisError, FormatError
from harmose.io.pyscf.pyscf import overlap as pyscf_overlap


def test_function_and_module_do_not_collide():
    import harmose.core.basis

    assert callable(harmose.basis)
    assert harmose.core.basis.BasisSet is harmose.BasisSet


def test_basis_by_name():
    atoms = molecule("CH3OH")
    basis = harmose.basis("def2-svp", ["C", "O", 1])
    assert basis.elements == (1, 6, 8)
    np.testing.assert_allclose(
        harmose.overlap(atoms, basis).values, pyscf_overlap(atoms, "def2-svp").values, atol=1e-13
    )


def test_overlap_in_basis_of_a_sample(water_sample):
    sample = water_sample(3)
    s = harmose.overlap(sample.structure, sample.basis)
    assert s.basis == sample.basis
    np.testing.assert_array_equal(s.pairs, sample.hamiltonian.pairs)
    np.testing.assert_allclose(s.values, sample.overlap.values, atol=1e-13)


@pytest.mark.parametrize("name", ["DZVP-MOLOPT-SR-GTH", "dzvp-molopt-sr-gth-q4", "GTH-DZVP-MOLOPT-SR"])
def test_basis_of_cp2k_by_name(name):
    atoms = graphene(vacuum=5.0)
    atoms.pbc = (True, True, False)
    shells = (Shell(2, 0), Shell(3, 0), Shell(2, 1), Shell(3, 1), Shell(3, 2))
    s = harmose.overlap(atoms, BasisSet(name, {6: shells}, {6: 4.1}))
    full = harmose.overlap(atoms, harmose.basis("gth-dzvp-molopt-sr", ["C"]))
    assert s.basis.name == name
    assert len(s.pairs) < len(full.pairs)
    np.testing.assert_allclose(s.block(0, 1, (1, 0, 0)), full.block(0, 1, (1, 0, 0)), atol=1e-11)


def test_basis_from_files(shared_data):
    folder = shared_data / "dft-outputs"
    files = [folder / "siesta-Si" / "Si.ion.nc", folder / "siesta-Fe" / "Fe.ion.nc"]
    basis = harmose.basis(files)
    assert basis.elements == (14, 26)
    assert harmose.basis(str(files[0])).elements == harmose.basis(files, ["Si"]).elements == (14,)
    atoms = Atoms("SiFe", [[0, 0, 0], [0, 0.5, 2.1]])
    s = harmose.overlap(atoms, basis).dense()
    assert s.shape == (32, 32)
    np.testing.assert_allclose(np.diag(s), 1, atol=1e-5)
    assert np.linalg.eigvalsh(s).min() > 1e-3
    with pytest.raises(BasisError, match="got O"):
        harmose.basis(files, ["O"])


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("nonsense", ["C"]), BasisError, "expected a basis set that PySCF knows"),
        (
            ("def2-svp",),
            BasisError,
            r"expected elements, as in harmose.basis\('def2-svp', \['C', 'H'\]\), got none",
        ),
        (("def2-svp", ["Xx"]), BasisError, "expected elements such as 'C' or 6, got 'Xx'"),
        (("def2-svp", ["U"]), BasisError, "PySCF has no def2-svp for U"),
        (("none.ion.nc",), FormatError, "none.ion.nc: no such file"),
        ((["def2-svp"], ["C"]), BasisError, r"expected the name of a basis set, or files of one code \(.ion.nc"),
        (([],), BasisError, "got none"),
    ],
)
def test_invalid_arguments_of_basis(arguments, error, text):
    with pytest.raises(error, match=text):
        harmose.basis(*arguments)


def test_invalid_arguments_of_overlap():
    water = molecule("H2O")
    with pytest.raises(BasisError, match="got str"):
        harmose.overlap(water, "def2-svp")
    with pytest.raises(
        BasisError, match=r"basis siesta: .*give the files: harmose.basis\(files\).like\(sample.basis\)"
    ):
        harmose.overlap(Atoms("H"), BasisSet("siesta", {1: (Shell(1, 0),)}, {1: 3.0}))
    with pytest.raises(BasisError, match="expected one of H, got O"):
        harmose.overlap(water, BasisSet("sto-3g", {1: (Shell(1, 0),)}, {1: 3.0}))
    with pytest.raises(BasisError, match="one radial function for each shell of H"):
        harmose.overlap(Atoms("H"), BasisSet("sto-3g", {1: (Shell(2, 1),)}, {1: 3.0}))
