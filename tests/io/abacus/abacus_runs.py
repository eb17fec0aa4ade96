"""Write the files of ABACUS runs with random matrices, in the old and the new format."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.io.abacus.abacus import ABACUS
from harmose.io.assembly import zeros
from harmose.io.disassembly import all_elements
from harmose.spin import Spin
from harmose.units import RYDBERG

BASIS = BasisSet(
    "abacus", {6: (Shell(1, 0), Shell(2, 1)), 8: (Shell(1, 0), Shell(2, 1), Shell(3, 2))}, {6: 1.9, 8: 2.3}
)


def crystal() -> Atoms:
    """Return three atoms, periodic in two directions."""
    positions = [[0.1, 0.2, 0.3], [1.4, 1.8, 0.4], [0.4, 0.9, 2.0]]
    return Atoms("CCO", positions, cell=[[3.4, 0, 0], [0.3, 3.6, 0], [0, 0, 12.0]], pbc=[True, True, False])


def random_matrices(crystal: Atoms, spin: Spin) -> tuple[BlockMatrix, BlockMatrix]:
    """Return a random Hermitian H, and S near 1."""
    rng = np.random.default_rng(11)
    h, s = zeros(crystal, BASIS, spin), zeros(crystal, BASIS)

    def hermitian(operator: BlockMatrix, scale: float) -> BlockMatrix:
        values = scale * rng.normal(size=operator.values.shape)
        if operator.spin is Spin.SPINOR:
            values = values + 1j * scale * rng.normal(size=values.shape)
        for start, end, n in zip(operator.offsets, operator.offsets[1:], operator.orbital_counts):
            block = values[:, start:end].reshape(-1, n, n)
            values[:, start:end] = ((block + operator.spin.adjoint(block)) / 2).reshape(len(values), -1)
        return operator.with_values(values)

    s = hermitian(s, 0.02)
    _, row, col = s.indices
    return hermitian(h, 1.0), s.with_values(np.where(s.is_onsite, row == col, s.values) * 1.0)


def csr_text(
    crystal: Atoms, operator: BlockMatrix, component: int | None, letter: str, new: bool, step: int = 0
) -> str:
    """Write a matrix as ABACUS does, H in Ry: one component or, for None, a spinor with spin as the innermost index."""
    rows, cols, cells, values = all_elements(operator)
    degrees = [l for z in crystal.numbers.tolist() for l in BASIS.degrees(z)]
    index, sign = ABACUS.indices(degrees)
    values = values * sign[rows] * sign[cols] / (RYDBERG if letter == "H" else 1)
    rows, cols, size = index[rows], index[cols], operator.n_orbitals
    if component is None:
        spinor = operator.spin is Spin.SPINOR
        parts = values if spinor else [values[0], 0 * values[0], 0 * values[0], values[0]]
        rows, cols = (np.concatenate([2 * x + k for k in up]) for x, up in ((rows, (0, 0, 1, 1)), (cols, (0, 1, 0, 1))))
        cells, values, size = np.concatenate([cells] * 4), np.concatenate(parts), 2 * size
    else:
        values = values[component]
    places = np.unique(np.concatenate([cells, [[2, 2, 0]]]), axis=0)  # and an empty one
    if new:
        head = [f" --- Ionic Step {step + 1} ---", f" # print {letter} matrix in real space {letter}(R)", " 1 # number of spin directions",
                " 1 # spin index", f" {size} # number of localized basis", f" {len(places)} # number of Bravais lattice vector R",
                "", " user_defined_lattice", " 1.8897", " 3.4 0 0", " 0.3 3.6 0", " 0 0 12", " C O", " 2 1", " Direct", " 0 0 0", "",
                " #---#", " #     CSR Format     #", " # The first line (Rx, Ry, Rz), # of non-zero elements.", " #---#", ""]  # fmt: skip
    else:
        head = [
            f"STEP: {step}",
            f"Matrix Dimension of {letter}(R): {size}",
            f"Matrix number of {letter}(R): {len(places)}",
        ]
    lines = head
    for cell in places.tolist():
        here = np.flatnonzero((cells == cell).all(axis=1))
        here = here[np.lexsort([cols[here], rows[here]])]
        lines.append(" ".join(map(str, [*cell, len(here)])))
        if not len(here) and not new:
            continue
        texts = [f"({v.real:.12e},{v.imag:.12e})" if component is None else f"{v:.12e}" for v in values[here]]
        starts = np.searchsorted(rows[here], np.arange(size + 1))
        tables = (" ".join(texts), " ".join(map(str, cols[here])), " ".join(map(str, starts)))
        for name, table in zip(("values", "column indices", "row pointers"), tables):
            lines += ([f" # CSR {name}"] if new else []) + [table]
    return "\n".join(lines) + "\n"


def log_text(crystal: Atoms, n_spin: int, direct: bool = False) -> str:
    """Write a log as ABACUS 3.9 does."""
    lines = [" ABACUS v3.9.0", "                  lattice constant (Bohr) = 1.88972612546", ""]
    for k, symbol in enumerate(dict.fromkeys(crystal.symbols), start=1):
        z = chemical_symbols.index(symbol)
        lines += [f" READING ATOM TYPE {k}", f"          atom label = {symbol}1"]
        lines += [
            f"          L={l}, number of zeta = {BASIS.degrees(z).count(l)}" for l in sorted(set(BASIS.degrees(z)))
        ]
        lines += [f"          number of atom for this type = {int((crystal.numbers == z).sum())}", ""]
    coordinates = crystal.get_scaled_positions(wrap=False) if direct else crystal.positions
    lines += [" DIRECT COORDINATES" if direct else "CARTESIAN COORDINATES ( UNIT = 1.889726125457828 Bohr )."]
    lines += ["    atom   x   y   z   mag"]
    lines += [
        f"tau_{atom.symbol}1{k} {' '.join(f'{x:.10f}' for x in row)} 0.0"
        for k, (atom, row) in enumerate(zip(crystal, coordinates))
    ]
    lines += ["", " Lattice vectors: (Cartesian coordinate: in unit of a_0)"]
    lines += ["     " + "   ".join(f"{x:+.6g}" for x in row) for row in crystal.cell.array]
    lines += [
        f"       nspin = {n_spin}",
        " AUTOSET number of electrons:  = 14",
        " E_Fermi   0.1  0.5",
        " EFERMI = 0.5 eV",
        " !FINAL_ETOT_IS -17.5 eV",
    ]
    lines += ["                  longest orb rcut (Bohr) = 3", "   longest nonlocal projector rcut (Bohr) = 1"]
    return "\n".join(lines) + "\n"


def newest_log(text: str) -> str:
    """Return the log as ABACUS 3.11 writes it: other words for the same."""
    changes = {
        "v3.9.0": "v3.11.0",
        "lattice constant (Bohr)": "Lattice constant (Bohr)",
        "atom label": "Atom label",
        "number of atom for": "Number of atoms for",
        "AUTOSET number of electrons: ": "Autoset the number of electrons",
        " EFERMI = 0.5 eV": " #SCF IS CONVERGED#\n #TOTAL ENERGY# -17.5 eV",
        "longest orb": "Longest orb",
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def write_run(folder: Path, crystal: Atoms, h: BlockMatrix, s: BlockMatrix, new: bool, direct: bool = False) -> Path:
    out = folder / "OUT.known"
    out.mkdir(exist_ok=True)
    spinor = h.spin is Spin.SPINOR
    names = ["hrs1_nao.csr", "hrs2_nao.csr"] if new else ["data-HR-sparse_SPIN0.csr", "data-HR-sparse_SPIN1.csr"]
    for component, name in zip([None] if spinor else range(h.spin.n_components), names):
        (out / name).write_text(csr_text(crystal, h, component, "H", new))
    overlap = "srs1_nao.csr" if new else "data-SR-sparse_SPIN0.csr"
    (out / overlap).write_text(csr_text(crystal, s, None if spinor else 0, "S", new))
    (out / "running_scf.log").write_text(log_text(crystal, h.spin.n_components, direct))
    return out
