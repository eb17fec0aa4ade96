"""Folders of calculations: nothing is skipped in silence, neither behind links nor beside."""

import pytest

from harmose.core.files import atomic_path
from harmose.errors import FormatError
from harmose.io.files import open_source, read, read_all, write


@pytest.fixture
def runs(tmp_path, random_crystal):
    """`a` and `set/b` hold calculations."""
    root = tmp_path / "runs"
    (root / "set").mkdir(parents=True)
    write(root / "a", random_crystal(), "deeph")
    write(root / "set" / "b", random_crystal(), "deeph")
    return root


def test_links(runs, tmp_path, random_crystal):
    """Folders behind links are read under the name of the link, each once; there is no endless loop."""
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere" / "c", random_crystal(), "deeph")
    for name, place in {
        "0": runs / "set",
        "c": tmp_path / "elsewhere" / "c",
        "set/loop": runs,
        "set/up": tmp_path,
        "z": tmp_path / "elsewhere",
        "nowhere": tmp_path / "nothing",
    }.items():
        (runs / name).symlink_to(place)
    source = open_source(runs)
    assert source.names() == ["a", "set/b", "z/c"]
    nowhere = source.left_out.pop("nowhere")
    assert nowhere == f"{runs / 'nowhere'}: expected a folder or file behind the link, got nothing there"
    assert source.left_out == {
        "0": "the same folder as set",
        "c": "the same folder as z/c",
        "set/loop": "the same folder as runs",
        "set/up": "the same folder as ..",
    }
    (tmp_path / "link").symlink_to(runs / "a")
    assert read(tmp_path / "link").structure.get_chemical_formula() == "C2O"


def test_calculations_that_lack_something(runs):
    """They are listed with what is missing, and are the error where there is nothing else."""
    (runs / "a" / "hamiltonian.h5").unlink()
    source = open_source(runs)
    assert source.names() == ["set/b"]
    assert list(source.left_out) == ["a"]
    assert "expected hamiltonian.h5 or hamiltonian_pred.h5, got a folder without H" in source.left_out["a"]
    for name in ("hamiltonian.h5", "info.json"):
        (runs / "set" / "b" / name).rename(runs / "set" / "b" / f"{name}.old")
    (runs / "set" / "b" / "hamiltonian.h5.old").rename(runs / "set" / "b" / "hamiltonian_pred.h5")
    with pytest.raises(FormatError, match=r"runs/a: expected hamiltonian.h5 .* \(and 1 other folder\)$"):
        list(read_all(runs))
    with pytest.raises(FormatError, match=r"hamiltonian_pred.h5: expected POSCAR, .* beside it, got no info.json$"):
        read(runs / "set" / "b")


@pytest.mark.parametrize("name", ["Überlapp ab", "计算-1", "a[1]*?", "x@y"])
def test_any_name_of_a_folder(tmp_path, random_crystal, name):
    for format in ("deeph", "deeph-legacy", "store"):
        place = tmp_path / format / name
        place.parent.mkdir()
        write(place, random_crystal(), format)
        assert read(place).name in (name, "random")
    assert [sample.name for sample in read_all(tmp_path / "deeph")] == [name]


def test_atomic_path_is_not_a_run(runs):
    """A folder that is being written is hidden."""
    with atomic_path(runs / "new", overwrite=False) as hidden:
        hidden.mkdir()
        assert open_source(runs).names() == ["a", "set/b"]


NEARLY = {
    "abacus": (
        ("INPUT", "STRU", "KPT"),
        "expected an OUT.* folder of ABACUS with H(R) and S(R) beside INPUT and STRU, got none",
    ),
    "aims": (
        ("rs_hamiltonian.out", "rs_indices.out"),
        "expected geometry.in of the FHI-aims run beside rs_hamiltonian.out",
    ),
    "legacy": (("hamiltonians.h5", "orbital_types.dat", "site_positions.dat"), "expected info.json of DeepH beside"),
    "legacy2": (("rh.h5", "info.json", "site_positions.dat"), "expected orbital_types.dat of DeepH beside rh.h5"),
}


@pytest.mark.parametrize("name", list(NEARLY))
def test_folders_that_are_nearly_runs(runs, name):
    """Each gets the message of its code, alone and below a folder of runs."""
    files, message = NEARLY[name]
    (runs / name).mkdir()
    for file in files:
        (runs / name / file).write_text("")
    with pytest.raises(FormatError) as error:
        read(runs / name)
    assert message in str(error.value)
    source = open_source(runs)
    assert source.names() == ["a", "set/b"]
    assert message in source.left_out[name]


def test_a_cut_netcdf_file_of_siesta(runs):
    """It is no netCDF any more, so nothing but its name says that it was a run."""
    h5py = pytest.importorskip("h5py")
    (runs / "nc").mkdir()
    file = runs / "nc" / "siesta.nc"
    with h5py.File(file, "w") as whole:
        whole["SPARSE/H"] = list(range(1000))
    file.write_bytes(file.read_bytes()[:3000])
    for path in (file, file.parent):
        with pytest.raises(
            FormatError, match=r"siesta\.nc: expected a netCDF file .* cut off or damaged; copy it again, or run SIESTA"
        ):
            read(path)
    assert "siesta.nc" in open_source(runs).left_out["nc"]


def test_a_missing_spin_channel_of_aims(tmp_path):
    from harmose.io.aims import _hamiltonians

    (tmp_path / "rs_hamiltonian_up.out").write_text("")
    with pytest.raises(
        FormatError, match=r"expected rs_hamiltonian_dn\.out \(or \.h5\) beside that of rs_hamiltonian_up"
    ):
        _hamiltonians(tmp_path)


def test_no_words_of_other_packages(tmp_path):
    """Damaged text and HDF5 say in our words what to do."""
    from harmose.io.hdf5 import open_hdf5
    from harmose.io.siesta.basis import read_atomic_numbers

    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    (tmp_path / "x.XV").write_text("x\n")
    with pytest.raises(FormatError) as error, open_hdf5(tmp_path / "x.h5"):
        pass
    assert str(error.value).endswith(
        "expected an HDF5 file, got a truncated or another file; copy it again, or write it again"
    )
    with pytest.raises(FormatError) as error:
        read_atomic_numbers(tmp_path / "x.XV")
    assert str(error.value).endswith("got a damaged file; copy it again, or run SIESTA again")
