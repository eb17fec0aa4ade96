"""Write `.scfout` files as OpenMX does, from known matrices, with rubbish in the bytes that OpenMX never writes to."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.io.assembly import rounded_up, zeros
from harmose.io.disassembly import all_blocks
from harmose.io.openmx.run import OPENMX, OPENMX_BOHR
from harmose.spin import Spin
from harmose.units import HARTREE

PAOS = {6: "C3.5-s2p1", 8: "O4.5-s1p1d1f1"}

BASIS = BasisSet(
    "openmx",
    {6: (Shell(1, 0), Shell(2, 0), Shell(2, 1)), 8: (Shell(1, 0), Shell(2, 1), Shell(3, 2), Shell(4, 3))},
    {6: rounded_up(3.5 * OPENMX_BOHR, 1e-6), 8: rounded_up(4.5 * OPENMX_BOHR, 1e-6)},
)

SWITCHES = {Spin.NONE: 0, Spin.COLLINEAR: 1, Spin.SPINOR: 3}

FERMI_LEVEL = -0.125
N_ELECTRONS = 14.0


def crystal() -> Atoms:
    """Return three atoms, periodic in two directions; the second is not in the home cell."""
    positions = [[0.1, 0.2, 0.3], [4.8, 1.8, 0.4], [0.4, 0.9, 2.0]]
    return Atoms("CCO", positions, cell=[[3.4, 0, 0], [0.3, 3.6, 0], [0, 0, 12.0]], pbc=[True, True, False])


def random_operator(
    structure: Atoms, spin: Spin, seed: int, scale: float = 1.0, basis: BasisSet = BASIS
) -> BlockMatrix:
    """Return a random Hermitian operator."""
    operator, rng = zeros(structure, basis, spin), np.random.default_rng(seed)
    values = scale * rng.normal(size=operator.values.shape)
    if spin is Spin.SPINOR:
        values = values + 1j * scale * rng.normal(size=values.shape)
    for start, end, n in zip(operator.offsets, operator.offsets[1:], operator.orbital_counts):
        block = values[:, start:end].reshape(-1, n, n)
        values[:, start:end] = ((block + spin.adjoint(block)) / 2).reshape(len(values), -1)
    return operator.with_values(values)


def random_overlap(structure: Atoms, basis: BasisSet = BASIS) -> BlockMatrix:
    """Return a random S near 1."""
    s = random_operator(structure, Spin.NONE, 4, 0.01, basis)
    _, row, col = s.indices
    return s.with_values(np.where(s.is_onsite, row == col, s.values) * 1.0)


def input_text(structure: Atoms, spin: Spin, paos: Mapping[int, str] = PAOS, settings: str = "") -> str:
    """Return the text of an input. Its names of keywords are written in several ways, as people do."""
    switch = {Spin.NONE: "off", Spin.COLLINEAR: "on", Spin.SPINOR: "nc"}[spin]
    species = [f"{symbol}x {paos[z]} {symbol}_PBE19" for z, symbol in {6: "C", 8: "O"}.items()]
    rows = [
        f"{k + 1} {atom.symbol}x {atom.x:.9f} {atom.y:.9f} {atom.z:.9f} {atom.number / 2 - 1 + 0.5} {atom.number / 2 - 1 - 0.5}"
        for k, atom in enumerate(structure)
    ]
    return "\n".join(
        [
            "# an input",
            "System.Name  run",
            "HS.fileout   on",
            "<Definition.of.Atomic.Species",
            *species,
            "Definition.of.Atomic.Species>",
            f"Atoms.Number {len(rows)}",
            "<Atoms.SpeciesAndCoordinates",
            *rows,
            "Atoms.SpeciesAndCoordinates>",
            "scf.XcType GGA-PBE # functional",
            f"scf.SpinPolarization {switch}",
            "scf.EigenvalueSolver BAND",
            "scf.kgrid 3 3 1",
            "SCF.criterion 1e-8",
            "scf.maxIter 30",
            settings,
        ]
    )


def write_scfout(
    path: Path,
    structure: Atoms,
    h: BlockMatrix,
    s: BlockMatrix,
    d: BlockMatrix | None = None,
    version: int = 3,
    text: str | None = None,
    position: np.ndarray | None = None,
) -> Path:
    """Write a file. H in eV; `d` as `read_density_matrix` returns it; `position` (3, size) in Bohr, in the file's order."""
    spin, d = h.spin, h if d is None else d
    order = _order(h)
    matrices = {name: _components(operator, order) for name, operator in (("H", h), ("S", s), ("D", d))}
    size = matrices["S"].shape[1]
    position = np.zeros((3, size)) if position is None else position
    keys = all_blocks(h).keys[order]
    rng = np.random.default_rng(0)
    cells = np.unique(np.concatenate([np.zeros((1, 3), int), keys[:, 2:], -keys[:, 2:]]), axis=0)
    cells = cells[np.argsort(cells.any(axis=1), kind="stable")]  # the home cell first
    number = {tuple(cell): k for k, cell in enumerate(cells.tolist())}
    cell, positions = structure.cell.array / OPENMX_BOHR, structure.positions / OPENMX_BOHR
    ints = [
        _ints(len(structure), SWITCHES[spin] + 4 * version, len(structure), 0, 0, len(cells) - 1),
        *([_ints(1)] if version else []),
        _rows(cells @ cell, rng),
        np.column_stack([rng.integers(-(2**31), 2**31, len(cells)), cells]).astype("<i4").tobytes(),
        _ints(*h.orbital_counts),
        _ints(*(np.bincount(keys[:, 0], minlength=len(structure)) - 1)),
        _ints(*(keys[:, 1] + 1)),
        _ints(*(number[tuple(r)] for r in keys[:, 2:].tolist())),
        _rows(cell, rng),
        _rows(2 * np.pi * np.linalg.inv(cell).T, rng),
        _rows(positions, rng),
    ]
    doubles = [*_split(matrices["H"] / HARTREE, spin), matrices["S"], position]
    density = matrices["D"].conj() / (2 if spin is Spin.NONE else 1)
    if spin is Spin.SPINOR:
        uu, ud, _, dd = density
        real, imaginary = np.stack([uu.real, dd.real, ud.real, ud.imag]), np.stack([uu.imag, dd.imag])
    else:
        real, imaginary = density.real, np.zeros((2, size))
    doubles += [np.zeros((3, size)), real, imaginary] if version else [real]
    charges = np.array([atom.number - 2.0 for atom in structure])
    scalars = [FERMI_LEVEL, 0.00095, *(2.54174776 * charges @ positions), 0, 0, 0, N_ELECTRONS, 0.0]
    lines = (input_text(structure, spin) if text is None else text).encode().split(b"\n")
    end = [_ints(3), np.array(scalars, "<f8").tobytes(), _ints(len(lines))]
    end += [(line + b"\0").ljust(256, b"\xa5")[:256] for line in lines]
    path.write_bytes(b"".join(ints + [np.asarray(x, "<f8").tobytes() for x in doubles] + end))
    return path


def _order(operator: BlockMatrix) -> np.ndarray:
    """Order of the blocks (B,): by the atom of the rows, its own block first."""
    keys = all_blocks(operator).keys
    away = (keys[:, 0] != keys[:, 1]) | keys[:, 2:].any(axis=1)
    return np.lexsort([*keys.T[:0:-1], away, keys[:, 0]])


def _components(operator: BlockMatrix, order: np.ndarray) -> np.ndarray:
    blocks = all_blocks(operator, OPENMX)
    starts, ends = blocks.offsets[:-1][order], blocks.offsets[1:][order]
    return blocks.values[:, np.concatenate([np.arange(a, b) for a, b in zip(starts, ends)])]


def _split(h: np.ndarray, spin: Spin) -> list[np.ndarray]:
    """The real records of H and, for spinors, of its imaginary part, which is divided between two of them."""
    if spin is not Spin.SPINOR:
        return [h]
    uu, ud, _, dd = h
    shared = 0.3 * ud.imag
    return [np.stack([uu.real, dd.real, ud.real, ud.imag - shared]), np.stack([uu.imag, dd.imag, shared])]


def _ints(*values: int) -> bytes:
    return np.array(values, "<i4").tobytes()


def _rows(vectors: np.ndarray, rng: np.random.Generator) -> bytes:
    unused = rng.choice([np.nan, -np.inf, 1e-310, 7.0], len(vectors))
    return np.column_stack([unused, vectors]).astype("<f8").tobytes()
