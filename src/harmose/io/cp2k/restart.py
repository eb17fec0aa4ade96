"""CP2K: write the density matrix from which a run with k-points starts its SCF (`SCF_GUESS RESTART`).

    PROJECT-RESTART.kp      Fortran records: version; atoms, orbitals, sets, shells; tables of sets, shells and orbitals;
                            for each spin: spin, spins, images; for each image: number, R, then the columns of P(R)

with the orbitals of harmose, R of atoms that are wrapped into the cell (docs/conventions.md), and

    P(R)[a, b] = D[i, j, R]      for i < j with an even and i > j with an odd i + j, and for i = j
    P(R)[b, a] = P(R)[a, b]      for i != j

since CP2K lists each pair of atoms in one direction and keeps one triangle of each image. The reader of CP2K skips the
tables. Measured with CP2K 2023.1.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.core.files import atomic_path
from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.io.cp2k.cp2k import cells_of
from harmose.physics.crystal_density import weighted_densities
from harmose.physics.kmesh import KMesh
from harmose.physics.occupations import ROOM_TEMPERATURE, Smearing
from harmose.spin import Spin

VERSION = 1
"""Version of the file, the only one that CP2K has."""


def write_restart(
    path: str | Path, sample: Sample, n_electrons: float, mesh: KMesh, smearing: Smearing = ROOM_TEMPERATURE
) -> None:
    """Write P(R) of `n_electrons` per cell on `mesh` to a `.kp` file, which appears complete or not at all.

    P of an image is a whole matrix, also for atoms farther apart than H reaches. `FormatError` for a spinor, a molecule
    without a cell, and an atom on the border of the cell, whose image depends on rounding; `MatrixError` without S and for
    electrons that the levels cannot hold.
    """
    h = sample.hamiltonian
    if h.spin is Spin.SPINOR:
        raise FormatError(
            f"sample {sample.name}: expected spin none or collinear for CP2K, which has no spinors, got one"
        )
    offsets = _offsets(sample.structure, sample.name)
    phases = np.exp(-2j * np.pi * mesh.kpoints @ offsets.T)[:, np.repeat(np.arange(len(offsets)), h.orbital_counts)]
    densities = np.concatenate(
        [
            phases[part, :, None] * d * phases[part, None].conj()
            for part, d in weighted_densities(h, sample.overlap, n_electrons, mesh, smearing)
        ],
        axis=-3,
    ).reshape(h.spin.n_components, len(mesh.kpoints), h.n_orbitals, h.n_orbitals)
    cells = _images(h, offsets)
    with atomic_path(path) as hidden, open(hidden, "wb") as file:
        for record in _head(h):
            file.write(_record(record))
        for spin, density in enumerate(densities, 1):
            file.write(_record([spin, len(densities), len(cells)]))
            for image, cell in enumerate(cells.tolist(), 1):
                file.write(_record([image, *cell]))
                weights = np.exp(-2j * np.pi * mesh.kpoints @ cell)
                whole = np.real(np.tensordot(weights, density, axes=1))
                file.write(_columns(_one_triangle(whole, h.orbital_counts)))


def _offsets(structure: Atoms, name: str) -> np.ndarray:
    """Return the lattice vectors (N, 3) that CP2K subtracts from the positions, along periodic directions."""
    if structure.cell.rank < 3:
        raise FormatError(f"sample {name}: expected a crystal with three lattice vectors for CP2K's k-points, got "
                          f"{structure.cell.rank}")  # fmt: skip
    fractional = structure.cell.scaled_positions(structure.positions)
    offsets, border = cells_of(fractional)
    if border[:, structure.pbc].any():
        k = int(np.argmax(border[:, structure.pbc].any(axis=1)))
        raise FormatError(
            f"sample {name}: expected no atom at one half of a lattice vector, where CP2K's rounding decides on the cell, "
            f"got atom {k} at {np.round(fractional[k], 6).tolist()}; move all atoms by 0.01 angstrom, here and in CP2K"
        )
    across = offsets[:, ~structure.pbc]
    if (across != across[:1]).any():
        raise FormatError(f"sample {name}: expected all atoms in one cell along directions that are not periodic, got atoms "
                          f"on both sides of one half; move all atoms towards 0, here and in CP2K")  # fmt: skip
    return offsets * structure.pbc


def _images(h: BlockMatrix, offsets: np.ndarray) -> np.ndarray:
    """Return R (n, 3) of the wrapped atoms, for all images with atoms within reach."""
    i, j = h.keys[:, 0], h.keys[:, 1]
    cells = h.keys[:, 2:] - offsets[i] + offsets[j]
    return np.unique(np.concatenate([cells, -cells]), axis=0)


def _one_triangle(density: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return P (n, n) of an image from D (n, n): each pair of atoms in CP2K's direction, and mirrored."""
    atom = np.repeat(np.arange(len(counts)), counts)
    row, col = atom[:, None], atom
    listed = np.where((row + col) % 2 == 0, row <= col, row > col)
    return np.where(listed, density, density.T)


def _head(h: BlockMatrix) -> Iterator[np.ndarray]:
    """Yield the records before the matrices. All shells of an atom stand in one set."""
    degrees = [h.basis.degrees(int(z)) for z in h.numbers]
    most = max(map(len, degrees))
    orbitals = np.zeros((len(degrees), most), np.int64)
    for row, shells in zip(orbitals, degrees):
        row[: len(shells)] = 2 * np.array(shells) + 1
    yield np.array([VERSION])
    yield np.array([len(degrees), h.n_orbitals, 1, most])
    yield np.ones(len(degrees))
    yield np.array([len(shells) for shells in degrees])
    yield orbitals


def _record(values: Sequence[int] | np.ndarray) -> bytes:
    """Return a Fortran record of 32-bit integers."""
    content = np.asarray(values).astype("<i4").tobytes()
    length = np.array([len(content)], "<i4").tobytes()
    return length + content + length


def _columns(matrix: np.ndarray) -> bytes:
    """Return one Fortran record of 64-bit numbers for each column."""
    n = len(matrix)
    kind = np.dtype([("head", "<i4"), ("column", "<f8", (n,)), ("tail", "<i4")])
    table = np.zeros(n, kind)
    table["head"] = table["tail"] = 8 * n
    table["column"] = matrix.T
    return table.tobytes()
