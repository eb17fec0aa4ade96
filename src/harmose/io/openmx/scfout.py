"""The binary file `.scfout` that OpenMX writes with `HS.fileout on`.

C integers (4 bytes) and doubles (8 bytes) one after the other, little-endian, without marks between the records:

    N atoms, spin + 4 version, three counts of a transport run, T cells besides the home cell
    order of the position matrices                                                  (version 3)
    vector and integers of each cell; number of orbitals and of neighbours of each atom
    atom and cell of each neighbour, the atom itself first; lattice vectors; reciprocal vectors; positions
    H; imaginary part of H (spinor); S; position; momentum (3); density; imaginary part of the density (3)
    solver; Fermi level, temperature, dipole moments, number of electrons, spin; lines of the input, 256 bytes each

A matrix is one block of n_i x n_j values by rows for each neighbour of each atom, several components one after the other.
Records of vectors have an unused number in front, and lines of text a rest after their end: both are memory that OpenMX never
wrote to. Version 3 is OpenMX 3.9, version 0 all older ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harmose.errors import FormatError
from harmose.io.openmx.cursor import Cursor

LINE = 256
"""Bytes of a line of the input in the file."""

KNOWN_VERSIONS = (0, 3)

MAX_ORBITALS = 1000
"""Largest number of orbitals of an atom."""


@dataclass(frozen=True, eq=False)
class Scfout:
    """Content of a file, in Bohr and Hartree and OpenMX's order of orbitals. The matrices are read on request.

    Attributes:
        path: the file.
        version: 0 or 3, see above.
        spin: OpenMX's SpinP_switch: 0 none, 1 collinear, 3 non-collinear.
        cell: lattice vectors (3, 3).
        positions: positions of the atoms (N, 3).
        orbitals: number of orbitals of each atom (N,).
        keys: (i, j, Rx, Ry, Rz) of each block (B, 5), in the order of the file.
        fermi_level: chemical potential.
        core_dipole: dipole moment of the cores (3,) in Debye, where the density was computed.
        n_electrons: number of electrons.
        input_lines: text of the input; empty if OpenMX could not read its input again.
        sections: offset in bytes and number of components of each matrix.
    """

    path: Path
    version: int
    spin: int
    cell: np.ndarray
    positions: np.ndarray
    orbitals: np.ndarray
    keys: np.ndarray
    fermi_level: float
    core_dipole: np.ndarray
    n_electrons: float
    input_lines: tuple[str, ...]
    sections: Mapping[str, tuple[int, int]]

    @property
    def shapes(self) -> np.ndarray:
        """Rows and columns of each block (B, 2)."""
        return self.orbitals[self.keys[:, :2]]

    @property
    def size(self) -> int:
        """Number of values of one component of a matrix."""
        return int(self.shapes.prod(axis=1).sum())

    def matrix(self, name: str) -> np.ndarray:
        """Read the components (n, size) of "H", "iH", "S", "position", "momentum", "D" or "iD", block after block.

        Raises:
            FormatError: the file has no such matrix.
        """
        if name not in self.sections:
            raise FormatError(
                f"{self.path}: expected the matrix {name}, got a file of version {self.version} without it"
            )
        offset, n_components = self.sections[name]
        values = np.fromfile(self.path, "<f8", n_components * self.size, offset=offset)
        if len(values) != n_components * self.size:
            raise FormatError(f"{self.path}: expected a file that nobody writes to, got one that became shorter")
        return values.reshape(n_components, self.size)


def read_scfout(path: Path) -> Scfout:
    """Read all of a file but its matrices. The sizes in it are compared with the file's before memory is asked for.

    Raises:
        FormatError: for a file that is missing, cut off, damaged, of another version or of a machine with the other order
            of bytes.
    """
    try:
        with path.open("rb") as file:
            return _read(Cursor(path, file))
    except OSError as error:
        raise FormatError(
            f"{path}: expected a file of OpenMX, got an error when it is read ({error.strerror})"
        ) from None


def _read(cursor: Cursor) -> Scfout:
    n_atoms, spin, version, n_cells = _head(cursor)
    order_max = int(cursor.integers("the order of the position matrices", 1)[0]) if version == 3 else 1
    cursor.check(1 <= order_max <= 100, f"position matrices of orders up to 100, got {order_max}")
    vectors = cursor.numbers("the vectors of the cells", n_cells + 1, 4)[:, 1:]
    cells = cursor.integers("the cells", n_cells + 1, 4)[:, 1:].astype(np.int64)
    orbitals = cursor.integers("the numbers of orbitals", n_atoms).astype(np.int64)
    neighbours = cursor.integers("the numbers of neighbours", n_atoms).astype(np.int64) + 1
    possible = (orbitals > 0) & (orbitals <= MAX_ORBITALS)
    cursor.check(possible.all(), f"1 to {MAX_ORBITALS} orbitals on each atom, got {orbitals[np.argmin(possible)]}")
    cursor.check((neighbours > 0).all(), f"numbers of neighbours from 0 on, got {neighbours.min() - 1}")
    keys = _keys(cursor, neighbours, cells)
    cell = cursor.numbers("the lattice vectors", 3, 4)[:, 1:]
    cursor.numbers("the reciprocal lattice vectors", 3, 4)
    positions = cursor.numbers("the positions", n_atoms, 4)[:, 1:]
    cursor.check(np.isfinite(cell).all() and np.isfinite(positions).all(), "finite positions, got others")
    cursor.check(
        np.allclose(vectors, cells @ cell, rtol=0, atol=1e-6), "vectors of cells that fit the lattice, got others"
    )
    shapes = orbitals[keys[:, :2]]
    sections = _sections(cursor, spin, version, order_max, int(shapes.prod(axis=1).sum()))
    cursor.integers("the solver", 1)
    scalars = cursor.numbers("the energies and numbers of electrons", 10)
    return Scfout(
        path=cursor.path,
        version=version,
        spin=spin,
        cell=cell,
        positions=positions,
        orbitals=orbitals,
        keys=keys,
        fermi_level=float(scalars[0]),
        core_dipole=scalars[2:5],
        n_electrons=float(scalars[8]),
        input_lines=_input_lines(cursor),
        sections=sections,
    )


def _head(cursor: Cursor) -> tuple[int, int, int, int]:
    """Return the number of atoms, spin switch, version, and number of cells."""
    head = cursor.integers("the numbers of atoms and cells", 6)
    n_atoms, code, n_cells = int(head[0]), int(head[1]), int(head[5])
    swapped = int(head.byteswap()[1])
    if not 0 <= code < 16 and 0 <= swapped < 16:
        raise FormatError(f"{cursor.path}: expected the bytes of numbers in little-endian order, got those of a big-endian "
                          "machine; run OpenMX on another one")  # fmt: skip
    spin, version = code % 4, code // 4
    cursor.check(0 <= code < 16 and spin in (0, 1, 3) and n_atoms > 0, "a .scfout file of OpenMX, got another file")
    if version not in KNOWN_VERSIONS:
        raise FormatError(f"{cursor.path}: expected version 0 (OpenMX up to 3.8) or 3 (3.9), got version {version} of a "
                          "development version; run OpenMX 3.8 or 3.9")  # fmt: skip
    cursor.check(n_cells >= 0, f"a number of cells, got {n_cells}")
    return n_atoms, spin, version, n_cells


def _keys(cursor: Cursor, neighbours: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Read the blocks (i, j, Rx, Ry, Rz) (B, 5)."""
    n_blocks, n_atoms = int(neighbours.sum()), len(neighbours)
    atom = cursor.integers("the neighbours", n_blocks).astype(np.int64) - 1
    cell = cursor.integers("the cells of the neighbours", n_blocks).astype(np.int64)
    cursor.check(((atom >= 0) & (atom < n_atoms)).all(), f"neighbours among {n_atoms} atoms, got others")
    cursor.check(((cell >= 0) & (cell < len(cells))).all(), f"cells of neighbours among {len(cells)}, got others")
    first = np.cumsum(neighbours) - neighbours
    itself = np.array_equal(atom[first], np.arange(n_atoms)) and not cells[cell[first]].any()
    cursor.check(itself, "each atom as the first of its neighbours, got another one")
    return np.column_stack([np.repeat(np.arange(n_atoms), neighbours), atom, cells[cell]])


def _sections(cursor: Cursor, spin: int, version: int, order_max: int, size: int) -> dict[str, tuple[int, int]]:
    """Skip the matrices, of `size` values in each component; return their offsets and numbers of components."""
    components = {"H": spin + 1, "iH": 3 * (spin == 3), "S": 1, "position": 3 * order_max}
    components |= {"momentum": 3 * (version == 3), "D": spin + 1, "iD": 2 * (version == 3)}
    sections = {}
    for name, count in components.items():
        if count:
            sections[name] = (cursor.skip(f"the matrix {name}", 8 * size * count), count)
    return sections


def _input_lines(cursor: Cursor) -> tuple[str, ...]:
    """Read the lines of the input at the end of the file; none if OpenMX wrote none."""
    if cursor.left == 0:
        return ()
    count = int(cursor.integers("the number of lines of the input", 1)[0])
    cursor.check(0 <= count * LINE <= cursor.left, f"{count} lines of the input, got {cursor.left} bytes")
    if cursor.left > count * LINE:
        raise FormatError(f"{cursor.path}: expected the end of the file after {count} lines of the input, got "
                          f"{cursor.left - count * LINE} bytes more: it is damaged, or of another version of OpenMX")  # fmt: skip
    raw = cursor.raw(count * LINE)
    lines = [raw[start : start + LINE].split(b"\0", 1)[0] for start in range(0, len(raw), LINE)]
    return tuple(line.decode("utf-8", errors="replace").rstrip("\r\n") for line in lines)
