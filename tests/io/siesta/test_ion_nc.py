"""SIESTA's orbital files: the same functions from classic netCDF, netCDF4 and XML; damaged and foreign files are named."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import netcdf_file

from harmose.core.basis import Shell
from harmose.errors import BasisError, FormatError
from harmose.io.siesta.ion_nc import read_ion, read_ions
from harmose.units import BOHR

QUANTUM_NUMBERS = {"orbnl_n": [2, 2, 2], "orbnl_l": [0, 0, 1], "orbnl_z": [1, 2, 1]}
CUTOFFS, POINTS = np.array([4.0, 3.0, 4.5]), 200


def tables(number: int = 6) -> dict:
    """R / r^l of three orbitals that end, normalised, in Bohr."""
    x = np.linspace(0, 1, POINTS)
    shape = (1 - x**2) ** 3
    orb = []
    for l, cutoff in zip(QUANTUM_NUMBERS["orbnl_l"], CUTOFFS):
        norm = np.trapezoid(x ** (2 * l + 2) * shape**2, x) * cutoff ** (2 * l + 3)
        orb.append(shape / np.sqrt(norm))
    return {**{k: np.array(v, dtype=np.int32) for k, v in QUANTUM_NUMBERS.items()}, "delta": CUTOFFS / (POINTS - 1),
            "cutoff": CUTOFFS, "orb": np.array(orb), "kbcutoff": np.array([1.5, 1.8]), "Atomic_number": number}  # fmt: skip


def write_classic(path: Path, content: dict) -> Path:
    with netcdf_file(path, "w") as file:
        for name, value in content.items():
            if np.ndim(value) == 0:
                setattr(file, name, np.int32(value))
                continue
            axes = tuple(f"{name}_{axis}" for axis in range(value.ndim))
            for axis, size in zip(axes, value.shape):
                file.createDimension(axis, size)
            file.createVariable(name, value.dtype, axes)[:] = value
    return path


def write_netcdf4(path: Path, content: dict) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if np.ndim(value) == 0:
                file.attrs[name] = np.array([value], dtype=np.int32)
            else:
                file[name] = value
    return path


def write_xml(path: Path, content: dict) -> Path:
    def radial(values: np.ndarray, delta: float, cutoff: float) -> str:
        rows = "\n".join(f"{k * delta:22.12E}{v:22.12E}" for k, v in enumerate(values))
        return (f"<radfunc>\n<npts> {len(values)} </npts>\n<delta> {delta:.12E} </delta>\n<cutoff> {cutoff:.12E} </cutoff>\n"
                f"<data>\n{rows}\n</data>\n</radfunc>")  # fmt: skip

    orbitals = "\n".join(
        f'<orbital \n l="   {l}" \n n="   {n}" \n z="   {z}" \n ispol="  0" \n population="  2.0" \n >\n{radial(v, d, c)}\n</orbital>'
        for n, l, z, v, d, c in zip(*(content[k] for k in ("orbnl_n", "orbnl_l", "orbnl_z", "orb", "delta", "cutoff")))
    )
    projectors = "\n".join(
        f'<projector l="0" n="1" ref_energy="1.0">\n{radial(np.ones(12), c / 11, c)}\n</projector>'
        for c in content["kbcutoff"]
    )
    path.write_text(
        f'<ion version="0.1">\n<symbol> C </symbol>\n<z>   {content["Atomic_number"]} </z>\n<preamble>\n<basis_specs>\n 0.17+309\n'
        f"</basis_specs>\n</preamble>\n<paos>\n{orbitals}\n</paos>\n<kbs>\n{projectors}\n</kbs>\n</ion>\n"
    )
    return path


WRITERS = {"C.ion.nc": write_classic, "C4.ion.nc": write_netcdf4, "C.ion.xml": write_xml}


@pytest.mark.parametrize("name", WRITERS)
def test_orbitals_of_all_formats(tmp_path, name):
    content = tables()
    ion = read_ion(WRITERS[name](tmp_path / name, content))
    assert ion.number == 6
    assert ion.shells == (Shell(2, 0), Shell(2, 0, 2), Shell(2, 1))
    assert ion.projector_reach == pytest.approx(1.8 * BOHR)
    for function, values, cutoff, l in zip(ion.functions, content["orb"], CUTOFFS, QUANTUM_NUMBERS["orbnl_l"]):
        assert (function.l, function.cutoff) == (l, pytest.approx(cutoff * BOHR))
        r = np.linspace(0, cutoff, POINTS)
        np.testing.assert_allclose(function(r * BOHR) * BOHR**1.5, r**l * values, atol=1e-10)
        r = np.linspace(0, cutoff, 4001) * BOHR
        assert np.trapezoid(r**2 * function(r) ** 2, r) == pytest.approx(1, abs=1e-4)


def test_radii_include_the_longest_projector(tmp_path):
    light = {**tables(1), "kbcutoff": np.array([0.5])}
    basis = read_ions([write_classic(tmp_path / "C.ion.nc", tables()), write_xml(tmp_path / "H.ion.xml", light)])
    assert basis.elements == (1, 6)
    assert dict(basis.basis.radii) == {1: 3.4, 6: 3.4}  # (4.5 + 1.8) Bohr, up to 0.1 angstrom
    with pytest.raises(BasisError, match="a second one for C"):
        read_ions([tmp_path / "C.ion.nc", tmp_path / "C.ion.nc"])


def test_files_without_projectors(tmp_path):
    content = tables()
    del content["kbcutoff"]
    assert read_ion(write_classic(tmp_path / "C.ion.nc", content)).projector_reach == 0
    assert read_ion(write_netcdf4(tmp_path / "C4.ion.nc", content)).projector_reach == 0


@pytest.mark.parametrize(("change", "text"), [
    ({"Atomic_number": -6}, "a ghost or an alloy"),
    ({"orb": 1.1 * tables()["orb"]}, "normalised orbitals, got a norm of 1.21"),
    ({"orb": np.where(np.arange(POINTS) == 7, np.nan, tables()["orb"])}, "finite orbitals"),
    ({"orbnl_l": np.array([0, 0, 40], dtype=np.int32)}, "l = 0..6"),
    ({"delta": np.array([0.0, 0.01, 0.01])}, "end within 200 Bohr"),
    ({"kbcutoff": np.array([1e9])}, "end within 200 Bohr"),
    ({"orb": tables()["orb"][:2]}, "a table for each of 3 orbitals, got 2"),
    ({"orb": tables()["orb"][:, :4]}, "a table for each of 3 orbitals"),
    ({"orb": None}, "without orb"),
    ({"Atomic_number": None}, "without Atomic_number"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["C.ion.nc", "C4.ion.nc"])
def test_invalid_tables_are_refused(tmp_path, name, change, text):
    content = {k: v for k, v in {**tables(), **change}.items() if v is not None}
    path = WRITERS[name](tmp_path / name, content)
    with pytest.raises(FormatError, match=text) as raised:
        read_ion(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", WRITERS)
def test_truncated_files_are_refused(tmp_path, name):
    whole = WRITERS[name](tmp_path / name, tables()).read_bytes()
    for fraction in np.linspace(0, 0.97, 25):
        (tmp_path / name).write_bytes(whole[: int(fraction * len(whole))])
        with pytest.raises(FormatError) as raised:
            read_ion(tmp_path / name)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("content", "text"), [
    (b"Si 14\n 0.0 0.1\n", "another kind of file"),
    (b"<html><body>404</body></html>", "XML without <ion><paos><orbital>"),
    (b"<ion><paos><orbital l='0' n='1' z='1'><radfunc><npts>3</npts><delta>.1</delta><data>1 2</data></radfunc></orbital></paos></ion>",
     "tables of .3. points"),
    (b"<ion><paos><orbital l='s'/></paos></ion>", "damaged XML"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path, content, text):
    (tmp_path / "a.ion.nc").write_bytes(content)
    with pytest.raises(FormatError, match=text):
        read_ion(tmp_path / "a.ion.nc")


def test_other_netcdf_and_missing_files(tmp_path):
    path = write_classic(tmp_path / "grid.ion.nc", {"gridfunc": np.zeros((2, 3))})
    with pytest.raises(FormatError, match="a netCDF file without orbnl_n"):
        read_ion(path)
    with pytest.raises(FormatError, match="no such file"):
        read_ion(tmp_path / "none.ion.nc")


@pytest.mark.parametrize(("file", "n_shells"), [("siesta-Si/Si", 5), ("siesta-Fe/Fe", 7), ("siesta-Pt2-soc/Pt", 7)])
def test_real_files_agree_with_sisl(shared_data, file, n_shells):
    sisl = pytest.importorskip("sisl")
    pytest.importorskip("netCDF4")
    path = shared_data / "dft-outputs" / f"{file}.ion.nc"
    ion = read_ion(path)
    assert len(ion.shells) == n_shells
    orbitals = [o for o in sisl.get_sile(path).read_basis().orbitals if o.m == -o.l]
    assert [(o.n, o.l, o.zeta) for o in orbitals] == [(s.n, s.l, s.zeta) for s in ion.shells]
    r = np.linspace(0, 3, 50)
    for orbital, function in zip(orbitals, ion.functions):
        np.testing.assert_allclose(function(r), orbital.radial(r), atol=1e-3 * np.abs(function(r)).max())
