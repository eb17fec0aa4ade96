"""Elements of a SIESTA run: files that contradict each other are of several runs."""

import shutil

import pytest
from tests.io.siesta.siesta_runs import random_matrices, write_with_sisl

import harmose
from harmose.errors import FormatError
from harmose.io.siesta.basis import Species
from harmose.io.siesta.elements import check_orbitals
from harmose.io.siesta.ion_nc import read_ion
from harmose.io.siesta.run import find_run

pytest.importorskip("sisl")

INPUT = "SystemLabel chain\n%block ChemicalSpeciesLabel\n 1 {} C\n 2 8 O\n%endblock\n"


def stale(path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_positions_of_another_run(tmp_path, chain):
    """An old .XV against the labels in the HSX file, and against the input."""
    path = write_with_sisl(tmp_path, chain, *random_matrices(chain, "none"), "none")
    assert harmose.read(path).structure.get_chemical_formula() == chain.get_chemical_formula()
    positions = tmp_path / "chain.XV"
    kept = positions.read_text()
    stale(positions, "1 6 ", "1 14 ")
    with pytest.raises(
        FormatError, match=r"chain\.XV: expected species C to be C, as in chain\.HSX, got Si: one of them is of"
    ):
        harmose.read(path)
    (tmp_path / "chain.fdf").write_text(INPUT.format(6))
    with pytest.raises(FormatError, match=r"chain\.XV: expected species C to be C, as in chain\.fdf, got Si"):
        harmose.read(path)
    positions.write_text(kept)
    (tmp_path / "chain.fdf").write_text(INPUT.format(7))
    with pytest.raises(FormatError, match=r"chain\.XV: expected species C to be N, as in chain\.fdf, got C"):
        harmose.read(path)
    stale(positions, "1 6 ", "1 7 ")  # both say nitrogen: C is only a name
    assert harmose.read(path).structure.get_chemical_symbols().count("N") == 1


def test_orbitals_of_another_run(shared_data, tmp_path):
    runs = shared_data / "dft-outputs"
    run = shutil.copytree(runs / "siesta-Si", tmp_path / "run", copy_function=shutil.copyfile)
    ion = run / "Si.ion.nc"
    shutil.copyfile(runs / "siesta-Fe" / "Fe.ion.nc", ion)
    with pytest.raises(FormatError, match=r"Si\.XV: expected species Si to be Fe, as in Si\.ion\.nc, got Si"):
        harmose.read(run)
    (run / "Si.XV").unlink()
    with pytest.raises(FormatError, match=r"Si\.ion\.nc: expected species Si to be Si, as in Si\.fdf, got Fe"):
        harmose.read(run)


def test_shells_of_another_run(shared_data, tmp_path):
    """The right element in another basis set: its reach would be that of orbitals that H does not have."""
    run = shutil.copytree(shared_data / "dft-outputs" / "siesta-Fe", tmp_path / "run", copy_function=shutil.copyfile)
    kind = Species("Fe", read_ion(run / "Fe.ion.nc").shells)
    check_orbitals(find_run(run), kind)
    shutil.copyfile(shared_data / "dft-outputs" / "siesta-Si" / "Si.ion.nc", run / "Fe.ion.nc")
    with pytest.raises(
        FormatError, match=r"Fe\.ion\.nc: expected the shells of fe\.HSX \(.*\), got .*: one of them is of"
    ):
        check_orbitals(find_run(run), kind)
