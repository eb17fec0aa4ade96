"""Make a `BlockMatrix` of the matrix elements that a DFT code writes.

    from_elements    single matrix elements with row, column and cell (SIESTA, ABACUS, FHI-aims, CP2K)
    from_blocks      whole blocks, each with its key (i, j, Rx, Ry, Rz) (DeepH)

Both fill the blocks of the graph of (structure, basis). A value outside the graph is an error that names its block, so the
radii of the basis set must cover H, which reaches farther than S:

- If the files give the reach of orbitals and projectors, an atom's radius is its longest orbital plus the longest
  projector of all elements, because a projector couples two orbitals that overlap with it but not with each other.
- Otherwise `covering_radii` takes the radii from the blocks that are not zero. Another structure of the same system may
  need larger radii, and radii are part of a basis set's fingerprint: read all structures of one system in one basis set.

Blocks of the graph that are not written are zero, or an error if the code writes all of them (`Rules.complete`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.core.graph import build_graph, is_canonical, pair_vectors, reversed_pairs
from harmose.core.species import species_of
from harmose.errors import MatrixError
from harmose.so3.conventions import E3NN, Convention
from harmose.spin import Spin

MAX_RADIUS = 25.0
"""Largest radius of an orbital (angstrom). A block of atoms farther apart than twice this is an error."""


@dataclass(frozen=True)
class Rules:
    """Properties of a matrix that are checked when it is read.

    Attributes:
        name: name of the matrix in errors, with its file.
        tolerance: largest value (eV for H) that is dropped outside the graph; a larger one is an error.
        asymmetry: largest allowed difference of `H[j, i, -R]` and `H[i, j, R]^dagger`.
        one_triangle: an element whose adjoint is not written stands for both. Otherwise its adjoint counts as zero.
        complete: every block of the graph must be written.
        diagonal: every diagonal element of the home cell must be written: a file without one is cut off.
    """

    name: str
    tolerance: float = 1e-6
    asymmetry: float = 1e-5
    one_triangle: bool = False
    complete: bool = False
    diagonal: bool = False


def hamiltonian_rules(name: str = "H", diagonal: bool = True, **promises: bool) -> Rules:
    """Return the rules for a Hamiltonian in eV. A model whose levels are zero and not written has no `diagonal`."""
    return Rules(name, diagonal=diagonal, **promises)


def overlap_rules(name: str = "S", diagonal: bool = True, **promises: bool) -> Rules:
    """Return the rules for an overlap; its limits are a hundred times smaller."""
    return Rules(name, tolerance=1e-8, asymmetry=1e-7, diagonal=diagonal, **promises)


def from_elements(
    structure: Atoms,
    basis: BasisSet,
    rows: np.ndarray,
    cols: np.ndarray,
    cells: np.ndarray,
    values: np.ndarray,
    rules: Rules,
    spin: Spin = Spin.NONE,
    convention: Convention = E3NN,
) -> BlockMatrix:
    """Return the operator with `<rows[k], home cell | H | cols[k], cell cells[k]> = values[..., k]`.

    `rows`, `cols` (nnz,): orbitals, atom after atom, the shells of an atom in the order of `basis`, and within a shell in
    the order of `convention`. `cells` (nnz, 3). `values` (nnz,) for spin none, else (n_components, nnz): up, down, or uu,
    ud, du, dd. `MatrixError`, with the block, for an element that occurs twice, values that are not finite, orbitals out of
    range, a value outside the graph, and a matrix that is not Hermitian.
    """
    layout = zeros(structure, basis, spin)
    rows, cols, cells = (np.asarray(x, dtype=np.int64) for x in (rows, cols, cells))
    values = _checked_values(values, len(rows), spin, rules.name)
    if rows.shape != cols.shape or cells.shape != (len(rows), 3):
        raise MatrixError(f"{rules.name}: expected as many columns and cells as rows ({len(rows)}), got {len(cols)} and "
                          f"{cells.shape}")  # fmt: skip
    for kind, orbital in (("row", rows), ("column", cols)):
        if len(orbital) and not (orbital.min() >= 0 and orbital.max() < layout.n_orbitals):
            raise MatrixError(f"{rules.name}: expected {kind}s of {layout.n_orbitals} orbitals, got "
                              f"{orbital.min()} to {orbital.max()}")  # fmt: skip
    position, sign = inside_orbitals(basis, layout.numbers, convention)
    values = values * (sign[rows] * sign[cols])
    rows, cols = position[rows], position[cols]
    atom = np.repeat(np.arange(len(structure)), layout.orbital_counts)
    i, j = atom[rows], atom[cols]
    keys = np.column_stack([i, j, cells])
    return _filled(
        structure, layout, keys, rows - layout.orbital_starts[i], cols - layout.orbital_starts[j], values, rules
    )


def from_blocks(
    structure: Atoms,
    basis: BasisSet,
    keys: np.ndarray,
    values: np.ndarray,
    rules: Rules,
    spin: Spin = Spin.NONE,
    convention: Convention = E3NN,
    shapes: np.ndarray | None = None,
) -> BlockMatrix:
    """Return the operator with the blocks `H[i, j, R]` of `keys` (B, 5), one after the other in `values`, each by rows.

    `values` (size,) for spin none, else (n_components, size). `shapes` (B, 2), if given, must agree with the basis set.
    Order of orbitals and errors as in `from_elements`.
    """
    layout = zeros(structure, basis, spin)
    keys = np.asarray(keys, dtype=np.int64)
    if keys.ndim != 2 or keys.shape[1] != 5:
        raise MatrixError(f"{rules.name}: expected keys (i, j, Rx, Ry, Rz) of shape (B, 5), got {keys.shape}")
    if keys[:, :2].min(initial=0) < 0 or keys[:, :2].max(initial=-1) >= len(structure):
        raise MatrixError(f"{rules.name}: expected blocks of {len(structure)} atoms, got atoms "
                          f"{keys[:, :2].min()} to {keys[:, :2].max()}")  # fmt: skip
    counts = layout.orbital_counts
    expected = np.column_stack([counts[keys[:, 0]], counts[keys[:, 1]]])
    if shapes is not None and not np.array_equal(shapes, expected):
        wrong = int(np.argmax((np.asarray(shapes) != expected).any(axis=1)))
        raise MatrixError(f"{rules.name}: expected block {_text(keys[wrong])} of shape {tuple(expected[wrong].tolist())} "
                          f"by the basis set, got {tuple(np.asarray(shapes)[wrong].tolist())}")  # fmt: skip
    sizes = expected.prod(axis=1)
    values = _checked_values(values, int(sizes.sum()), spin, rules.name)
    block = np.repeat(np.arange(len(keys)), sizes)
    within = np.arange(len(block)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    starts, width = layout.orbital_starts, expected[block, 1]
    i, j = keys[block, 0], keys[block, 1]
    position, sign = inside_orbitals(basis, layout.numbers, convention)
    row, col = starts[i] + within // width, starts[j] + within % width
    values = values * (sign[row] * sign[col])
    return _filled(structure, layout, keys[block], position[row] - starts[i], position[col] - starts[j], values, rules)


def zeros(structure: Atoms, basis: BasisSet, spin: Spin = Spin.NONE) -> BlockMatrix:
    """Return a matrix of zeros in the blocks of the structure's graph."""
    graph = build_graph(structure, basis)
    return empty_matrix(basis, graph.numbers, graph.pairs, spin)


def inside_orbitals(basis: BasisSet, numbers: np.ndarray, convention: Convention) -> tuple[np.ndarray, np.ndarray]:
    """Return position (n,) and sign (n,): orbital k of the code is `sign[k]` times orbital `position[k]` of harmose.

    Both count atom after atom.
    """
    numbers = np.asarray(numbers)
    counts = basis.counts(numbers)
    starts = np.cumsum(counts) - counts
    position, sign = np.empty(counts.sum(), dtype=np.int64), np.empty(counts.sum())
    for z in np.unique(numbers).tolist():
        index, signs = convention.indices(basis.degrees(z))
        code = starts[numbers == z][:, None] + index  # inside = sign * code[index]
        position[code] = starts[numbers == z][:, None] + np.arange(len(index))
        sign[code] = signs
    return position, sign


def element_keys(counts: np.ndarray, rows: np.ndarray, cols: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return the block key (i, j, Rx, Ry, Rz) of each element (nnz, 5). `counts` (N,): number of orbitals of each atom."""
    atom = np.repeat(np.arange(len(counts)), counts)
    return np.column_stack([atom[rows], atom[cols], cells]).astype(np.int64)


def covering_radii(
    structure: Atoms,
    keys: np.ndarray,
    least: Mapping[int, float] | float = 1.0,
    step: float = 0.1,
    where: str = "matrix",
) -> dict[int, float]:
    """Return radii (angstrom) of the species for which the graph contains all blocks of `keys` (B, 5).

    `keys` are the blocks that are not zero. A radius is first half the longest distance of two atoms of this element, at
    least `least` (one number, or one for each element). Then, for pairs of different elements in the order of their atomic
    numbers, both radii grow by half of the missing length. Each radius is rounded up to a multiple of `step`.
    `MatrixError`, with `where`, for atoms farther apart than any orbitals reach.
    """
    keys = np.asarray(keys, dtype=np.int64).reshape(-1, 5)
    numbers = species_of(structure)
    floor = least if isinstance(least, Mapping) else dict.fromkeys(np.unique(numbers).tolist(), least)
    radii = {z: rounded_up(floor[z], step) for z in np.unique(numbers).tolist()}
    distance = np.linalg.norm(pair_vectors(structure, keys), axis=1)
    if distance.max(initial=0.0) > 2 * MAX_RADIUS:
        worst = int(np.argmax(distance))
        raise MatrixError(f"{where}: expected blocks of atoms at most {2 * MAX_RADIUS:.0f} angstrom apart, got {_text(keys[worst])} "
                          f"at {distance[worst]:.1f} angstrom")  # fmt: skip
    kinds, which = np.unique(np.sort(numbers[keys[:, :2]], axis=1), axis=0, return_inverse=True)
    longest = np.zeros(len(kinds))
    np.maximum.at(longest, which.ravel(), distance)
    longest += 1e-6  # The graph contains pairs whose distance is less than the sum of the radii.
    alike = kinds[:, 0] == kinds[:, 1]
    for k in [*np.flatnonzero(alike), *np.flatnonzero(~alike)]:
        z1, z2 = kinds[k].tolist()
        missing = longest[k] - radii[z1] - radii[z2]
        if missing > 0:
            radii[z1], radii[z2] = (rounded_up(radii[z] + missing / 2, step) for z in (z1, z2))
    return radii


def rounded_up(radius: float, step: float = 0.1) -> float:
    """Round up to a multiple of `step`."""
    return round(math.ceil(round(radius / step, 6)) * step, 6)


def _checked_values(values: np.ndarray, size: int, spin: Spin, name: str) -> np.ndarray:
    values = np.asarray(values)
    values = values[None] if values.ndim == 1 else values
    if values.shape != (spin.n_components, size):
        raise MatrixError(
            f"{name}: expected values of shape {(spin.n_components, size)} for spin {spin}, got {values.shape}"
        )
    if np.iscomplexobj(values) and spin is not Spin.SPINOR:
        raise MatrixError(f"{name}: expected real values for spin {spin}, got complex ones")
    if not np.isfinite(values).all():
        raise MatrixError(f"{name}: expected finite values, got NaN or infinity")
    return values.astype(spin.dtype, copy=False)


def _filled(
    structure: Atoms,
    layout: BlockMatrix,
    keys: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    values: np.ndarray,
    rules: Rules,
) -> BlockMatrix:
    """Fill `layout` with `values[:, k]` at orbital a[k] of atom i and b[k] of atom j, of the block keys[k] or its reverse."""
    block, is_reversed = _blocks_of(layout, keys)
    outside = block < 0
    _check_outside(structure, layout.basis, keys[outside], values[:, outside], rules)
    block, is_reversed, a, b = block[~outside], is_reversed[~outside], a[~outside], b[~outside]
    values = values[:, ~outside]
    if rules.complete:
        _check_complete(structure, layout, block, rules.name)
    width = layout.orbital_counts[layout.keys[:, 1]][block]
    straight = layout.offsets[block] + a * width + b
    crossed = layout.offsets[block] + b * width + a
    # An element of a pair is written directly or as its adjoint. An on-site element is also the adjoint of another one.
    onsite = block < len(structure)
    as_is, as_adjoint = ~is_reversed, is_reversed | onsite
    adjoint = layout.spin.adjoint(values[:, as_adjoint, None, None])[..., 0, 0]
    direct = _scattered(layout, straight[as_is], values[:, as_is], rules.name)
    reverse = _scattered(layout, crossed[as_adjoint], adjoint, rules.name)
    if rules.diagonal:
        _check_diagonal(layout, direct[1], rules.name)
    return layout.with_values(_hermitian(layout, *direct, *reverse, rules))


def _blocks_of(layout: BlockMatrix, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of each key's stored block (-1: none), and a mask of the keys that name the reversed pair."""
    onsite = (keys[:, 0] == keys[:, 1]) & ~keys[:, 2:].any(axis=1)
    is_reversed = ~(is_canonical(keys) | onsite)
    keys = np.where(is_reversed[:, None], reversed_pairs(keys), keys)
    stored = layout.keys
    low, high = stored.min(axis=0), stored.max(axis=0)
    possible = ((keys >= low) & (keys <= high)).all(axis=1)
    # One integer for each key: the number of atoms squared times a few thousand cells fits into 64 bits.
    strides = np.append(np.cumprod((high - low + 1)[:0:-1])[::-1], 1)
    codes = (stored - low) @ strides
    order = np.argsort(codes)
    wanted = (keys[possible] - low) @ strides
    at = np.minimum(np.searchsorted(codes, wanted, sorter=order), len(codes) - 1)
    block = np.full(len(keys), -1, dtype=np.int64)
    block[possible] = np.where(codes[order[at]] == wanted, order[at], -1)
    return block, is_reversed


def _check_outside(structure: Atoms, basis: BasisSet, keys: np.ndarray, values: np.ndarray, rules: Rules) -> None:
    size = np.abs(values).max(axis=0, initial=0.0)
    if not (size > rules.tolerance).any():
        return
    worst = int(np.argmax(size))
    distance = float(np.linalg.norm(pair_vectors(structure, keys[worst : worst + 1])))
    reach = float(basis.reach(species_of(structure))[keys[worst, :2]].sum())
    raise MatrixError(
        f"{rules.name}: a value of {size[worst]:.2e} lies in block {_text(keys[worst])}, whose atoms are {distance:.3f} "
        f"angstrom apart; the radii of basis {basis.name} reach {reach:.3f}"
    )


def _check_complete(structure: Atoms, layout: BlockMatrix, block: np.ndarray, name: str) -> None:
    written = np.zeros(len(layout.keys), dtype=bool)
    written[block] = True
    if not written.all():
        missing = layout.keys[~written]
        distance = np.linalg.norm(pair_vectors(structure, missing), axis=1)
        nearest = int(np.argmin(distance))
        raise MatrixError(f"{name}: missing blocks: {len(missing)} of {len(written)} within reach are not written, the "
                          f"nearest is {_text(missing[nearest])} at {distance[nearest]:.3f} angstrom")  # fmt: skip


def _check_diagonal(layout: BlockMatrix, written: np.ndarray, name: str) -> None:
    """`MatrixError` unless each diagonal element of the home cell is among the written ones (size,)."""
    counts = layout.orbital_counts
    atom = np.repeat(np.arange(len(counts)), counts)
    orbital = np.arange(layout.n_orbitals) - layout.orbital_starts[atom]
    there = written[layout.offsets[atom] + orbital * (counts[atom] + 1)]
    if not there.all():
        first = int(np.argmin(there))
        raise MatrixError(
            f"{name}: expected every diagonal element of the home cell, got none of orbital {orbital[first]} of atom "
            f"{atom[first]}: the file is cut off or damaged; copy it again, or run the calculation again"
        )


def _scattered(layout: BlockMatrix, place: np.ndarray, values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return `values` at their places in the matrix (n_components, size), and a mask of the places that have one (size,)."""
    size = int(layout.offsets[-1])
    times = np.bincount(place, minlength=size)
    if (times > 1).any():
        block = int(np.searchsorted(layout.offsets, np.argmax(times > 1), side="right")) - 1
        raise MatrixError(f"{name}: expected every element once, got one of block {_text(layout.keys[block])} twice")
    table = np.zeros((layout.spin.n_components, size), layout.spin.dtype)
    table[:, place] = values
    return table, times > 0


def _hermitian(
    layout: BlockMatrix,
    direct: np.ndarray,
    has_direct: np.ndarray,
    reverse: np.ndarray,
    has_reverse: np.ndarray,
    rules: Rules,
) -> np.ndarray:
    """Return the mean of an element and its adjoint if both are written, or else the one that is written."""
    both = has_direct & has_reverse
    compared = both if rules.one_triangle else has_direct | has_reverse
    difference = np.where(compared, np.abs(direct - reverse).max(axis=0), 0.0)
    worst = int(np.argmax(difference)) if len(difference) else 0
    if len(difference) and difference[worst] > rules.asymmetry:
        key = layout.keys[int(np.searchsorted(layout.offsets, worst, side="right")) - 1]
        i, j, *cell = (int(x) for x in key)
        image = _text([j, i, *(-c for c in cell)])
        if both[worst]:
            problem = f"the two differ by {difference[worst]:.2e}"
        else:
            written, absent = (_text(key), image) if has_direct[worst] else (image, _text(key))
            problem = f"an element of {difference[worst]:.2e} is written in {written} and not in {absent}"
        raise MatrixError(f"{rules.name}: expected block {_text(key)} to be the adjoint of {image}; {problem}")
    return (direct + reverse) * np.where(both, 0.5, 1.0)


def _text(key: np.ndarray | list[int]) -> str:
    i, j, *cell = (int(x) for x in key)
    return f"(i={i}, j={j}, R={cell})"
