"""Radial functions of a basis set from files or folders, and those beside a calculation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from tests.io.abacus.test_orb import write as write_orb
from tests.io.openmx.pao_files import write_pao
from tests.io.siesta.test_ion_nc import tables, write_classic, write_xml

import harmose
from harmose.core.basis import BasisSet, Shell
from harmose.core.radial import RadialBasis
from harmose.core.sample import Sample
from harmose.errors import BasisError, FormatError
from harmose.io.basis_sets import radial_functions
from harmose.io.radial_files import check_functions, functions_beside, pao_names

CARBON = tuple(Shell(n, l) for n, l in ((1, 0), (2, 0), (2, 1)))


def siesta_run(folder: Path) -> Path:
    """A folder with the two files that SIESTA writes for a species, one of H and one of C."""
    write_classic(folder / "C.ion.nc", tables())
    write_xml(folder / "C.ion.xml", tables())
    write_classic(folder / "H.ion.nc", tables(1))
    return folder


def sample_of(functions: RadialBasis, atoms: Atoms, **changes) -> Sample:
    s = harmose.overlap(atoms, functions)
    return replace(Sample("a", atoms, functions.basis, s.with_values(-5 * s.values), s), **changes)


def test_folder_of_a_code(tmp_path):
    run = siesta_run(tmp_path)
    basis = harmose.basis(run / "C.ion.nc").basis
    grown = BasisSet("siesta", basis.shells, {6: 4.5})
    for files in ([run], [run / "C.ion.nc"], [run / "C.ion.xml", run / "H.ion.nc"]):
        assert radial_functions(grown, files).basis == grown
    with pytest.raises(BasisError, match="expected radial functions of O, got none in"):
        radial_functions(BasisSet("siesta", {8: CARBON}, {8: 3.0}), [run])
    with pytest.raises(BasisError, match="one radial function for each shell of C"):
        radial_functions(BasisSet("siesta", {6: CARBON[:2]}, {6: 3.0}), [run])


def test_files_of_several_codes(tmp_path):
    write_orb(tmp_path / "C.orb")
    write_pao(tmp_path / "C5.0.pao")
    basis = harmose.basis(tmp_path / "C.orb").basis
    assert radial_functions(basis, [tmp_path]).basis == basis  # the basis set is called abacus
    openmx = harmose.basis("C5.0-s2", tmp_path).basis
    assert radial_functions(openmx, [tmp_path]).basis == openmx
    with pytest.raises(FormatError, match="of one code, got those of abacus and openmx"):
        radial_functions(basis, [tmp_path / "C.orb", tmp_path / "C5.0.pao"])
    with pytest.raises(FormatError, match="a folder of files of one code ending in"):
        radial_functions(BasisSet("deeph", basis.shells, basis.radii), [tmp_path])
    with pytest.raises(FormatError, match=r"none.txt: expected radial functions, files ending in"):
        radial_functions(basis, [tmp_path / "none.txt"])


def test_functions_beside_a_calculation(tmp_path):
    """They are taken only if S is theirs."""
    run = siesta_run(tmp_path)
    functions = harmose.basis([run / "C.ion.nc", run / "H.ion.nc"])
    sample = sample_of(functions, Atoms("CH", [[0, 0, 0], [0.6, 0.7, 0.8]]))
    found = functions_beside(run, sample)
    assert found is not None
    assert found.elements == (1, 6)
    assert functions_beside(run / "C.ion.nc", sample) is not None  # a run may be named by a file of it
    assert sample.overlap is not None
    other = replace(sample, overlap=sample.overlap.with_values(1.001 * sample.overlap.values))
    assert functions_beside(run, other) is None
    assert functions_beside(run, replace(sample, overlap=None)) is None
    (tmp_path / "empty").mkdir()
    assert functions_beside(tmp_path / "empty", sample) is None
    with pytest.raises(
        BasisError, match=r"expected the radial functions of the labels, got others: S of sample a differs"
    ):
        check_functions(functions, other)


def test_names_in_a_provenance():
    names = {"C": "C6.0-s2p2d1"}
    assert pao_names({"settings": {"pao": names}}) == names
    assert pao_names({}) == pao_names({"settings": "none"}) == pao_names({"settings": {"pao": 3}}) == {}


def test_real_run_of_siesta(shared_data):
    run = shared_data / "dft-outputs" / "siesta-Si"
    sample = harmose.read(run)
    found = functions_beside(run, sample)
    assert found is not None
    np.testing.assert_allclose(harmose.overlap(sample.structure, found).values, sample.overlap.values, atol=1e-8)
