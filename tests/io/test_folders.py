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
