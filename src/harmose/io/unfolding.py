"""Undo the sum over periodic images in the matrices of a run at the Gamma point only.

Such a run of a code writes one matrix, the sum of H(R) over all cells R. If no two atoms reach each other in more than
one image, and no atom its own image, every block of the sum is one H[i, j, R], and the image in which the atoms reach each
other is R.
"""

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from harmose.core.structure import neighbour_pairs
from harmose.errors import FormatError


def unfolded_cells(
    structure: Atoms, reach: np.ndarray, i: np.ndarray, j: np.ndarray, where: str, remedy: str
) -> np.ndarray:
    """Return the cell R (n, 3) to which each element of a sum over images belongs.

    Atoms without an image within reach get the nearest one. Elements that are zero need not be passed, so that atoms
    which reach each other by the radii only, and have no common block, cannot be ambiguous.

    Args:
        structure: the atoms, periodic in the directions in which images were added up.
        reach: for each atom, the distance (N,) in angstrom at which its orbitals and projectors end; two atoms reach each
            other if they are closer than the sum.
        i: atom (n,) of the row of each element.
        j: atom (n,) of its column.
        where: beginning of the error, the file.
        remedy: the setting with which the code writes every H(R).

    Raises:
        FormatError: two atoms of an element reach each other in several images, or an atom reaches its own image.
    """
    n = len(structure)
    wanted, which = np.unique(np.asarray(i, np.int64) * n + np.asarray(j, np.int64), return_inverse=True)
    codes, cells = _images(structure, np.asarray(reach, dtype=np.float64))
    first, last = np.searchsorted(codes, wanted, "left"), np.searchsorted(codes, wanted, "right")
    several = np.flatnonzero(last - first > 1)
    if len(several):
        k = int(several[0])
        atoms, images = divmod(int(wanted[k]), n), cells[first[k] : last[k]].tolist()
        raise FormatError(
            f"{where}: expected H(R) cell by cell, got their sum at the Gamma point: atom {atoms[0]} reaches atom "
            f"{atoms[1]} in cells {', '.join(map(str, images[:2]))} ({remedy})"
        )
    found = np.zeros((len(wanted), 3), dtype=np.int64)
    there = last > first
    found[there] = cells[first[there]]
    found[~there] = nearest_cells(structure, *np.divmod(wanted[~there], n))
    return found[which.ravel()]


def nearest_cells(structure: Atoms, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return the cell R (n, 3) in which atom j (n,) is nearest to atom i (n,), along periodic directions."""
    if not len(i) or not structure.pbc.any():
        return np.zeros((len(i), 3), dtype=np.int64)
    vectors = structure.positions[j] - structure.positions[i]
    # Three flags are taken too, against the annotation of ASE.
    nearest, _ = find_mic(vectors, structure.cell, structure.pbc)  # pyright: ignore[reportArgumentType]
    cells = np.round(structure.cell.complete().scaled_positions(nearest - vectors))
    return np.where(structure.pbc, cells, 0).astype(np.int64)


def _images(structure: Atoms, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `i n + j` (P,), ascending, and R (P, 3) of all images that atoms reach, each atom in its own place included."""
    n = len(structure)
    i, j, cells, distance = neighbour_pairs(structure, 2 * float(reach.max(initial=0.0)))
    near = distance < reach[i] + reach[j]
    i, j, cells = i[near], j[near], cells[near]
    itself = np.arange(n)
    codes = np.concatenate([itself * (n + 1), i * n + j, j * n + i])
    cells = np.concatenate([np.zeros((n, 3), np.int64), cells, -cells])
    # The home cell and its neighbours first, so that errors name near cells.
    order = np.lexsort((np.abs(cells).sum(axis=1), codes))
    return codes[order], cells[order]
