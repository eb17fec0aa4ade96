"""SIESTA's netCDF file: every spin kind from known matrices, iron against sisl's numbers, and files without H."""

import shutil

import h5py
import numpy as np
import pytest
from tests.io.siesta.siesta_runs import BASIS, random_matrices, write_netcdf, write_with_sisl

import harmose
from harmose.core.sample import check_sample
from harmose.errors import FormatError
from harmose.io.siesta.netcdf import is_siesta_netcdf
from harmose.io.siesta.siesta import read_siesta
from harmose.physics.eigen import eigenvalues
from harmose.units import RYDBERG


@pytest.mark.parametrize("kind", ["none", "collinear", "nc", "soc"])
def test_matrices_of_every_spin(tmp_path, chain, kind):
    h, s = random_matrices(chain, kind)
    sample = read_siesta(write_netcdf(tmp_path, chain, h, s, kind))
    assert sample.spin is h.spin
    assert sample.basis == BASIS  # radii are rounded up
    assert sample.structure.pbc.tolist() == [True, False, False]
    assert sample.structure.numbers.tolist() == [6, 8]
    np.testing.assert_allclose(sample.structure.positions, chain.positions, atol=1e-9)
    np.testing.assert_allclose(sample.hamiltonian.values, h.values, atol=1e-9)
    np.testing.assert_allclose(sample.overlap.values, s.values, atol=1e-12)
    assert (sample.fermi_level, sample.n_electrons) == (pytest.approx(-0.25 * RYDBERG), 10)


@pytest.mark.parametrize("kind", ["none", "collinear", "nc", "soc"])
def test_it_agrees_with_the_other_file_of_the_run(tmp_path, chain, kind):
    h, s = random_matrices(chain, kind)
    of_sisl = read_siesta(write_with_sisl(tmp_path, chain, h, s, kind), BASIS)
    own = read_siesta(write_netcdf(tmp_path, chain, h, s, kind))
    assert own.spin is of_sisl.spin
    np.testing.assert_allclose(own.hamiltonian.values, of_sisl.hamiltonian.values, atol=1e-9)


def test_iron(shared_data):
    """The numbers are those of sisl with netCDF4."""
    sample = harmose.read(shared_data / "cases" / "14-siesta-nc" / "bccFe")
    check_sample(sample)
    assert (str(sample.structure.symbols), sample.hamiltonian.n_orbitals, sample.n_electrons) == ("Fe", 10, 16)
    assert sample.fermi_level == pytest.approx(2.97247792, abs=1e-8)
    lowest = eigenvalues(sample.hamiltonian, sample.overlap, [[0, 0, 0]])[0, :2] - sample.fermi_level
    np.testing.assert_allclose(lowest, [-84.63638, -50.83666], atol=1e-5)


def test_unknown_levels(tmp_path, chain):
    path = write_netcdf(tmp_path, chain, *random_matrices(chain, "none"), "none", fermi_level=np.inf)
    assert read_siesta(path).fermi_level is None
    with h5py.File(path, "a") as file:
        del file["Ef"], file["Qtot"]
        file["Ef"] = [-0.2, -0.3]  # of up and down, with a fixed spin
    sample = read_siesta(path)
    assert (sample.fermi_level, sample.n_electrons) == (None, None)


def no_h(file):
    del file["SPARSE/H"]


def never_written(file):
    file["SPARSE/H"][:] = 9.96920997e36


def ghost(file):
    file["BASIS/C.1"].attrs["Atomic_number"] = np.array([-6], "i4")


def no_species(file):
    file["BASIS/basis"][:] = 3


def columns(file):
    file["SPARSE/list_col"][0] = 10**6


def no_id(file):
    del file["BASIS/O_up"].attrs["ID"]


BAD = {
    "no H": (no_h, "expected SPARSE/H, got a file without it; `SaveHS true`"),
    "H never written": (never_written, "SPARSE/H: expected values, got an array that was never written; `SaveHS true`"),
    "ghost": (ghost, r"BASIS/C.1: expected an atom with a nucleus, got a ghost or an alloy \(number -6\)"),
    "no such species": (no_species, "expected a species of each of 2 atoms"),
    "columns": (columns, "SPARSE: expected elements of 13 orbitals in 3 cells"),
    "no number": (no_id, "BASIS/O_up: expected ID and Atomic_number"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, chain, case):
    change, message = BAD[case]
    path = write_netcdf(tmp_path, chain, *random_matrices(chain, "none"), "none")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(FormatError, match=rf"chain\.nc: {message}"):
        read_siesta(tmp_path)


def test_other_netcdf_files(tmp_path, chain, shared_data):
    path = write_netcdf(tmp_path, chain, *random_matrices(chain, "none"), "none")
    assert is_siesta_netcdf(path)
    shutil.copy(path, tmp_path / "C.ion.nc")
    assert not is_siesta_netcdf(tmp_path / "C.ion.nc")
    (tmp_path / "text.nc").write_text("no netCDF")
    assert not is_siesta_netcdf(tmp_path / "text.nc")
    assert not is_siesta_netcdf(shared_data / "dft-outputs" / "siesta-Si" / "Si.ion.nc")
