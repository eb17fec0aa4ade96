"""CP2K: read H and S of a run with `KS_CSR_WRITE` and `S_CSR_WRITE` (`REAL_SPACE T`).

CP2K's matrices are in Hartree, with the orbital order and signs of harmose. Their R refers to atoms wrapped into the cell
(docs/conventions.md). `harmose.io.cp2k.input` writes inputs of such runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import is_canonical, pair_vectors, reversed_pairs
from harmose.core.sample import Sample
from harmose.core.species import species_of, with_species
from harmose.errors import FormatError, MatrixError
from harmose.io.assembly import element_keys, from_elements, hamiltonian_rules, overlap_rules, zeros
from harmose.io.cp2k.csr import check_diagonal, image_files, matrix_files, read_csr
from harmose.io.cp2k.output import Output, is_output, read_output
from harmose.io.cp2k.structure import structure_of
from harmose.io.species import number_species
from harmose.io.unfolding import unfolded_cells
from harmose.io.valence import valence_of_elements
from harmose.spin import Spin
from harmose.units import HARTREE

TIE = 1e-6
"""An atom whose fractional coordinate is so near to one half may be wrapped to either side."""


@dataclass(frozen=True, eq=False)
class Elements:
    """Matrix elements that are not zero: rows (nnz,), columns (nnz,), cells (nnz, 3), values (nnz,)."""

    rows: np.ndarray
    cols: np.ndarray
    cells: np.ndarray
    values: np.ndarray

    def chosen(self, which: np.ndarray) -> "Elements":
        return Elements(self.rows[which], self.cols[which], self.cells[which], self.values[which])


def read_cp2k(path: Path, basis: BasisSet | None = None, max_dropped: float = 1e-6) -> Sample:
    """Read a run from its folder or its output file: H (eV), S, structure, number of electrons, energies (eV), provenance.

    The run has k-points, or is a molecule or a large cell at Gamma only. Spin is none or collinear. `basis` has the same
    shells with other radii (default: the radii of CP2K's orbitals). It may leave out blocks of H with values up to
    `max_dropped` (eV); the largest such value is in the provenance. Raises `FormatError`, `MatrixError`, `StructureError`
    or `BasisError`, with the file, for runs that are incomplete, not converged or inconsistent.
    """
    output = read_output(_output_file(Path(path)))
    return sample_of(output, structure_of(output), basis, max_dropped)


def sample_of(
    output: Output,
    structure: Atoms,
    basis: BasisSet | None = None,
    max_dropped: float = 1e-6,
    repeated: Sequence[bool] | None = None,
) -> Sample:
    """Return the sample of a run whose atoms are `structure`; arguments and errors as in `read_cp2k`.

    `repeated` (3,): directions in which the run is periodic, if it repeats the vacuum of `structure`.
    """
    structure, own = _with_own_basis(output, structure, basis)
    basis = own if basis is None else basis
    files, layout = matrix_files(output), zeros(structure, basis)
    off = _cells_off(output, files, structure, layout, structure.pbc if repeated is None else np.array(repeated))
    run = _Run(output, files, structure, own, layout, off)
    h, dropped_h = _operator("KS", run)
    s, dropped_s = _operator("S", run)
    dropped_h.check(max_dropped, str(output.path))
    return Sample(
        name=output.path.resolve().parent.name,
        structure=structure,
        basis=basis,
        hamiltonian=h,
        overlap=s,
        spin=h.spin,
        n_electrons=output.n_electrons,
        fermi_level=output.fermi_level,
        energy=output.energy,
        provenance={
            **_provenance(output),
            **valence_of_elements(structure, map(output.valence.get, output.kind_of_atom.tolist()), output.n_electrons),
            "largest_dropped_H": dropped_h.largest,
            "largest_dropped_S": dropped_s.largest,
        },
    )


def is_cp2k(path: Path) -> bool:
    """True if a path is an output of CP2K, or a folder with an output or with CP2K's matrices."""
    if path.is_file():
        return is_output(path)
    return path.is_dir() and (any(path.glob("*_SPIN_*.csr")) or bool(_outputs(path)))


def _with_own_basis(output: Output, structure: Atoms, basis: BasisSet | None) -> tuple[Atoms, BasisSet]:
    """Return the structure with the species of its atoms, numbered as in `basis`, and their own basis set.

    This has the shells in the output, with the radii at which CP2K cuts its orbitals.
    """
    elements = dict(zip(output.kind_of_atom.tolist(), output.numbers.tolist()))
    species = number_species([(elements[k], o.shells) for k, o in output.orbitals.items()], basis, str(output.path))
    shells, radii = {}, {}
    for z, orbitals in zip(species, output.orbitals.values()):
        shells[z], radii[z] = orbitals.shells, max(orbitals.radius, radii.get(z, 0.0))
    own = BasisSet("+".join(sorted({one.name for one in output.orbitals.values()})), shells, radii)
    of_kind = dict(zip(output.orbitals, species))
    return with_species(structure, np.array([of_kind[kind] for kind in output.kind_of_atom.tolist()])), own


def _provenance(output: Output) -> dict:
    return {
        "code": "cp2k",
        "cp2k": output.version,
        "basis": "+".join(sorted({o.name for o in output.orbitals.values()})),
        "kmesh": list(output.kmesh) if output.kmesh is not None else None,
        "cycles": output.cycles,
        "converged": True,
    }


# Files ---------------------------------------------------------------------------------------------------------------


def _output_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    outputs = _outputs(path)
    if len(outputs) != 1:
        names = ", ".join(file.name for file in outputs[:5]) or "none"
        raise FormatError(f"{path}: expected one output of CP2K, found {names}" + (": name it" if outputs else ""))
    return outputs[0]


def _outputs(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_file() and f.suffix != ".csr" and is_output(f))


# Matrices ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Run:
    """Input for reading each matrix of a run, with its own basis set.

    `layout`: zeros in the blocks of the graph; `off` (N, N, 3): see `_cells_off`.
    """

    output: Output
    files: Mapping
    structure: Atoms
    own: BasisSet
    layout: BlockMatrix
    off: np.ndarray


@dataclass(frozen=True, eq=False)
class _Dropped:
    """Absolute values (n,) of elements outside the graph, and the distances (n,) of their atoms (angstrom)."""

    values: np.ndarray
    distances: np.ndarray

    @property
    def largest(self) -> float:
        return float(self.values.max(initial=0.0))

    def check(self, largest: float, where: str) -> None:
        """`MatrixError` if a value is above `largest`; it names a sufficient pair cutoff."""
        if self.largest > largest:
            needed = np.floor(self.distances[self.values > largest].max() * 10 + 1) / 10
            raise MatrixError(
                f"{where}: expected elements of H beyond the radii of the basis set below {largest:g} eV, got "
                f"{self.largest:.3g}; a pair cutoff of {needed:.1f} angstrom is enough"
            )


def _operator(prefix: str, run: _Run) -> tuple[BlockMatrix, _Dropped]:
    """Return H (eV) with all its spins, or S, and the elements outside the graph."""
    n_spins = run.output.n_spins if prefix == "KS" else 1
    parts, dropped = zip(*(_one_spin(prefix, spin, run) for spin in range(1, n_spins + 1)))
    if n_spins == 1:
        return parts[0], dropped[0]
    layout = zeros(run.structure, run.layout.basis, Spin.COLLINEAR)
    both = _Dropped(*(np.concatenate([getattr(d, name) for d in dropped]) for name in ("values", "distances")))
    return layout.with_values(np.concatenate([part.values for part in parts])), both


def _one_spin(prefix: str, spin: int, run: _Run) -> tuple[BlockMatrix, _Dropped]:
    images = image_files(prefix, spin, run.output, run.files)
    elements = _collect(images, run.layout, HARTREE if prefix == "KS" else 1.0)
    name = f"{images[0][0]}: {'H' if prefix == 'KS' else 'S'}"
    if images[0][1] is not None:
        elements = _shifted(elements, run.off, run.layout)
    elif run.structure.pbc.any():
        elements = _placed(elements, run, name)
    kept, dropped = _within_reach(elements, run.structure, run.layout)
    rules = (hamiltonian_rules if prefix == "KS" else overlap_rules)(
        name, one_triangle=not (elements.rows > elements.cols).any(), diagonal=False
    )
    values = (kept.rows, kept.cols, kept.cells, kept.values)
    return from_elements(run.structure, run.layout.basis, *values, rules), dropped


def _collect(images: list[tuple[Path, np.ndarray | None]], layout: BlockMatrix, unit: float) -> Elements:
    parts = []
    for file, cell in images:
        rows, cols, values = read_csr(file, layout.n_orbitals)
        if cell is None or not np.any(cell):
            check_diagonal(file, rows, cols, layout.n_orbitals)
        kept = values != 0
        cells = np.tile(np.zeros(3, np.int64) if cell is None else cell, (int(kept.sum()), 1))
        parts.append((rows[kept], cols[kept], cells, values[kept] * unit))
    return Elements(*(np.concatenate(column) for column in zip(*parts)))


def _shifted(elements: Elements, off: np.ndarray, layout: BlockMatrix) -> Elements:
    atom = np.repeat(np.arange(len(off)), layout.orbital_counts)
    cells = elements.cells + off[atom[elements.rows], atom[elements.cols]]
    return replace(elements, cells=cells)


def cells_of(fractional: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lattice vectors (N, 3) that CP2K subtracts from fractional positions, and where rounding decides on them."""
    cells = np.floor(np.abs(fractional) + 0.5).astype(np.int64) * np.sign(fractional).astype(np.int64)  # as ANINT
    return cells, np.abs(np.abs(fractional) % 1 - 0.5) < TIE


def _cells_off(
    output: Output, files: Mapping, structure: Atoms, layout: BlockMatrix, repeated: np.ndarray
) -> np.ndarray:
    """Return the change n_i - n_j (N, N, 3) of R of the block (i, j) from CP2K's wrapped positions to the given ones.

    n (N, 3) are the lattice vectors that CP2K subtracts from the positions in `repeated` directions. For an atom at one
    half, n depends on rounding and is determined from S, which is large for atoms that are near.
    """
    if not repeated.any():
        return np.zeros((len(structure), len(structure), 3), np.int64)
    fractional = np.where(repeated, structure.cell.scaled_positions(structure.positions), 0.0)
    wrap, unsure = cells_of(fractional)
    off = wrap[:, None] - wrap[None]
    if not unsure.any():
        return off
    overlap = _collect(image_files("S", 1, output, files), layout, 1.0)
    return off + _decided(overlap, structure, off, unsure, layout)


def _decided(
    overlap: Elements, structure: Atoms, off: np.ndarray, unsure: np.ndarray, layout: BlockMatrix
) -> np.ndarray:
    """Return for each pair of atoms the shift in {-1, 0, 1}^3 with the least sum of |S| d^2 over its blocks (N, N, 3)."""
    keys = element_keys(layout.orbital_counts, overlap.rows, overlap.cols, overlap.cells)
    blocks, block = np.unique(keys, axis=0, return_inverse=True)
    weight = np.bincount(block.ravel(), np.abs(overlap.values))
    i, j = blocks[:, 0], blocks[:, 1]
    blocks[:, 2:] += off[i, j]
    n = len(structure)
    shifts = np.array(list(product((0, -1, 1), repeat=3)))
    sums = np.empty((len(shifts), n * n))
    for k, shift in enumerate(shifts):
        moved = blocks + np.concatenate([[0, 0], shift])
        distance = np.linalg.norm(pair_vectors(structure, moved), axis=1)
        possible = ~((shift != 0) & ~(unsure[i] | unsure[j])).any(axis=1) & ((i != j) | (not shift.any()))
        sums[k] = np.bincount(i * n + j, np.where(possible, weight * distance**2, np.inf), minlength=n * n)
    return shifts[np.argmin(sums, axis=0)].reshape(n, n, 3)


def _within_reach(elements: Elements, structure: Atoms, layout: BlockMatrix) -> tuple[Elements, _Dropped]:
    """Return the elements of atoms within reach of each other, and the rest."""
    keys = element_keys(layout.orbital_counts, elements.rows, elements.cols, elements.cells)
    blocks, block = np.unique(keys, axis=0, return_inverse=True)
    block = block.ravel()
    onsite = (blocks[:, 0] == blocks[:, 1]) & ~blocks[:, 2:].any(axis=1)
    # In the direction of the graph, so that distances are the same to the last digit.
    stored = np.where(is_canonical(blocks)[:, None], blocks, reversed_pairs(blocks))
    distance = np.linalg.norm(pair_vectors(structure, stored), axis=1)
    reach = layout.basis.reach(layout.numbers)
    aperiodic = blocks[:, 2:][:, ~structure.pbc].any(axis=1)
    near = (distance < reach[blocks[:, 0]] + reach[blocks[:, 1]]) & ~aperiodic
    inside = (near | onsite)[block]
    dropped = _Dropped(np.abs(elements.values[~inside]), distance[block[~inside]])
    return elements.chosen(inside), dropped


def _placed(elements: Elements, run: _Run, name: str) -> Elements:
    """Put each element of a sum over images into the only image in which its atoms reach each other."""
    atom = np.repeat(np.arange(len(run.structure)), run.layout.orbital_counts)
    reach = run.own.reach(species_of(run.structure))
    i, j = atom[elements.rows], atom[elements.cols]
    cells = unfolded_cells(run.structure, reach, i, j, name, "run with a &KPOINTS section")
    return replace(elements, cells=cells)
