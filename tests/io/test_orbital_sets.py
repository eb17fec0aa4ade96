"""Two basis sets of one element: read from every code that writes them, written in every format or refused in one line."""

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.linalg
from ase import Atoms
from tests.io.openmx import openmx_runs
from tests.io.orbital_sets import BASIS, SHELLS, sample_of
from tests.io.siesta import siesta_runs

import harmose
from harmose.cli import main
from harmose.core.basis import BasisSet, Shell
from harmose.core.sample import Sample, check_sample
from harmose.core.species import species_of, with_species
from harmose.data.checks import check
from harmose.data.store import Store, new_store
from harmose.errors import BasisError, FormatError, HarmoseError
from harmose.io.abacus.abacus import read_abacus
from harmose.io.deeph.deeph import read_deeph, write_deeph
from harmose.io.deeph.legacy import read_deeph_legacy, write_deeph_legacy
from harmose.io.npz import read_npz, write_npz
from harmose.io.openmx.openmx import read_openmx
from harmose.io.siesta.siesta import read_siesta
from harmose.physics.eigen import eigenvalues
from harmose.physics.projections import GROUPINGS
from harmose.spin import Spin
from harmose.testing import assert_round_trip
from harmose.units import RYDBERG

KPOINTS = [[0, 0, 0], [0.1, 0.3, -0.2]]


def same_energies(got: Sample, expected: Sample, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(
        eigenvalues(got.hamiltonian, got.overlap, KPOINTS),
        eigenvalues(expected.hamiltonian, expected.overlap, KPOINTS),
        atol=tolerance,
        rtol=0,
    )


# The case: H with 1s beside H with 1s and 2s -------------------------------------------------------------------------

H = np.array([[-0.5, -0.2, -0.1], [-0.2, -0.5, 0.0], [-0.1, 0.0, 0.3]]) * RYDBERG
S = np.array([[1, 0.3, 0.2], [0.3, 1, 0], [0.2, 0, 1]])
"""H (eV) and S as in the files."""


@pytest.fixture
def case(shared_data) -> Path:
    return shared_data / "cases" / "19-two-basis-sets-of-one-element" / "c-two"


def test_case(case):
    sample = harmose.read(case)
    check_sample(sample)
    expected = scipy.linalg.eigh(H, S, eigvals_only=True)
    np.testing.assert_allclose(eigenvalues(sample.hamiltonian, sample.overlap)[0], expected, atol=1e-12)
    assert sample.structure.numbers.tolist() == [1, 1]
    assert sample.hamiltonian.numbers.tolist() == [1001, 1]
    assert (sample.fermi_level, sample.n_electrons) == (6.0, 2.0)
    with pytest.raises(BasisError, match=r"expected H with the shells of basis abacus \(1s\), got 1s 2s"):
        read_abacus(case, BasisSet("abacus", {1: (Shell(1, 0),)}, {1: 3.8}))


@pytest.mark.parametrize("target", ["store", "npz", "deeph-legacy"])
def test_case_converted(case, tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    out = "out.npz" if target == "npz" else "out"
    assert main(["convert", str(case), out, "--to", target]) == 0
    back = next(iter(harmose.read_all(out)))
    np.testing.assert_allclose(
        eigenvalues(back.hamiltonian, back.overlap)[0], scipy.linalg.eigh(H, S, eigvals_only=True), atol=1e-12
    )
    assert species_of(back.structure).tolist() == [1001, 1]


def test_case_in_every_command(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(case), "store"]) == 0
    assert main(["data", "ls", "store", "--samples"]) == 0
    assert "H H(2)" in capsys.readouterr().out
    assert main(["data", "check", "store"]) == 0
    assert main(["orbitals", "store", "c-two"]) == 0
    assert "-5.833715" in capsys.readouterr().out  # LUMO
    assert main(["dos", "store", "c-two", "--by", "shell"]) == 0


def test_case_as_matrices_of_petsc(case, tmp_path):
    sample = harmose.read(case)
    harmose.write(tmp_path / "petsc", sample, format="petsc")
    assert any((tmp_path / "petsc").iterdir())


def test_case_is_not_deeph(case, tmp_path):
    with pytest.raises(
        FormatError, match=r"one set of orbitals for each element, .*, got H and H\(2\); .*deeph-legacy"
    ):
        write_deeph(tmp_path / "x", harmose.read(case))
    assert not (tmp_path / "x").exists()


# Formats and observables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spin", list(Spin))
def test_round_trips(tmp_path, spin):
    sample = sample_of(spin)
    assert_round_trip(read_npz, write_npz, sample, tmp_path / "x.npz")
    assert_round_trip(read_deeph_legacy, write_deeph_legacy, sample, tmp_path / "x")
    again = read_deeph_legacy(tmp_path / "x", sample.basis)
    assert again.basis == sample.basis
    with new_store(tmp_path / "store", sample.basis, spin, {}) as store:
        store.append(sample)
    with Store.open(tmp_path / "store") as store:
        back = store["sets"]
        assert back.structure == sample.structure
        assert np.array_equal(back.hamiltonian.values, sample.hamiltonian.values)


def test_deeph_takes_the_set_of_a_given_basis(tmp_path):
    """A run with the small set alone, read in the basis set of another that has both."""
    sample = sample_of()
    part = sample.structure[[1, 2]]
    alone = BasisSet("alone", {6: SHELLS[1006], 8: SHELLS[8]}, {6: 1.8, 8: 2.2})
    atoms = with_species(part, np.array([8, 6]))
    h = openmx_runs.random_operator(atoms, Spin.NONE, 5, basis=alone)
    s = openmx_runs.random_overlap(atoms, alone)
    write_deeph(tmp_path / "x", Sample("alone", atoms, alone, h, overlap=s))
    back = read_deeph(tmp_path / "x", BASIS)
    assert back.hamiltonian.numbers.tolist() == [8, 1006]
    same_energies(back, Sample("alone", atoms, alone, h, overlap=s))
    other = BasisSet("other", {6: (Shell(1, 0),), 1006: SHELLS[6], 8: SHELLS[8]}, {6: 2.0, 8: 2.2, 1006: 1.8})
    with pytest.raises(BasisError, match="expected C with shells s or s p d as in basis other, got s p"):
        read_deeph(tmp_path / "x", other)


def test_projections():
    h = sample_of().hamiltonian
    sizes = {name: {k: int(v.sum()) for k, v in of(h).items()} for name, of in GROUPINGS.items()}
    assert sizes["element"] == {"C": 13, "O": 4}
    assert sizes["atom"] == {"C 0": 9, "O 1": 4, "C 2": 4}
    assert sizes["shell"] == {"C 1s": 2, "C 2p": 6, "C 3d": 5, "O 1s": 1, "O 2p": 3}


def test_sisl(tmp_path):
    pytest.importorskip("sisl")
    sample = sample_of()
    h = harmose.to_sisl(sample)
    expected = eigenvalues(sample.hamiltonian, sample.overlap, KPOINTS)
    np.testing.assert_allclose([h.eigh(k) for k in KPOINTS], expected, atol=1e-10)
    assert [atom.tag for atom in h.geometry.atoms.atom] == ["C", "O", "C_2"]


def test_structures_that_occur_twice(tmp_path):
    """The same atoms with other sets of orbitals are another structure."""
    sample = sample_of()
    other = with_species(sample.structure, np.array([1006, 8, 6]))
    h, s = openmx_runs.random_operator(other, Spin.NONE, 7, basis=BASIS), openmx_runs.random_overlap(other, BASIS)
    with new_store(tmp_path / "store", BASIS, Spin.NONE, {}) as store:
        store.append_all([sample, replace(sample, name="other", structure=other, hamiltonian=h, overlap=s)])
    with Store.open(tmp_path / "store") as store:
        assert not any("same structure" in problem.text for problem in check(store))


# Codes --------------------------------------------------------------------------------------------------------------


def carbon_everywhere(path: Path) -> None:
    """Make the oxygen of a made-up run of SIESTA carbon with another basis set."""
    if path.suffix == ".nc":
        with h5py.File(path, "a") as file:
            file["BASIS/O_up"].attrs["Atomic_number"] = np.array([6], "i4")
    else:
        table = path.with_suffix(".XV")
        table.write_text(re.sub(r"^2 8 ", "2 6 ", table.read_text(), flags=re.MULTILINE))
        block = "%block ChemicalSpeciesLabel\n 1 6 C\n 2 6 O\n%endblock\n"  # the second is a label, not an element
        path.with_suffix(".fdf").write_text(f"SystemLabel {path.stem}\n{block}")


@pytest.mark.parametrize("kind", ["none", "collinear", "soc"])
@pytest.mark.parametrize("ending", ["HSX", "nc"])
def test_siesta(tmp_path, kind, ending):
    chain = Atoms("CO", [[0.1, 4, 4], [1.4, 4.3, 3.8]], cell=[3.4, 11, 12], pbc=[True, False, False])
    h, s = siesta_runs.random_matrices(chain, kind)
    if ending == "nc":
        path = siesta_runs.write_netcdf(tmp_path, chain, h, s, kind)
    else:
        pytest.importorskip("sisl")
        path = siesta_runs.write_with_sisl(tmp_path, chain, h, s, kind)
    carbon_everywhere(path)
    sample = read_siesta(path)
    assert sample.structure.numbers.tolist() == [6, 6]
    assert sample.hamiltonian.numbers.tolist() == [1006, 6]
    k = [[0.0, 0, 0], [0.3, 0, 0]]
    np.testing.assert_allclose(
        eigenvalues(sample.hamiltonian, sample.overlap, k), eigenvalues(h, s, k), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("spin", list(Spin))
def test_openmx(tmp_path, spin):
    """C3.5-s2p1 beside C4.5-s1p1d1f1."""
    crystal = openmx_runs.crystal()
    h, s = openmx_runs.random_operator(crystal, spin, 3), openmx_runs.random_overlap(crystal)
    text = openmx_runs.input_text(crystal, spin).replace("O_PBE19", "C_PBE19").replace("O4.5", "C4.5")
    path = openmx_runs.write_scfout(tmp_path / "run.scfout", crystal, h, s, text=text)
    sample = read_openmx(path)
    assert sample.structure.numbers.tolist() == [6, 6, 6]
    assert sample.hamiltonian.numbers.tolist() == [1006, 1006, 6]
    assert dict(sample.basis.radii) == {6: openmx_runs.BASIS.radii[8], 1006: openmx_runs.BASIS.radii[6]}
    assert sample.provenance["settings"]["pao"] == {"C": "C4.5-s1p1d1f1", "C(2)": "C3.5-s2p1"}
    expected = eigenvalues(h, s, KPOINTS)
    np.testing.assert_allclose(eigenvalues(sample.hamiltonian, sample.overlap, KPOINTS), expected, atol=1e-9)


def test_runs_of_one_folder_have_one_numbering(tmp_path):
    """The second run has the small set of orbitals alone."""
    crystal = openmx_runs.crystal()
    for name, atoms in (("both", crystal), ("alone", crystal[[0, 1]])):
        h, s = openmx_runs.random_operator(atoms, Spin.NONE, 3), openmx_runs.random_overlap(atoms)
        text = openmx_runs.input_text(atoms, Spin.NONE).replace("O_PBE19", "C_PBE19").replace("O4.5", "C4.5")
        (tmp_path / name).mkdir()
        openmx_runs.write_scfout(tmp_path / name / "run.scfout", atoms, h, s, text=text)
    alone, both = harmose.read_all(tmp_path)
    assert alone.basis == both.basis
    assert both.hamiltonian.numbers.tolist() == [1006, 1006, 6]
    assert alone.hamiltonian.numbers.tolist() == [1006, 1006]


def test_deeptb_has_one_set_for_each_element(tmp_path):
    """basis.dat names elements: blocks of other shapes are refused."""
    for name, content in {
        "atomic_numbers.dat": "1\n1\n",
        "positions.dat": "0 0 0\n1 0 0\n",
        "cell.dat": "9 0 0\n0 9 0\n0 0 9\n",
        "pbc.dat": "0 0 0\n",
        "basis.dat": "{'H': '2s'}",
    }.items():
        (tmp_path / name).write_text(content)
    with h5py.File(tmp_path / "hamiltonians.h5", "w") as file:
        for name, shape in {"0_0_0_0_0": (1, 1), "0_1_0_0_0": (1, 2), "1_1_0_0_0": (2, 2)}.items():
            file[f"0/{name}"] = np.zeros(shape)
    with pytest.raises(HarmoseError, match=r"expected a real block of shape \(2, 2\) by basis.dat") as caught:
        harmose.read(tmp_path)
    assert "\n" not in str(caught.value)
