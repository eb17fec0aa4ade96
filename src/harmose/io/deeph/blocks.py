"""Blocks, basis set and sample of DeepH's two formats.

A block of a spinful calculation has the shape (2 n_i, 2 n_j): [[uu, ud], [du, dd]]. A block of S is (n_i, n_j) in most
files and diag(S, S) in some. A spinful Hamiltonian that is real and does not couple up with down is read as collinear,
unless info.json says that harmose wrote it with spin "spinor".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from harmose.core.basis import LETTERS, BasisSet, Shell, n_orbitals
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.core.species import symbol_of, with_species
from harmose.core.structure import check_structure
from harmose.errors import BasisError, FormatError
from harmose.io.assembly import covering_radii, from_blocks, hamiltonian_rules, overlap_rules
from harmose.io.disassembly import Blocks, all_blocks
from harmose.io.overlaps import Overlap
from harmose.io.species import number_species
from harmose.so3.conventions import Convention
from harmose.spin import Spin

LEAST_RADIUS = 3.5
"""Smallest orbital radius (angstrom). Numerical orbitals end at 5 to 8 Bohr.

The formats do not store radii. With a lower bound, different structures of one system get the same radii more often.
"""

NAME = "deeph"
"""Name of the basis set; the formats store none."""

PREDICTED_ASYMMETRY = 1.0
"""Largest difference (eV) of a predicted block and the adjoint of the reversed one. Both are predicted; their mean is used."""


@dataclass(frozen=True)
class RawOperator:
    """A matrix as stored in the file `where`.

    keys (B, 5): i, j, Rx, Ry, Rz, atoms counted from 0. shapes (B, 2). entries (size,): block after block, each by rows.
    """

    where: str
    keys: np.ndarray
    shapes: np.ndarray
    entries: np.ndarray
    predicted: bool = False


def has_overlap(path: Path, orthogonal: bool) -> bool:
    """True if the folder has S; `FormatError` if it has none and the basis is not orthogonal."""
    if not path.is_file() and not orthogonal:
        raise FormatError(f"{path.parent}: expected {path.name} beside H, got H without S")
    return path.is_file()


def make_sample(
    folder: Path,
    structure: Atoms,
    degrees: Sequence[tuple[int, ...]],
    hamiltonian: RawOperator,
    overlap: RawOperator | None,
    spinful: bool,
    convention: Convention,
    basis: BasisSet | None,
    spin: Spin | None = None,
    **fields: Any,
) -> Sample:
    """Return the sample of a folder. `fields` are further fields of `Sample`. Without `basis`, radii cover all blocks.

    `degrees` has the l of the shells of each atom, `spin` is the spin kind if the folder states it.
    """
    check_structure(structure, str(folder))
    structure, shells = _with_shells(folder, structure, degrees, basis)
    counts = np.array([n_orbitals(ls) for ls in degrees])
    h, spin = _hamiltonian(hamiltonian, counts, spinful, spin)
    s = None if overlap is None else _overlap(overlap, counts, spinful)
    if basis is None:
        operators = [(h, 1e-6)] + ([] if s is None else [(s, 1e-8)])
        reached = np.concatenate([blocks.keys[blocks.largest() > tolerance] for blocks, tolerance in operators])
        basis = BasisSet(NAME, shells, covering_radii(structure, reached, LEAST_RADIUS))
    structure = _without_needless_periodicity(structure, basis, h.keys)
    rules = hamiltonian_rules(hamiltonian.where)
    if hamiltonian.predicted:
        rules = replace(rules, asymmetry=PREDICTED_ASYMMETRY)
    h_matrix = from_blocks(structure, basis, h.keys, h.values, rules, spin, convention)
    s_matrix = None
    if overlap is not None and s is not None:
        s_matrix = from_blocks(structure, basis, s.keys, s.values, overlap_rules(overlap.where), convention=convention)
    return Sample(folder.resolve().name, structure, basis, h_matrix, overlap=s_matrix, spin=spin, **fields)


def make_overlap(
    folder: Path,
    structure: Atoms,
    degrees: Sequence[tuple[int, ...]],
    overlap: RawOperator,
    spinful: bool,
    convention: Convention,
    basis: BasisSet | None,
) -> Overlap:
    """Return S of a folder, which may have no H; arguments as in `make_sample`."""
    check_structure(structure, str(folder))
    structure, shells = _with_shells(folder, structure, degrees, basis)
    s = _overlap(overlap, np.array([n_orbitals(ls) for ls in degrees]), spinful)
    if basis is None:
        basis = BasisSet(NAME, shells, covering_radii(structure, s.keys[s.largest() > 1e-8], LEAST_RADIUS))
    structure = _without_needless_periodicity(structure, basis, s.keys)
    matrix = from_blocks(structure, basis, s.keys, s.values, overlap_rules(overlap.where), convention=convention)
    return Overlap(folder.resolve().name, structure, matrix)


def _hamiltonian(raw: RawOperator, counts: np.ndarray, spinful: bool, spin: Spin | None = None) -> tuple[Blocks, Spin]:
    shapes = _scalar_shapes(raw, counts, 1 + spinful)
    if not spinful:
        return Blocks(raw.keys, shapes, _real(raw)[None]), Spin.NONE
    values = raw.entries[_spin_places(shapes)]
    if spin is not Spin.SPINOR and not values[1:3].any() and not np.iscomplex(values).any():
        return Blocks(raw.keys, shapes, np.real(values[[0, 3]])), Spin.COLLINEAR
    return Blocks(raw.keys, shapes, values), Spin.SPINOR


def _overlap(raw: RawOperator, counts: np.ndarray, spinful: bool) -> Blocks:
    expanded = spinful and len(raw.keys) > 0 and len(raw.entries) == 4 * _sizes(raw, counts)
    shapes = _scalar_shapes(raw, counts, 1 + expanded)
    if not expanded:
        return Blocks(raw.keys, shapes, _real(raw)[None])
    values = raw.entries[_spin_places(shapes)]
    if np.abs(values[1:3]).max() > 1e-8 or np.abs(values[0] - values[3]).max() > 1e-8 or np.iscomplex(values).any():
        raise FormatError(f"{raw.where}: expected one real overlap for both spins, got blocks that differ with spin")
    return Blocks(raw.keys, shapes, np.real(values[:1]))


def _real(raw: RawOperator) -> np.ndarray:
    if np.iscomplexobj(raw.entries) and np.imag(raw.entries).any():
        raise FormatError(f"{raw.where}: expected real values, got complex ones")
    return np.real(raw.entries).astype(np.float64)


def _sizes(raw: RawOperator, counts: np.ndarray) -> int:
    _check_atoms(raw, len(counts))
    return int((counts[raw.keys[:, 0]] * counts[raw.keys[:, 1]]).sum())


def _check_atoms(raw: RawOperator, n_atoms: int) -> None:
    atoms = raw.keys[:, :2]
    if not len(atoms):
        raise FormatError(f"{raw.where}: expected blocks, got none")
    if atoms.min() < 0 or atoms.max() >= n_atoms:
        bad = raw.keys[((atoms < 0) | (atoms >= n_atoms)).any(axis=1)][0].tolist()
        raise FormatError(f"{raw.where}: expected blocks of {n_atoms} atoms (counted from 0), got one of atoms "
                          f"{bad[0]} and {bad[1]} in cell {bad[2:]}")  # fmt: skip


def _scalar_shapes(raw: RawOperator, counts: np.ndarray, factor: int) -> np.ndarray:
    """Return (n_i, n_j) of each block (B, 2); `FormatError` unless the stored shapes are `factor` times as large."""
    _check_atoms(raw, len(counts))
    shapes = np.column_stack([counts[raw.keys[:, 0]], counts[raw.keys[:, 1]]])
    wrong = (raw.shapes != factor * shapes).any(axis=1)
    if wrong.any():
        k = int(np.argmax(wrong))
        i, j, *cell = raw.keys[k].tolist()
        raise FormatError(f"{raw.where}: expected block (i={i}, j={j}, R={cell}) of shape "
                          f"{tuple((factor * shapes[k]).tolist())} by the orbitals of its atoms, got "
                          f"{tuple(raw.shapes[k].tolist())}")  # fmt: skip
    return shapes


def _spin_places(shapes: np.ndarray) -> np.ndarray:
    """Return the indices (4, size) of the components uu, ud, du, dd in the entries of spinful blocks; `shapes` (B, 2)."""
    sizes = shapes.prod(axis=1)
    starts = np.cumsum(sizes) - sizes
    block = np.repeat(np.arange(len(shapes)), sizes)
    within = np.arange(int(sizes.sum())) - starts[block]
    height, width = shapes[block, 0], shapes[block, 1]
    a, b = within // np.maximum(width, 1), within % np.maximum(width, 1)
    return np.stack(
        [
            4 * starts[block] + (up_row * height + a) * 2 * width + up_col * width + b
            for up_row in (0, 1)
            for up_col in (0, 1)
        ]
    )


def spinful_entries(blocks: Blocks) -> np.ndarray:
    """Return the entries (4 size,) of blocks [[uu, ud], [du, dd]]. In collinear blocks ud and du are zero."""
    values = blocks.values
    if len(values) == 2:
        zero = np.zeros_like(values[0])
        values = np.stack([values[0], zero, zero, values[1]])
    entries = np.empty(values.size, dtype=values.dtype)
    entries[_spin_places(blocks.shapes)] = values
    return entries


def written_blocks(sample: Sample, convention: Convention) -> tuple[Blocks, Blocks]:
    """Return the blocks of H and S to write: all on-site blocks, and others that are not zero in H or S."""
    if sample.overlap is None:
        raise FormatError(f"sample {sample.name}: DeepH's formats hold H with the overlap S, got no S")
    h, s = all_blocks(sample.hamiltonian, convention), all_blocks(sample.overlap, convention)
    kept = (h.largest() > 0) | (s.largest() > 0)
    kept[: len(sample.structure)] = True
    return h.selected(kept), s.selected(kept)


def _with_shells(
    folder: Path, structure: Atoms, degrees: Sequence[tuple[int, ...]], basis: BasisSet | None
) -> tuple[Atoms, dict[int, tuple[Shell, ...]]]:
    """Return the structure with the species of its atoms, numbered as in `basis`, and the shells of each species.

    Without `basis`, n counts from l + 1 upward for each l. `BasisError` if `basis` has other shells of an element.
    """
    of_atom = list(zip(structure.numbers.tolist(), degrees))
    kinds = sorted(set(of_atom))
    shells = [tuple(Shell(l + 1 + ls[:k].count(l), l) for k, l in enumerate(ls)) for _, ls in kinds]
    if basis is None:
        species = number_species([(z, own) for (z, _), own in zip(kinds, shells)], None, str(folder))
    else:
        species = [_with_degrees(basis, z, ls, folder) for z, ls in kinds]
    number = dict(zip(kinds, species))
    return with_species(structure, np.array([number[kind] for kind in of_atom])), dict(zip(species, shells))


def _with_degrees(basis: BasisSet, element: int, ls: tuple[int, ...], folder: Path) -> int:
    """Return the species of an element whose shells have these l."""
    sets = basis.sets_of(element)
    known = [basis.degrees(z) for z in sets]
    if sets and ls not in known:
        raise BasisError(f"{folder}: expected {symbol_of(element)} with shells {' or '.join(map(_letters, known))} as in basis "
                         f"{basis.name}, got {_letters(ls)}")  # fmt: skip
    return sets[known.index(ls)] if sets else element


def _letters(ls: Sequence[int]) -> str:
    return " ".join(LETTERS[l] for l in ls)


def _without_needless_periodicity(structure: Atoms, basis: BasisSet, keys: np.ndarray) -> Atoms:
    """Return a molecule (pbc False) if no block and no pair of the graph reaches into another cell."""
    if not structure.pbc.any() or keys[:, 2:].any() or build_graph(structure, basis).pairs[:, 2:].any():
        return structure
    molecule = structure.copy()
    molecule.pbc = False
    return molecule
