"""Wannier90: write H(R) as `_hr.dat`, which WannierTools, PythTB, sisl and many others read.

    wannier90_hr.dat        <m, home cell | H | n, cell R> in eV, for every R and all m, n; real and imaginary part
    wannier90_sr.dat        S in the same layout, because harmose's orbitals, unlike Wannier functions, are not orthogonal
    wannier90_centres.xyz   position of each orbital, then the atoms
    wannier90.win           cell and atoms

H(k) = sum_R exp(2 pi i k . R) H(R) / degeneracy, where all degeneracies are 1 (lattice gauge, as in harmose). A program
without S needs an orthogonal H: with `loewdin`, H(k) becomes S(k)^(-1/2) H(k) S(k)^(-1/2) on a mesh of k-points. The H(R)
that is written has the same energies on the mesh and interpolates between its points; there is no `_sr.dat`. A collinear
sample gives two sets of files, `wannier90.up` and `wannier90.dn`. Spinors: all orbitals up, then all down.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.core.files import atomic_path
from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.io.disassembly import all_elements
from harmose.io.structures import with_cell
from harmose.spin import Spin

SEED = "wannier90"
PER_LINE = 15
"""Number of degeneracies in a line."""


def write_wannier90(folder: str | Path, sample: Sample, loewdin: Sequence[int] | None = None) -> None:
    """Write a sample to a new folder, which appears complete or not at all; `FormatError` if `folder` exists.

    `loewdin`: odd numbers of k-points along the three reciprocal vectors (1 for a molecule). None: write H and S unchanged.
    """
    if loewdin is not None:
        _check_mesh(sample, loewdin)
    h, s = sample.hamiltonian, sample.overlap
    cells = np.unique(np.concatenate([h.keys[:, 2:], -h.keys[:, 2:]]), axis=0)
    channels = {"": range(h.spin.n_components)} if h.spin is not Spin.COLLINEAR else {".up": [0], ".dn": [1]}
    with atomic_path(folder, overwrite=False) as hidden:
        hidden.mkdir()
        for suffix, components in channels.items():
            seed = f"{SEED}{suffix}"
            if loewdin is not None and s is not None:
                _write_matrices(hidden / f"{seed}_hr.dat", sample.name, *_orthogonal(h, s, components, loewdin))
            else:
                _write_matrices(hidden / f"{seed}_hr.dat", sample.name, cells, _matrices(h, components, cells))
                if s is not None:
                    overlap = (_for_both_spins(m, h.spin) for m in _matrices(s, [0], cells))
                    _write_matrices(hidden / f"{seed}_sr.dat", sample.name, cells, overlap)
            _write_structure(hidden / f"{seed}.win", hidden / f"{seed}_centres.xyz", sample)


def _check_mesh(sample: Sample, mesh: Sequence[int]) -> None:
    if len(mesh) != 3 or not all(isinstance(n, int) and n > 0 and n % 2 for n in mesh):
        raise FormatError(f"loewdin: expected three odd numbers of k-points, got {list(mesh)}")
    if sample.overlap is None:
        raise FormatError(f"sample {sample.name}: expected S to make H orthogonal with, got none")


def _matrices(operator: BlockMatrix, components: Sequence[int], cells: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the dense matrix of each cell: (n, n), or (2n, 2n) for the four components of a spinor."""
    rows, cols, at, values = all_elements(operator)
    n = operator.n_orbitals
    order = np.lexsort(at.T[::-1])
    rows, cols, at, values = rows[order], cols[order], at[order], values[:, order]
    present, starts = np.unique(at, axis=0, return_index=True)
    ends = np.append(starts[1:], len(at))
    where = {tuple(cell): (start, end) for cell, start, end in zip(present.tolist(), starts, ends)}
    for cell in map(tuple, cells.tolist()):
        matrix = np.zeros((len(components), n, n), dtype=values.dtype)
        start, end = where.get(cell, (0, 0))
        matrix[:, rows[start:end], cols[start:end]] = values[components, start:end]
        yield matrix[0] if len(components) == 1 else np.block([[matrix[0], matrix[1]], [matrix[2], matrix[3]]])


def _for_both_spins(matrix: np.ndarray, spin: Spin) -> np.ndarray:
    return np.kron(np.eye(2), matrix) if spin is Spin.SPINOR else matrix


def _orthogonal(
    h: BlockMatrix, s: BlockMatrix, components: Sequence[int], mesh: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return cells (n_cells, 3) and matrices (n_cells, m, m) whose Bloch sum on the mesh is S^(-1/2) H S^(-1/2)."""
    cells = np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in mesh), indexing="ij"), axis=-1).reshape(-1, 3)
    kpoints = cells / np.array(mesh)
    own = np.unique(np.concatenate([h.keys[:, 2:], -h.keys[:, 2:]]), axis=0)
    phases = np.exp(2j * np.pi * kpoints @ own.T)
    h_k = _bloch_sums(_matrices(h, components, own), phases)
    s_k = _bloch_sums((_for_both_spins(m, h.spin) for m in _matrices(s, [0], own)), phases)
    values, vectors = np.linalg.eigh(s_k)
    if values.min() <= 0:
        raise FormatError(f"expected a positive definite S(k), got an eigenvalue of {values.min():.2e}")
    root = vectors / np.sqrt(values)[:, None, :] @ vectors.conj().transpose(0, 2, 1)
    back = np.exp(-2j * np.pi * cells @ kpoints.T) / len(kpoints)
    return cells, np.einsum("rk,kab->rab", back, root @ h_k @ root)


def _bloch_sums(matrices: Iterator[np.ndarray], phases: np.ndarray) -> np.ndarray:
    total: np.ndarray | None = None
    for matrix, phase in zip(matrices, phases.T, strict=True):
        term = phase[:, None, None] * matrix
        total = term if total is None else total + term
    assert total is not None
    return total


def _write_matrices(path: Path, title: str, cells: np.ndarray, matrices: Iterator[np.ndarray] | np.ndarray) -> None:
    with path.open("w", encoding="utf-8") as file:
        for k, (cell, matrix) in enumerate(zip(cells.tolist(), matrices, strict=True)):
            if k == 0:
                _write_head(file, title, len(matrix), len(cells))
            n = len(matrix)
            # The first index runs fastest.
            right, left = np.divmod(np.arange(n * n), n)
            flat = matrix.T.ravel()
            table = np.column_stack([np.tile(cell, (n * n, 1)), left + 1, right + 1, np.real(flat), np.imag(flat)])
            np.savetxt(file, table, fmt="%5d%5d%5d%6d%6d %23.16e %23.16e")


def _write_head(file: TextIO, title: str, n: int, n_cells: int) -> None:
    ones = ["".join(["    1"] * min(PER_LINE, n_cells - start)) for start in range(0, n_cells, PER_LINE)]
    file.write(
        "\n".join([f" {' '.join(title.split())}, written by harmose", f"{n:12d}", f"{n_cells:12d}", *ones]) + "\n"
    )


def _write_structure(win: Path, centres: Path, sample: Sample) -> None:
    structure, counts = with_cell(sample.structure), sample.hamiltonian.orbital_counts
    times = 2 if sample.spin is Spin.SPINOR else 1
    n = int(counts.sum()) * times
    cell = "\n".join(_row(vector) for vector in structure.cell.array.tolist())
    atoms = "\n".join(_atom_rows(structure))
    win.write_text(
        f"num_wann = {n}\n\nbegin unit_cell_cart\nang\n{cell}\nend unit_cell_cart\n\n"
        f"begin atoms_cart\nang\n{atoms}\nend atoms_cart\n"
    )
    orbitals = [f"X {_row(x)}" for x in np.repeat(structure.positions, counts, axis=0).tolist()] * times
    text = "\n".join([str(n + len(structure)), "orbital centres, then atoms; by harmose", *orbitals, atoms])
    centres.write_text(text + "\n")


def _atom_rows(structure: Atoms) -> list[str]:
    return [f"{symbol} {_row(x)}" for symbol, x in zip(structure.get_chemical_symbols(), structure.positions.tolist())]


def _row(vector: Sequence[float]) -> str:
    return " ".join(f"{x:.10f}" for x in vector)
