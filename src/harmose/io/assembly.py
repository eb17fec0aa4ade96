"""What codes with localized orbitals write, as a `BlockMatrix`: the one place where matrix elements become blocks.

    from_elements    rows, columns and cells of single matrix elements (SIESTA, ABACUS, FHI-aims)
    from_blocks      whole blocks, one key (i, j, Rx, Ry, Rz) each (OpenMX, DeepH, CP2K)

Both fill the blocks of the graph of (structure, basis), which must hold every value of the matrix: a value outside is an
error that names its block. The basis set's radii therefore have to cover H, not S:

- where the code's files tell how far orbitals and projectors reach, an atom's radius is its longest orbital plus the
  longest reach of a non-local projector of any element of the calculation (two orbitals that do not touch are still
  coupled by a projector between them that both touch);
- else `covering_radii` measures the blocks that are not zero. The rule is deterministic, but another structure of the same
  system may need more, and radii are part of a basis set's fingerprint: read all structures of one system with one basis.

Blocks of the graph that were not written are zero, or an error when the code writes all of them (`Rules.complete`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.core.graph import build_graph, is_canonical, pair_vectors, reversed_pairs
from harmose.errors import BasisError, FormatError, MatrixError
from harmose.so3.conventions import E3NN, Convention
from harmose.spin import Spin

MAX_RADIUS = 25.0
"""No localized orbital reaches further (angstrom); blocks of atoms farther apart than twice this are damage."""


@dataclass(frozen=True)
class Rules:
    """What a code promises about a matrix; what its file holds is checked against it.

    name: the matrix in error texts, with its file. tolerance: largest value (eV, or the unit of S) that may be dropped
    outside the graph. asymmetry: how far `H[j, i, -R]` may be from `H[i, j, R]^dagger`. one_triangle: an element whose
    adjoint is not written stands for both; otherwise its adjoint counts as zero, which the check finds. complete: every
    block of the graph must be written.
    """

    name: str
    tolerance: float = 1e-6
    asymmetry: float = 1e-5
    one_triangle: bool = False
    complete: bool = False


def hamiltonian_rules(name: str = "H", **promises: bool) -> Rules:
    """`Rules` of a Hamiltonian in eV."""
    return Rules(name, **promises)


def overlap_rules(name: str = "S", **promises: bool) -> Rules:
    """`Rules` of an overlap, a hundred times tighter than those of H."""
    return Rules(name, tolerance=1e-8, asymmetry=1e-7, **promises)


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
    """The operator with `<rows[k], home cell | H | cols[k], cell cells[k]> = values[..., k]`.

    `rows`, `cols` (nnz,): orbitals, atom after atom, the shells of an atom in the order of `basis` and within a shell as
    `convention` says. `cells` (nnz, 3). `values` (nnz,) for spin none, else (n_components, nnz): up, down, or uu, ud, du, dd.
    Values that one element has twice are an error, as are (`MatrixError`, with the block) values that are not finite,
    orbitals out of range, a value outside the graph, and a matrix that is not Hermitian.
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
    position, sign = inside_orbitals(basis, structure.numbers, convention)
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
    """The operator with the blocks `H[i, j, R]` of `keys` (B, 5), laid end to end in `values`, each by rows.

    `values` (size,) for spin none, else (n_components, size); row and column orbitals as in `from_elements`. `shapes`
    (B, 2), where the file has them, are compared with the basis set. Errors as there.
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
    position, sign = inside_orbitals(basis, structure.numbers, convention)
    row, col = starts[i] + within // width, starts[j] + within % width
    values = values * (sign[row] * sign[col])
    return _filled(structure, layout, keys[block], position[row] - starts[i], position[col] - starts[j], values, rules)


def zeros(structure: Atoms, basis: BasisSet, spin: Spin = Spin.NONE) -> BlockMatrix:
    """Zeros in the blocks of the structure's graph."""
    graph = build_graph(structure, basis)
    return empty_matrix(basis, graph.numbers, graph.pairs, spin)


def inside_orbitals(basis: BasisSet, numbers: np.ndarray, convention: Convention) -> tuple[np.ndarray, np.ndarray]:
    """`(position, sign)`: orbital k of a code that counts atom after atom is `sign[k]` times our orbital `position[k]`."""
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


def check_shells(basis: BasisSet, shells: Mapping[int, Sequence[Shell]], where: str) -> None:
    """`BasisError` where `basis`, in which a calculation is to be read, has other shells for one of its elements."""
    for z, own in shells.items():
        if z not in basis.shells or basis.shells[z] != tuple(own):
            known = " ".join(map(str, basis.shells.get(z, ()))) or "none"
            raise BasisError(f"{where}: expected {chemical_symbols[z]} with the shells of basis {basis.name} ({known}), got "
                             f"{' '.join(map(str, own))}")  # fmt: skip


def check_not_folded(structure: Atoms, basis: BasisSet, where: str, remedy: str) -> None:
    """`FormatError` where a run of the Gamma point alone has added up H(R) of several cells.

    That is so when an atom is within reach of an image of another one or of itself in the cell of `structure`; else the
    run is one of a molecule. `remedy`: what makes the code write every H(R).
    """
    if structure.cell.rank < 3:
        return
    periodic = Atoms(structure.numbers, positions=structure.positions, cell=structure.cell, pbc=True)
    graph = build_graph(periodic, basis)
    across = graph.pairs[:, 2:].any(axis=1)
    if across.any():
        k = int(np.flatnonzero(across)[np.argmin(np.linalg.norm(graph.vectors[across], axis=1))])
        raise FormatError(f"{where}: expected H(R) cell by cell, got their sum at the Gamma point: atom {graph.pairs[k, 0]} reaches "
                          f"atom {graph.pairs[k, 1]} in cell {graph.pairs[k, 2:].tolist()} ({remedy})")  # fmt: skip


def element_keys(counts: np.ndarray, rows: np.ndarray, cols: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The key (i, j, Rx, Ry, Rz) of the block of every element, (nnz, 5); `counts` (N,) are the orbitals of each atom."""
    atom = np.repeat(np.arange(len(counts)), counts)
    return np.column_stack([atom[rows], atom[cols], cells]).astype(np.int64)


def covering_radii(
    structure: Atoms,
    keys: np.ndarray,
    least: Mapping[int, float] | float = 1.0,
    step: float = 0.1,
    where: str = "matrix",
) -> dict[int, float]:
    """Radii (angstrom) of the elements such that the blocks of `keys` (B, 5) are all in the graph.

    Give the keys of blocks that are not zero. First half the longest distance between two atoms of one element, at least
    `least` (one number, or one for each element); then, for pairs of unlike elements in the order of their atomic
    numbers, what is missing is added to both in equal parts. Each is rounded up to a multiple of `step`. `MatrixError` that
    names `where` for atoms farther apart than any orbitals reach.
    """
    keys = np.asarray(keys, dtype=np.int64).reshape(-1, 5)
    numbers = np.asarray(structure.numbers)
    floor = least if isinstance(least, Mapping) else dict.fromkeys(np.unique(numbers).tolist(), least)
    radii = {z: _rounded_up(floor[z], step) for z in np.unique(numbers).tolist()}
    distance = np.linalg.norm(pair_vectors(structure, keys), axis=1)
    if distance.max(initial=0.0) > 2 * MAX_RADIUS:
        worst = int(np.argmax(distance))
        raise MatrixError(f"{where}: expected blocks of atoms at most {2 * MAX_RADIUS:.0f} angstrom apart, got {_text(keys[worst])} "
                          f"at {distance[worst]:.1f} angstrom")  # fmt: skip
    kinds, which = np.unique(np.sort(numbers[keys[:, :2]], axis=1), axis=0, return_inverse=True)
    longest = np.zeros(len(kinds))
    np.maximum.at(longest, which.ravel(), distance)
    longest += 1e-6  # the graph holds pairs whose distance is below the sum of the radii, not at it
    alike = kinds[:, 0] == kinds[:, 1]
    for k in [*np.flatnonzero(alike), *np.flatnonzero(~alike)]:
        z1, z2 = kinds[k].tolist()
        missing = longest[k] - radii[z1] - radii[z2]
        if missing > 0:
            radii[z1], radii[z2] = (_rounded_up(radii[z] + missing / 2, step) for z in (z1, z2))
    return radii


def _rounded_up(radius: float, step: float) -> float:
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
    """`layout` with `values[:, k]` at orbitals a[k] of atom i, b[k] of atom j of the block keys[k] or of its reverse."""
    block, turned = _blocks_of(layout, keys)
    outside = block < 0
    _check_outside(structure, layout.basis, keys[outside], values[:, outside], rules)
    block, turned, a, b, values = block[~outside], turned[~outside], a[~outside], b[~outside], values[:, ~outside]
    if rules.complete:
        _check_complete(structure, layout, block, rules.name)
    width = layout.orbital_counts[layout.keys[:, 1]][block]
    straight = layout.offsets[block] + a * width + b
    crossed = layout.offsets[block] + b * width + a
    # An element of a pair's block is written as itself or as its adjoint; one of an on-site block is both at once.
    onsite = block < len(structure)
    as_is, as_adjoint = ~turned, turned | onsite
    adjoint = layout.spin.adjoint(values[:, as_adjoint, None, None])[..., 0, 0]
    direct = _scattered(layout, straight[as_is], values[:, as_is], rules.name)
    reverse = _scattered(layout, crossed[as_adjoint], adjoint, rules.name)
    return layout.with_values(_hermitian(layout, *direct, *reverse, rules))


def _blocks_of(layout: BlockMatrix, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the stored block of each key, -1 where there is none, and whether the key is that of the reversed pair."""
    onsite = (keys[:, 0] == keys[:, 1]) & ~keys[:, 2:].any(axis=1)
    turned = ~(is_canonical(keys) | onsite)
    keys = np.where(turned[:, None], reversed_pairs(keys), keys)
    stored = layout.keys
    low, high = stored.min(axis=0), stored.max(axis=0)
    possible = ((keys >= low) & (keys <= high)).all(axis=1)
    # One number for each key within the graph's bounds; atoms squared times a few thousand cells fit into 64 bits.
    strides = np.append(np.cumprod((high - low + 1)[:0:-1])[::-1], 1)
    codes = (stored - low) @ strides
    order = np.argsort(codes)
    wanted = (keys[possible] - low) @ strides
    at = np.minimum(np.searchsorted(codes, wanted, sorter=order), len(codes) - 1)
    found = np.full(len(keys), -1, dtype=np.int64)
    found[possible] = np.where(codes[order[at]] == wanted, order[at], -1)
    return found, turned


def _check_outside(structure: Atoms, basis: BasisSet, keys: np.ndarray, values: np.ndarray, rules: Rules) -> None:
    size = np.abs(values).max(axis=0, initial=0.0)
    if not (size > rules.tolerance).any():
        return
    worst = int(np.argmax(size))
    distance = float(np.linalg.norm(pair_vectors(structure, keys[worst : worst + 1])))
    reach = float(basis.reach(structure.numbers)[keys[worst, :2]].sum())
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


def _scattered(layout: BlockMatrix, place: np.ndarray, values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """`values` at their places among the stored ones (n_components, size), and where there are any (size,)."""
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
    """The mean of elements and adjoints where both are written, the one that is written elsewhere."""
    both = has_direct & has_reverse
    compared = both if rules.one_triangle else has_direct | has_reverse
    difference = np.where(compared, np.abs(direct - reverse).max(axis=0), 0.0)
    worst = int(np.argmax(difference)) if len(difference) else 0
    if len(difference) and difference[worst] > rules.asymmetry:
        key = layout.keys[int(np.searchsorted(layout.offsets, worst, side="right")) - 1]
        i, j, *cell = (int(x) for x in key)
        image = _text([j, i, *(-c for c in cell)])
        if both[worst]:
            found = f"the two differ by {difference[worst]:.2e}"
        else:
            written, absent = (_text(key), image) if has_direct[worst] else (image, _text(key))
            found = f"an element of {difference[worst]:.2e} is written in {written} and not in {absent}"
        raise MatrixError(f"{rules.name}: expected block {_text(key)} to be the adjoint of {image}; {found}")
    return (direct + reverse) * np.where(both, 0.5, 1.0)


def _text(key: np.ndarray | list[int]) -> str:
    i, j, *cell = (int(x) for x in key)
    return f"(i={i}, j={j}, R={cell})"
