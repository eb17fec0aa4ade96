"""ABACUS's log: the cell with the digits of STRU.cif, reaches of orbitals, and damaged logs."""

import re
import shutil

import numpy as np
import pytest
from ase import Atoms
from tests.io.abacus.abacus_runs import crystal, log_text, newest_log

from harmose.core.basis import BasisSet, Shell
from harmose.errors import BasisError, FormatError
from harmose.io.abacus.abacus import read_abacus
from harmose.io.abacus.inputs import orbital_reaches, read_stru
from harmose.io.abacus.log import read_log
from harmose.units import BOHR

CRYSTAL = crystal()


def test_cell_from_the_cif(tmp_path):
    cell = np.array([[0.1234567891, 1.9876543219, 1.7], [1.9, 0.0, 1.8], [1.75, 1.85, 0.0]]) * 3
    dense = Atoms(CRYSTAL.symbols, CRYSTAL.positions, cell=cell[[0, 2, 1]], pbc=True)
    out = tmp_path / "OUT.known"
    out.mkdir()
    (out / "running_scf.log").write_text(log_text(dense, 1))
    assert np.abs(read_log(out).structure.cell.array - dense.cell.array).max() > 5e-7
    names = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"]
    cif = "".join(f"_cell_{name}  {x:.8f}\n" for name, x in zip(names, dense.cell.cellpar()))
    (out / "STRU.cif").write_text(cif)
    refined = read_log(out).structure.cell
    np.testing.assert_allclose(refined.cellpar(), dense.cell.cellpar(), atol=1e-8)
    np.testing.assert_allclose(refined.array, dense.cell.array, atol=1e-5)
    # the file of another run is ignored
    (out / "STRU.cif").write_text(cif.replace("length_a  ", "length_a  1"))
    np.testing.assert_allclose(read_log(out).structure.cell.array, dense.cell.array, atol=1e-4)


def test_damaged_log(mos2, tmp_path):
    out = tmp_path / "OUT.MoS2"
    out.mkdir()
    for name in ("data-HR-sparse_SPIN0.csr", "data-SR-sparse_SPIN0.csr"):
        shutil.copy(mos2 / "OUT.ABACUS" / name, out)
    with pytest.raises(
        FormatError, match=r"running_scf.log: expected the log of a single-point run of ABACUS, got none"
    ):
        read_abacus(tmp_path)
    log = (mos2 / "OUT.ABACUS" / "running_scf.log").read_text()
    (out / "running_relax.log").write_text(log)
    with pytest.raises(FormatError, match=r"single-point run of ABACUS, got running_relax.log"):
        read_abacus(tmp_path)

    def refused(text: str, match: str, error: type = FormatError) -> None:
        (out / "running_scf.log").write_text(text)
        with pytest.raises(error, match=match):
            read_abacus(tmp_path)

    refused("", "another file")
    refused(log.replace("number of atom for this type = 2", "number of atom for this type = 999999999"), "got a log of")
    refused(
        log.replace("number of atom for this type = 2", "number of atom for this type = 3"),
        "rows of three numbers|expected",
    )
    refused(re.sub("lattice vectors", "Vectors", log, flags=re.IGNORECASE), "without")
    refused(log.replace("0.5773502700", "0.577x502700"), "rows of three numbers below 'CARTESIAN")
    refused(log.replace("L=3, number of zeta = 1", "L=9, number of zeta = 1"), "expected shells up to l = 6")
    refused(
        log.replace("L=3, number of zeta = 1", "L=3, number of zeta = 2"), "expected matrices of 60 rows .*, got 53"
    )
    unnamed = log.replace("Read in pseudopotential file is ", "Read in pseudopotential file is pseudo-")
    refused(unnamed.replace("atom label = Mo", "atom label = 42"), "labels of atoms that are elements, .* got '42'")
    (out / "running_scf.log").write_text(log)
    other = BasisSet("abacus", {42: (Shell(1, 0),), 16: (Shell(1, 0),)}, {42: 5.8, 16: 5.8})
    with pytest.raises(BasisError, match="with the shells of basis abacus"):
        read_abacus(tmp_path, other)


def logged(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "running_scf.log").write_text(text)
    return read_log(folder)


@pytest.mark.parametrize(
    ("words", "converged"),
    [
        ("", None),
        (" charge density convergence is achieved", True),
        (" convergence has NOT been achieved!", False),
        (" !! convergence has not been achieved @_@", False),
        (" #SCF IS CONVERGED#", True),
        (" !!SCF IS NOT CONVERGED!!", False),
        (" charge density convergence is achieved\n convergence has NOT been achieved!", False),
    ],
)
def test_convergence(tmp_path, words, converged):
    """Words of versions 2 to 3.11; the last self-consistency counts."""
    assert logged(tmp_path / "OUT.x", log_text(CRYSTAL, 1) + words + "\n").converged is converged


def test_log_of_the_newest_version(tmp_path):
    log = logged(tmp_path / "OUT.x", newest_log(log_text(CRYSTAL, 2)))
    assert (log.version, log.n_spin, log.n_electrons, log.converged) == ("3.11.0", 2, 14, True)
    assert (log.fermi_level, log.energy) == (0.5, -17.5)  # the Fermi level of the row E_Fermi
    assert log.orbital_reach == pytest.approx(3 * BOHR)
    assert [(kind.label, kind.number, kind.count) for kind in log.species] == [("C1", 6, 2), ("O1", 8, 1)]


def test_what_the_log_does_not_say_is_none(tmp_path):
    text = re.sub(r"(?m)^.*(nspin|AUTOSET|E_Fermi|EFERMI|FINAL_ETOT|longest|ABACUS).*$", "", log_text(CRYSTAL, 1))
    log = logged(tmp_path / "OUT.x", text)
    assert {log.n_spin, log.n_electrons, log.fermi_level, log.energy, log.version, log.orbital_reach} == {None}


def test_elements_are_those_of_the_pseudopotentials(tmp_path):
    text = log_text(CRYSTAL, 1).replace("atom label = C1", "atom label = Car")
    with pytest.raises(FormatError, match=r"labels of atoms that are elements, .* got 'Car'; keep the run's STRU"):
        logged(tmp_path / "OUT.x", text)
    stru = "ATOMIC_SPECIES\nCar 12.0 C_ONCV_PBE-1.0.upf # carbon\nO1 16 O.upf upf201\n\nLATTICE_CONSTANT\n1\n"
    (tmp_path / "STRU").write_text(stru)
    assert [kind.number for kind in logged(tmp_path / "OUT.x", text).species] == [6, 8]
    (tmp_path / "STRU").rename(tmp_path / "crystal.stru")
    (tmp_path / "INPUT").write_text("INPUT_PARAMETERS\nstru_file ./crystal.stru # another name\n")
    assert [kind.number for kind in logged(tmp_path / "OUT.x", text).species] == [6, 8]
    (tmp_path / "INPUT").unlink()
    for words in ("Read in pseudopotential file is {}.upf", "   Pseudopotential file = {}.upf"):
        read_in = "".join(f" {words.format(name)}\n" for name in ("Si", "Cl"))
        assert [kind.number for kind in logged(tmp_path / "OUT.x", text + read_in).species] == [14, 17]


def test_ghosts_are_refused(tmp_path):
    text = log_text(CRYSTAL, 1).replace("atom label = O1", "atom label = O_empty")
    with pytest.raises(FormatError, match=r"expected atoms with nuclei, got a ghost: 'O_empty'"):
        logged(tmp_path / "OUT.x", text)


def test_reaches_of_orbitals_and_projectors(tmp_path):
    out = tmp_path / "OUT.x"
    out.mkdir()
    (out / "running_scf.log").write_text(log_text(CRYSTAL, 2))
    log = read_log(out)
    assert (log.n_spin, log.n_electrons, log.fermi_level, log.energy) == (2, 14, 0.5, -17.5)
    assert log.orbital_reach == pytest.approx(3 * BOHR)
    assert log.projector_reach == pytest.approx(BOHR)
    assert [(kind.label, kind.number, kind.n_orbitals, kind.count) for kind in log.species] == [
        ("C1", 6, 4, 2),
        ("O1", 8, 9, 1),
    ]
    labels = [kind.label for kind in log.species]
    assert orbital_reaches(read_stru(out), labels) == {}
    (tmp_path / "STRU").write_text("NUMERICAL_ORBITAL\nC_gga_7au_60Ry_1s1p.orb\nO_gga_9.5au_60Ry.orb\n")
    assert orbital_reaches(read_stru(out), labels) == {"C1": 7 * BOHR, "O1": 9.5 * BOHR}
