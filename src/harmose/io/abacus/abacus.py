"""ABACUS: H(R) and S(R) of a single-point run, from its `OUT.*` folder.

ABACUS writes Rydberg and orbitals m = 0, 1, -1, 2, -2, ... with the sign (-1)^m; spin is the innermost index
(docs/conventions.md).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.core.structure import check_structure
from harmose.errors import FormatError
from harmose.io.abacus.csr import CellMatrices, read_cell_matrices
from harmose.io.abacus.log import Log, orbital_reaches, read_log
from harmose.io.assembly import (
    check_not_folded,
    check_shells,
    covering_radii,
    element_keys,
    from_elements,
    hamiltonian_rules,
    overlap_rules,
)
from harmose.io.species import shells_of_elements
from harmose.so3.conventions import Convention
from harmose.spin import Spin
from harmose.units import RYDBERG

ABACUS = Convention(
    "abacus",
    {l: tuple(2 * m - 1 if m > 0 else -2 * m for m in range(-l, l + 1)) for l in range(1, 7)},
    {l: tuple((-1) ** abs(m) for m in range(-l, l + 1)) for l in range(1, 7)},
)
"""m = 0, 1, -1, 2, -2, ... with the Condon-Shortley sign: p is (z, -x, -y)."""

HAMILTONIANS = (
    ("hrs1_nao.csr", "hrs2_nao.csr"),
    ("data-HR-sparse_SPIN0.csr", "data-HR-sparse_SPIN1.csr"),
)
"""File of H (without spin, up, or spinor) and file of H down, in new and old versions."""

OVERLAPS = ("srs1_nao.csr", "sr_nao.csr", "data-SR-sparse_SPIN0.csr")


def read_abacus(path: str | Path, basis: BasisSet | None = None) -> Sample:
    """Read a run. `path` is its `OUT.*` folder, or the folder above it with one run.

    H is in eV with the energy zero of `istate.info`. S, Fermi level, total energy and number of valence electrons are read
    too. Spin is none, collinear (nspin 2) or spinor (nspin 4). `basis` is the basis set of another run of the same system;
    default: radii of the orbitals plus projectors.

    Raises `FormatError` for files that are missing, damaged or of another kind and for trajectories, `BasisError` for
    two species of one element with different orbitals, and the errors of `io.assembly`.
    """
    folder = _output(Path(path))
    log = read_log(folder)
    structure = log.structure
    check_structure(structure, str(folder))
    shells = shells_of_elements(((kind.number, kind.label, kind.shells) for kind in log.species), str(folder))
    counts = np.repeat([kind.n_orbitals for kind in log.species], [kind.count for kind in log.species])
    n_orbitals = int(counts.sum())
    h_path, spin, h = _hamiltonian(folder, log, n_orbitals)
    s_path, s = _overlap(folder, spin, n_orbitals)
    keys = _coupled(counts, h)
    structure.pbc = keys[:, 2:].any(axis=0)
    if basis is None:
        basis = BasisSet("abacus", shells, covering_radii(structure, keys, _reaches(folder, log), where=str(h_path)))
    check_shells(basis, shells, str(folder))
    if not h[2].any():
        check_not_folded(structure, basis, str(h_path), "run with gamma_only 0")
    return Sample(
        name=folder.name.removeprefix("OUT."),
        structure=structure,
        basis=basis,
        hamiltonian=from_elements(structure, basis, *h, hamiltonian_rules(str(h_path)), spin, ABACUS),
        overlap=from_elements(structure, basis, *s, overlap_rules(str(s_path)), convention=ABACUS),
        spin=spin,
        n_electrons=log.n_electrons,
        fermi_level=log.fermi_level,
        energy=log.energy,
        provenance={"code": "abacus", **({"version": log.version} if log.version else {})},
    )


def _outputs(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    names = [pair[0] for pair in HAMILTONIANS]
    return [f for f in (path, *sorted(path.glob("OUT.*"))) if any((f / name).is_file() for name in names)]


def _output(path: Path) -> Path:
    found = _outputs(path)
    if not found:
        raise FormatError(f"{path}: expected an OUT.* folder of ABACUS with {' or '.join(pair[0] for pair in HAMILTONIANS)} "
                          "(out_mat_hs2 1), got none")  # fmt: skip
    if len(found) > 1:
        raise FormatError(f"{path}: expected one OUT.* folder of ABACUS, got {', '.join(f.name for f in found)}")
    return found[0]


def _reaches(folder: Path, log: Log) -> dict[int, float]:
    """Return for each element the longest orbital plus the longest projector (angstrom), or 1 if the log has neither."""
    if log.orbital_reach is None or log.projector_reach is None:
        return {kind.number: 1.0 for kind in log.species}
    own, reaches = orbital_reaches(folder, log.species), {}
    for kind in log.species:
        reach = own.get(kind.label, log.orbital_reach) + log.projector_reach
        reaches[kind.number] = max(reaches.get(kind.number, 0.0), reach)
    return reaches


def _coupled(counts: np.ndarray, h: "Elements") -> np.ndarray:
    """Return the keys (n, 5) of all elements that are not zero."""
    rows, cols, cells, values = h
    some = np.abs(values).max(axis=0) > hamiltonian_rules().tolerance
    return element_keys(counts, rows[some], cols[some], cells[some])


Elements = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Rows (nnz,), columns (nnz,), cells (nnz, 3), and values (n_components, nnz)."""


def _hamiltonian(folder: Path, log: Log, n_orbitals: int) -> tuple[Path, Spin, Elements]:
    first, second = next(pair for pair in HAMILTONIANS if (folder / pair[0]).is_file())
    paths = [folder / first] + ([folder / second] if (folder / second).is_file() else [])
    matrices = [read_cell_matrices(path) for path in paths]
    if np.iscomplexobj(matrices[0].values):
        spin = Spin.SPINOR
    else:
        spin = Spin.COLLINEAR if len(paths) == 2 else Spin.NONE
    n_spin = spin.n_components
    if log.n_spin not in (None, n_spin) or (spin is Spin.SPINOR and len(paths) == 2):
        names = " and ".join(path.name for path in paths)
        raise FormatError(f"{folder}: expected the matrices of nspin = {log.n_spin}, as the log says, got those of "
                          f"nspin = {n_spin} ({names})")  # fmt: skip
    for path, matrix in zip(paths, matrices):
        _check_size(path, matrix, spin, n_orbitals)
    rows, cols, cells, values = _merged(_spin_blocks(matrices[0]) if spin is Spin.SPINOR else matrices)
    return paths[0], spin, (rows, cols, cells, values * RYDBERG)


def _overlap(folder: Path, spin: Spin, n_orbitals: int) -> tuple[Path, Elements]:
    path = next((folder / name for name in OVERLAPS if (folder / name).is_file()), None)
    if path is None:
        raise FormatError(f"{folder}: expected the overlap beside H ({' or '.join(OVERLAPS)}), got none")
    matrix = read_cell_matrices(path)
    _check_size(path, matrix, spin, n_orbitals)
    if np.iscomplexobj(matrix.values) != (spin is Spin.SPINOR):
        raise FormatError(f"{path}: expected an overlap of the same number type as H, got another one")
    if spin is not Spin.SPINOR:
        return path, _merged([matrix])
    rows, cols, cells, (uu, ud, du, dd) = _merged(_spin_blocks(matrix))
    if max(np.abs(x).max(initial=0.0) for x in (ud, du, uu - dd, uu.imag)) > 1e-7:
        raise FormatError(f"{path}: expected a real overlap without parts between up and down, got another one")
    return path, (rows, cols, cells, uu.real[None])


def _check_size(path: Path, matrix: CellMatrices, spin: Spin, n_orbitals: int) -> None:
    expected = n_orbitals * (2 if spin is Spin.SPINOR else 1)
    if matrix.size != expected:
        raise FormatError(f"{path}: expected matrices of {expected} rows by the shells in the log, got {matrix.size}")


def _spin_blocks(matrix: CellMatrices) -> list[CellMatrices]:
    """Split a matrix whose innermost index is spin into uu, ud, du, dd."""
    kind = 2 * (matrix.rows % 2) + matrix.cols % 2
    return [
        CellMatrices(matrix.size // 2, matrix.rows[w] // 2, matrix.cols[w] // 2, matrix.cells[w], matrix.values[w])
        for w in (kind == k for k in range(4))
    ]


def _merged(parts: Sequence[CellMatrices]) -> Elements:
    """Combine matrices as spin components. An element that only some of them have is zero in the others."""
    keys = np.concatenate([np.column_stack([p.rows, p.cols, p.cells]) for p in parts])
    if len(parts) == 1:
        return keys[:, 0], keys[:, 1], keys[:, 2:], parts[0].values[None]
    spans = keys.max(axis=0, initial=0) - keys.min(axis=0, initial=0) + 1
    strides = np.append(np.cumprod(spans[:0:-1])[::-1], 1)
    _, first, which = np.unique((keys - keys.min(axis=0, initial=0)) @ strides, return_index=True, return_inverse=True)
    component = np.repeat(np.arange(len(parts)), [len(p.rows) for p in parts])
    values = np.zeros((len(parts), len(first)), dtype=np.result_type(*(p.values for p in parts)))
    values[component, which] = np.concatenate([p.values for p in parts])
    rows, cols, cells = keys[first, 0], keys[first, 1], keys[first, 2:]
    return rows, cols, cells, values
