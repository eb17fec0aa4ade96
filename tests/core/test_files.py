"""Atomic writes: complete or not at all, and what was there before stays until then."""

import os

import pytest

from harmose.core.files import atomic_path, write_file
from harmose.errors import FormatError


def test_a_file_appears_when_the_block_ends(tmp_path):
    with atomic_path(tmp_path / "table.csv") as hidden:
        hidden.write_text("1,2")
        assert hidden.suffix == ".csv"
        assert not (tmp_path / "table.csv").exists()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("table.csv", "1,2")]


def fail(path, kind):
    with atomic_path(path) as hidden:
        if kind == "folder":
            hidden.mkdir()
        (hidden / "part" if kind == "folder" else hidden).write_text("half")
        raise ZeroDivisionError


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_in_the_block_leaves_no_trace(tmp_path, kind):
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "out", kind)
    assert not list(tmp_path.iterdir())


def test_a_folder_replaces_an_older_one(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with atomic_path(tmp_path / "out") as hidden:
        hidden.mkdir()
        (hidden / "new").write_text("new")
        assert (tmp_path / "out" / "old").read_text() == "old"
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "new"]


def write_new(path, meanwhile=lambda: None):
    with atomic_path(path, overwrite=False) as hidden:
        hidden.write_text("new")
        meanwhile()


@pytest.mark.parametrize("kind", ["file", "folder", "broken link"])
def test_what_exists_is_kept(tmp_path, kind):
    path = tmp_path / "out"
    {"file": path.touch, "folder": path.mkdir, "broken link": lambda: path.symlink_to("nowhere")}[kind]()
    with pytest.raises(FormatError, match="out: expected a new path, got one that exists"):
        write_new(path)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_another_process_wrote_meanwhile_is_kept(tmp_path):
    path = tmp_path / "out"
    with pytest.raises(FormatError, match="expected a new path"):
        write_new(path, meanwhile=lambda: path.write_text("theirs"))
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("out", "theirs")]


def test_a_failed_write_says_why(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "note.txt"
    write_file(path, "first")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(FormatError, match=r"note\.txt: cannot be written \(No space left on device\)"):
        write_file(path, b"second")
    assert path.read_text() == "first"
    assert len(list(path.parent.iterdir())) == 1
