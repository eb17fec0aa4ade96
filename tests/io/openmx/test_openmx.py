"""OpenMX: levels and bands agree with the code's own; known matrices of every spin and version; what the files say, or not."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from tests.io.openmx.openmx_runs import (
    BASIS,
    FERMI_LEVEL,
    N_ELECTRONS,
    crystal,
    input_text,
    random_operator,
    random_overlap,
    write_scfout,
)

import harmose
from harmose.core.basis import BasisSet
from harmose.core.sample import Sample, check_sample
from harmose.errors import BasisError, FormatError, MatrixError
from harmose.io.openmx.band_file import read_band_file
from harmose.io.openmx.openmx import read_openmx, read_openmx_overlap
from harmose.io.openmx.run import OPENMX_BOHR
from harmose.physics.eigen import eigenvalues
from harmose.spin import Spin
from harmose.units import HARTREE

CRYSTAL = crystal()

TOLERANCE = 1e-5
"""eV: 0.01 meV. The largest difference that was measured is 0.00003 meV."""


def written(folder: Path, spin: Spin = Spin.NONE, **options) -> Path:
    """Write a run of the crystal with random matrices."""
    folder.mkdir(exist_ok=True)
    h, s = random_operator(CRYSTAL, spin, 3), random_overlap(CRYSTAL)
    return write_scfout(folder / "run.scfout", CRYSTAL, h, s, **options)


# The code's own numbers --------------------------------------------------------------------------------------------


def levels(folder: Path, spin: Spin) -> np.ndarray:
    """Eigenvalues (eV) of a molecule in `.out`: (1, n), for collinear spins (2, n)."""
    text = next(folder.glob("*.out")).read_text()
    rows = re.findall(
        r"^ +\d+ +(-?\d+\.\d{14})(?: +(-?\d+\.\d{14}))?$", text[text.index("Eigenvalues\n") :], re.MULTILINE
    )
    table = np.array([[float(word) for word in row if word] for row in rows]).T * HARTREE
    return table if spin is Spin.COLLINEAR else table[:1]


MOLECULES = {
    "h2o": (Spin.NONE, 8),
    "oh-col": (Spin.COLLINEAR, 7),
    "oh-nc": (Spin.SPINOR, 7),
    "385-oh-nc": (Spin.SPINOR, 7),
}


@pytest.mark.parametrize("name", MOLECULES)
def test_levels_of_molecules(kept_molecules, name):
    spin, n_electrons = MOLECULES[name]
    sample = read_openmx(kept_molecules / name)
    check_sample(sample)
    check_levels(sample, kept_molecules / name)
    assert (sample.spin, sample.n_electrons, sample.provenance["converged"]) == (spin, n_electrons, True)
    assert not sample.structure.pbc.any()


def test_levels_of_water_of_an_older_version(runs):
    sample = read_openmx(runs / "openmx-385-h2o")
    check_levels(sample, runs / "openmx-385-h2o")
    assert sample.fermi_level == 0.0  # OpenMX's own value: it lies in the gap, above the HOMO at -7.1 eV
    assert sample.provenance["version"] == "3.8.5"


def check_levels(sample: Sample, folder: Path) -> None:
    ours, theirs = eigenvalues(sample.hamiltonian, sample.overlap), levels(folder, sample.spin)
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, atol=TOLERANCE, rtol=0)


CRYSTALS = {
    "openmx-graphene": (Spin.NONE, 8, [True, True, False]),
    "openmx-small-graphene": (Spin.NONE, 8, [True, True, False]),
    "openmx-385-small-graphene": (Spin.NONE, 8, [True, True, False]),
    "openmx-fe-col": (Spin.COLLINEAR, 16, [True, True, True]),
    "openmx-bisb-soc": (Spin.SPINOR, 30, [True, True, False]),
    "openmx-small-bisb-soc": (Spin.SPINOR, 30, [True, True, False]),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_bands_of_crystals(runs, name):
    spin, n_electrons, pbc = CRYSTALS[name]
    sample = read_openmx(runs / name)
    check_sample(sample)
    check_bands(sample, runs / name)
    assert (sample.spin, sample.n_electrons) == (spin, n_electrons)
    assert sample.structure.pbc.tolist() == pbc
    assert sample.provenance["converged"] is True


def test_bands_of_a_run_without_out_file(shared_data):
    folder = shared_data / "crystals" / "bisb-soc" / "bisb_1x1"
    sample = read_openmx(folder)
    check_bands(sample, folder)
    assert (sample.energy, sample.provenance["converged"]) == (None, None)
    assert sample.provenance["spin_orbit"] is True


def check_bands(sample: Sample, folder: Path) -> None:
    theirs = read_band_file(next(folder.glob("*.Band")), sample.spin is Spin.SPINOR)
    ours = eigenvalues(sample.hamiltonian, sample.overlap, theirs.kpoints)
    assert (theirs.spin, ours.shape) == (sample.spin, theirs.energies.shape)
    np.testing.assert_allclose(ours, theirs.energies, atol=TOLERANCE, rtol=0)
    assert theirs.fermi_level == pytest.approx(sample.fermi_level, abs=1e-9)


@pytest.mark.parametrize("name", ["openmx-graphene", "openmx-fe-col", "openmx-bisb-soc"])
def test_overlap_is_two_centre(runs, name, unequal_m):
    """Holds for the right order and signs of p and d only."""
    sample = read_openmx(runs / name)
    assert sample.overlap is not None
    assert unequal_m(sample.structure, sample.overlap) < 1e-9


def test_what_a_run_says(kept_molecules):
    sample = harmose.read(kept_molecules / "oh-nc")
    assert sample.energy == pytest.approx(-16.768 * HARTREE, abs=0.05)
    assert sample.fermi_level == pytest.approx(-0.257747069591 * HARTREE, abs=1e-9)
    # the positions of the input, in OpenMX's own Bohr radius
    np.testing.assert_allclose(sample.structure.positions, [[4, 5, 5], [4.4704, 5.6272, 5.588]], atol=1e-9)
    np.testing.assert_allclose(sample.structure.cell.array, np.diag([9.0, 10, 11]), atol=1e-9)
    assert {z: " ".join(map(str, shells)) for z, shells in sample.basis.shells.items()} == {
        8: "1s 2s 2p 3p 3d",
        1: "1s 2s 2p",
    }
    assert dict(sample.basis.radii) == {8: 3.175064, 1: 3.175064}  # 6 Bohr
    expected = {"code": "openmx", "version": "3.9.9", "functional": "GGA-PBE", "spin_orbit": False, "cycles": 23}
    assert sample.provenance.items() >= expected.items()
    assert sample.provenance["settings"]["pao"] == {"O": "O6.0-s2p2d1", "H": "H6.0-s2p1"}
    assert sample.provenance["settings"]["vps"] == {"O": "O_PBE19", "H": "H_PBE19"}
    # the initial moment of oxygen, 1 Bohr magneton, at theta 35 and phi 50 degrees
    np.testing.assert_allclose(
        sample.provenance["initial_moments"], [[0.368688, 0.439385, 0.819152], [0, 0, 0]], atol=1e-6
    )


# Known matrices ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 3])
@pytest.mark.parametrize("spin", list(Spin))
def test_matrices_of_every_spin(tmp_path, spin, version):
    """Orders up to f, blocks in both directions, an atom outside the home cell, rubbish in unused bytes."""
    h, s = random_operator(CRYSTAL, spin, 3), random_overlap(CRYSTAL)
    sample = read_openmx(write_scfout(tmp_path / "known.scfout", CRYSTAL, h, s, version=version))
    assert (sample.name, sample.spin, sample.n_electrons) == ("known", spin, N_ELECTRONS)
    assert sample.fermi_level == FERMI_LEVEL * HARTREE
    assert sample.basis == BASIS
    np.testing.assert_allclose(sample.structure.positions, CRYSTAL.positions, atol=1e-12)
    np.testing.assert_allclose(sample.structure.cell.array, CRYSTAL.cell.array, atol=1e-12)
    assert sample.structure.pbc.tolist() == [True, True, False]
    np.testing.assert_allclose(sample.hamiltonian.values, h.values, atol=1e-12)
    np.testing.assert_allclose(sample.overlap.values, s.values, atol=1e-14)
    assert sample.provenance["kmesh"] == [3, 3, 1]
    alone = read_openmx_overlap(tmp_path / "known.scfout")
    np.testing.assert_array_equal(alone.matrix.values, sample.overlap.values)


def test_two_directions_are_made_one(tmp_path):
    """H[i, j, R] and H[j, i, -R] of OpenMX agree to 1e-9 Hartree; their mean is taken. A larger difference is an error."""
    h, s = random_operator(CRYSTAL, Spin.NONE, 3), random_overlap(CRYSTAL)
    path = write_scfout(tmp_path / "run.scfout", CRYSTAL, h, s)
    table = np.frombuffer(path.read_bytes(), np.uint8).copy()
    at = path.read_bytes().index((h.block(0, 0)[0, 1] / HARTREE).tobytes())
    value = np.frombuffer(table[at : at + 8].tobytes(), "<f8")[0]
    for change, fits in ((2e-9, True), (1e-3, False)):
        table[at : at + 8] = np.frombuffer(np.array(value + change, "<f8").tobytes(), np.uint8)
        path.write_bytes(table.tobytes())
        if fits:
            np.testing.assert_allclose(read_openmx(path).hamiltonian.values, h.values, atol=1e-7)
        else:
            with pytest.raises(MatrixError, match=r"run.scfout: H: expected block .* to be the adjoint"):
                read_openmx(path)


def test_isolated_atom(tmp_path):
    """No neighbours, one cell."""
    atom = Atoms("O", [[1.0, 2.0, 3.0]], cell=[20.0, 20, 20])
    h, s = random_operator(atom, Spin.COLLINEAR, 1), random_overlap(atom)
    path = write_scfout(tmp_path / "atom.scfout", atom, h, s, text=input_text(atom, Spin.COLLINEAR))
    sample = harmose.read(path)
    np.testing.assert_allclose(sample.hamiltonian.values, h.values, atol=1e-12)
    assert not sample.structure.pbc.any()
    assert sample.provenance["initial_moments"] == [1.0]
    assert sample.structure.get_initial_magnetic_moments().tolist() == [1.0]


def test_radii_of_names_without_number(tmp_path):
    """Names of one's own say nothing, or the wrong length: the radii are those that cover the blocks in the file."""
    h, s = random_operator(CRYSTAL, Spin.NONE, 3), random_overlap(CRYSTAL)
    for names in ({6: "Cown-s2p1", 8: "Oown-s1p1d1f1"}, {6: "C2.0-s2p1", 8: "O9.0-s1p1d1f1"}):
        path = write_scfout(tmp_path / "run.scfout", CRYSTAL, h, s, text=input_text(CRYSTAL, Spin.NONE, names))
        sample = read_openmx(path)
        assert sample.basis.shells == BASIS.shells
        assert len(sample.hamiltonian.pairs) >= len(h.pairs)
        for key in h.keys.tolist():
            i, j, *cell = key
            ours = sample.hamiltonian.block(i, j, tuple(cell))
            np.testing.assert_allclose(ours, h.block(i, j, tuple(cell)), atol=1e-12)


def test_another_basis_set(tmp_path):
    path = written(tmp_path)
    larger = BasisSet("openmx", BASIS.shells, {z: radius + 1 for z, radius in BASIS.radii.items()})
    own, wide = read_openmx(path), read_openmx(path, larger)
    k = [[0.1, 0.2, 0.0]]
    np.testing.assert_allclose(
        eigenvalues(own.hamiltonian, own.overlap, k), eigenvalues(wide.hamiltonian, wide.overlap, k), atol=1e-9
    )
    smaller = BasisSet("openmx", BASIS.shells, {z: radius / 2 for z, radius in BASIS.radii.items()})
    with pytest.raises(MatrixError, match=r"run.scfout: H: a value of .* lies in block"):
        read_openmx(path, smaller)
    other = BasisSet("openmx", {z: shells[:1] for z, shells in BASIS.shells.items()}, BASIS.radii)
    with pytest.raises(BasisError, match=r"run.scfout: expected C with the shells of basis openmx"):
        read_openmx(path, other)


# What is not known, and what does not fit ---------------------------------------------------------------------------


def changed(folder: Path, old: str, new: str, spin: Spin = Spin.NONE) -> Path:
    """Write a run whose input has another text."""
    text = input_text(CRYSTAL, spin)
    assert old in text
    return written(folder, spin, text=text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Ox O4.5-s1p1d1f1 O_PBE19", "Ox O4.5-s1p1d1f1 E", r"atoms with nuclei, got species Ox of empty atoms"),
        (
            "Cx C3.5-s2p1 C_PBE19",
            "Cx C3.5-s2p1 virtual",
            r"pseudopotential that names an element, .* got 'virtual' of species Cx",
        ),
        ("Cx C3.5-s2p1 C_PBE19", "Cx C3.5-s2p2 C_PBE19", r"the 5 orbitals of atom 0 in run.scfout, got 8 of C3.5-s2p2"),
        ("Cx C3.5-s2p1 C_PBE19", "Cx C3.5 C_PBE19", r"a basis set of OpenMX such as C6.0-s2p2d1, got 'C3.5'"),
        ("Cx C3.5-s2p1 C_PBE19", "Cy C3.5-s2p1 C_PBE19", r"species out of Cy, Ox, got 'Cx'"),
        ("Cx C3.5-s2p1 C_PBE19", "Cx C3.5-s2p1", r"rows of label, basis set and pseudopotential"),
        ("\n3 Ox", "\n#3 Ox", r"the 3 atoms of run.scfout, got 2"),
        ("scf.maxIter 30", "scf.maxIter many", r"scf.maxIter: expected a number, got 'many'"),
    ],
)
def test_inputs_that_do_not_fit(tmp_path, old, new, message):
    with pytest.raises(FormatError, match=message) as error:
        read_openmx(changed(tmp_path, old, new))
    assert "\n" not in str(error.value)


def test_the_pseudopotential_names_the_element(tmp_path):
    """The label of a species may be any word, also that of another element."""
    text = input_text(CRYSTAL, Spin.NONE).replace("Ox", "Fe")
    assert read_openmx(written(tmp_path, text=text)).structure.get_chemical_symbols() == ["C", "C", "O"]


def test_charge(tmp_path):
    sample = read_openmx(changed(tmp_path, "scf.maxIter 30", "scf.system.charge 1.0"))
    assert sample.structure.info["charge"] == 1.0
    assert "charge" not in read_openmx(written(tmp_path)).structure.info


def test_input_beside_the_file(tmp_path):
    """OpenMX writes no text if it cannot read its input again; then `.dat` or `.out` names the elements."""
    path = written(tmp_path, text="")
    with pytest.raises(FormatError, match=r"the text of the input in it, or run.dat or its .out beside it, got none"):
        read_openmx(path)
    (tmp_path / "run.dat").write_text(input_text(CRYSTAL, Spin.NONE))
    assert read_openmx(path).structure.get_chemical_symbols() == ["C", "C", "O"]
    (tmp_path / "run.dat").unlink()
    (tmp_path / "run.out").write_text(
        f"  This calculation was performed by OpenMX Ver. 3.9.9\n{input_text(CRYSTAL, Spin.NONE)}\n*****\n"
        f"  SCF history at MD= 1\n  Chemical potential (Hartree)      {FERMI_LEVEL:.12f}\n"
    )
    sample = read_openmx(path)
    assert sample.structure.get_chemical_symbols() == ["C", "C", "O"]
    assert (sample.provenance["version"], sample.provenance["converged"], sample.energy) == ("3.9.9", None, None)


def test_atoms_that_were_moved_after_the_last_scf(tmp_path):
    """OpenMX moves the atoms at the end of each step of a run of several geometries; then H belongs to the step before."""
    path = changed(tmp_path, "scf.maxIter 30", "MD.Type Opt")
    assert read_openmx(path).name == "run"  # a converged optimization: the atoms have not been moved
    content = path.read_bytes()
    position = (CRYSTAL.positions[1] / OPENMX_BOHR).astype("<f8").tobytes()
    assert content.count(position) == 1
    moved = ((CRYSTAL.positions[1] + [0.003, 0, 0]) / OPENMX_BOHR).astype("<f8").tobytes()
    path.write_bytes(content.replace(position, moved))
    with pytest.raises(
        FormatError, match=r"atoms that OpenMX moved after the last SCF of MD.Type Opt .* run the last structure"
    ):
        read_openmx(path)


def test_convergence(molecules):
    folder = molecules / "h2o"
    out = next(folder.glob("*.out"))
    text = out.read_text()
    last = re.findall(r"Uele= *-\d\.\d+", text)[-1]
    out.write_text(text.replace(last, "Uele= -3.000000000000"))
    sample = read_openmx(folder)
    assert sample.provenance["converged"] is False
    out.unlink()
    sample = read_openmx(folder)
    assert (sample.provenance["converged"], sample.energy) == (None, None)
    assert sample.fermi_level is not None  # of the .scfout itself


def test_out_file_of_another_run(molecules):
    folder = molecules / "h2o"
    shutil.copy(next((molecules / "oh-nc").glob("*.out")), folder / "h2o.out")
    sample = read_openmx(folder)
    assert (sample.energy, sample.provenance["converged"]) == (None, None)
    assert sample.provenance["left_out"] == ["h2o.out: its chemical potential is not that of h2o.scfout"]


def test_fermi_level_that_is_not_finite(tmp_path):
    path = written(tmp_path)
    content = path.read_bytes()
    old = np.array(FERMI_LEVEL, "<f8").tobytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, np.array(np.inf, "<f8").tobytes()))
    assert read_openmx(path).fermi_level is None


def test_values_that_are_not_finite(tmp_path):
    h, s = random_operator(CRYSTAL, Spin.NONE, 3), random_overlap(CRYSTAL)
    values = h.values.copy()
    values[0, -1] = np.nan
    with pytest.raises(MatrixError, match=r"run.scfout: H: expected finite values"):
        read_openmx(write_scfout(tmp_path / "run.scfout", CRYSTAL, h.with_values(values), s))


def test_blocks_without_partner(tmp_path):
    """A spinor needs both directions of each pair."""
    path = written(tmp_path, Spin.SPINOR)
    content = bytearray(path.read_bytes())
    cell = (CRYSTAL.cell.array[0] / OPENMX_BOHR).astype("<f8").tobytes()
    n_cells = int(np.frombuffer(content[20:24], "<i4")[0]) + 1
    end = content.index(cell, 28 + 48 * n_cells) - 8  # before the first lattice vector, the cells of the neighbours
    content[end - 4 : end] = np.array(0, "<i4").tobytes()
    path.write_bytes(bytes(content))
    with pytest.raises(MatrixError, match=r"run.scfout: expected with each block \(i, j, R\) also \(j, i, -R\)"):
        read_openmx(path)
