"""Files of `.scfout`: every record is checked, and a damaged, shortened or foreign file is refused in one line."""

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
from tests.io.openmx.openmx_runs import crystal, random_operator, random_overlap, write_scfout

from harmose.errors import FormatError, HarmoseError
from harmose.io.openmx.openmx import read_openmx
from harmose.io.openmx.scfout import read_scfout
from harmose.spin import Spin

CRYSTAL = crystal()


@pytest.fixture
def path(tmp_path) -> Path:
    h, s = random_operator(CRYSTAL, Spin.SPINOR, 3), random_overlap(CRYSTAL)
    return write_scfout(tmp_path / "run.scfout", CRYSTAL, h, s)


def refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as error:
        read_scfout(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def with_int(content: bytes, at: int, value: int) -> bytes:
    return content[:at] + struct.pack("<i", value) + content[at + 4 :]


def test_content(path):
    stored = read_scfout(path)
    assert (stored.version, stored.spin, stored.n_electrons) == (3, 3, 14.0)
    assert stored.orbitals.tolist() == [5, 5, 16]
    assert stored.input_lines[1] == "System.Name  run"
    assert {name: n for name, (_, n) in stored.sections.items()} == {
        "H": 4, "iH": 3, "S": 1, "position": 3, "momentum": 3, "D": 4, "iD": 2
    }  # fmt: skip
    assert stored.matrix("iH").shape == (3, stored.size)
    with pytest.raises(FormatError, match=r"run.scfout: expected the matrix Q, got a file of version 3 without it"):
        stored.matrix("Q")


def test_real_files(kept_molecules):
    """Numbers in the README of each run; the file ends where the last record ends."""
    for name, version, spin, n_cells in (("h2o", 3, 0, 125), ("oh-col", 3, 1, 125), ("385-oh-nc", 0, 3, 125)):
        stored = read_scfout(next((kept_molecules / name).glob("*.scfout")))
        assert (stored.version, stored.spin) == (version, spin)
        assert len(stored.keys) == len(stored.orbitals) ** 2
        assert stored.sections["H"][1] == spin + 1
        assert n_cells > 0


def test_cut_off(path):
    """At every length: at each of the first bytes and then at many places."""
    content = path.read_bytes()
    for size in [*range(1, 200), *np.linspace(200, len(content) - 1, 100).astype(int).tolist()]:
        path.write_bytes(content[:size])
        with pytest.raises(FormatError) as error:
            read_scfout(path)
        assert "\n" not in str(error.value)
    refused(path, content[: len(content) // 2], r"expected \d+ bytes with the matrix \w+, got \d+: the file is cut off")
    refused(path, content[:-100], r"expected \d+ lines of the input, got \d+ bytes")
    refused(path, b"", r"expected 24 bytes with the numbers of atoms and cells, got 0")


def test_longer(path):
    content = path.read_bytes()
    refused(path, content + b"\0" * 8, r"expected the end of the file after \d+ lines of the input, got 8 bytes more")


def test_without_the_text_of_the_input(path):
    """OpenMX writes no lines if it cannot read its input again."""
    content = path.read_bytes()
    n_lines = len(read_scfout(path).input_lines)
    path.write_bytes(content[: -256 * n_lines - 4])
    assert read_scfout(path).input_lines == ()


@pytest.mark.parametrize("version", [1, 2])
def test_other_versions(path, version):
    refused(
        path, with_int(path.read_bytes(), 4, 3 + 4 * version), rf"expected version 0 .* or 3 .*, got version {version}"
    )


def test_other_order_of_bytes(path):
    content = path.read_bytes()
    head = b"".join(content[k : k + 4][::-1] for k in range(0, 24, 4))
    refused(
        path, head + content[24:], r"expected the bytes of numbers in little-endian order, got those of a big-endian"
    )


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, 0, r"expected a .scfout file of OpenMX, got another file"),
        (0, -5, r"expected a .scfout file of OpenMX, got another file"),
        (
            0,
            2**31 - 1,
            r"expected \d+ bytes with the numbers of (orbitals|neighbours), got \d+: the file is cut off or damaged",
        ),
        (4, 14, r"expected a .scfout file of OpenMX, got another file"),
        (4, 2**24 + 3, r"expected a .scfout file of OpenMX, got another file"),
        (20, -2, r"expected a number of cells, got -2"),
        (20, 2**31 - 1, r"expected 68719476736 bytes with the vectors of the cells, got \d+"),
        (24, 0, r"expected position matrices of orders up to 100, got 0"),
        (24, 99, r"expected \d+ bytes with the matrix position, got \d+"),
    ],
)
def test_damaged_head(path, at, value, message):
    """Sizes are compared with the file's before memory is asked for."""
    refused(path, with_int(path.read_bytes(), at, value), message)


def test_damaged_tables(path):
    content = path.read_bytes()
    n_cells = struct.unpack("<i", content[20:24])[0] + 1
    orbitals = 28 + 48 * n_cells
    neighbours = orbitals + 4 * len(CRYSTAL)
    atoms = neighbours + 4 * len(CRYSTAL)
    n_blocks = len(read_scfout(path).keys)
    cells = atoms + 4 * n_blocks
    refused(path, with_int(content, orbitals, 0), r"expected 1 to 1000 orbitals on each atom, got 0")
    refused(path, with_int(content, orbitals, 2**30), r"expected 1 to 1000 orbitals on each atom, got 1073741824")
    refused(path, with_int(content, neighbours, -9), r"expected numbers of neighbours from 0 on, got -9")
    refused(path, with_int(content, neighbours, 2**31 - 1), r"expected \d+ bytes with the neighbours, got \d+")
    refused(path, with_int(content, atoms + 4, 99), r"expected neighbours among 3 atoms, got others")
    refused(path, with_int(content, atoms, 2), r"expected each atom as the first of its neighbours, got another one")
    refused(path, with_int(content, cells + 4, 10**6), r"expected cells of neighbours among \d+, got others")
    vector = 28 + 32 * (n_cells - 1) + 8
    refused(
        path,
        content[:vector] + struct.pack("<d", 77.7) + content[vector + 8 :],
        r"vectors of cells that fit the lattice",
    )
    lattice = cells + 4 * n_blocks + 8
    refused(path, content[:lattice] + struct.pack("<d", np.nan) + content[lattice + 8 :], r"expected finite positions")


def test_random_damage(tmp_path):
    """Whatever bytes change, the reader gives a sample or an error of its own."""
    h, s = random_operator(CRYSTAL, Spin.NONE, 3), random_overlap(CRYSTAL)
    path = write_scfout(tmp_path / "run.scfout", CRYSTAL, h, s)
    content, rng = path.read_bytes(), np.random.default_rng(5)
    for at in rng.integers(0, len(content), 100):
        broken = bytearray(content)
        broken[at : at + 4] = rng.integers(0, 256, 4).astype(np.uint8).tobytes()
        path.write_bytes(bytes(broken))
        with contextlib.suppress(HarmoseError):
            read_openmx(path)


def test_other_files(tmp_path):
    text = tmp_path / "notes.scfout"
    refused(
        text,
        b"this is a text, which is long enough to be read as numbers\n",
        r"expected a .scfout file of OpenMX, got another",
    )
    with pytest.raises(FormatError, match=r"nothing.scfout: expected a file of OpenMX, got an error .*No such file"):
        read_scfout(tmp_path / "nothing.scfout")
