"""What DeepH's two formats share: blocks with or without spin, the basis set behind them, the sample that they make.

A block of a spinful calculation is (2 n_i, 2 n_j), [[uu, ud], [du, dd]]; the overlap's is (n_i, n_j) in most files and
diag(S, S) in some. A spinful Hamiltonian that is real and never couples up with down is collinear: its two spin channels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from harmose.core.basis import LETTERS, BasisSet, Shell
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.core.structure import check_structure
from harmose.errors import BasisError, FormatError
from harmose.io.assembly import covering_radii, from_blocks, hamiltonian_rules, overlap_rules
from harmose.io.disassembly import Blocks, all_blocks
from harmose.so3.conventions import Convention
from harmose.spin import Spin

LEAST_RADIUS = 3.5
"""Least orbital radius in angstrom; numerical orbitals end at 5 to 8 Bohr.

The formats do not say how far orbitals reach. With a floor, structures of one system have the same radii more often.
"""

NAME = "deeph"
"""The basis set's name: the formats have none."""


PREDICTED_ASYMMETRY = 1.0
"""eV by which a predicted block may differ from the adjoint of the reversed one; networks predict both. Their mean is taken."""


@dataclass(frozen=True)
class RawOperator:
    """As in the file `where`: keys (B, 5) i, j, R from 0, shapes (B, 2), entries (size,), block after block by rows."""

    where: str
    keys: np.ndarray
    shapes: np.ndarray
    entries: np.ndarray
    predicted: bool = False


def make_sample(
    folder: Path,
    structure: Atoms,
    degrees: Mapping[int, Sequence[int]],
    hamiltonian: RawOperator,
    overlap: RawOperator | None,
    spinful: bool,
    convention: Convention,
    basis: BasisSet | None,
    **known: Any,
) -> Sample:
    """The sample of a folder; `known` are further fields of `Sample`. `basis` None: the radii that cover all blocks."""
    check_structure(structure, str(folder))
    counts = np.array([sum(2 * l + 1 for l in degrees[z]) for z in structure.numbers.tolist()])
    h, spin = _hamiltonian(hamiltonian, counts, spinful)
    s = None if overlap is None else _overlap(overlap, counts, spinful)
    if basis is None:
        operators = [(h, 1e-6)] + ([] if s is None else [(s, 1e-8)])
        reached = np.concatenate([blocks.keys[blocks.largest() > tolerance] for blocks, tolerance in operators])
        basis = _basis(degrees, covering_radii(structure, reached, LEAST_RADIUS))
    _check_same_shells(basis, degrees, folder)
    structure = _without_needless_periodicity(structure, basis, h.keys)
    rules = hamiltonian_rules(hamiltonian.where)
    if hamiltonian.predicted:
        rules = replace(rules, asymmetry=PREDICTED_ASYMMETRY)
    h_matrix = from_blocks(structure, basis, h.keys, h.values, rules, spin, convention)
    s_matrix = None
    if overlap is not None and s is not None:
        s_matrix = from_blocks(structure, basis, s.keys, s.values, overlap_rules(overlap.where), convention=convention)
    return Sample(folder.name, structure, basis, h_matrix, overlap=s_matrix, spin=spin, **known)


def _hamiltonian(raw: RawOperator, counts: np.ndarray, spinful: bool) -> tuple[Blocks, Spin]:
    shapes = _scalar_shapes(raw, counts, 1 + spinful)
    if not spinful:
        return Blocks(raw.keys, shapes, _real(raw)[None]), Spin.NONE
    values = raw.entries[_spin_places(shapes)]
    if not values[1:3].any() and not np.iscomplex(values).any():
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
    """(n_i, n_j) of each block; `FormatError` unless the file's blocks are `factor` times as wide and high."""
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
    """Where the components uu, ud, du, dd of blocks of `shapes` lie among the entries of blocks twice as large (4, size)."""
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
    """Entries (4 size,) of blocks [[uu, ud], [du, dd]]; collinear ones have zeros where up meets down."""
    values = blocks.values
    if len(values) == 2:
        zero = np.zeros_like(values[0])
        values = np.stack([values[0], zero, zero, values[1]])
    entries = np.empty(values.size, dtype=values.dtype)
    entries[_spin_places(blocks.shapes)] = values
    return entries


def written_blocks(sample: Sample, convention: Convention) -> tuple[Blocks, Blocks]:
    """The blocks of H and S to write: the same for both, none that is zero in both but for the on-site ones."""
    if sample.overlap is None:
        raise FormatError(f"sample {sample.name}: DeepH's formats hold H with the overlap S, got no S")
    h, s = all_blocks(sample.hamiltonian, convention), all_blocks(sample.overlap, convention)
    kept = (h.largest() > 0) | (s.largest() > 0)
    kept[: len(sample.structure)] = True
    return h.selected(kept), s.selected(kept)


def _basis(degrees: Mapping[int, Sequence[int]], radii: Mapping[int, float]) -> BasisSet:
    """n is counted from l + 1 upward for each l."""
    shells = {}
    for z in radii:
        ls = list(degrees[z])
        shells[z] = tuple(Shell(l + 1 + ls[:k].count(l), l) for k, l in enumerate(ls))
    return BasisSet(NAME, shells, radii)


def _check_same_shells(basis: BasisSet, degrees: Mapping[int, Sequence[int]], folder: Path) -> None:
    for z, ls in degrees.items():
        if z in basis.shells and basis.degrees(z) != tuple(ls):
            raise BasisError(f"{folder}: expected {chemical_symbols[z]} with shells {_letters(basis.degrees(z))} as in "
                             f"basis {basis.name}, got {_letters(ls)}")  # fmt: skip


def _letters(ls: Sequence[int]) -> str:
    return " ".join(LETTERS[l] for l in ls)


def checked_degrees(degrees: object, where: str) -> tuple[int, ...]:
    """The l of an element's shells; `FormatError` unless they are whole numbers from 0 to 6."""
    if not isinstance(degrees, list | tuple) or not degrees:
        raise FormatError(f"{where}: expected the list of l of an element's shells, got {degrees!r}")
    if not all(type(l) is int and 0 <= l < len(LETTERS) for l in degrees):
        raise FormatError(f"{where}: expected l = 0 to {len(LETTERS) - 1} for each shell, got {degrees!r}")
    return tuple(degrees)


def _without_needless_periodicity(structure: Atoms, basis: BasisSet, keys: np.ndarray) -> Atoms:
    """A molecule in a box (no block and no pair of the graph crosses into another cell) is a molecule, beside its box."""
    if not structure.pbc.any() or keys[:, 2:].any() or build_graph(structure, basis).pairs[:, 2:].any():
        return structure
    molecule = structure.copy()
    molecule.pbc = False
    return molecule


def read_info(path: Path) -> dict[str, Any]:
    """The JSON object of info.json."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        info = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: expected JSON, got something else ({error})") from None
    if not isinstance(info, dict):
        raise FormatError(f"{path}: expected a JSON object, got {type(info).__name__}")
    return info


def number(info: dict[str, Any], key: str, path: Path) -> float | None:
    """A number of info.json that may be missing or null."""
    value = info.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise FormatError(f"{path}: {key}: expected a number or null, got {value!r}")
    return float(value)


def flag(info: dict[str, Any], key: str, path: Path) -> bool:
    """A yes or no of info.json that counts as no where it is missing."""
    value = info.get(key, False)
    if not isinstance(value, bool):
        raise FormatError(f"{path}: {key}: expected true or false, got {value!r}")
    return value
