"""The overlap S of a structure alone, and its blocks on the graph of a prediction.

DFT codes compute S without self-consistency in little time: ABACUS with `calculation get_s`, OpenMX and DeepH's tools as
"overlap only", SIESTA with `TS.S.Save`. A predicted H needs nothing else for bands.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.species import species_of, symbol_of
from harmose.errors import BasisError, FormatError
from harmose.io.assembly import from_blocks, overlap_rules
from harmose.io.disassembly import all_blocks

MOVED = 1e-3
"""Largest displacement (angstrom) of an atom for which S still counts as that of the structure."""


@dataclass(frozen=True, eq=False)
class Overlap:
    """S of a structure, without H.

    Attributes:
        name: name of the calculation.
        structure: atoms, positions and cell in angstrom.
        matrix: S, one matrix for all spins.
    """

    name: str
    structure: Atoms
    matrix: BlockMatrix


def overlap_on_graph(overlap: Overlap, atoms: Atoms, basis: BasisSet, where: str) -> BlockMatrix:
    """Return S in the blocks of the graph of `atoms` and `basis`.

    Args:
        overlap: S of the same structure. It may be translated, and atoms may lie in other cells.
        atoms: the structure whose H is predicted.
        basis: basis set of H: the same shells, perhaps with other radii.
        where: beginning of errors, the source of S.

    Returns:
        S with the blocks of H.

    Raises:
        FormatError: the structure is another one, for example rotated.
        BasisError: S is in another basis set.
        MatrixError: S has values outside the reach of `basis`.
    """
    cells = _cells_between(overlap.structure, atoms, where)
    for z in np.unique(species_of(atoms)).tolist():
        own, wanted = overlap.matrix.basis.degrees(z), basis.degrees(z)
        if own != wanted:
            raise BasisError(f"{where}: expected S in the basis set {basis.name}, whose shells of {symbol_of(z)} have "
                             f"l = {list(wanted)}, got l = {list(own)}")  # fmt: skip
    blocks = all_blocks(overlap.matrix)
    keys = blocks.keys.copy()
    keys[:, 2:] += cells[keys[:, 0]] - cells[keys[:, 1]]
    return from_blocks(atoms, basis, keys, blocks.values, overlap_rules(f"{where}: S"))


def _cells_between(a: Atoms, b: Atoms, where: str) -> np.ndarray:
    """Return the whole lattice vectors n (N, 3) with positions of b = positions of a + n cell + one vector for all atoms."""
    other = f"{where}: expected S of the structure in this orientation and with this order of atoms, got that of another one"
    if not np.array_equal(species_of(a), species_of(b)):
        raise FormatError(other)
    cell = b.cell.complete().array
    moved = (b.positions - a.positions) @ np.linalg.inv(cell)
    cells = np.where(b.pbc, np.round(moved - moved[:1]), 0.0)
    rest = (moved - cells) @ cell
    if np.abs(rest - rest.mean(axis=0)).max(initial=0.0) > MOVED:
        raise FormatError(other)
    return cells.astype(np.int64)
